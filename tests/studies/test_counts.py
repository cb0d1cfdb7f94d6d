"""The two measures of how the code is laid out: code lines, and the way of a formula."""

import pytest

from studies.size.count import code_lines
from studies.way.follow import way_of


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Words."""\n\nx = 1  # a number\n', 1),
        ('def f():\n    """Words\n\n    and more."""\n    # a comment\n    return (\n        1\n    )\n', 4),
        ('x = """text\nof two lines"""\n', 2),
        ("", 0),
    ],
)
def test_code_lines(source: str, lines: int) -> None:
    assert code_lines(source) == lines


def test_a_way_that_comes_back_enters_a_file_again() -> None:
    stacks = [["cli", "run", "generator", "engine"], ["cli", "run", "generator", "task"], ["cli", "run", "writer"]]
    assert way_of(stacks) == ["cli", "run", "generator", "engine", "task", "writer"]
    assert way_of([["a", "b"], ["a", "c"], ["a", "b"]]) == ["a", "b", "c", "b"]
