"""The public API: every name is there, typed, documented with an example that runs, and costs nothing until used."""

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import crystallm
from crystallm import Cell, check, known, match, sample
from crystallm.base.errors import CompositionError, ConfigError
from crystallm.sample.api import sample as sample_function

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "crystallm"
NAMES = [name for name in crystallm.__all__ if name != "__version__"]


def defined(name: str) -> object:
    """What stands behind a public name: of `sample` the function, not the package that can be called."""
    return sample_function if name == "sample" else getattr(crystallm, name)


def in_new_process(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_importing_loads_no_other_module() -> None:
    source = (
        "import sys\nbefore = set(sys.modules)\nimport crystallm\ndir(crystallm)\nprint(*set(sys.modules) - before)\n"
    )
    assert in_new_process(source).split() == ["crystallm"]


def test_only_what_draws_loads_torch() -> None:
    names = "AnswerConfig, Cell, Crystal, Crystals, check, describe, energy_above_hull, known, match, read_cif, relax"
    assert in_new_process(f"import sys\nfrom crystallm import {names}\nprint('torch' in sys.modules)") == "False\n"


def test_type_checkers_see_the_names_that_are_there() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("crystallm.")
        for alias in node.names
    }
    assert typed == {name: f"crystallm.{module}" for name, module in crystallm._MODULES.items()} | {
        "sample": "crystallm.sample.api"
    }
    assert sorted(typed) == sorted(NAMES)
    assert set(crystallm.__all__) <= set(dir(crystallm))
    assert (PACKAGE / "py.typed").is_file()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        crystallm.smaple  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_documented(name: str) -> None:
    text = inspect.getdoc(defined(name)) or ""
    assert "Example:\n" in text
    assert ">>>" in text
    if inspect.isfunction(defined(name)):
        signature = inspect.signature(defined(name))
        told = text.split("Args:\n")[1].split("Returns:\n")[0]
        assert "Returns:\n" in text
        for parameter in signature.parameters.values():
            stars = {parameter.VAR_KEYWORD: r"\*\*"}.get(parameter.kind, "")
            assert re.search(rf"^    {stars}{parameter.name}: \S", told, re.MULTILINE), parameter.name


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    found = defined(name)
    module = importlib.import_module(found.__module__)  # type: ignore[attr-defined]
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(found, name, module=module, globs=vars(module).copy()):
        assert "+SKIP" not in example.docstring
        runner.run(example)
    assert runner.failures == 0
    assert runner.tries > 0


def test_the_page_lists_the_names() -> None:
    page = (REPOSITORY / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    table = page.split("## Names\n")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) == sorted(NAMES)


def test_sample_is_the_package_and_the_function() -> None:
    import crystallm.sample as package

    assert sample is package
    assert package.Generator is crystallm.Generator
    with pytest.raises(ConfigError, match="tempe"):
        sample("NaCl", temperatur=1.0)
    with pytest.raises(ConfigError, match="edition"):
        sample("NaCl", edition="half")


def test_known_takes_group_and_formula_as_typed() -> None:
    assert {crystal.space_group_number for crystal in known("ClNa", space_group="Fm-3m")} == {225}
    assert known("NaCl", space_group=1) == []
    with pytest.raises(CompositionError):
        known("Nacl2x")


def test_check_judges_what_is_given() -> None:
    halite = known("NaCl")[0]
    crushed = Cell(halite.cell.lattice / 3, halite.cell.positions, halite.cell.numbers)
    for path in ("reference", "fast"):
        assert check(halite.cif, path=path).valid
        assert check(halite.cell, path=path)["space group"].reason == "not stated"
        assert not check(crushed, path=path)["bond lengths"].passed
    with pytest.raises(ConfigError, match="reference, fast"):
        check(halite, path="quick")


def test_match_tells_the_distance_and_the_tolerances() -> None:
    cubic = Cell(np.eye(3) * 4.0, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([55, 17]))
    larger = Cell(np.eye(3) * 4.4, cubic.positions, cubic.numbers)
    assert match(cubic, larger) == pytest.approx(0.0, abs=1e-9)  # the scale is open
    assert match(cubic, Cell(cubic.lattice, cubic.positions, np.array([55, 35]))) is None
    stretched = Cell(np.diag([4.0, 4.0, 5.5]), cubic.positions, cubic.numbers)
    assert match(cubic, stretched) is not None
    assert match(cubic, stretched, strict=True) is None
