"""A search for crystals of one formula that are lower than those it begins with.

Parents are chosen by their energies, moves by what they have gained; trials are raced in rounds. All choices follow
from seed, name and number of a trial and from what the trials before it gave: the same search on the same machine
finds the same crystals, and goes on from its journal as if it had not been interrupted.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystallm.base.errors import ConfigError
from crystallm.crystal.cell import Rejection
from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, describe, expand
from crystallm.energy.journal import Journal
from crystallm.energy.potentials.protocol import Potential
from crystallm.sample.answers.search.bandit import Bandit
from crystallm.sample.answers.search.kicks import displace, exchange, redraw, reletter
from crystallm.sample.answers.search.lowering import lower
from crystallm.sample.answers.search.population import Minimum, Population
from crystallm.sample.answers.search.trials import Proposal, Trial, packed, race_trials

ROUND = 6
"""Trials that are relaxed side by side."""

FALL_EV = 0.001
"""A lowest energy per atom that falls by less has not fallen."""

LEAST_PATIENCE = 100
"""Evaluations without a fall after which a search ends, at least; and a quarter of all that it may spend."""

NEAR_EV = 0.03
"""A new crystal so little above the lowest one, in eV per atom, is worth a quarter of a new lowest one."""

FRUITLESS = 60
"""Moves in a row that give no crystal, after which there is nothing to try."""

AS_FOUND = "gained symmetry"
"""Name of the trial in which a crystal goes on in a higher symmetry that it has come to."""

KEEPING = ("redraw", "displace", "exchange", "reletter")
LOWERING, DOUBLING, DRAW = "lower", "double", "draw"

Draws = Callable[[int], Description | None]
"""Gives the draw of a number beyond those that were asked for; None when there are no more."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How far a search goes."""

    evaluations: int
    """Evaluations of the potential that it may spend."""
    seed: int = 0
    contact: float = 0.68
    """Atoms closer than this part of the expected bond length are not tried."""
    max_atoms: int = 80
    """Of the primitive cell."""
    keep_space_group: bool = False
    """Whether the space group was asked for."""
    keep_formula_units: bool = False
    """Whether the formula units of the primitive cell were asked for."""

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise ConfigError(f"a search needs at least 1 evaluation, got {self.evaluations}")

    @property
    def patience(self) -> int:
        """Evaluations without a fall of the lowest energy after which the search ends."""
        return max(LEAST_PATIENCE, self.evaluations // 4)


@dataclass(frozen=True)
class Found:
    """What a search has found."""

    minima: tuple[Minimum, ...]
    """New crystals that pass all checks, lowest first."""
    evaluations: int
    ended: str
    """Why it ended."""
    trials: int = 0
    chances: dict[str, float] | None = None
    """How probable each move was in the end."""


def search(
    starts: Sequence[tuple[Description, float]],
    potential: Potential,
    settings: SearchSettings,
    *,
    name: str,
    journal: Path | None = None,
    draws: Draws | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Found:
    """Search for crystals that are lower than those at hand.

    Args:
        starts: relaxed crystals of one formula, and their energies in eV/atom by the same potential.
        potential: what `load_potential` gives.
        settings: budget, seed and what was asked for.
        name: of the prompt; another name searches elsewhere.
        journal: file to which finished rounds are appended, and from which a search goes on.
        draws: further draws of the model.
        stop: asked before each round whether to end.

    Returns:
        The new crystals.

    Raises:
        InputError: the journal cannot be read or written.

    Example:
        >>> found = search([(rutile, -9.38)], load_potential(), SearchSettings(evaluations=500), name="TiO2")
        >>> found.minima[0].energy  # doctest: +SKIP
        -9.424
    """
    going = _Search(starts, potential, settings, name, draws)
    kept = None if journal is None else Journal(journal)
    if kept is None:
        return going.run(None, stop)
    with kept:
        return going.run(kept, stop)


class _Search:
    """The state of one search."""

    def __init__(
        self,
        starts: Sequence[tuple[Description, float]],
        potential: Potential,
        settings: SearchSettings,
        name: str,
        draws: Draws | None,
    ) -> None:
        self.potential, self.settings, self.name, self.draws = potential, settings, name, draws
        self.population = Population(Minimum(one, energy, passes(one)) for one, energy in starts)
        moves = list(KEEPING)
        if not settings.keep_space_group:
            moves += [LOWERING] if settings.keep_formula_units else [LOWERING, DOUBLING]
        self.bandit = Bandit(moves if draws is None else [*moves, DRAW])
        self.spent = self.number = self.drawn = 0
        self.best = self._lowest
        self.fell_at = 0
        self.queue: deque[Description] = deque()
        self.tried: set[Description] = {one for one, _ in starts}
        self.key = _key(starts, potential, settings, name)

    def run(self, journal: Journal | None, stop: Callable[[], bool]) -> Found:
        """Rounds until the end; those in the journal are not made again."""
        turn = 0
        while True:
            key = f"{self.key} {turn}"
            if (ended := self._ended()) is not None:
                return self._found(ended)
            kept = None if journal is None else journal.values.get(key)
            if kept is None and stop():
                return self._found("stopped")
            proposals = self._proposals()  # what is chosen changes what is chosen next, so also of a round that is kept
            if not proposals:
                return self._found("nothing left to try")
            if kept is None:
                trials = self._raced(proposals)
                if journal is not None:
                    journal.add(key, [trial.to_json() for trial in trials])
            self._take([Trial.from_json(one) for one in kept] if kept is not None else trials)
            turn += 1

    def _raced(self, proposals: Sequence[Proposal]) -> list[Trial]:
        return race_trials(
            proposals,
            self.potential,
            lowest=self._lowest,
            room=self.settings.evaluations - self.spent,
            known=lambda energy, volume: self.population.place_of(energy, volume) is not None,
        )

    @property
    def _lowest(self) -> float:
        lowest = self.population.lowest
        return float("inf") if lowest is None else lowest.energy

    def _ended(self) -> str | None:
        if not self.population.minima and self.draws is None:
            return "nothing to begin with"
        if self.spent >= self.settings.evaluations:
            return "all evaluations spent"
        return "nothing lower came" if self.spent - self.fell_at >= self.settings.patience else None

    def _found(self, ended: str) -> Found:
        new = [one for one in self.population.minima if one.number >= 0 and one.passed]
        new.sort(key=lambda one: one.energy)
        return Found(tuple(new), self.spent, ended, self.number, self.bandit.chances)

    def _proposals(self) -> list[Proposal]:
        """The next round."""
        proposals: list[Proposal] = []
        while self.queue and len(proposals) < ROUND:
            proposals.append(Proposal(self._next(), AS_FOUND, self.queue.popleft()))
        failed = 0
        while len(proposals) < ROUND and failed < FRUITLESS:
            number = self._next()
            rng = np.random.default_rng([self.settings.seed, zlib.crc32(self.name.encode()), number])
            move = self.bandit.choose(rng)
            made = self._made(move, rng)
            if made is None or made in self.tried:  # an exchange, made once more
                failed += 1
                self.bandit.tell(move, gain=0.0, cost=1.0)
            else:
                self.tried.add(made)
                proposals.append(Proposal(number, move, made))
        return proposals

    def _next(self) -> int:
        self.number += 1
        return self.number - 1

    def _made(self, move: str, rng: np.random.Generator) -> Description | None:
        if move == DRAW or not self.population.minima:
            assert self.draws is not None
            self.drawn += 1
            return self.draws(self.drawn - 1)
        parent, contact = self.population.choose(rng).description, self.settings.contact
        if move == "redraw":
            lowest = self.population.lowest
            assert lowest is not None
            return redraw(parent, rng, contact=contact, volume=lowest.volume)
        if move == "displace":
            return displace(parent, rng, contact=contact)
        if move == "exchange":
            return exchange(parent, rng, contact=contact)
        if move == "reletter":
            return reletter(parent, rng, contact=contact)
        most = self.settings.max_atoms
        return lower(parent, rng, contact=contact, doubled=move == DOUBLING, max_atoms=most)

    def _take(self, trials: Sequence[Trial]) -> None:
        """Learn from the trials of a round."""
        for trial in trials:
            before = self._lowest
            new = self._added(trial)
            fallen = before - self._lowest
            gain = 1.0 if fallen >= FALL_EV else 0.25 if new and (trial.energy or 0.0) < before + NEAR_EV else 0.0
            self.bandit.tell(trial.move, gain=gain, cost=float(trial.cost))
            self.spent += trial.evaluations
        if self._lowest <= self.best - FALL_EV:
            self.best, self.fell_at = self._lowest, self.spent

    def _added(self, trial: Trial) -> bool:
        """Whether a trial has come to a new crystal; one that has gained symmetry goes on in it."""
        if trial.description is None or trial.energy is None:
            return False
        keeps = trial.gained is None or self.settings.keep_space_group
        if not keeps and trial.move != AS_FOUND and (higher := self._higher(trial.description)) is not None:
            self.queue.append(higher)
        minimum = Minimum(
            trial.description,
            trial.energy,
            keeps and passes(trial.description),
            trial.move,
            trial.number,
            trial.as_given,
            trial.ended == "converged",
            trial.volume_ratio,
        )
        return self.population.add(minimum)

    def _higher(self, description: Description) -> Description | None:
        """A crystal in the symmetry that it has at the project's tolerance; None if that is not what was asked for."""
        found = describe(expand(description))
        if isinstance(found, Rejection):
            return None
        kept = found.formula_units == description.formula_units or not self.settings.keep_formula_units
        return found if kept and found.n_sites <= self.settings.max_atoms else None


def passes(description: Description) -> bool:
    """Whether a crystal passes all checks."""
    from crystallm.crystal.checks.fast_validity import check_cif_fast

    return all(check.passed for check in check_cif_fast(write_cif(description)).by_name.values())


def _key(starts: Sequence[tuple[Description, float]], potential: Potential, settings: SearchSettings, name: str) -> str:
    """What a journal's rounds depend on, but for the budget: a search may go on with a larger one."""
    asked = [
        settings.seed,
        settings.contact,
        settings.max_atoms,
        settings.keep_space_group,
        settings.keep_formula_units,
    ]
    begun = [[packed(one), round(energy, 6)] for one, energy in starts]
    text = json.dumps([1, name, potential.name, asked, begun])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
