"""Functions for one line of Python: crystals of a formula, and those of them that are known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

from crystallm.model.checkpoint import default_folder
from crystallm.model.editions import Edition
from crystallm.sample.answers.assess import Assessor
from crystallm.sample.config import AnswerConfig
from crystallm.sample.crystal import Crystals
from crystallm.sample.prompts import make_prompt

if TYPE_CHECKING:
    from crystallm.sample.generator import Generator


@overload
def sample(formula: str | None = None, *, edition: Edition = "full", **options: Any) -> Crystals: ...


@overload
def sample(formula: Sequence[str], *, edition: Edition = "full", **options: Any) -> list[Crystals]: ...


def sample(
    formula: str | Sequence[str] | None = None, *, edition: Edition = "full", **options: Any
) -> Crystals | list[Crystals]:
    """Crystals of a formula by the packaged model, most likely first.

    The model is loaded once and kept. For a checkpoint of your own, a device or a precision, make a `Generator`.

    Args:
        formula: Such as `"TiO2"`. Several formulas give several lists; None leaves the composition to the model.
        edition: The model: `full` for use, `benchmark` for measuring.
        **options: What `Generator.generate` takes: `space_group`, `formula_units`, and the fields of `SampleConfig`
            and `AnswerConfig`, such as `n`, `seed`, `known`, `energies`, `relax`.

    Returns:
        Known and drawn crystals, equal ones merged; a list of such, in the order of the formulas, for several.

    Raises:
        CompositionError: The formula cannot be read, or no cell within the limits holds it.
        SymmetryError: There is no such space group.
        ConfigError: An option is unknown or out of range, or the potential is not installed.
        CheckpointError: A file of the model is missing or damaged.

    Example:
        >>> from crystallm import sample
        >>> best = sample("NaCl", n=2, energies=False)[0]
        >>> best.formula, best.space_group, best.origin
        ('NaCl', 'Fm-3m', 'mp-22862, observed')
    """
    return _generator(edition).generate(formula, **options)


@lru_cache(maxsize=1)
def _generator(edition: Edition) -> Generator:
    from crystallm.sample.generator import Generator  # torch, which `known` does without

    return Generator.from_pretrained(edition=edition)


def known(
    formula: str,
    *,
    space_group: str | int | None = None,
    formula_units: int | None = None,
    edition: Edition = "full",
) -> Crystals:
    """The known crystals of exactly a formula, looked up in the library of the packaged model; nothing is drawn.

    Args:
        formula: Such as `"TiO2"`.
        space_group: Number or Hermann-Mauguin symbol, where only crystals of one group are wanted.
        formula_units: Z of the primitive cell, where only crystals with it are wanted.
        edition: Of whose library: `full`, or `benchmark`, which leaves the crystals of test sets out.

    Returns:
        One crystal for each structure, that which nature is most likely to make first; none where none is known.
        `Crystal.known` holds identifiers and published energies in eV per atom, `Crystal.origin` says whether one has
        been observed.

    Raises:
        CompositionError: The formula cannot be read.
        SymmetryError: There is no such space group.
        ConfigError: There is no such edition.
        CheckpointError: The library is damaged.

    Example:
        >>> from crystallm import known
        >>> [(crystal.space_group, crystal.origin) for crystal in known("NaCl")][:2]
        [('Fm-3m', 'mp-22862, observed'), ('Pm-3m', 'mp-22851, observed')]
    """
    prompt = make_prompt(formula, formula_units=formula_units, space_group=space_group)
    assessor = Assessor.open(default_folder(edition), AnswerConfig(known="only", energies=False, relax=False))
    return assessor.answer(prompt, ())
