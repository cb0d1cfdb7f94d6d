"""Loops over a few numbers that are run for every token or site, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystallm.base.compiling import compiled

FITS, TOO_CLOSE, BETWEEN = 0, 1, 2
"""What can be said of the place of a site."""


@compiled
def write_orbit(orbit: Any, atoms: Any, kinds: Any, first: Any, kind: Any) -> int:
    """Write from `first` on into atoms (N, 3) the same as `description.site_orbit`: fractional coordinates in [0, 1) of
    the M images of matrix @ free + offset under the maps that make an orbit, rotations (M, 3, 3) and translations
    (M, 3); into kinds (N,), for each of them, `kind`. orbit: these five, in this order: maps, matrix, offset, free.
    Returns the place after the last."""
    rotations, translations, matrix, offset, free = orbit
    point = offset.copy()
    for i in range(3):
        for j in range(len(free)):
            point[i] += matrix[i, j] * free[j]
    for m in range(len(translations)):
        kinds[first + m] = kind
        for i in range(3):
            value = translations[m, i]
            for j in range(3):
                value += rotations[m, i, j] * point[j]
            atoms[first + m, i] = value - np.floor(value)
    return int(first + len(translations))


@compiled
def place_of_site(atoms: Any, kinds: Any, first: Any, end: Any, lattice: Any, limits: Any) -> int:
    """Whether a site can stand where it is.

    atoms: fractional coordinates (N, 3) of those placed, and from `first` to `end` of the site's own orbit; kinds (N,):
    which of E elements they are. lattice: (3, 3), rows in angstrom. limits (E, E, 3): squares of the least distance of
    two elements, and from where to where none may be.
    """
    images, lengths = np.empty((27, 3)), np.empty(27)  # of a lattice point in the cells around, and squared
    for i in range(-1, 2):
        for j in range(-1, 2):
            for k in range(-1, 2):
                place = 9 * i + 3 * j + k + 13
                lengths[place] = 0.0
                for axis in range(3):
                    images[place, axis] = i * lattice[0, axis] + j * lattice[1, axis] + k * lattice[2, axis]
                    lengths[place] += images[place, axis] ** 2
    between, kind = False, kinds[first]
    for j in range(end):
        x, y, z = atoms[j, 0] - atoms[first, 0], atoms[j, 1] - atoms[first, 1], atoms[j, 2] - atoms[first, 2]
        x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
        a = x * lattice[0, 0] + y * lattice[1, 0] + z * lattice[2, 0]
        b = x * lattice[0, 1] + y * lattice[1, 1] + z * lattice[2, 1]
        c = x * lattice[0, 2] + y * lattice[1, 2] + z * lattice[2, 2]
        square = a * a + b * b + c * c
        least, low, high = limits[kind, kinds[j], 0], limits[kind, kinds[j], 1], limits[kind, kinds[j], 2]
        for k in range(27):
            if j == first and k == 13:  # the atom itself
                continue
            # |delta + image|^2
            distance = 2 * (a * images[k, 0] + b * images[k, 1] + c * images[k, 2]) + square + lengths[k]
            if distance < least:
                return TOO_CLOSE
            between |= low < distance < high
    return BETWEEN if between else FITS


@compiled
def place_orbit(orbit: Any, atoms: Any, kinds: Any, first: Any, kind: Any, lattice: Any, limits: Any) -> int:
    """Write the orbit of a site (`write_orbit`) after the atoms placed, and tell whether it can stand there."""
    end = write_orbit(orbit, atoms, kinds, first, kind)
    return place_of_site(atoms, kinds, first, end, lattice, limits)


@compiled
def intervals_without_room(
    base: Any, moves: Any, speeds: Any, middles: Any, half_step: Any, lattice: Any, limits: Any
) -> Any:
    """Of intervals of one coordinate (K,) with these middles: in which no value can stand.

    base: fractional coordinates (J, 3) of atoms as seen from the site when its coordinate is 0; moves: how they move
    with it; speeds: that in angstrom, (J,). limits (3, J): the least distance to each, and from where to where none may
    be. Within half a step no distance changes by more than half a step times its speed.
    """
    refused = np.zeros(len(middles), np.bool_)
    for k in range(len(middles)):
        for j in range(len(base)):
            square = 0.0
            x = base[j, 0] + middles[k] * moves[j, 0]
            y = base[j, 1] + middles[k] * moves[j, 1]
            z = base[j, 2] + middles[k] * moves[j, 2]
            x, y, z = x - np.rint(x), y - np.rint(y), z - np.rint(z)
            for axis in range(3):
                square += (x * lattice[0, axis] + y * lattice[1, axis] + z * lattice[2, axis]) ** 2
            distance, slack = np.sqrt(square), speeds[j] * half_step
            too_close = distance + slack < limits[0, j]
            if too_close or (distance - slack > limits[1, j] and distance + slack < limits[2, j]):
                refused[k] = True
                break
    return refused


@compiled
def softmax(logs: Any, temperature: Any) -> Any:
    """Probabilities (C,) of log-probabilities (C,), in any normalisation, at a temperature; computed in float64."""
    chances = np.empty(len(logs))
    highest = -np.inf
    for log in logs:
        highest = max(highest, np.float64(log))
    total = 0.0
    for place in range(len(logs)):
        chances[place] = np.exp((np.float64(logs[place]) - highest) / temperature)
        total += chances[place]
    for place in range(len(logs)):
        chances[place] /= total
    return chances


@compiled
def softmax_of(tokens: Any, logs: Any, temperature: Any) -> Any:
    """The same (C,) of some tokens (C,), from the log-probabilities (V,) of all."""
    return softmax(logs[tokens], temperature)


@compiled
def place_in(weights: Any, share: Any) -> int:
    """The place at which the running sum of weights (C,) exceeds a share of their sum."""
    total = 0.0
    for weight in weights:
        total += weight
    limit, running = share * total, 0.0
    for place in range(len(weights)):
        running += weights[place]
        if running > limit:
            return place
    return len(weights)


@compiled
def sharpened(probabilities: Any, temperature: Any) -> Any:
    """Probabilities (C,) in any normalisation at a temperature."""
    return softmax(np.log(probabilities), temperature)


@compiled
def mixed(shares: Any, logs: Any, factors: Any, trust: Any) -> Any:
    """The shares (1 + L,) of the model alone and of components at a choice, and the probabilities of tokens: the
    model's (C,), those of each component (L, C), and those of the mixture (C,); see `mixture.mix`."""
    n_components, n_tokens = factors.shape
    alone = softmax(logs, 1.0)
    own = np.zeros((n_components, n_tokens))
    weights = np.zeros(n_components + 1)
    theirs, heard = 0.0, 0.0
    for i in range(n_components):
        total = 0.0
        for j in range(n_tokens):
            total += factors[i, j] * alone[j]
        theirs += shares[i + 1]
        if total > 0:
            for j in range(n_tokens):
                own[i, j] = factors[i, j] * alone[j] / total
            weights[i + 1] = shares[i + 1] * total**trust
            heard += weights[i + 1]
    weights[0] = shares[0] if heard > 0 else 1.0
    for i in range(n_components):
        weights[i + 1] *= theirs / heard if heard > 0 else 0.0
    return weights, alone, own, together(weights, alone, own)


