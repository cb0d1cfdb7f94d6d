"""What the package imports is declared: a clean installation holds it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]

DISTRIBUTIONS = {"yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}
"""Of modules that are called otherwise than what is installed."""


def roots(source: str) -> set[str]:
    """Top-level modules that a source imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def undeclared(imported: set[str], declared: set[str]) -> set[str]:
    """Modules of other people that no declared distribution brings."""
    others = imported - sys.stdlib_module_names - {"crystallm"}
    return {name for name in others if DISTRIBUTIONS.get(name, name) not in declared}


def test_every_import_is_declared() -> None:
    wanted = [*PROJECT["dependencies"], *(w for some in PROJECT["optional-dependencies"].values() for w in some)]
    declared = {re.split(r"[^\w-]", one)[0].lower() for one in wanted}
    imported = {root for file in (REPOSITORY / "crystallm").rglob("*.py") for root in roots(file.read_text("utf-8"))}
    assert undeclared(imported, declared) == set()
    assert {"torch", "yaml", "matplotlib"} <= imported


def test_an_import_that_is_not_declared_is_seen() -> None:
    assert undeclared(roots("import os\nfrom scipy.stats import norm\nimport yaml"), {"pyyaml"}) == {"scipy"}


def test_the_project_says_where_to_read_on() -> None:
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())
    assert PROJECT["urls"]
