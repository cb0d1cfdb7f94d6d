"""Generator: a checkpoint that makes crystals."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crystallm.crystal.cell import Cell
from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, expand
from crystallm.crystal.layout import get_layout
from crystallm.crystal.matching import group_duplicates
from crystallm.crystal.wyckoff import space_group
from crystallm.errors import CheckpointError, ConfigError
from crystallm.model.checkpoint import Checkpoint, load_checkpoint
from crystallm.sample.config import SampleConfig
from crystallm.sample.constraint import Grammar, Limits, Prompt, check_prompt, units_that_fit
from crystallm.sample.crystals import CrystalTask
from crystallm.sample.engine import Engine, Outcome, Warp, draw
from crystallm.sample.prompts import NamedPrompt, make_prompt

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystallm.crystal.validity import Checks

GIVEN_UP = "given up: atoms too close, or the text too long, after every redraw"


@dataclass(frozen=True)
class Attempt:
    """One draw, finished or given up. Log-probabilities are natural logarithms under the unwarped model."""

    prompt: NamedPrompt
    number: int
    """Which draw of its prompt, from 0."""
    description: Description | None
    text: str
    token_log_probabilities: tuple[float, ...]
    """One per free choice."""
    n_tokens: int
    steps: int
    redrawn: int

    @property
    def log_probability(self) -> float:
        """Sum over the free choices."""
        return float(sum(self.token_log_probabilities))


@dataclass(frozen=True, eq=False)
class Crystal:
    """A crystal made for a prompt."""

    attempt: Attempt
    description: Description
    count: int = 1
    """Draws of the same prompt that gave this crystal (by structure matcher), this one included."""

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the model's probability of the free choices of the text."""
        return self.attempt.log_probability

    @cached_property
    def cell(self) -> Cell:
        """All atoms of the conventional cell."""
        return expand(self.description)

    @cached_property
    def structure(self) -> Structure:
        """The conventional cell as a pymatgen structure."""
        return self.cell.to_structure()

    @cached_property
    def cif(self) -> str:
        """A complete CIF with symmetry."""
        return write_cif(self.description)

    @cached_property
    def checks(self) -> Checks:
        """The reference checks, as `crystallm eval validity` makes them."""
        from crystallm.crystal.validity import check_cif

        return check_cif(self.cif)

    @property
    def formula_units(self) -> int:
        """Z of the conventional cell."""
        return self.description.formula_units * space_group(self.description.space_group).centring_order


