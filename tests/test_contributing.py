"""CONTRIBUTING.md is short, and the files and names it sends people to exist."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")

FILES = sorted(set(re.findall(r"`((?:crystallm|tests|docs|eval|\.ci)[\w./-]*)`", PAGE)) - {"eval/benchmarks/NAME.yaml"})


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) <= 120
    assert max(map(len, PAGE.splitlines())) <= 120


def test_it_tells_how_to_add_what_people_add() -> None:
    assert {"check of crystals", "potential", "layout", "benchmark", "command"} == set(
        re.findall(r"^## Add an? (.+)$", PAGE, re.MULTILINE)
    )


@pytest.mark.parametrize("name", FILES)
def test_files_exist(name: str) -> None:
    assert (REPOSITORY / name).exists()


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("crystallm/crystal/checks/validity.py", ["class CheckName", "CHECKS:", "VALID ="]),
        ("crystallm/crystal/checks/fast_validity.py", ["FAST_CHECKS:"]),
        ("tests/crystal/test_fast_validity.py", ["def test_both_paths_have_the_same_checks"]),
        (
            "crystallm/energy/potentials/protocol.py",
            ["def require", "def identity", "class Potential(Protocol)"],
        ),
        ("crystallm/energy/potentials/ase_potential.py", ["def calculator"]),
        ("crystallm/tokenizer/layout.py", ["LAYOUTS:", "def wyckoff_layout", "class Field(Protocol)"]),
        ("crystallm/eval/sets/benchmark.py", ["class Benchmark"]),
        ("crystallm/cli/__init__.py", ["STAGES ="]),
        ("crystallm/eval/__main__.py", ["COMMANDS ="]),
    ],
)
def test_names_are_where_it_says(file: str, names: list[str]) -> None:
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert all(name in text for name in names), [name for name in names if name not in text]
    assert file in PAGE
    assert all(re.split(r"\W+", name.removeprefix("class ").removeprefix("def "))[0] in PAGE for name in names)
