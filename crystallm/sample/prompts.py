"""Prompts as people write them: formulas, space groups, and JSONL files of both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm.crystal.composition import format_formula, parse_formula
from crystallm.crystal.symmetry import space_group_from_name
from crystallm.errors import CrystallmError, InputError
from crystallm.sample.constraint import Prompt

KEYS = {"id", "formula", "formula_units", "space_group"}


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt and the name under which its crystals are filed."""

    name: str
    prompt: Prompt


def make_prompt(
    formula: str | None = None,
    *,
    formula_units: int | None = None,
    space_group: str | int | None = None,
    name: str | None = None,
) -> NamedPrompt:
    """A prompt from what a person typed; formula None leaves the composition to the model.

    Raises CompositionError, SymmetryError or InputError naming the value.
    """
    if formula_units is not None and (isinstance(formula_units, bool) or formula_units < 1):
        raise InputError(f"formula units must be a whole number of at least 1, got {formula_units!r}")
    amounts = None if formula is None else parse_formula(formula)
    number = None if space_group is None else space_group_from_name(space_group)
    label = name or (format_formula(amounts) if amounts else "free")
    if name is None and number is not None:
        label += f"_{number}"
    if name is None and formula_units is not None:
        label += f"_Z{formula_units}"
    return NamedPrompt(label, Prompt(amounts, formula_units, number))


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
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(entry, dict) or not set(entry) <= KEYS:
        raise InputError(f"{where}: expected an object with keys out of {sorted(KEYS)}, got {line.strip()[:80]}")
    formula, units, group, name = (entry.get(key) for key in ("formula", "formula_units", "space_group", "id"))
    if not (formula is None or isinstance(formula, str)) or not (units is None or isinstance(units, int)):
        raise InputError(f"{where}: formula must be text and formula_units a whole number, got {line.strip()[:80]}")
    try:
        return make_prompt(formula, formula_units=units, space_group=group, name=None if name is None else str(name))
    except CrystallmError as error:
        raise type(error)(f"{where}: {error}") from error