class Generator:
    """Makes crystals with a checkpoint.

    >>> crystals = Generator.from_pretrained().generate("TiO2", n=5)
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.layout = get_layout(checkpoint.layout_name)
        if self.layout.vocabulary() != checkpoint.tokenizer.convert_ids_to_tokens(range(len(checkpoint.tokenizer))):
            raise CheckpointError(
                f"the tokens of checkpoint {checkpoint.folder.name} are not those of layout {self.layout.name!r}; "
                "it was made by another version, train it again"
            )
        self.model: Any = checkpoint.model.to(_device(device))
        self.model.eval()

    @classmethod
    def from_pretrained(cls, path: Path | str | None = None, *, device: str | None = None) -> Generator:
        """Load a checkpoint folder; None is the model that ships with the package. Raises CheckpointError."""
        return cls(load_checkpoint(path), device=device)

    def generate(
        self,
        formula: str | None = None,
        *,
        n: int = 10,
        formula_units: int | None = None,
        space_group: str | int | None = None,
        config: SampleConfig | None = None,
        **options: Any,
    ) -> list[Crystal]:
        """Crystals of a formula (None: of any), most probable first, equal ones merged with their count.

        formula_units: Z of the primitive cell. space_group: number or Hermann-Mauguin symbol. options: fields of
        SampleConfig, such as temperature, top_k, seed. Draws that were given up are left out.
        """
        prompt = make_prompt(formula, formula_units=formula_units, space_group=space_group)
        settings = replace(config or SampleConfig(), n=n, **options)
        return rank(list(self.attempts([prompt], settings)))

    def attempts(
        self,
        prompts: Sequence[NamedPrompt],
        config: SampleConfig,
        *,
        skip: Callable[[str, int], bool] = lambda name, number: False,
    ) -> Iterator[Attempt]:
        """Draws for every prompt, in the order in which they finish.

        skip: tells which draws (prompt name, number) are already done. All prompts are checked before the first draw.
        """
        grammar = Grammar(self.layout, Limits(max_atoms=config.max_atoms))
        for item in prompts:
            check_prompt(item.prompt, grammar.limits)
        engine = Engine(self.model, rows=config.batch_size, context=self.context)
        warp = Warp(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
        units: dict[tuple[int, int], float] = {}
        jobs = self._jobs(grammar, prompts, config, warp, skip, units)
        for outcome in engine.run(jobs, warp):
            yield self._attempt(outcome, prompts, units)

    @property
    def context(self) -> int:
        """Longest text in tokens."""
        return int(self.model.config.max_position_embeddings)

    def _jobs(
        self,
        grammar: Grammar,
        prompts: Sequence[NamedPrompt],
        config: SampleConfig,
        warp: Warp,
        skip: Callable[[str, int], bool],
        units: dict[tuple[int, int], float],
    ) -> Iterator[tuple[CrystalTask, np.random.Generator]]:
        for index, item in enumerate(prompts):
            weights: tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]] | None = None
            for number in range(config.n):
                if skip(item.name, number):
                    continue
                stream = np.random.Generator(
                    np.random.Philox(np.random.SeedSequence([config.seed, zlib.crc32(item.name.encode()), number]))
                )
                prompt = item.prompt
                if prompt.amounts is not None and prompt.space_group is not None and prompt.formula_units is None:
                    # In the text Z stands before the space group: draw it from what both say together.
                    weights = weights or self._units_given_group(grammar, prompt)
                    chosen = draw(weights[1], stream, warp)
                    units[index, number] = float(weights[1][chosen])
                    prompt = replace(prompt, formula_units=weights[0][chosen])
                yield CrystalTask(grammar, prompt, index, number), stream

    def _units_given_group(
        self, grammar: Grammar, prompt: Prompt
    ) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]]:
        """Possible Z and the log-probabilities (C,) of Z given formula and space group, by Bayes' rule."""
        assert prompt.amounts is not None
        assert prompt.space_group is not None
        values = units_that_fit(prompt.amounts, prompt, grammar.limits)
        head = grammar.formula_head(prompt.amounts)
        choices = [grammar.choice(grammar.units, value) for value in values]
        ids = torch.tensor([[*head, choice] for choice in choices], device=self.model.device)
        with torch.inference_mode():
            log = torch.log_softmax(self.model(input_ids=ids).logits[:, -2:].float(), dim=-1)
        row = torch.arange(len(values), device=log.device)
        joint = log[row, 0, ids[:, -1]] + log[:, 1, grammar.choice(grammar.group, prompt.space_group)]
        return values, torch.log_softmax(joint.double(), dim=0).cpu().numpy()

    def _attempt(
        self, outcome: Outcome, prompts: Sequence[NamedPrompt], units: dict[tuple[int, int], float]
    ) -> Attempt:
        task = outcome.task
        extra = units.get((task.prompt_index, task.number))
        scores = outcome.log_probabilities if extra is None else [extra, *outcome.log_probabilities]
        return Attempt(
            prompt=prompts[task.prompt_index],
            number=task.number,
            description=task.partial.description() if outcome.finished else None,
            text="".join(task.grammar.tokens[token] for token in outcome.tokens),
            token_log_probabilities=tuple(scores),
            n_tokens=len(outcome.tokens),
            steps=outcome.steps,
            redrawn=outcome.redrawn,
        )


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # how torch reports an unknown name or absent hardware
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use device {name!r}: {reason}; choose cpu or cuda, or leave it out") from error
    return device


def rank(attempts: Iterable[Attempt], *, merge: bool = True) -> list[Crystal]:
    """Distinct crystals of finished draws, most probable first; each stands for all draws that match it.

    merge: False keeps every finished draw as a crystal of its own.
    """
    finished = [a for a in attempts if a.description is not None]
    finished.sort(key=lambda a: (-a.log_probability, a.number))
    crystals = [Crystal(a, a.description) for a in finished if a.description is not None]
    if not merge:
        return crystals
    groups = group_duplicates([crystal.structure for crystal in crystals])
    return [replace(crystals[group[0]], count=len(group)) for group in groups]
