"""Recipes: what YAML says is what the dataclass holds, or an error that names the field."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from crystallm.base.config import from_mapping, load_recipe, to_mapping, write_recipe
from crystallm.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Oven:
    celsius: float = 800.0
    atmosphere: Literal["air", "argon", 2] = "air"


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    formula: str
    hours: int = 12
    quench: bool = False
    oven: Oven = field(default_factory=Oven)
    steps: tuple[float, ...] = ()
    range: tuple[int, int] | None = None
    notes: Path | None = None


def load(text: str, tmp_path: Path, *overrides: str) -> Synthesis:
    (tmp_path / "recipe.yaml").write_text(text)
    return load_recipe(Synthesis, tmp_path / "recipe.yaml", overrides=overrides)


def test_values(tmp_path: Path) -> None:
    text = "formula: BaTiO3\noven: {celsius: 1300}\nsteps: [1, 2.5]\nrange: [1, 4]\nnotes: a/b.txt"
    recipe = load(text, tmp_path)
    assert recipe == Synthesis(
        formula="BaTiO3", oven=Oven(celsius=1300.0), steps=(1.0, 2.5), range=(1, 4), notes=Path("a/b.txt")
    )
    assert isinstance(recipe.oven.celsius, float)


def test_written_recipe_spells_out_defaults_and_loads_again(tmp_path: Path) -> None:
    recipe = Synthesis(formula="TiO2", steps=(1.0,), notes=Path("n"))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert "celsius: 800.0" in (tmp_path / "recipe.yaml").read_text()
    assert load_recipe(Synthesis, tmp_path / "recipe.yaml") == recipe
    assert from_mapping(Synthesis, to_mapping(recipe)) == recipe


def test_overrides(tmp_path: Path) -> None:
    recipe = load("formula: TiO2\noven: {celsius: 900}", tmp_path, "oven.atmosphere=argon", "hours=3", "quench=true")
    assert (recipe.oven, recipe.hours, recipe.quench) == (Oven(celsius=900.0, atmosphere="argon"), 3, True)
    assert load("formula: TiO2", tmp_path, "oven.celsius=1e3").oven.celsius == 1000.0
    assert load("formula: TiO2\nrange: [1, 2]", tmp_path, "range=null").range is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hours: 1", "field 'formula' of Synthesis is missing; add it"),
        ("formula: TiO2\nhuors: 1", "unknown field 'huors'; Synthesis has formula, hours"),
        ("formula: TiO2\noven: {celcius: 1}", "oven: unknown field 'celcius'; Oven has celsius, atmosphere"),
        ("formula: NO", "formula must be str, got False"),  # YAML reads the formula of nitric oxide as a truth value
        ("formula: TiO2\nhours: 1.5", "hours must be int, got 1.5"),
        ("formula: TiO2\nhours: true", "hours must be int, got True"),
        ("formula: TiO2\nquench: 1", "quench must be bool, got 1"),
        (
            "formula: TiO2\noven: {celsius: 1e3}",
            "celsius must be float, got '1e3'; YAML reads 1e3 as text, write it as",
        ),
        ("formula: TiO2\noven: {atmosphere: vacuum}", "atmosphere must be one of 'air', 'argon', 2, got 'vacuum'"),
        ("formula: TiO2\noven: 3", "oven must hold fields of its own, got 3"),
        ("formula: TiO2\nsteps: 1", "steps must be a list, got 1"),
        ("formula: TiO2\nsteps: [1, x]", r"steps\[1\] must be float, got 'x'"),
        ("formula: TiO2\nrange: [1]", r"range must have 2 entries, got \[1\]"),
        ("- formula", "must hold fields of Synthesis as `name: value` lines"),
        ("formula: [", "is not valid YAML"),
    ],
)
def test_mistakes(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hours", "cannot use 'hours'; write field=value"),
        ("=3", "cannot use '=3'"),
        ("hours=[", "is not valid YAML"),
        ("hours.minutes=3", "cannot set 'hours.minutes': 'hours' holds 12"),
        ("oven.celcius=3", "unknown field 'celcius'"),
    ],
)
def test_mistaken_overrides(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load("formula: TiO2\nhours: 12", tmp_path, override)


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe")]
)
def test_recipe_that_cannot_be_read(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    make(path)
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        load_recipe(Synthesis, path)
