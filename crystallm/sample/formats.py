"""Crystals as files: CIF, POSCAR, extended XYZ, JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crystallm.base.errors import InputError
from crystallm.base.provenance import write_text

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


class Writable(Protocol):
    """What a crystal must offer to be written; `crystallm.Crystal` does."""

    @property
    def cif(self) -> str: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def formula(self) -> str: ...
    @property
    def space_group(self) -> str: ...
    @property
    def space_group_number(self) -> int: ...
    @property
    def origin(self) -> str: ...
    def to_ase(self) -> Atoms: ...


def _cif(crystal: Writable) -> str:
    return crystal.cif


def _poscar(crystal: Writable) -> str:
    from pymatgen.io.vasp import Poscar

    comment = f"{crystal.formula} {crystal.space_group} ({crystal.space_group_number}) {crystal.origin}"
    return str(Poscar(crystal.structure, comment=comment).get_str(significant_figures=8))


def _extxyz(crystal: Writable) -> str:
    from ase.io import write

    text = io.StringIO()
    write(text, crystal.to_ase(), format="extxyz")
    return text.getvalue()


def _json(crystal: Writable) -> str:
    return json.dumps(crystal.structure.as_dict(), ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Writable], str]] = {"cif": _cif, "poscar": _poscar, "extxyz": _extxyz, "json": _json}
"""How a crystal is written, by the name of the format. `json` is pymatgen's, which `Structure.from_file` reads."""

SUFFIXES = {
    ".cif": "cif",
    ".poscar": "poscar",
    ".vasp": "poscar",
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".json": "json",
}

FILE_SUFFIX = {"cif": ".cif", "poscar": ".vasp", "extxyz": ".extxyz", "json": ".json"}
"""What the files of a run end with; programs know POSCAR files by `.vasp`."""


def text_of(crystal: Writable, format_name: str) -> str:
    """A crystal as the text of a file.

    Args:
        crystal: to write.
        format_name: one of `FORMATS`.

    Returns:
        The content of the file; lengths in angstrom.

    Raises:
        InputError: the format is not known.
    """
    if format_name not in FORMATS:
        raise InputError(f"unknown format {format_name!r}; choose from {', '.join(FORMATS)}")
    return FORMATS[format_name](crystal)


def save(crystal: Writable, path: Path) -> Path:
    """Write a crystal to a file whose name says the format; see `Crystal.save`."""
    name = SUFFIXES.get(path.suffix.lower(), "poscar" if path.name.upper().startswith(("POSCAR", "CONTCAR")) else None)
    if name is None:
        raise InputError(f"cannot tell the format of {path.name!r}; let it end with {', '.join(SUFFIXES)}")
    write_text(path, text_of(crystal, name))
    return path
