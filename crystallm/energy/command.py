"""`crystallm energy` and `crystallm relax`: energies, hulls and relaxed crystals of anyone's CIFs."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.input_files import add_reading_options, count_refused
from crystallm.base.provenance import output_folder, write_json, write_text
from crystallm.crystal.cell import Rejection
from crystallm.energy.analysis import CrystalEnergy, NamedCell, edition_hull, energies_of, read_crystals
from crystallm.energy.building import BuildConfig, Builder, lines_of
from crystallm.energy.hull.hull import NO_REFERENCE, HullTable, NoHull
from crystallm.energy.hull.references import read_corpus
from crystallm.energy.potentials.by_name import load_potential
from crystallm.energy.potentials.protocol import CHGNET, POTENTIALS, require
from crystallm.energy.relaxation.relaxation import RelaxationSettings
from crystallm.energy.relaxing import RelaxedCrystal, RelaxReferences, relax_crystals
from crystallm.model.editions import EDITIONS


def energy(argv: list[str]) -> None:
    """Print the energy of crystals as they are, their energy above hull, and what they would fall apart into.

    `crystallm energy table --help`: make the table of reference energies.
    """
    if argv[:1] == ["table"]:
        table(argv[1:])
        return
    options = _energy_parser().parse_args(argv)
    require(options.potential)
    crystals, hull = _readable(options), _hull(options)
    columns = _fitted(ENERGY_COLUMNS, crystals)
    found: list[CrystalEnergy] = []
    try:
        for one in energies_of(crystals, load_potential(options.potential), hull):
            found.append(one)
            if not options.json:
                print("\n".join(_lines([one], columns, head=len(found) == 1)), flush=True)
    finally:  # after Ctrl-C, too: what is done is printed
        if options.json:
            print(json.dumps([one.to_json() for one in found], ensure_ascii=False, indent=1))
        elif found:
            print("\n".join(_footnotes(found, hull)))
    _refuse_nothing(found)
    _count_refused(crystals)


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


def relax(argv: list[str]) -> None:
    """Relax crystals, keeping their space groups; write a CIF of each, and a table of energies before and after."""
    options = _relax_parser().parse_args(argv)
    require(options.potential)
    crystals, hull = _readable(options), _hull(options)
    out = output_folder(options.out)
    columns = _fitted(RELAX_COLUMNS, crystals)
    found: list[RelaxedCrystal] = []
    taken: set[str] = set()
    settings = RelaxationSettings(potential=options.potential, max_force=options.max_force, max_steps=options.max_steps)
    calls = relax_crystals(crystals, hull, settings, time_limit=options.time_limit, symprec_angstrom=options.symprec)
    try:
        for one in calls:
            found.append(one)
            if one.cif:
                path = out / file_of(one.name, taken)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, one.cif)
            if not options.json:
                print("\n".join(_lines([one], columns, head=len(found) == 1)), flush=True)
    finally:
        calls.close()
        if options.json:
            print(json.dumps([one.to_json() for one in found], ensure_ascii=False, indent=1))
        elif found:
            print("\n".join(_footnotes([one.after for one in found], hull)))
        write_json(out / "relaxed.json", [one.to_json() for one in found])  # last: a full disk costs no table
    _refuse_nothing([one.after for one in found])
    _count_refused(crystals)


def table(argv: list[str]) -> None:
    """Make the table of reference energies of a corpus; a killed run goes on where it stopped.

    Energies of all rows as given; then what makes a hull is relaxed. Writes hull.parquet, energies.parquet and
    report.json.
    """
    options = _table_parser().parse_args(argv)
    config = BuildConfig(
        potential=options.potential,
        max_force=options.max_force,
        max_steps=options.max_steps,
        time_limit=options.time_limit,
        window=options.window,
        hours=options.hours,
        workers=options.workers,
        exclude=tuple(_ids(options.exclude)),
    )
    require(config.potential)
    missing = [path for path in (*options.energies, *options.library) if not path.exists()]
    if missing:
        raise InputError(f"{missing[0]} does not exist")
    corpus = read_corpus(options.corpus)
    out = output_folder(options.out)
    settings = RelaxationSettings(potential=config.potential, max_force=config.max_force, max_steps=config.max_steps)
    relaxer = RelaxReferences(settings, time_limit=config.time_limit)
    builder = Builder(corpus, config, out, relaxer, options.energies)
    start = time.monotonic()
    builder.energies_as_given()
    complete = builder.relax()
    # An edition's table is named after the folder of its library.
    libraries: list[tuple[Path | None, Path]] = [(path, out / path.parent.name) for path in options.library]
    report = builder.write([(None, out), *libraries], hours=(time.monotonic() - start) / 3600, complete=complete)
    print("\n".join(lines_of(report)))


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


def _refuse_nothing(found: Sequence[CrystalEnergy]) -> None:
    """Raise InputError where nothing came out: no crystal has an energy, or none lies above a hull for want of it."""
    reasons = Counter(one.reason for one in found if one.above_hull is None)
    if len(found) > sum(reasons.values()) or not found:
        return
    (reason, _), *_ = reasons.most_common(1)
    if all(one.energy is None for one in found):
        raise InputError(f"none of {len(found)} crystals has an energy: {reason}")
    if all(NO_REFERENCE in reason for reason in reasons):
        raise InputError(f"none of {len(found)} crystals lies above a hull: {reason}; give another table with --hull")


def _count_refused(crystals: Sequence[NamedCell]) -> None:
    count_refused(sum(isinstance(one.cell, Rejection) for one in crystals), len(crystals))


def _readable(options: argparse.Namespace) -> list[NamedCell]:
    """The crystals of the paths; InputError, which lists the reasons, where none can be read."""
    crystals = read_crystals(options.crystals, trust_atoms=options.trust_atoms, max_file_mb=options.max_file_mb)
    reasons = [f"{one.name}: {one.cell}" for one in crystals if isinstance(one.cell, Rejection)]
    if len(reasons) == len(crystals):
        more = f" (and {len(reasons) - 5} more)" if len(reasons) > 5 else ""
        raise InputError(f"none of {len(crystals)} files can be read: {'; '.join(reasons[:5])}{more}")
    return crystals


def _hull(options: argparse.Namespace) -> HullTable | NoHull:
    return edition_hull(options.edition) if options.hull is None else HullTable.read(options.hull)


def _ids(path: Path) -> list[str]:
    """Ids in a text file, the first word of each line; `#` begins a remark."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a text file of ids") from error
    return [words[0] for line in lines if (words := line.split("#")[0].split())]


