"""`crystallm energy` and `crystallm relax`: energies, hulls and relaxed crystals of anyone's CIFs."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from crystallm.base.command_line import Command, Group, Option
from crystallm.base.errors import InputError
from crystallm.base.input_files import Reading, count_refused
from crystallm.base.provenance import output_folder, write_json, write_text
from crystallm.crystal.cell import Rejection
from crystallm.energy.analysis import CrystalEnergy, NamedCell, edition_hull, energies_of, read_crystals
from crystallm.energy.building import BuildConfig, Builder, lines_of
from crystallm.energy.hull.hull import NO_REFERENCE, HullTable, NoHull
from crystallm.energy.hull.references import read_corpus
from crystallm.energy.potentials import PotentialName
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import CHGNET, require
from crystallm.energy.relaxation.relaxation import RelaxationSettings
from crystallm.energy.relaxing import TIGHT_ANGSTROM, RelaxedCrystal, RelaxReferences, relax_crystals
from crystallm.model.editions import Edition


def print_energies(
    crystals: Annotated[tuple[Path, ...], Option(metavar="CIF")],
    reading: Reading,
    *,
    edition: Edition = "full",
    hull: Annotated[Path | None, Option(metavar="FILE")] = None,
    potential: PotentialName = CHGNET,
    as_json: Annotated[bool, Option("--json")] = False,
) -> None:
    """Print the energy of crystals as they are, their energy above hull, and what they would fall apart into.

    `crystallm energy table --help`: make the table of reference energies.

    Args:
        crystals: CIF files, or folders, zips or tars of them.
        edition: Whose known crystals make the hull.
        hull: Another table, of `crystallm energy table`.
        as_json: Print JSON, energies in eV per atom.
    """
    require(potential)
    cells, table = _readable(crystals, reading), _hull(edition, hull)
    columns = _fitted(ENERGY_COLUMNS, cells)
    found: list[CrystalEnergy] = []
    try:
        for one in energies_of(cells, load_potential(potential), table):
            found.append(one)
            if not as_json:
                print("\n".join(_lines([one], columns, head=len(found) == 1)), flush=True)
    finally:  # after Ctrl-C, too: what is done is printed
        _print_end(found, found, table, as_json=as_json)
    _refuse_nothing(found, cells)


def file_of(name: str, taken: set[str]) -> Path:
    """The file for a relaxed crystal, by the name of the file that it came from and of the block there.

    Args:
        name: such as `oxides/a.cif` or `two.cif.gz#block`.
        taken: names of files in lower case; the new one is added. One that is taken gets a number.

    Example:
        >>> taken = set()
        >>> [file_of(name, taken).as_posix() for name in ("x/a.cif", "x/a.mcif.gz", "two.cif#../b")]
        ['x/a.cif', 'x/a-2.cif', 'two_.._b.cif']
    """
    file, mark, block = name.partition("#") if re.search(r"\.m?cif(\.\w+)?#", name, re.IGNORECASE) else (name, "", "")
    stem = re.sub(r"\.m?cif(\.\w+)?$", "", file, flags=re.IGNORECASE)
    stem += f"_{re.sub(r'[^A-Za-z0-9.+-]', '_', block)}" if mark else ""
    number = next(n for n in itertools.count(1) if (f"{stem}-{n}" if n > 1 else stem).lower() not in taken)
    stem = f"{stem}-{number}" if number > 1 else stem
    taken.add(stem.lower())
    return Path(f"{stem}.cif")


def relax_files(
    crystals: Annotated[tuple[Path, ...], Option(metavar="CIF")],
    reading: Reading,
    settings: RelaxationSettings,
    *,
    out: Path,
    edition: Edition = "full",
    hull: Annotated[Path | None, Option(metavar="FILE")] = None,
    time_limit: float = 120.0,
    symprec: float = TIGHT_ANGSTROM,
    as_json: Annotated[bool, Option("--json")] = False,
) -> None:
    """Relax crystals, keeping their space groups; write a CIF of each, and a table of energies before and after.

    Args:
        crystals: CIF files, or folders, zips or tars of them.
        out: Folder for the CIFs and relaxed.json.
        edition: Whose known crystals make the hull.
        hull: Another table, of `crystallm energy table`.
        time_limit: Seconds for one crystal.
        symprec: Angstrom; tolerance of the space group.
        as_json: Print JSON, energies in eV per atom.
    """
    require(settings.potential)
    cells, table = _readable(crystals, reading), _hull(edition, hull)
    out = output_folder(out)
    columns = _fitted(RELAX_COLUMNS, cells)
    found: list[RelaxedCrystal] = []
    taken: set[str] = set()
    calls = relax_crystals(cells, table, settings, time_limit=time_limit, symprec_angstrom=symprec)
    try:
        for one in calls:
            found.append(one)
            if one.cif:
                path = out / file_of(one.name, taken)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, one.cif)
            if not as_json:
                print("\n".join(_lines([one], columns, head=len(found) == 1)), flush=True)
    finally:
        calls.close()
        _print_end(found, [one.after for one in found], table, as_json=as_json)
        write_json(out / "relaxed.json", [one.to_json() for one in found])  # last: a full disk costs no table
    _refuse_nothing([one.after for one in found], cells)


def build_table(
    corpus: Annotated[tuple[Path, ...], Option(metavar="PARQUET")],
    config: BuildConfig,
    *,
    out: Path,
    energies: tuple[Path, ...] = (),
    library: tuple[Path, ...] = (),
    exclude: Annotated[Path | None, Option(metavar="FILE")] = None,
) -> None:
    """Make the table of reference energies of a corpus; a killed run goes on where it stopped.

    Energies of all rows as given; then what makes a hull is relaxed. Writes hull.parquet, energies.parquet and
    report.json.

    Args:
        corpus: Parquet files with columns id, reduced_formula, cif and what is known.
        out: Folder to write; the same folder goes on.
        energies: Folders of energies as given, computed before.
        library: Parquet files: a table of these ids only, too.
        exclude: Ids whose energy is wrong; by default the packaged list.
    """
    config = replace(config, exclude=tuple(_ids(exclude or ARTEFACTS)))
    require(config.potential)
    missing = [path for path in (*energies, *library) if not path.exists()]
    if missing:
        raise InputError(f"{missing[0]} does not exist")
    rows = read_corpus(corpus)
    out = output_folder(out)
    settings = RelaxationSettings(potential=config.potential, max_force=config.max_force, max_steps=config.max_steps)
    relaxer = RelaxReferences(settings, time_limit=config.time_limit)
    builder = Builder(rows, config, out, relaxer, energies)
    start = time.monotonic()
    builder.energies_as_given()
    complete = builder.relax()
    # An edition's table is named after the folder of its library.
    libraries: list[tuple[Path | None, Path]] = [(path, out / path.parent.name) for path in library]
    report = builder.write([(None, out), *libraries], hours=(time.monotonic() - start) / 3600, complete=complete)
    print("\n".join(lines_of(report)))


table = Command(build_table, "crystallm energy table")
energy = Group(
    "crystallm energy",
    "",
    {"table": ("crystallm.energy.command:table", "make the table of reference energies")},
    otherwise=Command(print_energies, "crystallm energy"),
)
relax = Command(relax_files, "crystallm relax")


ARTEFACTS = Path(__file__).with_name("artefacts.txt")
"""Crystals of the general corpus whose energy by the packaged potential is wrong."""

ENERGY_COLUMNS = (
    ("crystal", 7),
    ("formula", 14),
    ("eV/atom", 9),
    ("above hull, meV/atom", 20),
    ("DFT", 6),
    ("hull here", 0),
)
RELAX_COLUMNS = (
    ("crystal", 7),
    ("formula", 14),
    ("eV/atom before", 14),
    ("after", 9),
    ("above hull, meV/atom", 20),
    ("volume", 8),
    ("space group", 22),
    ("note", 0),
)


def _fitted(columns: Sequence[tuple[str, int]], crystals: Sequence[NamedCell]) -> list[tuple[str, int]]:
    """The columns, the first as wide as the longest name."""
    (name, _), *rest = columns
    return [(name, max(len(one.name) for one in crystals)), *rest]


def _lines(
    found: Iterable[CrystalEnergy | RelaxedCrystal], columns: Sequence[tuple[str, int]], *, head: bool
) -> list[str]:
    rows = [[name for name, _ in columns]] if head else []
    rows += [_energy_cells(one) if isinstance(one, CrystalEnergy) else _relax_cells(one) for one in found]
    numbers = {"eV/atom", "eV/atom before", "after", "above hull, meV/atom", "DFT", "volume"}
    return [
        "  ".join(
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for cell, (name, width) in zip(row, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def _energy_cells(one: CrystalEnergy) -> list[str]:
    return [
        one.name,
        one.formula or "-",
        "-" if one.energy is None else f"{one.energy:.4f}",
        _milli(one.above_hull),
        "-" if one.dft is None else _milli(one.dft.energy),
        one.reason or mixture_text(one),
    ]


def _relax_cells(one: RelaxedCrystal) -> list[str]:
    after = one.after
    return [
        one.name,
        after.formula or "-",
        "-" if one.energy_before is None else f"{one.energy_before:.4f}",
        "-" if after.energy is None else f"{after.energy:.4f}",
        _milli(after.above_hull),
        "-" if one.volume_ratio is None else f"{100 * (one.volume_ratio - 1):+.1f} %",
        one.symmetry,
        after.reason or ("" if one.converged else f"not converged after {one.steps} steps"),
    ]


def _milli(energy: float | None) -> str:
    """meV per atom; an energy that rounds to zero has no sign."""
    return "-" if energy is None else f"{round(1000 * energy) + 0:d}"


def mixture_text(one: CrystalEnergy) -> str:
    """The phases of the hull with their shares of the atoms: '67 % NaCl (mp-22862) + 33 % Na (mp-10172)'.

    A star marks a reference that is not relaxed.
    """
    return " + ".join(
        f"{'' if len(one.products) == 1 else f'{100 * part.fraction:.0f} % '}{part.formula} ({part.id})"
        f"{'' if part.relaxed else '*'}"
        for part in one.products
    )


def _footnotes(found: Sequence[CrystalEnergy], hull: HullTable | NoHull) -> list[str]:
    lines = []
    if any(one.references_relaxed is False for one in found):
        lines.append(
            "* this reference is not relaxed by the potential: a relaxed crystal comes out some meV/atom too low"
        )
    without = [one for one in found if one.energy is None]
    failed = Counter(one.reason.split(":")[0].split(" (")[0] for one in without)
    about = hull.reason if isinstance(hull, NoHull) else f"hull of {len(hull)} formulas by {hull.potential}"
    lines.append(
        f"{len(found) - len(without)} of {len(found)} crystals have an energy by {found[0].potential}; {about}"
    )
    lines += [f"  {count} without: {reason}" for reason, count in failed.most_common()]
    return lines


def _print_end(
    found: Sequence[CrystalEnergy | RelaxedCrystal],
    energies: Sequence[CrystalEnergy],
    hull: HullTable | NoHull,
    *,
    as_json: bool,
) -> None:
    if as_json:
        print(json.dumps([one.to_json() for one in found], ensure_ascii=False, indent=1))
    elif found:
        print("\n".join(_footnotes(energies, hull)))


def _refuse_nothing(found: Sequence[CrystalEnergy], crystals: Sequence[NamedCell]) -> None:
    """Raise InputError where nothing came out: no crystal has an energy, or none lies above a hull for want of it; say
    how many could not be read."""
    reasons = Counter(one.reason for one in found if one.above_hull is None)
    if found and len(found) == reasons.total():
        (reason, _), *_ = reasons.most_common(1)
        if all(one.energy is None for one in found):
            raise InputError(f"none of {len(found)} crystals has an energy: {reason}")
        if all(NO_REFERENCE in reason for reason in reasons):
            raise InputError(
                f"none of {len(found)} crystals lies above a hull: {reason}; give another table with --hull"
            )
    count_refused(sum(isinstance(one.cell, Rejection) for one in crystals), len(crystals))


def _readable(paths: Sequence[Path], reading: Reading) -> list[NamedCell]:
    """The crystals of the paths; InputError, which lists the reasons, where none can be read."""
    crystals = read_crystals(paths, trust_atoms=reading.trust_atoms, max_file_mb=reading.max_file_mb)
    reasons = [f"{one.name}: {one.cell}" for one in crystals if isinstance(one.cell, Rejection)]
    if len(reasons) == len(crystals):
        more = f" (and {len(reasons) - 5} more)" if len(reasons) > 5 else ""
        raise InputError(f"none of {len(crystals)} files can be read: {'; '.join(reasons[:5])}{more}")
    return crystals


def _hull(edition: Edition, hull: Path | None) -> HullTable | NoHull:
    return edition_hull(edition) if hull is None else HullTable.read(hull)


def _ids(path: Path) -> list[str]:
    """Ids in a text file, the first word of each line; `#` begins a remark."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a text file of ids") from error
    return [words[0] for line in lines if (words := line.split("#")[0].split())]
