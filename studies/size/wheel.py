"""Weight of the wheel by kind: Python code, small tables, and what a model brings with it.

`python -m studies.size.wheel [COMMIT]` builds the wheel of a commit (default: HEAD) with `pip wheel --no-deps`.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from enum import StrEnum
from pathlib import Path, PurePosixPath

from crystallm.base.markdown import table
from crystallm.cli import run_program

ROOT = Path(__file__).parents[2]

LIMIT_KB = 600
"""Of Python code and small tables, zipped."""


class Kind(StrEnum):
    """What a file of the wheel is."""

    CODE = "Python code"
    TABLE = "small tables, recipes, metadata"
    CORPUS = "crystals for replay in fine-tuning"
    WEIGHTS = "weights"
    ENERGIES = "energies of hulls"
    LIBRARY = "libraries of known and seen crystals"
    FRONT_END = "front end"


def kind_of(name: str) -> Kind:
    """The kind of a file.

    Args:
        name: Its path in the wheel.

    Example:
        >>> str(kind_of("crystallm/model/editions/full/hull.parquet"))
        'energies of hulls'
    """
    path = PurePosixPath(name)
    if path.suffix == ".py":
        return Kind.CODE
    if path.suffix == ".safetensors":
        return Kind.WEIGHTS
    if path.suffix == ".parquet":
        return Kind.ENERGIES if path.stem == "hull" else Kind.LIBRARY
    if path.suffix == ".xz":
        return Kind.CORPUS
    return Kind.FRONT_END if path.suffix in {".html", ".js", ".css"} else Kind.TABLE


def without_words(source: str) -> str:
    """Python code without docstrings, whole-line comments and blank lines, to see what words weigh.

    Example:
        >>> without_words('"Words."\\n\\n# more\\nx = 1\\n')
        'x = 1'
    """
    words = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    return "\n".join(line for number, line in lines if number not in words and line.strip(" ")[:1] not in ("", "#"))


def weights(wheel: Path) -> tuple[Counter[Kind], Counter[str], int]:
    """Zipped bytes by kind, those of Python code by room, and zipped bytes of all code without its words."""
    kinds: Counter[Kind] = Counter()
    rooms: Counter[str] = Counter()
    bare = 0
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            kind = kind_of(item.filename)
            kinds[kind] += item.compress_size
            if kind is Kind.CODE:
                parts = item.filename.split("/")
                rooms[parts[1] if len(parts) > 2 else "(beside the rooms)"] += item.compress_size
                code = without_words(archive.read(item).decode("utf-8"))
                bare += len(zlib.compress(code.encode("utf-8")))
    return kinds, rooms, bare


def build(commit: str, folder: Path) -> Path:
    """The wheel of a commit, built in a copy of it."""
    text = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(text)) as archive:
        archive.extractall(folder / "tree", filter="data")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(folder / "tree")]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main(argv: list[str]) -> None:
    """Print zipped kilobytes by kind and by room, and whether code and small tables keep to their limit."""
    commit = argv[0] if argv else "HEAD"
    with tempfile.TemporaryDirectory() as folder:
        kinds, rooms, bare = weights(build(commit, Path(folder)))
    rows = [[str(kind), f"{kinds[kind] / 1000:,.0f}"] for kind in Kind]
    print(table([f"kind, wheel of {commit}", "kB zipped"], rows))
    print()
    print(table(["Python code of", "kB zipped"], [[room, f"{size / 1000:.0f}"] for room, size in rooms.most_common()]))
    total = (kinds[Kind.CODE] + kinds[Kind.TABLE]) / 1000
    print(f"\nCode and small tables: {total:.0f} kB of at most {LIMIT_KB}.")
    print(f"Python code without docstrings and comments: {bare / 1000:.0f} kB.")


if __name__ == "__main__":
    run_program(main)
