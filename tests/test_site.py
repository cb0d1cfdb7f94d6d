"""Pages that are made from the code for the site of the docs; `.ci/run` builds the whole site."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from crystallm import cli

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_has_its_options(generate: ModuleType) -> None:
    page = generate.commands()
    names = re.findall(r"^crystallm ([a-z ]+)$", page, re.MULTILINE)
    assert {name.split()[0] for name in names} == set(cli.STAGES)
    assert {"sample", "data prepare", "train", "train finetune", "model import", "eval run", "eval score"} <= set(names)
    assert len(names) == len(set(names))
    assert "``--temperature T``\n    below 1 favours what is probable (default: 0.5)" in page


def test_every_field_says_what_it_means(generate: ModuleType) -> None:
    page = generate.configuration()
    assert "   * - ``temperature``\n     - ``float``\n     - ``0.5``\n     - Below 1 sharpens" in page
    assert re.findall(r"\* - ``(\w+)``\n     - .+\n     - .+\n     - *\n", page) == []


def test_every_public_name_has_a_place(generate: ModuleType) -> None:
    page = generate.api()
    assert ".. autofunction:: crystallm.sample.api.sample\n" in page
    assert ".. autoclass:: crystallm.crystal.cell.Cell\n   :members:\n" in page


def test_a_page_of_each_kind_is_in_the_index_of_its_folder() -> None:
    """Readers on a code host find every page."""
    for folder in ("tutorials", "how-to", "reference", "explanation", "experiments", "decisions"):
        index = (DOCS / folder / "README.md").read_text(encoding="utf-8")
        assert [page.name for page in sorted((DOCS / folder).glob("*.md")) if f"({page.name})" not in index] == [
            "README.md"
        ]


def test_the_gate_builds_the_site_strictly() -> None:
    assert "python -m sphinx -q -W --keep-going -b html docs" in (REPOSITORY / ".ci" / "run").read_text()
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(item.startswith("crystallm[docs") for item in extras["dev"])
