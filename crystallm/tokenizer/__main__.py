"""`crystallm text`: show how crystals are written and tokenised."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystallm.crystal.cell import Reason, Rejection
from crystallm.crystal.layout import DEFAULT_LAYOUT, LAYOUTS, get_layout
from crystallm.crystal.text_layout import TextLayout
from crystallm.errors import ConfigError, InputError

DESCRIPTION = """Show how crystals are written as text and tokenised. A folder stands for all .cif files in it. Files
that cannot be shown are named on stderr with the reason, the others are shown, and the exit code is 2."""

BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a]")
"""Bytes that no text file holds."""

REMEDIES = {
    Reason.UNREADABLE: "give a complete CIF text file",
    Reason.EMPTY: "give a CIF with a list of atoms and their fractional coordinates",
    Reason.DISORDERED: "give an ordered model, one element with occupancy 1 on every site",
    Reason.UNKNOWN_SPECIES: "name one of the elements 1 to 118 for every site, isotopes and dummy atoms left out",
    Reason.BAD_CELL: "check the cell parameters",
    Reason.SYMMETRY_FAILED: "check for atoms on top of each other",
    Reason.NOT_EXPRESSIBLE: "see the limits in docs/tokenizer.md",
}


@dataclass(frozen=True)
class Shown:
    """One crystal as the layout writes it; `ids` are places in the layout's vocabulary, as in the tokenizer."""

    tokens: list[str]
    ids: list[int]
    text: str


def show(text: str, layout: TextLayout, *, augmented_seed: int | None = None) -> Shown | Rejection:
    """The text and tokens of the crystal in a CIF text: canonical, or drawn at random with a seed."""
    import numpy as np

    from crystallm.crystal.cif import read_cif
    from crystallm.crystal.description import augment, describe

    cell = read_cif(text)
    if isinstance(cell, Rejection):
        return cell
    description = describe(cell)
    if isinstance(description, Rejection):
        return description
    if augmented_seed is not None:
        tokens = layout.checked_tokens(augment(description, np.random.default_rng(augmented_seed)))
    else:
        written = layout.tokens_of(cell, description)
        tokens = written if isinstance(written, Rejection) else layout.checked(written)
    if isinstance(tokens, Rejection):
        return tokens
    place = {token: number for number, token in enumerate(layout.vocabulary())}
    return Shown(tokens, [place[token] for token in tokens], layout.text(tokens))


def text(argv: list[str]) -> None:
    """Run `crystallm text FILE.cif ...`."""
    parser = argparse.ArgumentParser(prog="crystallm text", description=DESCRIPTION)
    parser.add_argument("sources", metavar="FILE", nargs="+", type=Path, help="CIF file, or folder of CIF files")
    parser.add_argument(
        "--layout", default=DEFAULT_LAYOUT, help=f"how to write: {', '.join(LAYOUTS)} (default: %(default)s)"
    )
    parser.add_argument("--ids", action="store_true", help="list each token with its id")
    parser.add_argument(
        "--augmented", type=int, metavar="SEED", help="an equivalent text drawn at random instead of the canonical one"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of text for people")
    options = parser.parse_args(argv)
    if options.augmented is not None and options.augmented < 0:
        raise ConfigError(f"--augmented must be a seed >= 0, got {options.augmented}")
    layout = get_layout(options.layout)
    files = [file for source in options.sources for file in files_of(source)]
    failures = []
    for file in files:
        try:
            found = show(read_text(file), layout, augmented_seed=options.augmented)
            if isinstance(found, Rejection):
                remedy = REMEDIES.get(found.reason)
                raise InputError(f"{file}: {found}" + (f"; {remedy}" if remedy else ""))
        except InputError as error:
            if len(files) == 1:
                raise
            failures.append(file)
            print(f"crystallm: {error}", file=sys.stderr)
            continue
        _print(file, found, layout, with_ids=options.ids, as_json=options.json, with_title=len(files) > 1)
    if failures:
        raise InputError(f"{len(failures)} of {len(files)} files could not be shown; the reasons stand above")


def files_of(source: Path) -> list[Path]:
    """The CIF files that a path stands for: itself, or all in the folder. InputError if there are none."""
    if not source.is_dir():
        return [source]
    try:
        files = sorted(file for file in source.iterdir() if file.suffix.lower() == ".cif")
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}; check its permissions") from error
    if not files:
        raise InputError(f"{source} holds no .cif file; give a CIF file or a folder of them")
    return files


def read_text(file: Path) -> str:
    """The content of a text file. InputError if it is missing, empty or binary."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; give a CIF file or a folder of them") from None
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; give a CIF file or a folder of them") from error
    if not content.strip():
        raise InputError(f"{file} is empty; {REMEDIES[Reason.UNREADABLE]}")
    if BINARY.search(content):
        raise InputError(f"{file} is a binary file, not CIF text; {REMEDIES[Reason.UNREADABLE]}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # older CIFs hold accented names


def _print(file: Path, found: Shown, layout: TextLayout, *, with_ids: bool, as_json: bool, with_title: bool) -> None:
    if as_json:
        record: dict[str, Any] = {"file": str(file), "layout": layout.name, "text": found.text}
        record["n_tokens"] = len(found.tokens)
        if with_ids:
            record |= {"tokens": found.tokens, "ids": found.ids}
        print(json.dumps(record, ensure_ascii=False))
        return
    if with_title:
        print(f"== {file}")
    print(found.text)
    print(f"{len(found.tokens)} tokens")
    if with_ids:
        for number, token in zip(found.ids, found.tokens, strict=True):
            print(f"{number:6d} {token!r}")


if __name__ == "__main__":
    from crystallm.cli import main

    sys.exit(main(["text", *sys.argv[1:]]))
