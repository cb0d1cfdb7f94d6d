"""The way of a formula: which files of the package stand between the command and the file that it writes.

`python -m studies.way.follow` samples one crystal in this process and notes the calls that are under way at each
landmark: the formula is read, the draw begins, a token is drawn, the draw ends, the crystals are ranked, a file is
written. The way is these stacks one after the other, from where one leaves the one before. A file is entered each time
the way comes to it from another.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

from crystallm.base.markdown import table
from crystallm.cli import main as crystallm
from crystallm.cli import run_program

ROOT = Path(__file__).parents[2] / "crystallm"

LANDMARKS = {
    "make_prompt": "the formula is read",
    "start": "the draw begins",
    "branching_of": "a token is drawn",
    "outcome_of": "the draw ends",
    "rank": "the crystals are ranked",
    "write_cif": "the file is written",
}
"""Functions of the package, and what their first call means."""


class Way:
    """Notes the stack at the first call of each landmark, in the order of the landmarks."""

    def __init__(self) -> None:
        self.stacks: dict[str, list[str]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """What `sys.setprofile` calls."""
        name = frame.f_code.co_name
        expected = list(LANDMARKS)[len(self.stacks)] if len(self.stacks) < len(LANDMARKS) else None
        if event == "call" and name == expected and Path(frame.f_code.co_filename).is_relative_to(ROOT):
            self.stacks[name] = files_of(frame)


def files_of(frame: FrameType | None) -> list[str]:
    """Files of the package that a stack goes through, outermost first; the same one after itself counts once."""
    files = []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT):
            files.append(file.relative_to(ROOT).as_posix())
        frame = frame.f_back
    return [file for file, _ in groupby(reversed(files))]


def way_of(stacks: Iterable[Sequence[str]]) -> list[str]:
    """One stack after the other, each from where it leaves the one before.

    Example:
        >>> way_of([["cli", "run", "prompts"], ["cli", "run", "generator"]])
        ['cli', 'run', 'prompts', 'generator']
    """
    way: list[str] = []
    before: Sequence[str] = ()
    for stack in stacks:
        common = 0
        while common < min(len(before), len(stack)) and before[common] == stack[common]:
            common += 1
        way += stack[common:]
        before = stack
    return [file for file, _ in groupby(way)]


def main(argv: list[str]) -> None:
    """Sample one crystal, and print the way with its counts."""
    way = Way()
    with tempfile.TemporaryDirectory() as folder:
        sys.setprofile(way)
        try:
            code = crystallm(["sample", "MgO", "-n", "1", "--no-energies", "--out", f"{folder}/out"])
        finally:
            sys.setprofile(None)
    assert code == 0
    print(table(["landmark", "files"], [[LANDMARKS[name], " > ".join(files)] for name, files in way.stacks.items()]))
    found = way_of(way.stacks.values())
    entered = Counter(found)
    longest = max((len((ROOT / file).read_text(encoding="utf-8").splitlines()), file) for file in entered)
    print(f"\n{len(entered)} files; entered most often: {max(entered.values())} times", end=" ")
    print(f"({', '.join(file for file, count in entered.items() if count == max(entered.values()))})")
    print(f"longest of them: {longest[1]}, {longest[0]} lines")


if __name__ == "__main__":
    run_program(main)
