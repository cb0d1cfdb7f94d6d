"""`crystallm text`: show how crystals are written and tokenised."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from crystallm.base import input_files
from crystallm.base.command_line import Command, Option
from crystallm.base.errors import ConfigError, InputError
from crystallm.base.input_files import MAX_FILE_MB, Reading, Unread, count_refused, is_cif_name
from crystallm.crystal.cell import Cell, Reason, Rejection, refuse_large
from crystallm.tokenizer.layout import DEFAULT_LAYOUT, get_layout
from crystallm.tokenizer.text_layout import TextLayout

if TYPE_CHECKING:
    from crystallm.crystal.cif.reasons import Finding

BINARY = re.compile("[\x00-\x08\x0e-\x1a]")
"""Characters that no text file holds."""

REMEDIES = {
    Reason.UNREADABLE: "give a complete CIF text file",
    Reason.EMPTY: "give a CIF with a list of atoms and their fractional coordinates",
    Reason.DISORDERED: "give an ordered model, one element with occupancy 1 on every site",
    Reason.UNKNOWN_SPECIES: "name one of the elements 1 to 118 for every site, groups and vacancies left out",
    Reason.BAD_CELL: "check the cell parameters",
    Reason.SYMMETRY_FAILED: "check for atoms on top of each other",
    Reason.TOO_MANY_SITES: "give the primitive cell, or a smaller model of it",
    Reason.NOT_EXPRESSIBLE: "see the limits in docs/explanation/tokenizer.md",
    Reason.CONTRADICTORY: "mend the wrong statement (--why lists all), or give --trust-atoms if it is the content",
    Reason.AMBIGUOUS: "state the symmetry operators, or Z and formula sum, or the elements",
    Reason.MODULATED: "give an approximant: the cell of a superstructure with all its atoms",
}


@dataclass(frozen=True)
class Shown:
    """One crystal as the layout writes it; `ids` are places in the layout's vocabulary, as in the tokenizer."""

    tokens: list[str]
    ids: list[int]
    text: str


def show(cell: Cell | Rejection, layout: TextLayout, *, augmented_seed: int | None = None) -> Shown | Rejection:
    """The text and tokens of a crystal: canonical, or drawn at random with a seed."""
    import numpy as np

    from crystallm.crystal.description import augment, describe

    if isinstance(cell, Rejection):
        return cell
    if (too_large := refuse_large(cell)) is not None:
        return too_large
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


@dataclass(frozen=True)
class Structure:
    """One structure of a file: its name for people, its atoms or a refusal, and what `--why` says of it."""

    name: str
    cell: Cell | Rejection
    why: list[Finding]


def structures_of(file: Path, *, trust_atoms: bool, max_file_mb: float = MAX_FILE_MB) -> list[Structure]:
    """All structures of a CIF file. InputError if it is missing, empty or binary."""
    from crystallm.crystal.cif import read_with_reasons
    from crystallm.crystal.cif.reasons import reasons

    blocks = read_with_reasons(read_text(file, max_file_mb), trust_atoms=trust_atoms)
    if isinstance(blocks, Rejection):
        return [Structure(str(file), blocks, [])]
    names = [str(file)] if len(blocks) == 1 else [f"{file}: {read.block.name}" for read in blocks]
    return [Structure(name, read.cell, reasons(read)) for name, read in zip(names, blocks, strict=True)]