def _parser(prog: str, main: Any, kind: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=main.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    if kind != "table":
        add("crystals", type=Path, nargs="+", metavar="CIF", help="CIF files, or folders, zips or tars of them")
        add("--edition", choices=EDITIONS, default="full", help="whose known crystals make the hull (%(default)s)")
        add("--hull", type=Path, metavar="FILE", help="another table, of `crystallm energy table`")
        add("--json", action="store_true", help="print JSON, energies in eV per atom")
        add_reading_options(parser)
    add("--potential", default=CHGNET, help=POTENTIALS)
    return parser


def _energy_parser() -> argparse.ArgumentParser:
    return _parser("crystallm energy", energy, "energy")


def _relax_parser() -> argparse.ArgumentParser:
    parser = _parser("crystallm relax", relax, "relax")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the CIFs and relaxed.json")
    add("--max-force", type=float, default=0.05, metavar="F", help="eV/angstrom at which it ends (%(default)s)")
    add("--max-steps", type=int, default=300, metavar="N", help="(%(default)s)")
    add("--time-limit", type=float, default=120.0, metavar="S", help="seconds for one crystal (%(default)s)")
    add("--symprec", type=float, default=0.01, metavar="A", help="angstrom; tolerance of the space group (%(default)s)")
    return parser


def _table_parser() -> argparse.ArgumentParser:
    default = BuildConfig()
    parser = _parser("crystallm energy table", table, "table")
    add = parser.add_argument
    add("corpus", type=Path, nargs="+", metavar="PARQUET", help="columns id, reduced_formula, cif and what is known")
    add("--out", type=Path, required=True, metavar="FOLDER", help="to write; the same folder goes on")
    add("--energies", type=Path, nargs="+", default=[], metavar="FOLDER", help="energies as given, computed before")
    add("--library", type=Path, nargs="+", default=[], metavar="PARQUET", help="a table of these ids only, too")
    add("--exclude", type=Path, default=ARTEFACTS, metavar="FILE", help="ids whose energy is wrong (the packaged list)")
    add("--window", type=float, default=default.window, metavar="E", help="eV/atom to gain at most (%(default)s)")
    add("--hours", type=float, default=default.hours, metavar="H", help="stop relaxing after so long (0: never)")
    add("--max-force", type=float, default=default.max_force, metavar="F", help="eV/angstrom (%(default)s)")
    add("--max-steps", type=int, default=default.max_steps, metavar="N", help="of a relaxation (%(default)s)")
    add("--time-limit", type=float, default=default.time_limit, metavar="S", help="seconds for one (%(default)s)")
    add("--workers", type=int, default=default.workers, metavar="N", help="processes that relax (%(default)s)")
    return parser
