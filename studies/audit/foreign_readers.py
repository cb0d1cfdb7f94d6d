"""`python -m studies.audit.foreign_readers`: do pymatgen, ASE and our reader (on gemmi) find the crystal asked for?"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tqdm import tqdm

from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError
from crystallm.base.input_files import Reading
from crystallm.base.provenance import provenance, write_json
from crystallm.base.workers import Lost, run_limited
from crystallm.cli import run_program
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.checks.radii import empty_range, expected_length
from crystallm.crystal.checks.validity import CheckName, check_cif
from crystallm.crystal.checks.warm_up import warm_up_checks
from crystallm.crystal.cif import read_cif
from crystallm.crystal.formulas.composition import ELEMENTS, parse_formula, reduce_amounts
from crystallm.eval.prediction.plain_loop import CIF_ERRORS
from crystallm.eval.rate import Rate
from crystallm.eval.sets.inputs import Record, read_records

if TYPE_CHECKING:
    from pymatgen.core import Structure

NAMES = (CheckName.READABLE, CheckName.FORMULA, CheckName.MULTIPLICITY, CheckName.SPACE_GROUP, CheckName.DISTANCE)
SAME_VOLUME = 1e-3
"""Largest relative difference of the cell volumes that two readers may find."""

ASE_ERRORS = (ValueError, KeyError, IndexError, RuntimeError, AssertionError, StopIteration)
"""What ASE raises on bad CIFs; the last where a file holds no atoms."""

CONTACT = "contact"
ROUNDING_ANGSTROM = 1e-3
"""Coordinates in a CIF are rounded; a distance may be this much shorter than promised."""


def agreement(record: tuple[str, str | None, float]) -> dict[str, str]:
    """The checks that a CIF fails, with reasons; empty if all readers find the crystal whose formula was asked for.

    record: CIF text, the formula asked for or None, and the least distance promised, as a part of the expected bond
    length.
    """
    text, wanted, contact = record
    checks = check_cif(text, names=NAMES)
    failures = {str(name): checks[name].reason for name in NAMES if not checks[name].passed}
    found: dict[str, tuple[dict[str, int], float]] = {}
    cell = read_cif(text)
    if isinstance(cell, Rejection):
        failures["gemmi"] = str(cell)
    else:
        found["gemmi"] = (_counts(cell), cell.volume)
    atoms = _read_with_ase(text)
    if isinstance(atoms, str):
        failures["ase"] = atoms
    else:
        found["ase"] = (_counts(atoms), atoms.volume)
    structure = _read_with_pymatgen(text)
    if isinstance(structure, str):
        failures["pymatgen"] = structure
    else:
        amounts = structure.composition.get_el_amt_dict()
        found["pymatgen"] = {symbol: round(n) for symbol, n in sorted(amounts.items())}, float(structure.volume)
        if contact and (pair := _too_close(structure, contact)) is not None:
            failures[CONTACT] = pair
    (first, volume), *others = found.values() or [({}, 0.0)]
    for counts, other_volume in others:
        if counts != first:
            failures["same atoms"] = f"readers count {first} and {counts}"
        elif abs(other_volume - volume) > SAME_VOLUME * volume:
            failures["same volume"] = f"readers find {volume:.3f} and {other_volume:.3f} cubic angstrom"
    if wanted is not None and first and reduce_amounts(first) != parse_formula(wanted):
        failures["formula asked for"] = f"{reduce_amounts(first)} is not {wanted}"
    return failures


def _counts(cell: Cell) -> dict[str, int]:
    return {ELEMENTS[number - 1]: count for number, count in cell.amounts.items()}


def _read_with_ase(text: str) -> Cell | str:
    import numpy as np
    from ase.io.cif import read_cif as read

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            atoms = read(io.StringIO(text), index=-1)
        except ASE_ERRORS as error:
            return f"{type(error).__name__}: {error}"[:200]
    return Cell(np.array(atoms.cell), atoms.get_scaled_positions(), np.array(atoms.numbers, dtype=np.int64))


def _read_with_pymatgen(text: str) -> Structure | str:
    from pymatgen.core import Structure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Structure.from_str(text, fmt="cif")
        except CIF_ERRORS as error:
            return f"{type(error).__name__}: {error}"[:200]


def _too_close(structure: Structure, contact: float) -> str | None:
    """The first pair of atoms closer than promised, or nonmetals neither bonded nor apart, by pymatgen's neighbour
    list; None if there is none."""
    elements = [site.specie for site in structure]
    pairs = [(a, b) for a in set(elements) for b in set(elements)]
    empty = {(a, b): found for a, b in pairs if (found := empty_range(a, b)) is not None}
    longest = max(
        contact * max(expected_length(a, b) or 0.0 for a, b in pairs), *(high for _, high in empty.values()), 0
    )
    if not longest:
        return None
    for i, j, distance in zip(*(structure.get_neighbor_list(longest)[k] for k in (0, 1, 3)), strict=True):
        expected = expected_length(elements[i], elements[j])
        if expected and distance < contact * expected - ROUNDING_ANGSTROM:
            return f"{elements[i]}-{elements[j]} {distance:.3f} A, promised {contact * expected:.3f}"
        low, high = empty.get((elements[i], elements[j]), (0.0, 0.0))
        if low + ROUNDING_ANGSTROM < distance < high - ROUNDING_ANGSTROM:
            return f"{elements[i]}-{elements[j]} {distance:.3f} A, promised none from {low:.3f} to {high:.3f}"
    return None


def compare_readers(
    source: Path,
    reading: Reading,
    *,
    json: Annotated[Path | None, Option(metavar="FILE")] = None,
    workers: int = 0,
    time_limit: float = 30.0,
) -> None:
    """Read every CIF with pymatgen, gemmi and ASE and compare what they find with each other and with the record.

    Args:
        source: Folder or zip of CIFs, .cif, .jsonl with `cif`, .parquet with `cif`.
        json: Also write rates and every failure here.
        workers: Processes; 0 takes one for each core.
        time_limit: Seconds per crystal.
    """
    if time_limit <= 0 or workers < 0:
        raise ConfigError(f"time limit {time_limit:g} and workers {workers} must not be negative or zero")
    records = read_records(source, trust_atoms=reading.trust_atoms, max_file_mb=reading.max_file_mb)
    result = count(records, workers=workers, time_limit_s=time_limit)
    print(table(result))
    if json:
        write_json(json, result | {"provenance": provenance({"time_limit": time_limit}, inputs=[source])})


main = Command(compare_readers, "python -m studies.audit.foreign_readers")


def table(result: dict[str, Any]) -> str:
    """The result for people: one line a check."""
    lines = [f"{result['records']} records, {result['with_cif']} with a CIF"]
    lines += [f"{name:20} {Rate.from_json(rate).with_interval()}" for name, rate in result["rates"].items()]
    return "\n".join(lines)


def count(records: list[Record], *, workers: int, time_limit_s: float) -> dict[str, Any]:
    """How many of the records with a CIF fail each check, each failure listed; undecided is what ran out of time."""
    usable = [(index, record.cif) for index, record in enumerate(records) if not isinstance(record.cif, Rejection)]
    failed: Counter[str] = Counter()
    details: list[dict[str, str]] = []
    undecided = 0
    items = ((text, _formula_asked(records[index]), _contact_promised(records[index])) for index, text in usable)
    for place, outcome in tqdm(
        run_limited(agreement, items, workers=workers, time_limit_s=time_limit_s, warm_up=warm_up_checks),
        total=len(usable),
        disable=None,
    ):
        if isinstance(outcome, Lost):
            undecided += 1
            told = f"{outcome.fate} {outcome.detail}"
            details.append({"name": records[usable[place][0]].name, "undecided": told})
            continue
        failures = outcome
        failed.update(failures.keys())
        if failures:
            details.append({"name": records[usable[place][0]].name} | failures)
    names = [*map(str, NAMES), "gemmi", "ase", "pymatgen", "same atoms", "same volume", "formula asked for", CONTACT]
    return {
        "records": len(records),
        "with_cif": len(usable),
        "failed": {name: failed[name] for name in names},
        "undecided": undecided,
        "rates": {
            name: Rate(len(usable) - failed[name] - undecided, len(usable), undecided).to_json() for name in names
        },
        "failures": details,
    }


def _formula_asked(record: Record) -> str | None:
    prompt = record.fields.get("prompt")
    formula = prompt.get("formula") if isinstance(prompt, dict) else record.fields.get("formula")
    return formula if isinstance(formula, str) else None


def _contact_promised(record: Record) -> float:
    contact = record.fields.get("contact")
    return float(contact) if isinstance(contact, int | float) else 0.0


if __name__ == "__main__":
    run_program(main)
