"""Code lines of the package: no docstrings, comments or blank lines.

`python -m studies.size.count [COMMIT ...]` counts each room of the files as they are, or of commits beside them.
"""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from crystallm.base.markdown import table
from crystallm.cli import run_program

ROOT = Path(__file__).parents[2]

IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines that hold code; of a docstring, or any string that stands alone, none counts.

    Example:
        >>> code_lines('"Words."\\n\\nx = 1  # a number\\n')
        1
    """
    strings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in IGNORED:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - strings)


def sources(commit: str | None) -> Iterator[tuple[str, str]]:
    """Path and text of each Python file of the package."""
    if commit is None:
        for file in sorted((ROOT / "crystallm").rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
        return
    names = _git("ls-tree", "-r", "--name-only", commit, "crystallm").splitlines()
    for name in names:
        if name.endswith(".py"):
            yield name, _git("show", f"{commit}:{name}")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def main(argv: list[str]) -> None:
    """Print a table: rooms of the package, and code lines of each commit in them."""
    counted: list[tuple[str, Counter[str]]] = []
    for commit in [*argv, None]:
        lines: Counter[str] = Counter()
        for name, source in sources(commit):
            room = name.split("/")[1] if name.count("/") > 1 else "(beside the rooms)"
            lines[room] += code_lines(source)
        counted.append((commit or "now", lines))
    rooms = sorted({room for _, lines in counted for room in lines})
    rows = [[room, *(str(lines[room]) for _, lines in counted)] for room in rooms]
    rows.append(["all", *(str(sum(lines.values())) for _, lines in counted)])
    print(table(["room", *(name for name, _ in counted)], rows))


if __name__ == "__main__":
    run_program(main)
