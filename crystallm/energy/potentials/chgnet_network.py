"""The network of CHGNet 0.3.0 as a function of its weights: energies of bond graphs, and their derivatives.

B. Deng et al., Nature Machine Intelligence 5, 1031 (2023). Written for use, not for training: weights are fixed, first
layers are applied to atoms and bonds before they meet in messages, and the derivative is taken with respect to the
vectors between neighbours alone, from which forces and stress follow. tests/energy compare with chgnet's own numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from crystallm.energy.potentials.graph import BondGraph

if TYPE_CHECKING:
    from torch import Tensor

BOND_CUTOFF = 6.0
ANGLE_CUTOFF = 3.0
"""Angstrom: bonds pass messages between atoms up to the first, angles between bonds up to the second."""

SMOOTHNESS = 8
"""Exponent of the polynomial that takes bonds to zero at the cutoff."""

LAYERS = 4
WIDTH = 64
NOT_QUITE_ONE = 1 - 1e-6
"""Factor of cosines, so that the derivative of the angle stays finite."""

NORM_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class Inputs:
    """Bond graphs of several crystals, one after the other, with what the network is asked about them."""

    numbers: NDArray[np.int64]
    multiplicities: NDArray[np.int64]
    owner: NDArray[np.int64]
    """(A,) crystal of each orbit."""
    edges: NDArray[np.int64]
    """Edges of each crystal."""
    bond_edge: NDArray[np.int64]
    messages: NDArray[np.int64]
    """(4, D): orbit that receives, orbit that sends, bond, count."""
    angles: NDArray[np.int64]
    """(6, T): orbit of the center, two edges, two bonds, count."""


def join(graphs: Sequence[BondGraph], numbers: Sequence[NDArray[np.int64]], multiplicities: Sequence[Any]) -> Inputs:
    """Put graphs of crystals one after the other. numbers, multiplicities: (A,) of the orbits of each."""
    orbits, edges, bonds = (
        np.concatenate([[0], np.cumsum(sizes)])
        for sizes in (
            [len(n) for n in numbers],
            [len(graph.center) for graph in graphs],
            [len(graph.bond_edge) for graph in graphs],
        )
    )
    messages = [
        np.stack([g.message_atom + a, g.message_neighbor + a, g.message_bond + u, g.message_count])
        for g, a, u in zip(graphs, orbits, bonds, strict=False)
    ]
    angles = [
        np.stack([g.angle_atom + a, *(g.angle_edges + k).T, *(g.angle_bonds + u).T, g.angle_count])
        for g, a, k, u in zip(graphs, orbits, edges, bonds, strict=False)
    ]
    return Inputs(
        numbers=np.concatenate(numbers),
        multiplicities=np.concatenate(multiplicities),
        owner=np.repeat(np.arange(len(graphs)), np.diff(orbits)),
        edges=np.diff(edges),
        bond_edge=np.concatenate([g.bond_edge + k for g, k in zip(graphs, edges, strict=False)]),
        messages=np.concatenate(messages, axis=1),
        angles=np.concatenate(angles, axis=1),
    )


class ChgnetNetwork:
    """Energies per cell in eV of joined graphs, from vectors between neighbours."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        import torch

        def pair(name: str, part: str) -> Tensor:
            """Weights of the core and of the gate of a gated perceptron, one above the other."""
            return torch.cat([state[f"{name}.mlp_core.layers.{part}"], state[f"{name}.mlp_gate.layers.{part}"]])

        def norms(name: str) -> tuple[Tensor, Tensor]:
            return tuple(torch.stack([state[f"{name}.bn{i}.{part}"] for i in (1, 2)]) for part in ("weight", "bias"))  # type: ignore[return-value]

        def first(weights: Tensor) -> list[Tensor]:
            """A first layer, cut into the parts for each of what is concatenated; transposed for products."""
            return [part.T.contiguous() for part in weights.chunk(weights.shape[1] // WIDTH, dim=1)]

        def gated(name: str, layer: int) -> dict[str, Any]:
            found = {"first": first(pair(name, f"{layer}.weight")), "bias": pair(name, f"{layer}.bias")}
            found["norm"] = norms(name)
            if layer == 0:
                second = [state[f"{name}.mlp_{part}.layers.3.weight"].T.contiguous() for part in ("core", "gate")]
                found |= {"second": torch.stack(second), "second_bias": pair(name, "3.bias").view(2, 1, WIDTH)}
            return found

        self._torch = torch
        self.reference: NDArray[np.float64] = state["composition_model.fc.weight"][0].double().numpy()
        self._embedding = state["atom_embedding.embedding.weight"]
        basis = "bond_basis_expansion.rbf_expansion"
        self._frequencies = state[f"{basis}_ag.frequencies"], state[f"{basis}_bg.frequencies"]
        self._harmonics = state["angle_basis_expansion.fourier_expansion.frequencies"]
        # Bond features and the weights of messages to atoms come from one basis.
        self._bond = torch.cat([state["bond_embedding.weight"], state["bond_weights_ag.weight"]]).T.contiguous()
        self._bond_weight = state["bond_weights_bg.weight"].T.contiguous()
        self._angle = state["angle_embedding.weight"].T.contiguous()
        self._atom_layers = [gated(f"atom_conv_layers.{i}.twoBody_atom", 0) for i in range(LAYERS)]
        self._bond_layers = [gated(f"bond_conv_layers.{i}.twoBody_bond", 0) for i in range(LAYERS - 1)]
        self._angle_layers = [gated(f"angle_layers.{i}.twoBody_bond", 1) for i in range(LAYERS - 2)]
        self._atom_out = [state[f"atom_conv_layers.{i}.mlp_out.layers.1.weight"].T for i in range(LAYERS)]
        self._bond_out = [state[f"bond_conv_layers.{i}.mlp_out.layers.1.weight"].T for i in range(LAYERS - 1)]
        self._readout_norm = state["readout_norm.weight"], state["readout_norm.bias"]
        self._readout = [(state[f"mlp.layers.{i}.weight"], state[f"mlp.layers.{i}.bias"]) for i in (0, 2, 4, 7)]

    def energies(self, inputs: Inputs, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (B,) in eV per cell. vectors: (K, 3) in angstrom of all edges."""
        with self._torch.no_grad():
            return self._finish(inputs, self._forward(inputs, self._torch.from_numpy(vectors.astype(np.float32))))

    def gradients(
        self, inputs: Inputs, vectors: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies (B,) in eV per cell and their derivatives (K, 3) in eV/angstrom by the vectors of all edges."""
        leaf = self._torch.from_numpy(vectors.astype(np.float32)).requires_grad_()
        energy = self._forward(inputs, leaf)
        (slope,) = self._torch.autograd.grad(energy.sum(), leaf)
        return self._finish(inputs, energy.detach()), slope.double().numpy()

    def _finish(self, inputs: Inputs, energy: Tensor) -> NDArray[np.float64]:
        reference = self.reference[inputs.numbers - 1] * inputs.multiplicities
        return np.asarray(energy.double().numpy() + np.bincount(inputs.owner, reference))

    def _forward(self, inputs: Inputs, vectors: Tensor) -> Tensor:
        torch = self._torch
        receiver, sender, bond, count = torch.from_numpy(inputs.messages)
        center, first_edge, second_edge, first, second, times = torch.from_numpy(inputs.angles)
        lengths = vectors.norm(dim=1)
        of_bonds = lengths.index_select(0, torch.from_numpy(inputs.bond_edge))
        bonds, weights = (self._bessel(of_bonds, BOND_CUTOFF, self._frequencies[0]) @ self._bond).chunk(2, dim=1)
        message_weights = weights.index_select(0, bond) * count[:, None]
        atoms = self._embedding[torch.from_numpy(inputs.numbers) - 1]
        if len(center):
            # Only short bonds meet in angles; the others keep their features.
            short, place = first.unique(return_inverse=True)
            second_place = torch.searchsorted(short, second)
            weight = self._bessel(of_bonds.index_select(0, short), ANGLE_CUTOFF, self._frequencies[1])
            weight = weight @ self._bond_weight
            angle_weights = weight.index_select(0, place) * weight.index_select(0, second_place) * times[:, None]
            units = vectors / lengths[:, None]
            cosine = (units.index_select(0, first_edge) * units.index_select(0, second_edge)).sum(1)
            angles = self._fourier(torch.acos(cosine * NOT_QUITE_ONE)) @ self._angle
        for layer in range(LAYERS):
            of = self._atom_layers[layer]
            to_center, of_bond, to_neighbor = of["first"]
            hidden = (atoms @ to_center).index_select(0, receiver) + (atoms @ to_neighbor).index_select(0, sender)
            hidden = hidden + torch.addmm(of["bias"], bonds, of_bond).index_select(0, bond)
            messages = self._two_layers(hidden, of) * message_weights
            atoms = atoms + torch.zeros_like(atoms).index_add(0, receiver, messages) @ self._atom_out[layer]
            if layer == LAYERS - 1 or not len(center):
                continue
            among = bonds.index_select(0, short)
            of = self._bond_layers[layer]
            messages = self._two_layers(self._met(of, among, angles, atoms, place, second_place, center), of)
            received = torch.zeros_like(among).index_add(0, place, messages * angle_weights) @ self._bond_out[layer]
            among = among + received
            bonds = bonds.index_add(0, short, received)
            if layer < LAYERS - 2:
                of = self._angle_layers[layer]
                met = self._met(of, among, angles, atoms, place, second_place, center)
                angles = angles + self._gate(met.view(-1, 2, WIDTH), of)
        out = torch.nn.functional.layer_norm(atoms, (WIDTH,), *self._readout_norm, NORM_EPSILON)
        for weight, bias in self._readout[:-1]:
            out = torch.nn.functional.silu(torch.nn.functional.linear(out, weight, bias))
        energies: Tensor = torch.nn.functional.linear(out, *self._readout[-1])[:, 0]
        energies = energies * torch.from_numpy(inputs.multiplicities)
        return energies.new_zeros(len(inputs.edges)).index_add(0, torch.from_numpy(inputs.owner), energies)

    def _met(
        self,
        of: dict[str, Any],
        bonds: Tensor,
        angles: Tensor,
        atoms: Tensor,
        first: Tensor,
        second: Tensor,
        center: Tensor,
    ) -> Tensor:
        """First layer of what two bonds, their angle and their common atom say together."""
        of_first, of_second, of_angle, of_atom = of["first"]
        of_ends = (bonds @ of_first).index_select(0, first) + (bonds @ of_second).index_select(0, second)
        of_ends = of_ends + (atoms @ of_atom).index_select(0, center)
        return cast("Tensor", of_ends + angles @ of_angle + of["bias"])

    def _two_layers(self, hidden: Tensor, of: dict[str, Any]) -> Tensor:
        hidden = self._torch.nn.functional.silu(hidden).view(-1, 2, WIDTH).transpose(0, 1)
        return self._gate(self._torch.baddbmm(of["second_bias"], hidden, of["second"]).transpose(0, 1), of)

    def _gate(self, pair: Tensor, of: dict[str, Any]) -> Tensor:
        weight, bias = of["norm"]
        pair = self._torch.nn.functional.layer_norm(pair, (WIDTH,), eps=NORM_EPSILON) * weight + bias
        core, gate = pair.unbind(1)
        gated: Tensor = self._torch.nn.functional.silu(core) * self._torch.sigmoid(gate)
        return gated

    def _bessel(self, lengths: Tensor, cutoff: float, frequencies: Tensor) -> Tensor:
        """Radial Bessel functions (.., 31), times a polynomial that ends smoothly at the cutoff (Gasteiger 2020)."""
        p = SMOOTHNESS
        share = lengths[:, None] / cutoff
        power = share**p
        envelope = 1 - power * ((p + 1) * (p + 2) / 2 - share * (p * (p + 2) - share * (p * (p + 1) / 2)))
        envelope = envelope * (share < 1)
        return math.sqrt(2 / cutoff) * envelope * self._torch.sin(share * frequencies) / lengths[:, None]

    def _fourier(self, angle: Tensor) -> Tensor:
        """Harmonics of an angle (.., 31): constant, sines, cosines."""
        phases = angle[:, None] * self._harmonics
        constant = self._torch.full_like(angle[:, None], 1 / math.sqrt(2))
        return self._torch.cat([constant, phases.sin(), phases.cos()], dim=1) / math.sqrt(math.pi)