@compiled
def together(shares: Any, alone: Any, own: Any) -> Any:
    """Probabilities (C,) of the model alone (C,) and of components (L, C) in these shares (1 + L,)."""
    summed = np.empty(len(alone))
    for j in range(len(alone)):
        summed[j] = shares[0] * alone[j]
        for i in range(len(own)):
            summed[j] += shares[i + 1] * own[i, j]
    return summed


@compiled
def believed(shares: Any, alone: Any, own: Any, place: Any, negligible: Any) -> Any:
    """The shares (1 + K,) of the model alone and of the components that are left once the token at a place has been
    taken, and which (K,) of the L components these are."""
    weights = np.empty(len(shares))
    weights[0] = shares[0] * alone[place]
    total = weights[0]
    for i in range(len(own)):
        weights[i + 1] = shares[i + 1] * own[i, place]
        total += weights[i + 1]
    left, n_left = np.empty(len(own), np.int64), 0
    for i in range(len(own)):
        if weights[i + 1] / total > negligible:
            left[n_left], n_left = i, n_left + 1
    kept = np.empty(n_left + 1)
    kept[0] = weights[0] / total
    for place in range(n_left):
        kept[place + 1] = weights[left[place] + 1] / total
    return kept, left[:n_left]


@compiled
def parts_of_bells(low: Any, step: Any, n_parts: Any, middles: Any, widths: Any, goes_around: Any) -> Any:
    """How much of each of L bells, Cauchy distributions with middles and widths (L,), lies in each of so many parts
    (L, n_parts) of one step from `low` on; where numbers go around from 1 to 0, so do the bells."""
    parts = np.zeros((len(middles), n_parts))
    for i in range(len(middles)):
        for turn in range(-1, 2):
            if turn and not goes_around:
                continue
            before = np.arctan((low - middles[i] - turn) / widths[i])
            for j in range(n_parts):
                after = np.arctan((low + step * (j + 1) - middles[i] - turn) / widths[i])
                parts[i, j] += (after - before) / np.pi
                before = after
    return parts
