"""The crystals that a search adds to the answer of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crystallm.energy.potentials.protocol import Potential
from crystallm.sample.answers.search.further import FurtherDraws
from crystallm.sample.answers.search.population import Minimum
from crystallm.sample.answers.search.searching import SearchSettings, search
from crystallm.sample.config import AnswerConfig, SampleConfig
from crystallm.sample.crystal import Crystal
from crystallm.sample.prompts import NamedPrompt

JOURNAL = "search.jsonl"
"""File in the folder of a run: the rounds of its searches."""

MOST_SHOWN = 10
"""Crystals that a search adds to an answer."""

SHOWN_EV = 0.1
"""How far above the lowest of all a crystal that was found may lie to be shown, eV per atom."""


def say_nothing(_: str) -> None:
    """For those who did not ask."""


@dataclass(frozen=True)
class Searcher:
    """Searches for the prompts of a run."""

    evaluations: int
    """That may be spent for each prompt."""
    drawing: SampleConfig
    """Seed, largest cell and contact distance are those of the draws."""
    journal: Path | None = None
    further: FurtherDraws | None = None
    """What the model would draw next; None leaves that move out."""
    tell: Callable[[str], None] = say_nothing
    """Told how each search ended."""

    @classmethod
    def of(
        cls,
        answers: AnswerConfig,
        drawing: SampleConfig | None,
        out: Path | None,
        further: FurtherDraws | None = None,
        tell: Callable[[str], None] = say_nothing,
    ) -> Searcher | None:
        """As a run asks for it; None without a search. out: folder of the run."""
        if not answers.search:
            return None
        return cls(answers.search, drawing or SampleConfig(), None if out is None else out / JOURNAL, further, tell)

    def find(self, item: NamedPrompt, crystals: Sequence[Crystal], potential: Potential) -> list[Minimum]:
        """Search from the crystals of a prompt.

        Args:
            item: the prompt; a space group or formula units that it gives stay.
            crystals: its answer so far, with energies.
            potential: by which they were judged.

        Returns:
            New crystals that pass all checks, lowest first.
        """
        starts = [
            (crystal.description, crystal.energy.lowest)
            for crystal in crystals
            if crystal.energy is not None and crystal.energy.lowest is not None
        ]
        if not starts:
            return []
        settings = SearchSettings(
            evaluations=self.evaluations,
            seed=self.drawing.seed,
            contact=self.drawing.contact,
            max_atoms=self.drawing.max_atoms,
            keep_space_group=item.prompt.space_group is not None,
            keep_formula_units=item.prompt.formula_units is not None,
        )
        draws = None if self.further is None else self.further.of(item)
        found = search(starts, potential, settings, name=item.name, journal=self.journal, draws=draws)
        self.tell(
            f"search for {item.name}: {len(found.minima)} new crystals of {found.trials} trials, "
            f"{found.evaluations} evaluations; ended because: {found.ended}"
        )
        lowest = min([energy for _, energy in starts] + [one.energy for one in found.minima])
        return [one for one in found.minima if one.energy < lowest + SHOWN_EV][:MOST_SHOWN]
