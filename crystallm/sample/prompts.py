"""Prompts as people write them: formulas, space groups, and JSONL files of both."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crystallm.base.errors import CompositionError, CrystallmError, InputError
from crystallm.base.provenance import readable
from crystallm.crystal.formulas.composition import Amounts, Formula, format_formula, read_formula, unseen_elements
from crystallm.crystal.formulas.elements import ELEMENTS, LAST_WITH_CRYSTALS
from crystallm.crystal.formulas.spelling import balanced_alternative
from crystallm.crystal.symmetry import space_group_from_name
from crystallm.sample.grammar.limits import Limits
from crystallm.sample.grammar.possible import Prompt, check_prompt, multiple_that_fits, notes_on_units

KEYS = {"id", "formula", "formula_units", "space_group"}


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt and the name under which its crystals are filed."""

    name: str
    prompt: Prompt
    notes: tuple[str, ...] = ()
    """Sentences on how what was typed is taken, for its reader."""


def make_prompt(
    formula: str | None = None,
    *,
    formula_units: int | None = None,
    space_group: str | int | None = None,
    name: str | None = None,
) -> NamedPrompt:
    """A prompt from what a person typed.

    Args:
        formula: such as `TiO2`, `CuSO4·5H2O` or `C6H6`; None leaves the composition to the model.
        formula_units: Z of the primitive cell. It goes before a multiple in the formula.
        space_group: number or Hermann-Mauguin symbol.
        name: under which its crystals are filed; None makes one of the rest.

    Raises:
        CompositionError, SymmetryError, InputError: naming the value.

    Example:
        >>> make_prompt("C6H6").name
        'C6H6'
    """
    if formula_units is not None and (isinstance(formula_units, bool) or formula_units < 1):
        raise InputError(f"formula units must be a whole number of at least 1, got {formula_units!r}")
    if formula is not None and not isinstance(formula, str):
        raise InputError(f"a formula is a text such as 'TiO2', got {formula!r}")
    typed = None if formula is None else read_formula(formula)
    number = None if space_group is None else space_group_from_name(space_group)
    label = name or (_label(typed) if typed else "free")
    if name is None and number is not None:
        label += f"_{number}"
    if name is None and formula_units is not None:
        label += f"_Z{formula_units}"
    if typed is None or formula is None:
        return NamedPrompt(label, Prompt(None, formula_units, number))
    _refuse_single_atoms(typed.amounts)
    multiple = typed.multiple if formula_units is None else 1
    return NamedPrompt(label, Prompt(typed.amounts, formula_units, number, multiple), (*typed.notes, *_doubts(formula)))


def _label(typed: Formula) -> str:
    return format_formula(typed.amounts) if typed.multiple == 1 else typed.written


def _refuse_single_atoms(amounts: Amounts) -> None:
    for symbol, _ in amounts:
        if ELEMENTS.index(symbol) >= LAST_WITH_CRYSTALS:
            raise CompositionError(
                f"no crystal holds {symbol}: elements beyond lawrencium (Lr, {LAST_WITH_CRYSTALS}) were made atom by "
                "atom; choose another element"
            )


def _doubts(formula: str) -> list[str]:
    meant = balanced_alternative(formula.strip())
    return [f"{formula.strip()} is taken letter by letter; for {meant} write {meant}"] if meant else []


def within(item: NamedPrompt, limits: Limits) -> NamedPrompt:
    """A prompt that is possible within limits, with notes on the formula units that they leave.

    Args:
        item: a prompt, as `make_prompt` makes it.
        limits: of a crystal.

    Returns:
        The prompt; its multiple is 1 if no primitive cell of such formula units is possible, and a note says so.

    Raises:
        CompositionError: no crystal within the limits fulfils the prompt.

    Example:
        >>> within(make_prompt("C60"), Limits(max_atoms=50)).prompt.multiple
        1
    """
    check_prompt(item.prompt, limits)
    prompt = replace(item.prompt, multiple=multiple_that_fits(item.prompt, limits))
    return replace(item, prompt=prompt, notes=(*item.notes, *notes_on_units(item.prompt, limits)))


def with_unseen(item: NamedPrompt, seen: Collection[str] | None) -> NamedPrompt:
    """A prompt with a note on its elements that no training crystal has; the same prompt if all have been seen.

    Args:
        item: a prompt.
        seen: symbols of the elements of the crystals that model and library were made of; None where it is not known.

    Example:
        >>> with_unseen(make_prompt("Md2O3"), {"O", "Ti"}).notes
        ('no crystal with Md was in training or is in the library: what follows is a guess',)
    """
    unseen = () if seen is None else unseen_elements(item.prompt.amounts or (), seen)
    if not unseen:
        return item
    note = f"no crystal with {' or '.join(unseen)} was in training or is in the library: what follows is a guess"
    return replace(item, notes=(*item.notes, note))


def read_prompts(path: Path) -> list[NamedPrompt]:
    """Prompts from a JSONL file: objects with `formula` and, if wanted, `formula_units`, `space_group`, `id`.

    Raises InputError naming the line that cannot be used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the prompts in {path}: {error}") from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            prompts.append(_prompt_of_line(line, f"{path}, line {number}"))
    if not prompts:
        raise InputError(f'{path} holds no prompts; write lines such as {{"formula": "TiO2", "space_group": 136}}')
    names = [prompt.name for prompt in prompts]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise InputError(f"{path} holds the prompt {repeated[0]!r} more than once; give each line its own id")
    return prompts


def _prompt_of_line(line: str, where: str) -> NamedPrompt:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(entry, dict) or not set(entry) <= KEYS:
        raise InputError(f"{where}: expected an object with keys out of {sorted(KEYS)}, got {line.strip()[:80]}")
    formula, units, group, name = (entry.get(key) for key in ("formula", "formula_units", "space_group", "id"))
    if not (formula is None or isinstance(formula, str)) or not (units is None or isinstance(units, int)):
        raise InputError(f"{where}: formula must be text and formula_units a whole number, got {line.strip()[:80]}")
    try:
        return make_prompt(
            formula, formula_units=units, space_group=group, name=None if name is None else readable(str(name))
        )
    except CrystallmError as error:
        raise type(error)(f"{where}: {error}") from error