def show_texts(
    sources: Annotated[tuple[Path, ...], Option(metavar="FILE")],
    reading: Reading,
    *,
    layout: str = DEFAULT_LAYOUT,
    ids: bool = False,
    augmented: Annotated[int | None, Option(metavar="SEED")] = None,
    why: bool = False,
    as_json: Annotated[bool, Option("--json")] = False,
) -> None:
    """Show how crystals are written as text and tokenised.

    What cannot be shown is named on stderr with the reason, the others are shown, and the exit code is 2.

    Args:
        sources: CIF files; a folder stands for all CIF files in it, packed ones too.
        layout: How to write, see docs/explanation/tokenizer.md.
        ids: List each token with its id.
        augmented: An equivalent text drawn at random instead of the canonical one.
        why: Say which statements of the file were used, not needed, or contradict.
        as_json: One JSON object a line instead of text for people.
    """
    if augmented is not None and augmented < 0:
        raise ConfigError(f"--augmented must be a seed >= 0, got {augmented}")
    written = get_layout(layout)
    files = [file for source in sources for file in files_of(source)]
    shown = _Outcome()
    for file in files:
        try:
            structures = structures_of(file, trust_atoms=reading.trust_atoms, max_file_mb=reading.max_file_mb)
        except InputError as error:
            shown.fail(str(error))
            continue
        for structure in structures:
            found = show(structure.cell, written, augmented_seed=augmented)
            reasons = structure.why if why else None
            with_title = len(files) > 1 or len(structures) > 1
            if isinstance(found, Rejection):
                remedy = REMEDIES.get(found.reason)
                shown.fail(f"{structure.name}: {found}" + (f"; {remedy}" if remedy else ""))
                _print_why(structure.name, reasons, as_json=as_json, with_title=with_title)
                continue
            shown.count += 1
            if as_json:
                _print_json(structure.name, found, written, reasons, with_ids=ids)
            else:
                _print(structure.name, found, with_ids=ids, with_title=with_title)
                _print_why(structure.name, reasons)
    shown.finish()


text = Command(show_texts, "crystallm text")


@dataclass
class _Outcome:
    """How many structures were shown, and what is said of the others."""

    count: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, message: str) -> None:
        self.failures.append(message)

    def finish(self) -> None:
        """Say why some were not shown, and how many; InputError if none was."""
        total = self.count + len(self.failures)
        if total == 1 and self.failures:
            raise InputError(self.failures[0])
        for message in self.failures:
            print(f"crystallm: {message}", file=sys.stderr)
        count_refused(len(self.failures), total, "shown")


def files_of(source: Path) -> list[Path]:
    """The CIF files that a path stands for: itself, or all in the folder. InputError if there are none."""
    if not source.is_dir():
        return [source]
    try:
        files = sorted(file for file in source.iterdir() if is_cif_name(file.name))
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}; check its permissions") from error
    if not files:
        raise InputError(f"{source} holds no .cif file; give a CIF file or a folder of them")
    return files


def read_text(file: Path, max_file_mb: float = MAX_FILE_MB) -> str:
    """The text of a CIF file, packed or not. InputError if it is missing, too large, empty or binary."""
    if not file.exists() and not file.is_symlink():
        raise InputError(f"{file} does not exist; give a CIF file or a folder of them")
    found = input_files.read_text(file, max_file_mb=max_file_mb)
    if isinstance(found, str) and not BINARY.search(found):
        return found
    if isinstance(found, Unread) and not found.reason.startswith("binary"):
        told = f"{file} is empty" if found.empty else f"{file}: {found.reason}"
        raise InputError(f"{told}; {REMEDIES[Reason.UNREADABLE]}")
    raise InputError(f"{file} is a binary file, not CIF text; {REMEDIES[Reason.UNREADABLE]}")


def _print_json(name: str, found: Shown, layout: TextLayout, why: list[Finding] | None, *, with_ids: bool) -> None:
    record: dict[str, Any] = {"file": name, "layout": layout.name, "text": found.text}
    record["n_tokens"] = len(found.tokens)
    if with_ids:
        record |= {"tokens": found.tokens, "ids": found.ids}
    if why is not None:
        record["why"] = [asdict(finding) for finding in why]
    print(json.dumps(record, ensure_ascii=False))


def _print(name: str, found: Shown, *, with_ids: bool, with_title: bool) -> None:
    if with_title:
        print(f"== {name}")
    print(found.text)
    print(f"{len(found.tokens)} tokens")
    if with_ids:
        for number, token in zip(found.ids, found.tokens, strict=True):
            print(f"{number:6d} {token!r}")


def _print_why(name: str, why: list[Finding] | None, *, as_json: bool = False, with_title: bool = False) -> None:
    """The findings on a structure, refused or not; nothing if they were not asked for."""
    if why is None:
        return
    if as_json:
        print(json.dumps({"file": name, "why": [asdict(finding) for finding in why]}, ensure_ascii=False))
        return
    if with_title:
        print(f"== {name}")
    for finding in why:
        print(finding)


if __name__ == "__main__":
    from crystallm.cli import main

    sys.exit(main(["text", *sys.argv[1:]]))
