"""Pages that are made from the code for the site of the docs; `.ci/run` builds the whole site."""

import importlib.util
import re
import shlex
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
    assert "``--temperature X``\n    below 1 sharpens the distribution towards what the model finds" in page
    assert "``-n N, --n N``\n    draws per prompt; " in page


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


def commands_of(page: Path) -> list[list[str]]:
    """Words after `crystallm` of each command in the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("crystallm ")]


@pytest.mark.parametrize(
    "page",
    [*sorted((DOCS / "how-to").glob("*.md")), *sorted((DOCS / "tutorials").glob("*.md"))],
    ids=lambda page: page.stem,
)
def test_options_of_a_page_exist(generate: ModuleType, page: Path) -> None:
    parsers = dict(generate.parsers())
    for words in commands_of(page):
        name = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in parsers)
        asked = {word for word in words[: words.index("--") if "--" in words else None] if word.startswith("-")}
        assert asked <= set(parsers[name]._option_string_actions), (name, asked)
