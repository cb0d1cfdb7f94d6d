"""What is asked of a crystal, and what of that is possible within limits: formula units, space group, atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crystallm.base.errors import CompositionError
from crystallm.crystal.formulas.composition import Amounts, format_formula
from crystallm.crystal.wyckoff import space_group
from crystallm.sample.grammar import wyckoff_cover as cover
from crystallm.sample.grammar.limits import Limits

MOST_UNITS = 192
"""Formula units of a primitive cell that a text can say."""

FEW_UNITS = 3
"""Where no more formula units than this fit into a primitive cell, that is said."""


@dataclass(frozen=True)
class Prompt:
    """What is given of a crystal; what is None is left to the model. formula_units: Z of the primitive cell."""

    amounts: Amounts | None = None
    formula_units: int | None = None
    space_group: int | None = None
    multiple: int = 1
    """Of the formula, as it was typed: 6 for C6H6. Without `formula_units`, these are a multiple of it wherever such
    cells are possible."""

    @property
    def formula(self) -> str | None:
        """With its multiple."""
        return None if self.amounts is None else _written(self.amounts, self.multiple)


def check_prompt(prompt: Prompt, limits: Limits) -> None:
    """Raise CompositionError if no crystal within the limits fulfils a prompt."""
    if prompt.amounts is None:
        return
    atoms = atoms_of(prompt.amounts)
    name = format_formula(prompt.amounts)
    needed, most = atoms * (prompt.formula_units or 1), limits.max_atoms // atoms
    if needed > limits.max_atoms:
        units = f" with {prompt.formula_units} formula units" if prompt.formula_units else ""
        left = f" ({_told(range(1, most + 1))} of {name} fit)" if most else ""
        raise CompositionError(
            f"{name}{units} has {needed} atoms in the primitive cell, "
            f"more than the limit of {limits.max_atoms}{left}; raise it with --max-atoms"
        )
    if prompt.space_group is not None and not units_that_fit(prompt.amounts, prompt, limits):
        tried = prompt.formula_units or f"1 to {most}"
        possible = [z for z in range(1, most + 1) if holds(prompt.amounts, z, prompt.space_group)]
        remedy = f"possible here: {', '.join(map(str, possible))}" if possible else "choose another space group"
        counts = [tuple(n * z for _, n in prompt.amounts) for z in wanted_units(atoms, prompt, limits)]
        has_room = any(cover.can_cover(one, cover.supply(prompt.space_group)) for one in counts)
        reason = ": it would have more symmetry" if has_room else ""
        raise CompositionError(
            f"space group {prompt.space_group} ({space_group(prompt.space_group).symbol}) cannot hold {name} with "
            f"{tried} formula units in the primitive cell{reason}; {remedy}"
        )


def units_that_fit(amounts: Amounts, prompt: Prompt, limits: Limits) -> list[int]:
    """Formula units of the primitive cell that the prompt and the limits allow.

    Those that are a multiple of what was typed, or all if none are.
    """
    group = prompt.space_group
    wanted = wanted_units(atoms_of(amounts), prompt, limits)
    found = [units for units in wanted if group is None or holds(amounts, units, group)]
    return [units for units in found if units % prompt.multiple == 0] or found


def multiple_that_fits(prompt: Prompt, limits: Limits) -> int:
    """The multiple of a prompt if its formula units can be one, else 1.

    Example:
        >>> multiple_that_fits(Prompt((("C", 1),), multiple=60), Limits(max_atoms=50))
        1
    """
    if prompt.amounts is None or prompt.formula_units is not None:
        return 1
    fitting = units_that_fit(prompt.amounts, prompt, limits)
    return 1 if any(units % prompt.multiple for units in fitting) else prompt.multiple


def notes_on_units(prompt: Prompt, limits: Limits) -> tuple[str, ...]:
    """What the limits and the multiple of a possible prompt make of its formula units, as sentences for its reader."""
    if prompt.amounts is None or prompt.formula_units is not None:
        return ()
    fitting, kept = units_that_fit(prompt.amounts, prompt, limits), multiple_that_fits(prompt, limits)
    name, atoms = format_formula(prompt.amounts), atoms_of(prompt.amounts)
    where = f"a primitive cell of at most {limits.max_atoms} atoms"
    where += f" in space group {prompt.space_group}" if prompt.space_group else ""
    notes = []
    if kept > 1:
        notes.append(f"taken as {kept} {name}: the formula units of the primitive cell are a multiple of {kept}")
    elif prompt.multiple > 1:
        remedy = "" if (least := prompt.multiple * atoms) <= limits.max_atoms else f"; --max-atoms {least} allows it"
        notes.append(
            f"{where} cannot hold a multiple of {prompt.multiple} {name}: taken as {name}, whatever the number{remedy}"
        )
    if len(fitting) <= FEW_UNITS and atoms * kept * (FEW_UNITS + 1) > limits.max_atoms:
        notes.append(f"{where} holds {_told(fitting)} of {name}; --max-atoms raises the limit")
    return tuple(notes)


def _told(units: Sequence[int]) -> str:
    """`1 formula unit`, `1 or 2 formula units`, `1 to 20 formula units`."""
    if len(units) > FEW_UNITS:
        return f"{units[0]} to {units[-1]} formula units"
    return f"{' or '.join(map(str, units))} formula unit{'s' if units[-1] > 1 else ''}"


def wanted_units(atoms: int, prompt: Prompt, limits: Limits) -> Sequence[int]:
    """Formula units that the prompt and the limits allow where one has so many atoms, whatever their multiple."""
    most = min(limits.max_atoms // atoms, MOST_UNITS)
    return range(1, most + 1) if prompt.formula_units is None else (prompt.formula_units,)


def holds(amounts: Amounts, units: int, group: int) -> bool:
    """Whether the positions of a space group can hold so many formula units in the primitive cell."""
    return cover.can_cover(tuple(amount * units for _, amount in amounts), cover.supply(group), cover.need_of(group))


def atoms_of(amounts: Amounts) -> int:
    """Atoms of one formula unit."""
    return sum(amount for _, amount in amounts)


def _written(amounts: Amounts, multiple: int) -> str:
    return format_formula(tuple((symbol, amount * multiple) for symbol, amount in amounts))
