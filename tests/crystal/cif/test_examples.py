"""The examples in the docstrings of the room run."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import crystallm.crystal.cif

MODULES = [found.name for found in pkgutil.iter_modules(crystallm.crystal.cif.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(f"crystallm.crystal.cif.{name}")).failed == 0
