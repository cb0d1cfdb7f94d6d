"""Which statements of a CIF a crystal was made of, which were not needed, and which contradict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import gemmi

from crystallm.crystal.cell import Reason, Rejection, volume_of
from crystallm.crystal.cif.cell_items import DOES_NOT_FIT, TAGS
from crystallm.crystal.cif.content import FORMULAS
from crystallm.crystal.cif.reading import ReadBlock
from crystallm.crystal.cif.symmetry.settling import Candidate
from crystallm.crystal.cif.symmetry.statements import NO_STATEMENT, Statement, Symmetry
from crystallm.crystal.cif.text.names import displayed

VOLUME_TOLERANCE = 0.01
"""Relative difference between the stated volume and that of the cell."""


ELECTRON_TOLERANCE = 0.02
"""Relative: F(000) counts the electrons of the cell; with dispersion it is a little less."""


class Use(StrEnum):
    """What became of a statement."""

    USED = "used"
    NOT_NEEDED = "not needed"
    CONTRADICTS = "contradicts"
    NOT_UNDERSTOOD = "not understood"
    REFUSED = "refused"
    """What stands in the way of reading the structure."""


@dataclass(frozen=True)
class Finding:
    """One statement of a file, what it is about and what became of it."""

    topic: str
    """`cell`, `symmetry`, `origin` (of the setting: axes and origin) or `content`."""
    use: Use
    text: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.use}: {self.text}"


def reasons(read: ReadBlock) -> list[Finding]:
    """What each statement of a structure was good for.

    Args:
        read: A block, read or refused.

    Returns:
        Findings on cell, symmetry, origin and content, in this order; as far as reading came.

    Example:
        >>> from crystallm.crystal.cif import read_with_reasons
        >>> text = "data_ _cell_length_a 3 _space_group_IT_number 221 loop_ _atom_site_label _atom_site_fract_x"
        >>> blocks = read_with_reasons(text + " _atom_site_fract_y _atom_site_fract_z Po 0 0 0")
        >>> [str(finding) for finding in reasons(blocks[0])][2]
        'symmetry: used: _space_group_IT_number 221 as P m -3 m'
    """
    chosen = read.found if isinstance(read.found, Candidate) else None
    found = [
        *_of_cell(read, chosen),
        *_of_symmetry(read, chosen),
        *_of_origin(read, chosen),
        *_of_content(read, chosen),
    ]
    if isinstance(read.found, Rejection):
        use = Use.CONTRADICTS if read.found.reason is Reason.CONTRADICTORY else Use.REFUSED
        found.append(Finding(_topic(read, read.found), use, read.found.detail))
    return found


def _topic(read: ReadBlock, refusal: Rejection) -> str:
    if refusal.reason is Reason.BAD_CELL:
        return "cell"
    if refusal.reason is Reason.AMBIGUOUS:
        return "origin" if read.sites is not None else "content"
    return "symmetry" if read.symmetry is None or DOES_NOT_FIT in refusal.detail else "content"


def _of_cell(read: ReadBlock, chosen: Candidate | None) -> Iterator[Finding]:
    if read.stated_cell is None:
        return
    pairs = list(zip(TAGS, read.stated_cell.values, strict=True))
    stated = ", ".join(f"{tag.removeprefix('_cell_')} {value:g}" for tag, value in pairs if value is not None)
    if stated:
        borrowed = " (of another block)" if "_cell_" in read.block.borrowed else ""
        yield Finding("cell", Use.USED, stated + borrowed)
    if chosen is None:
        return
    fixed = [
        f"{tag.removeprefix('_cell_')} {value:g}"
        for (tag, given), value in zip(pairs, chosen.parameters, strict=True)
        if given is None
    ]
    if fixed:
        yield Finding("cell", Use.USED, f"{', '.join(fixed)}: not stated, {chosen.reading.name} leaves no choice")
    text = read.block.items.text("_cell_volume")
    if text is not None:
        volume, ours = float(gemmi.cif.as_number(text)), volume_of(chosen.parameters)
        agrees = abs(volume - ours) <= VOLUME_TOLERANCE * ours
        use = Use.NOT_NEEDED if agrees else Use.CONTRADICTS
        yield Finding("cell", use, f"_cell_volume {text}; the cell has {ours:.6g} cubic angstrom")


def _of_symmetry(read: ReadBlock, chosen: Candidate | None) -> Iterator[Finding]:
    symmetry = read.symmetry
    if symmetry is None:
        return
    for note in symmetry.notes:
        yield Finding("symmetry", Use.USED, note)
    if not symmetry.statements:
        yield Finding("symmetry", Use.USED, "nothing is stated: the list is taken for all atoms of the cell")
    decisive = _decisive(symmetry, chosen)
    for statement in symmetry.statements:
        said = f"{displayed(statement.item)} {statement.text}"
        if not statement.tiers:
            problem = statement.problem or "no space group of the tables"
            yield Finding("symmetry", Use.NOT_UNDERSTOOD, f"{said}: {problem}")
        elif chosen is None:
            yield Finding("symmetry", Use.USED, f"{said}: {' or '.join(one.name for one in statement.tiers[0])}")
        elif not statement.allows(chosen.reading):
            same = statement.readings[0].operations.number == chosen.reading.operations.number
            what = "another setting of the group" if same else "another group"
            yield Finding("symmetry", Use.CONTRADICTS, f"{said}: {what} than {chosen.reading.name}")
        elif statement in decisive:
            yield Finding("symmetry", Use.USED, f"{said} as {chosen.reading.name}")
        else:
            yield Finding("symmetry", Use.NOT_NEEDED, f"{said}: agrees")
    for name in read.block.items:
        if name.startswith(("_space_group_", "_symmetry_")) and NO_STATEMENT.search(name) and not name.endswith("_id"):
            text = read.block.items.text(name)
            if text is not None:
                yield Finding("symmetry", Use.NOT_NEEDED, f"{displayed(name)} {text[:60]}")
    if chosen is not None and chosen.all_listed:
        yield Finding("symmetry", Use.NOT_NEEDED, "the operators: the list holds all atoms of the cell already")


def _decisive(symmetry: Symmetry, chosen: Candidate | None) -> list[Statement]:
    """The statements that were needed: the most explicit one, and those that narrowed what it left open."""
    if chosen is None:
        return []
    needed: list[Statement] = []
    left: set[frozenset[int]] | None = None
    for statement in sorted((one for one in symmetry.statements if one.tiers), key=lambda one: one.kind):
        if not statement.allows(chosen.reading):
            continue
        first = {reading.operations.key for reading in statement.tiers[0]}
        keys = first if chosen.reading.operations.key in first else {one.operations.key for one in statement.readings}
        if left is None or len(left & keys) < len(left):
            needed.append(statement)
            left = keys if left is None else left & keys
    return needed


def _of_origin(read: ReadBlock, chosen: Candidate | None) -> Iterator[Finding]:
    if read.symmetry is None or chosen is None:
        return
    for dismissed in chosen.dismissed:
        yield Finding("origin", Use.USED, f"cell and content against {dismissed}")
    readings = [reading for tier in read.symmetry.tiers[:1] for reading in tier]
    if len(readings) > 1 and not chosen.dismissed:
        others = " or ".join(one.name for one in readings if one is not chosen.reading)
        yield Finding(
            "origin", Use.NOT_NEEDED, f"{others} would make the same crystal, or fit Z and multiplicities less"
        )


def _of_content(read: ReadBlock, chosen: Candidate | None) -> Iterator[Finding]:
    items = read.block.items
    if read.sites is not None:
        yield Finding("content", Use.USED, f"{len(read.sites)} sites of the list of atoms")
        for note in read.sites.notes:
            yield Finding("content", Use.USED, note)
    compared = () if chosen is None else chosen.content.compared
    contradictions = () if chosen is None else chosen.content.contradictions
    for contradiction in contradictions:
        yield Finding("content", Use.CONTRADICTS, contradiction)
    for name in (*FORMULAS, "_cell_formula_units_z", "_chemical_formula_weight", "_exptl_crystal_density_diffrn"):
        text = items.text(name)
        if text is None:
            continue
        if displayed(name) in compared or name in compared:
            if not contradictions:
                yield Finding("content", Use.USED, f"{displayed(name)} {text}: agrees with the atoms")
        elif chosen is not None:
            yield Finding("content", Use.NOT_NEEDED, f"{displayed(name)} {text}")
    text = items.text("_exptl_crystal_f_000")
    if chosen is not None and text is not None:
        stated, ours = float(gemmi.cif.as_number(text)), int(chosen.cell.numbers.sum())
        use = Use.NOT_NEEDED if abs(stated - ours) <= ELECTRON_TOLERANCE * ours else Use.CONTRADICTS
        yield Finding("content", use, f"_exptl_crystal_F_000 {text}; the atoms of the cell have {ours} electrons")
    if chosen is not None and read.sites is not None and read.sites.multiplicities and not contradictions:
        yield Finding("content", Use.USED, "_atom_site_symmetry_multiplicity: agrees with the atoms")
