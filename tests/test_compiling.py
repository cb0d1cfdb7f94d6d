"""Compiled loops where nothing can be kept for the next run."""

from collections.abc import Callable
from typing import Any

import pytest

from crystallm.base import compiling


def test_without_a_folder_to_write_to_each_run_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    njit, asked = compiling.njit, []

    def without_folders(**options: Any) -> Callable[..., Any]:
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'double': no locator available for file 'loops.py'")
        return njit(**options)

    monkeypatch.setattr(compiling, "njit", without_folders)

    def double(x: float) -> float:
        return 2 * x

    assert compiling.compiled(double)(1.5) == 3.0
    assert [options.pop("cache", False) for options in asked] == [True, False]
    assert asked[0] == asked[1]
