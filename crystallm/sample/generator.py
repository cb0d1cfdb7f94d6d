"""Generator: a checkpoint that makes crystals."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from crystallm.base.errors import CheckpointError
from crystallm.data.templates import TemplateLibrary
from crystallm.model.checkpoint import TEMPLATES_FILE, Checkpoint, OpenCheckpoint, open_checkpoint
from crystallm.model.editions import Edition
from crystallm.sample.attempt import Attempt
from crystallm.sample.config import AnswerConfig, SampleConfig, split_options
from crystallm.sample.crystal import Crystals
from crystallm.sample.decoding.compiled import CompiledDecoder
from crystallm.sample.decoding.cuda_graphs import GraphDecoder
from crystallm.sample.decoding.decoder import Decoder
from crystallm.sample.decoding.device import DTYPES, Precision, check_memory, chosen_device, native_precision
from crystallm.sample.drawing.crystal_task import CrystalTask
from crystallm.sample.drawing.formula_pool import OtherFormulas, chooses_formula, formula_jobs
from crystallm.sample.drawing.given_symmetry import Plan, draw_given, draw_units, is_settled, waits
from crystallm.sample.drawing.template_guide import Guide
from crystallm.sample.drawing.unlike_draws import WIDEST, Rounds
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.rows import Outcome
from crystallm.sample.engine.warp import Warp, stream_of
from crystallm.sample.engine.without_replacement import Memory
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.possible import multiple_that_fits
from crystallm.sample.grammar.protocol import AnyGrammar, make_grammar, published_symmetries
from crystallm.sample.grammar.published_grammar import PublishedGrammar
from crystallm.sample.grammar.symmetry_search import Searched, Symmetries, check_search, in_turn, parse_spread
from crystallm.sample.grammar.wyckoff_grammar import Grammar, Prompt, units_that_fit
from crystallm.sample.prompts import NamedPrompt, make_prompt, within
from crystallm.tokenizer.layout import get_layout


class Generator:
    """Makes crystals with a checkpoint; `Generator.from_pretrained` loads one.

    Args:
        checkpoint: What `open_checkpoint` gives.
        device: Such as `cpu` or `cuda:0`; None takes a GPU where there is one.
        precision: Of the model's matrix products, `fp32` or `bf16`; None is `bf16` where the hardware multiplies
            bfloat16 itself.

    Raises:
        CheckpointError: The checkpoint was made by another version.

    Example:
        >>> from crystallm import Generator
        >>> crystals = Generator.from_pretrained().generate("MgO", n=2, energies=False)
        >>> crystals[0].space_group
        'Fm-3m'
    """

    def __init__(
        self, checkpoint: Checkpoint | OpenCheckpoint, *, device: str | None = None, precision: Precision | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.layout = get_layout(checkpoint.layout_name)
        if self.layout.vocabulary() != checkpoint.vocabulary:
            raise CheckpointError(
                f"the tokens of checkpoint {checkpoint.folder.name} are not those of layout {self.layout.name!r}; "
                "it was made by another version, train it again"
            )
        self.device = chosen_device(device)
        self.precision = precision or native_precision(self.device)
        library = checkpoint.folder / TEMPLATES_FILE
        self.templates = TemplateLibrary(library) if library.is_file() else None
        """Known crystals that draws of a formula may follow; None where the checkpoint has none."""
        source = checkpoint.stored
        model: Any = self.model if source is None else source.to(self.device)
        self.shape = model.config
        decoder = Decoder(model, DTYPES[self.precision])
        self.decoder = GraphDecoder(decoder) if decoder.device.type == "cuda" else CompiledDecoder(decoder)

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str | None = None,
        *,
        edition: Edition | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> Generator:
        """Load a checkpoint folder, or an edition that ships.

        Args:
            path: Folder that `crystallm train`, `finetune` or `model` made; None for an edition.
            edition: `full` (None) for use, `benchmark` for measuring: it has seen no row of a test set.
            device: As of the class.
            precision: As of the class.

        Returns:
            The generator, ready for use.

        Raises:
            CheckpointError: A file is missing or damaged.
            ConfigError: There is no such edition or device.

        Example:
            >>> from crystallm import Generator
            >>> Generator.from_pretrained(edition="benchmark").layout.name
            'wyckoff'
        """
        return cls(open_checkpoint(path, edition), device=device, precision=precision)

    @cached_property
    def model(self) -> Any:
        """The model of `transformers`; what only draws crystals of a formula does without it."""
        return self.checkpoint.model.to(self.device).eval()

    @overload
    def generate(self, formula: str | None = None, **options: Any) -> Crystals: ...

    @overload
    def generate(self, formula: Sequence[str], **options: Any) -> list[Crystals]: ...

    def generate(
        self,
        formula: str | Sequence[str] | None = None,
        *,
        formula_units: int | None = None,
        space_group: str | int | None = None,
        config: SampleConfig | None = None,
        answers: AnswerConfig | None = None,
        **options: Any,
    ) -> Crystals | list[Crystals]:
        """Crystals of a formula, most likely first: known ones as they are, and those that the model draws.

        Args:
            formula: such as 'TiO2'; several formulas give several lists; None leaves the composition to the model.
            formula_units: Z of the primitive cell.
            space_group: number or Hermann-Mauguin symbol.
            config: how crystals are drawn.
            answers: what is made of the draws.
            **options: fields of SampleConfig and AnswerConfig, such as n, temperature, seed, known, energies.

        Returns:
            The crystals of the formula; a list of such, in the order of the formulas, where several were given. Draws
            that were given up are left out.

        Raises:
            CompositionError, SymmetryError: the formula or space group cannot be read.
            ConfigError: an option is unknown or out of range.

        Example:
            >>> from crystallm import Generator
            >>> found = Generator.from_pretrained().generate(["NaCl", "MgO"], n=1, energies=False)
            >>> [crystals[0].space_group for crystals in found]
            ['Fm-3m', 'Fm-3m']
        """
        drawing, judging = split_options(options)
        settings = replace(config or SampleConfig(), **drawing)
        asked = {"formula_units": formula_units, "space_group": space_group}
        several = formula is not None and not isinstance(formula, str)
        limits = Limits(max_atoms=settings.max_atoms)
        prompts = [within(make_prompt(one, **asked), limits) for one in (formula if several else [formula])]  # type: ignore[arg-type, union-attr]
        found = self.answer(prompts, settings, replace(answers or AnswerConfig(), **judging))
        return found if several else found[0]

    def answer(self, prompts: Sequence[NamedPrompt], config: SampleConfig, answers: AnswerConfig) -> list[Crystals]:
        """The crystals of each prompt, in their order."""
        from crystallm.sample.answers.assess import Assessor
        from crystallm.sample.answers.search.further import FurtherDraws

        attempts: dict[str, list[Attempt]] = {item.name: [] for item in prompts}
        if answers.known != "only":
            for attempt in self.attempts(prompts, config):
                attempts[attempt.prompt.name].append(attempt)
        further = None if answers.known == "only" else FurtherDraws(lambda: self, config)
        assessor = Assessor.open(self.checkpoint.folder, answers, drawing=config, further=further)
        return [assessor.answer(item, attempts[item.name]) for item in prompts]

    def attempts(
        self,
        prompts: Sequence[NamedPrompt],
        config: SampleConfig,
        *,
        skip: Callable[[str, int], bool] = lambda name, number: False,
        engine: Engine | None = None,
    ) -> Iterator[Attempt]:
        """Draws for every prompt, in the order in which they finish.

        skip: tells which draws (prompt name, number) are already done. All prompts are checked before the first draw.
        engine: one to count steps and time with.
        """
        grammar = make_grammar(self.layout, Limits(max_atoms=config.max_atoms), self.context)
        for item in prompts:
            grammar.check(item.prompt)
            check_search(item.prompt, config)
        draws = sum(min(WIDEST, config.n) if waits(item, config) else config.n for item in prompts)
        rows = min(config.batch_size, draws)
        engine = engine or Engine(self.decoder, rows=rows, context=self.context)
        check_memory(self.shape, self.device, self.precision, rows=rows, context=self.context)
        warp = Warp(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        plans: dict[tuple[int, int], Plan] = {}
        rounds: dict[int, Rounds | OtherFormulas] = {}
        ended: set[int] = set()

        def then(outcome: Outcome) -> Iterable[Job]:
            index = outcome.task.prompt_index
            return rounds[index].end(outcome) if index in rounds else ()

        jobs = self._jobs(grammar, prompts, config, warp, skip, plans, rounds)
        for outcome in engine.run(jobs, warp, then=then):
            index = outcome.task.prompt_index
            settled = [(outcome.task.number, outcome)]
            if index in rounds or index in ended:  # others of its round may have ended in the same step, and told of it
                settled = rounds[index].settled() if index in rounds else []
            for number, one in settled:
                attempt = self._attempt(one, number, prompts[index], plans.pop((index, one.task.number)))
                if not skip(attempt.prompt.name, number):
                    yield attempt
            if index in rounds and rounds[index].finished:
                ended.add(index)
                del rounds[index]  # with all that its draws have chosen

    @property
    def context(self) -> int:
        """Longest text in tokens."""
        return int(self.shape.max_position_embeddings)

    def _jobs(
        self,
        grammar: AnyGrammar,
        prompts: Sequence[NamedPrompt],
        config: SampleConfig,
        warp: Warp,
        skip: Callable[[str, int], bool],
        plans: dict[tuple[int, int], Plan],
        rounds: dict[int, Rounds | OtherFormulas],
    ) -> Iterator[Job]:
        """What can be begun at once; `rounds` then holds the draws of a prompt after which others may follow."""
        for index, item in enumerate(prompts):
            if all(skip(item.name, number) for number in range(config.n)):
                continue  # planning may ask the model
            missing = (number for number in range(config.n) if not skip(item.name, number))
            if isinstance(grammar, Grammar) and chooses_formula(item.prompt):
                engine = Engine(self.decoder, rows=config.batch_size, context=self.context)
                make = formula_jobs(grammar, self.model, engine, (index, item), config, warp, plans)
                rounds[index] = OtherFormulas(make, missing)
                yield from rounds[index].begin()
                continue
            job = self._job_maker(grammar, index, item, config, warp, plans)
            if waits(item, config):  # each draw hangs on all before it, so none is skipped
                rounds[index] = Rounds(job, config.n, side_by_side=is_settled(item.prompt, config))
                yield from rounds[index].begin()
            else:
                yield from map(job, missing)

    def _job_maker(
        self,
        grammar: AnyGrammar,
        index: int,
        item: NamedPrompt,
        config: SampleConfig,
        warp: Warp,
        plans: dict[tuple[int, int], Plan],
    ) -> Callable[[int], Job]:
        """Makes the jobs of a prompt, asked for in the order of their numbers."""
        planner = enumerate(self._planner(grammar, item, config))
        memories: dict[Prompt, Memory] = defaultdict(lambda: Memory(config.repeat))
        guides: dict[Prompt, Guide | None] = {}

        def job(number: int) -> Job:
            chosen = next(one for place, one in planner if place == number)
            stream = stream_of(config.seed, zlib.crc32(item.name.encode()), number)
            plan = plans[index, number] = chosen(stream, warp)
            memory = memories[plan.prompt] if waits(item, config) else None
            if plan.prompt not in guides:
                guides[plan.prompt] = self._guide(grammar, plan.prompt, config)
            given = (memory, guides[plan.prompt], config.bond_tries)
            return CrystalTask(grammar, plan.prompt, index, number, config.contact, *given), stream

        return job

    def _planner(
        self, grammar: AnyGrammar, item: NamedPrompt, config: SampleConfig
    ) -> Iterator[Callable[[np.random.Generator, Warp], Plan]]:
        """For each draw of a prompt: what is settled before its text is begun."""
        prompt = item.prompt
        if prompt.amounts is None or is_settled(prompt, config):
            while True:
                yield lambda stream, warp: Plan(prompt)
        kind, told = ("space_group", config.space_groups) if config.space_groups else ("formula_units", config.units)
        if told is None or getattr(prompt, kind) is not None:
            # In the text Z stands before the space group: draw it from what both say together.
            symmetries = self.symmetries(grammar, prompt)
            while True:
                yield lambda stream, warp: draw_units(prompt, symmetries, stream, warp)
        spread = parse_spread(told, kind)
        symmetries = self.symmetries(grammar, prompt)
        values, shares = symmetries.most_probable(kind, spread.top)
        for place in in_turn(shares, evenly=spread.evenly):
            value = values[place]
            given = (
                replace(prompt, space_group=value) if kind == "space_group" else replace(prompt, formula_units=value)
            )
            searched = Searched(kind, value, round(shares[place], 6))
            yield partial(draw_given, prompt, given, searched, symmetries)

    def _guide(self, grammar: AnyGrammar, prompt: Prompt, config: SampleConfig) -> Guide | None:
        """The templates of a prompt with a formula; None where there are none, or none are wanted."""
        if self.templates is None or not config.guide or not isinstance(grammar, Grammar):
            return None
        if prompt.amounts is None:  # a formula that the model chooses is its own to place
            return None
        found = self.templates.find(
            prompt.amounts,
            formula_units=prompt.formula_units,
            space_group=prompt.space_group,
            multiple=multiple_that_fits(prompt, grammar.limits),
        )
        found = [template for template in found if template.description.n_sites <= config.max_atoms]
        return Guide(grammar, found, weight=config.guide) if found else None

    def symmetries(self, grammar: AnyGrammar, prompt: Prompt) -> Symmetries:
        """What the model says of formula units and space group of a prompt with a formula."""
        assert prompt.amounts is not None
        if isinstance(grammar, PublishedGrammar):
            return published_symmetries(grammar, self.model, prompt)
        values = units_that_fit(prompt.amounts, prompt, grammar.limits)
        head = grammar.formula_head(prompt.amounts)
        heads = [[*head, grammar.choice(grammar.units, value)] for value in values]
        ids = torch.tensor(heads, device=self.model.device)
        with torch.inference_mode():
            log = torch.log_softmax(self.model(input_ids=ids).logits[:, -2:].double(), dim=-1).cpu().numpy()
        groups = list(grammar.group_ids.values())
        possible = np.zeros((len(values), 230), dtype=bool)
        for row, value in enumerate(values):
            holding = cover.groups_that_hold(tuple(amount * value for _, amount in prompt.amounts))
            possible[row, [number - 1 for number in holding]] = True
        if prompt.space_group is not None:
            possible[:, np.arange(230) != prompt.space_group - 1] = False
        own = ids[:, -1].cpu().numpy()
        return Symmetries(values, log[np.arange(len(values)), 0, own], log[:, 1][:, groups], possible)

    def _attempt(self, outcome: Outcome, number: int, item: NamedPrompt, plan: Plan) -> Attempt:
        task = outcome.task
        return Attempt(
            prompt=item,
            number=number,
            description=task.partial.description() if outcome.finished else None,
            reason=outcome.failure,
            text="".join(task.grammar.tokens[token] for token in outcome.tokens),
            token_log_probabilities=(*plan.scores, *outcome.log_probabilities),
            protostructure_log_probability=float(sum(plan.scores)) + outcome.unlike,
            ranking_log_probability=plan.ranking + outcome.unlike_drawn,
            n_tokens=len(outcome.tokens),
            steps=outcome.steps,
            redrawn=outcome.redrawn,
            searched=plan.searched,
            followed=None if task.guide is None or outcome.belief is None else task.guide.followed(outcome.belief),
        )
