"""Makes an answer of the draws of a prompt: known crystals beside them, energies, one of equal ones, chances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from crystallm.data.templates import TemplateLibrary
from crystallm.energy.analysis import edition_hull
from crystallm.energy.hull.hull import HULL_FILE, HullTable
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.guarded import GuardedPotential
from crystallm.energy.potentials.protocol import CHGNET, Potential
from crystallm.energy.ranking import Question, probabilities
from crystallm.energy.relaxation.race import RaceSettings
from crystallm.model.checkpoint import TEMPLATES_FILE
from crystallm.sample.answers.energies import EnergyJudge
from crystallm.sample.answers.evidence import Relatives, evidence_of
from crystallm.sample.answers.kept import KeptRelaxations
from crystallm.sample.answers.known import known_crystals
from crystallm.sample.answers.merging import merged
from crystallm.sample.answers.search.answering import Searcher, say_nothing
from crystallm.sample.answers.search.further import FurtherDraws
from crystallm.sample.config import AnswerConfig, SampleConfig
from crystallm.sample.crystal import Crystal, Crystals, by_draw, rank
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.prompts import NamedPrompt


class Assessor:
    """Answers prompts with a checkpoint's known crystals and a potential."""

    def __init__(
        self,
        config: AnswerConfig,
        *,
        library: TemplateLibrary | None = None,
        energies: EnergyJudge | None = None,
        searcher: Searcher | None = None,
    ) -> None:
        self.config = config
        self.library = library
        self.energies = energies
        self.searcher = searcher

    @classmethod
    def open(
        cls,
        folder: Path,
        config: AnswerConfig,
        *,
        drawing: SampleConfig | None = None,
        out: Path | None = None,
        further: FurtherDraws | None = None,
        tell: Callable[[str], None] = say_nothing,
    ) -> Assessor:
        """With the library and the hull beside a checkpoint.

        Args:
            folder: of the checkpoint.
            config: what is made of the draws.
            drawing: how crystals are drawn; a search takes its seed and limits.
            out: folder of the run, in which relaxations and searches are kept; None keeps none.
            further: draws that a search may ask for.
            tell: told how each search ended.

        Returns:
            One that is ready; the potential is loaded.

        Raises:
            CheckpointError: a file beside the checkpoint is damaged.
            ConfigError: the potential is not installed.
        """
        file, hull = folder / TEMPLATES_FILE, folder / HULL_FILE
        library = TemplateLibrary(file) if file.is_file() else None
        if not config.energies:
            return cls(config, library=library)
        # Reference energies of known crystals say nothing of a model: one without a table of its own gets the full one.
        table = HullTable.read(hull) if hull.is_file() else edition_hull("full")
        potential, settings = _potential(config.potential), RaceSettings()
        kept = KeptRelaxations(out, potential.name, settings)
        judge = EnergyJudge(potential, table, config.relax, settings, kept)
        return cls(config, library=library, energies=judge, searcher=Searcher.of(config, drawing, out, further, tell))

    def answer(self, item: NamedPrompt, attempts: Sequence[Attempt]) -> Crystals:
        """The crystals of a prompt, best first.

        Args:
            item: the prompt.
            attempts: its draws; those that were given up count nothing.

        Returns:
            Known and drawn crystals, equal ones merged.
        """
        drawn = rank(attempts, merge=False)  # equal ones are found below, with a look at symmetry
        if item.prompt.amounts is None:
            return self._of_any_formula(drawn)
        known = [] if self.config.known == "none" else known_crystals(item, self.library)
        return self._with_chances(item, self._judged([*known, *drawn], item))

    def _of_any_formula(self, drawn: Sequence[Crystal]) -> Crystals:
        """Crystals whose formulas the model chose; chances compare crystals of one formula, so there are none."""
        formulas: dict[str, list[Crystal]] = defaultdict(list)
        for crystal in drawn:
            formulas[crystal.formula].append(crystal)
        judged = [crystal for found in formulas.values() for crystal in self._judged(found)]
        return Crystals(sorted(judged, key=by_draw))

    def _judged(self, crystals: Sequence[Crystal], item: NamedPrompt | None = None) -> list[Crystal]:
        """Crystals of one formula with energies; equal ones are made one before and after relaxing.

        item: the prompt that gave the formula; None where the model chose it: then nothing is raised or searched.
        """
        promote = item is not None and item.prompt.space_group is None
        if self.config.merge:
            crystals = merged(crystals, promote=promote)
        if self.energies is None or not crystals:
            return list(crystals)
        crystals = self.energies.judge(crystals)
        if self.searcher is not None and item is not None:
            found = self.searcher.find(item, crystals, self.energies.potential)
            crystals = [*crystals, *(self.energies.searched(item, minimum) for minimum in found)]
        if not self.config.merge:
            return crystals
        parents = self.energies.parents(crystals) if promote else []
        return merged(crystals, promote=promote, parents=parents)

    def _with_chances(self, item: NamedPrompt, crystals: Sequence[Crystal]) -> Crystals:
        evidence = evidence_of(crystals, Relatives.of(item, self.library))
        chances = probabilities(evidence, Question(self.config.question))
        told = [replace(crystal, probability=chance) for crystal, chance in zip(crystals, chances, strict=True)]
        return Crystals(sorted(told, key=lambda crystal: (-(crystal.probability or 0.0), by_draw(crystal))))


POTENTIAL_TIME_LIMIT_S = 60.0
"""For one evaluation by a potential that is not ours; it runs in a process of its own, which is ended then."""


def _potential(name: str) -> Potential:
    return load_potential(name) if name == CHGNET else GuardedPotential(name, time_limit=POTENTIAL_TIME_LIMIT_S)
