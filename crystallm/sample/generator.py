"""Generator: a checkpoint that makes crystals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

from crystallm.base.errors import CheckpointError
from crystallm.crystal.checks.paths import SYMMETRY_PATHS
from crystallm.data.templates import TemplateLibrary
from crystallm.model.checkpoint import TEMPLATES_FILE, Checkpoint, OpenCheckpoint, open_checkpoint
from crystallm.model.editions import Edition
from crystallm.sample.config import AnswerConfig, SampleConfig, split_options
from crystallm.sample.crystal import Crystals
from crystallm.sample.decoding.decoder import Decoder
from crystallm.sample.decoding.decoders import DECODERS, DecoderName
from crystallm.sample.decoding.device import DTYPES, Precision, check_memory, chosen_device, native_precision
from crystallm.sample.drawing.attempt import Attempt
from crystallm.sample.drawing.given_symmetry import waits
from crystallm.sample.drawing.prompt_draws import Common, PromptDraws
from crystallm.sample.drawing.unlike_draws import WIDEST
from crystallm.sample.engine.engine import Engine, Job
from crystallm.sample.engine.warp import Warp
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.making import make_grammar
from crystallm.sample.grammar.symmetry_search import check_search
from crystallm.sample.prompts import NamedPrompt, make_prompt, within
from crystallm.tokenizer.layout import get_layout


class Generator:
    """Makes crystals with a checkpoint; `Generator.from_pretrained` loads one.

    Args:
        checkpoint: What `open_checkpoint` gives.
        device: Such as `cpu` or `cuda:0`; None takes a GPU where there is one.
        precision: Of the model's matrix products, `fp32` or `bf16`; None is `bf16` where the hardware multiplies
            bfloat16 itself.
        decoder: What computes the model's steps: `compiled` for the device, or `torch`, the reference. Sums are taken
            in another order, so a few draws of a seed differ.

    Raises:
        CheckpointError: The checkpoint was made by another version.
        ConfigError: There is no such device or decoder.

    Example:
        >>> from crystallm import Generator
        >>> crystals = Generator.from_pretrained().generate("MgO", n=2, energies=False)
        >>> crystals[0].space_group
        'Fm-3m'
    """

    def __init__(
        self,
        checkpoint: Checkpoint | OpenCheckpoint,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        decoder: DecoderName = "compiled",
    ) -> None:
        make = DECODERS[decoder].load()
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
        self.decoder = make(Decoder(model, DTYPES[self.precision]))

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str | None = None,
        *,
        edition: Edition | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        decoder: DecoderName = "compiled",
    ) -> Generator:
        """Load a checkpoint folder, or an edition that ships.

        Args:
            path: Folder that `crystallm train`, `finetune` or `model` made; None for an edition.
            edition: `full` (None) for use, `benchmark` for measuring: it has seen no row of a test set.
            device: As of the class.
            precision: As of the class.
            decoder: As of the class.

        Returns:
            The generator, ready for use.

        Raises:
            CheckpointError: A file is missing or damaged.
            ConfigError: There is no such edition, device or decoder.

        Example:
            >>> from crystallm import Generator
            >>> Generator.from_pretrained(edition="benchmark").layout.name
            'wyckoff'
        """
        return cls(open_checkpoint(path, edition), device=device, precision=precision, decoder=decoder)

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
        self.decoder.warm_up()
        SYMMETRY_PATHS[config.symmetry_path].warm_up()
        warp = Warp(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        before = partial(Engine, self.decoder, rows=config.batch_size, context=self.context)
        common = Common(grammar, config, warp, lambda: self.model, before, self.templates)
        begun: dict[int, PromptDraws] = {}

        def jobs() -> Iterator[Job]:
            for index, item in enumerate(prompts):
                skipped = partial(skip, item.name)
                if not all(map(skipped, range(config.n))):
                    begun[index] = PromptDraws(index, item, common, skipped)
                    yield from begun[index].begin()

        for outcome in engine.run(jobs(), warp, then=lambda outcome: begun[outcome.task.prompt_index].end(outcome)):
            index = outcome.task.prompt_index
            if index in begun:  # it may have ended with another draw of the same step
                yield from begun[index].attempts()
                if begun[index].finished:
                    del begun[index]

    @property
    def context(self) -> int:
        """Longest text in tokens."""
        return int(self.shape.max_position_embeddings)
