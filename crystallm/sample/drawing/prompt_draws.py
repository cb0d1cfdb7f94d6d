"""The draws of one prompt: what each is begun with, which of them hang on others, and what stands of them."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from crystallm.crystal.checks.paths import SYMMETRY_PATHS
from crystallm.crystal.formulas.composition import Amounts
from crystallm.data.templates import TemplateLibrary
from crystallm.sample.config import SampleConfig
from crystallm.sample.drawing.attempt import Attempt, attempt_of
from crystallm.sample.drawing.crystal_task import CrystalTask
from crystallm.sample.drawing.formula_pool import DRAWS_OF_A_POOL, POOL, OtherFormulas, Pool, draw_pool
from crystallm.sample.drawing.given_symmetry import Plan, is_settled, plans, waits
from crystallm.sample.drawing.template_guide import Guide, find_guide
from crystallm.sample.drawing.unlike_draws import Rounds
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.rows import Outcome
from crystallm.sample.engine.warp import Warp, stream_of
from crystallm.sample.engine.without_replacement import Memory
from crystallm.sample.grammar.possible import Prompt
from crystallm.sample.grammar.protocol import Grammar
from crystallm.sample.prompts import NamedPrompt


@dataclass(frozen=True)
class Common:
    """What the draws of all prompts of a run have in common."""

    grammar: Grammar
    config: SampleConfig
    warp: Warp
    load_model: Callable[[], Any]
    """Gives the model of `transformers`; only some prompts ask for it."""
    make_engine: Callable[[], Engine]
    """Gives an engine for what has to be drawn before a draw."""
    templates: TemplateLibrary | None = None
    """Known crystals that draws may follow."""


class Schedule(Protocol):
    """Which draws of a prompt are begun when. Numbers of draws that stand are those of `attempts`."""

    @property
    def finished(self) -> bool:
        """Whether all draws stand."""

    def begin(self) -> Iterable[Job]:
        """What can be begun at once."""

    def end(self, outcome: Outcome) -> list[Job]:
        """Take note of what has ended; what can be begun after it."""

    def settled(self) -> list[tuple[int, Outcome]]:
        """Draws that stand, each with its number, since this was last asked."""


class Independent:
    """Draws none of which hangs on another."""

    def __init__(self, make: Callable[[int], Job], numbers: Iterator[int]) -> None:
        self._make, self._numbers = make, numbers
        self._open, self._all_begun = 0, False
        self._settled: list[tuple[int, Outcome]] = []

    @property
    def finished(self) -> bool:
        """Whether all draws stand."""
        return self._all_begun and self._open == 0

    def begin(self) -> Iterator[Job]:
        """All draws, each made when it is asked for."""
        for number in self._numbers:
            self._open += 1
            yield self._make(number)
        self._all_begun = True

    def end(self, outcome: Outcome) -> list[Job]:
        """Take note that a draw has ended: it stands."""
        self._open -= 1
        self._settled.append((outcome.task.number, outcome))
        return []

    def settled(self) -> list[tuple[int, Outcome]]:
        """Draws that stand, each with its number, since this was last asked."""
        settled, self._settled = self._settled, []
        return settled


class PromptDraws:
    """The draws of one prompt: owns what is settled of each, what they follow, and what they are to differ from.

    Args:
        index: of the prompt among those of a run; its tasks carry it.
        item: the prompt.
        common: what all prompts of the run share.
        skip: tells by number which draws are not wanted.
    """

    def __init__(self, index: int, item: NamedPrompt, common: Common, skip: Callable[[int], bool]) -> None:
        self.index, self.item, self.common, self.skip = index, item, common, skip
        self._words = (common.config.seed, zlib.crc32(item.name.encode()))
        self._plans: dict[int, Plan] = {}
        """What was settled of draws that have been begun and do not stand yet, by the numbers of their tasks."""
        self._memories: dict[Prompt, Memory] = defaultdict(lambda: Memory(common.config.repeat))
        self._guides: dict[Prompt, Guide | None] = {}
        self._planned = enumerate(plans(item.prompt, common.config, self._symmetries))
        self._schedule: Schedule | None = self._make_schedule()
        """None when all draws stand."""

        words = self._words

        @lru_cache(maxsize=4)
        def pool(block: int) -> Pool:
            model, engine, entropy = common.load_model(), common.make_engine(), (*words, block)
            return draw_pool(common.grammar, model, engine, item.prompt, common.warp, entropy=entropy, size=POOL)

        self._pool = pool

    def _make_schedule(self) -> Schedule:
        config, prompt = self.common.config, self.item.prompt
        missing = (number for number in range(config.n) if not self.skip(number))
        if self.common.grammar.chooses_formula(prompt):
            return OtherFormulas(self._job_of_formula, missing)
        if waits(self.item, config):  # each draw hangs on all before it, so none is skipped
            return Rounds(self._job, config.n, side_by_side=is_settled(prompt, config))
        return Independent(self._job, missing)

    @property
    def finished(self) -> bool:
        """Whether all draws stand."""
        return self._schedule is None

    def begin(self) -> Iterable[Job]:
        """What can be begun at once."""
        return () if self._schedule is None else self._schedule.begin()

    def end(self, outcome: Outcome) -> list[Job]:
        """Take note of what has ended; what can be begun after it."""
        return [] if self._schedule is None else self._schedule.end(outcome)

    def attempts(self) -> Iterator[Attempt]:
        """Draws that stand since this was last asked, but for those that are not wanted."""
        if self._schedule is None:
            return
        settled = self._schedule.settled()
        if self._schedule.finished:
            self._schedule = None  # with all that the draws have chosen
        for number, outcome in settled:
            plan = self._plans.pop(outcome.task.number)
            if not self.skip(number):
                yield attempt_of(self.item, number, plan, outcome)

    def _job(self, number: int) -> Job:
        """A draw by its number; asked for in rising order."""
        chosen = next(one for place, one in self._planned if place == number)
        stream = stream_of(*self._words, number)
        plan = self._plans[number] = chosen(stream, self.common.warp)
        memory = self._memories[plan.prompt] if waits(self.item, self.common.config) else None
        return self._task(number, plan.prompt, memory, self._guide(plan.prompt)), stream

    def _job_of_formula(self, number: int, without: Collection[tuple[Amounts, int]]) -> Job | None:
        """A draw with a formula chosen for it, other than those it was given up with; None if there is no other."""
        stream = stream_of(*self._words, number, *([len(without)] if without else []))
        head = self._pool(number // DRAWS_OF_A_POOL).draw(stream, without)
        if head is None:
            return None
        prompt = replace(self.item.prompt, amounts=head.amounts, formula_units=head.formula_units)
        self._plans[number] = Plan(prompt, head.scores)
        return self._task(number, prompt), stream

    def _task(
        self, number: int, prompt: Prompt, memory: Memory | None = None, guide: Guide | None = None
    ) -> CrystalTask:
        config = self.common.config
        given = (self.index, number, config.contact, memory, guide, config.bond_tries)
        is_written_in = SYMMETRY_PATHS[config.symmetry_path].load()
        return CrystalTask(self.common.grammar, prompt, *given, is_written_in=is_written_in)

    def _guide(self, prompt: Prompt) -> Guide | None:
        if prompt not in self._guides:
            self._guides[prompt] = find_guide(self.common.templates, self.common.grammar, prompt, self.common.config)
        return self._guides[prompt]

    def _symmetries(self) -> Any:
        return self.common.grammar.symmetries(self.common.load_model(), self.item.prompt)
