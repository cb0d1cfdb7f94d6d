"""The output folder of a sampling run: whose it is, what it is called, and the names of the files in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crystallm.base.errors import InputError
from crystallm.base.folder_lock import is_empty
from crystallm.base.provenance import output_folder, write_json
from crystallm.crystal.formulas.composition import format_formula
from crystallm.sample.config import SampleConfig
from crystallm.sample.crystal import Crystal
from crystallm.sample.formats import FILE_SUFFIX
from crystallm.sample.prompts import NamedPrompt

DEFAULT_PARENT = Path("crystals")
PROVENANCE, RANKING = "provenance.json", "crystals.jsonl"


UNSAID = {"symmetry_path": "fast", "decoder": "compiled"}
"""Settings of folders that do not name them."""


def run_settings(prompts: Sequence[NamedPrompt], config: SampleConfig, model: str) -> dict[str, Any]:
    """What the draws depend on. The number of draws and the batch size are not among it: a run can be extended."""
    return {
        "model": model,
        "seed": config.seed,
        "temperature": config.temperature,
        "top_k": config.top_k,
        "top_p": config.top_p,
        "repeat": config.repeat,
        "max_atoms": config.max_atoms,
        "contact": config.contact,
        "guide": config.guide,
        "bond_tries": config.bond_tries,
        "symmetry_path": config.symmetry_path,
        "space_groups": config.space_groups,
        "units": config.units,
        "prompts": {
            item.name: [
                item.prompt.formula,
                item.prompt.formula_units,
                item.prompt.space_group,
            ]
            for item in prompts
        },
    }


def open_folder(path: Path | None, title: str, settings: Mapping[str, Any]) -> Path:
    """Create or reopen the folder of a run. With path None it is crystals/TITLE, or crystals/TITLE-2 and so on if
    that holds something else; a path given must be empty, new, or hold a run with the same settings (InputError)."""
    if path is not None:
        if (why := _why_not(path, settings)) is not None:
            raise InputError(f"{path} {why}; choose another --out, or delete the folder")
        return output_folder(path)
    number = 1
    while True:
        path = DEFAULT_PARENT / (title if number == 1 else f"{title}-{number}")
        if _why_not(path, settings) is None:
            return output_folder(path)
        number += 1


def _why_not(path: Path, settings: Mapping[str, Any]) -> str | None:
    """Why a run with these settings cannot use a folder; None if it can."""
    if path.exists() and not path.is_dir():
        return "is a file, not a folder"
    try:
        if not path.exists() or is_empty(path):
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    old = read_provenance(path).get("settings")
    if not isinstance(old, dict):
        return "holds files that `crystallm sample` did not write"
    old = UNSAID | old
    if "precision" not in old:  # crystals were looked up there, none drawn
        settings = {key: value for key, value in settings.items() if key not in ("precision", "decoder")}
    different = [key for key, value in settings.items() if old.get(key) != value]
    if "prompts" in different:
        return "holds draws for other prompts"
    told = ", ".join(f"{key} {old.get(key)}, now {settings[key]}" for key in different)
    return f"holds draws made with other settings ({told})" if different else None


def read_provenance(path: Path) -> dict[str, Any]:
    """What provenance.json of a folder says; empty if there is none."""
    try:
        content = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def add_run(path: Path, settings: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Note in provenance.json how draws are about to be made; earlier runs stay listed."""
    runs = read_provenance(path).get("runs", [])
    write_json(path / PROVENANCE, {"settings": settings, "runs": [*runs, run]})


def run_title(prompts: Sequence[NamedPrompt], file: Path | None) -> str:
    """A name for the folder of a run: the prompts' names, or that of the file they are from."""
    if file is not None:
        return plain_name(file.stem)
    names = [item.name for item in prompts[:3]]
    more = len(prompts) - len(names)
    return plain_name("+".join(names) + (f"+{more}" if more else ""))


def plain_name(text: str) -> str:
    """A text as a file name that every system takes."""
    return re.sub(r"[^A-Za-z0-9_+()-]", "_", text)[:80].strip() or "_"


def prompt_folders(prompts: Sequence[NamedPrompt]) -> dict[str, str]:
    """Prompt name -> folder of its CIFs below that of the run; '.' if it is the only one. Names differ in more than
    their case, since `CO` and `Co` are one file on some systems."""
    if len(prompts) == 1:
        return {prompts[0].name: "."}
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for item in prompts:
        name, number = plain_name(item.name), 1
        while (folder := name if number == 1 else f"{name}-{number}").lower() in taken:
            number += 1
        taken.add(folder.lower())
        folders[item.name] = folder
    return folders


def crystal_name(rank: int, crystal: Crystal, width: int, format_name: str = "cif") -> str:
    """Name of a ranked crystal's file, '01_TiO2_sg136.cif'."""
    description = crystal.description
    stem = f"{rank:0{width}}_{format_formula(description.amounts)[:80]}_sg{description.space_group}"
    return stem + FILE_SUFFIX[format_name]


def in_format(path: Path, format_name: str) -> Path:
    """The file of the same crystal in another format."""
    return path.with_name(path.name.removesuffix(path.suffix) + FILE_SUFFIX[format_name])


def remove_ranking(path: Path) -> None:
    """Remove the files that an earlier ranking listed, so that none of a rank that has changed stays."""
    listing = path / RANKING
    if not listing.exists():
        return
    for line in listing.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            continue  # cut short by a kill or a full disk, before the files that it names were written
        for name in FILE_SUFFIX:
            in_format(path / json.loads(line)["file"], name).unlink(missing_ok=True)
    listing.unlink()
