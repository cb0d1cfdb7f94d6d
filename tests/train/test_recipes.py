"""Committed recipes load; a recipe that cannot work is refused with the field named."""

from pathlib import Path

import pytest

from crystallm.base.config import from_mapping, load_recipe, to_mapping, write_recipe
from crystallm.base.errors import ConfigError
from crystallm.train.config import CHANGEABLE, TrainConfig

FOLDER = Path(__file__).parents[2] / "train"
RECIPES = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("sweep/*.yaml")])


def test_there_are_recipes() -> None:
    assert {"default.yaml", "tiny.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_committed_recipe_loads_and_is_written_back(path: Path, tmp_path: Path) -> None:
    config = load_recipe(TrainConfig, path)
    write_recipe(config, tmp_path / "recipe.yaml")
    assert load_recipe(TrainConfig, tmp_path / "recipe.yaml") == config


def test_changeable_fields_exist() -> None:
    assert to_mapping(TrainConfig(max_steps=1)).keys() >= CHANGEABLE


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give exactly one of epochs, max_steps and max_minutes, got none"),
        ({"epochs": 1, "max_steps": 9}, r"give exactly one .* got \['epochs', 'max_steps'\]"),
        ({"max_steps": 0}, "max_steps must be above 0, got 0"),
        ({"max_steps": 9, "learning_rate": -1}, "learning_rate must be above 0, got -1"),
        ({"max_steps": 9, "warmup_steps": -1}, "warmup_steps must not be negative, got -1"),
        ({"max_steps": 9, "save_every": 0}, "save_every must be at least 1"),
        ({"max_steps": 9, "max_tokens": 2048}, "max_tokens=2048 is beyond model.context=1024"),
        ({"max_steps": 9, "accumulate": 16}, "512 cannot hold one text of 1024 tokens; lower accumulate"),
        ({"max_steps": 9, "learning_rat": 1.0}, "unknown field 'learning_rat'; TrainConfig has model, layout"),
        ({"max_steps": 9, "augmented_share": 0}, "augmented_share must be above 0 and at most 1, got 0"),
        ({"max_steps": 9, "descriptions": "drawn"}, "must be one of 'canonical', 'augmented', got 'drawn'"),
        ({"max_steps": 9, "model": {"model_type": "mamba"}}, "model: model_type must be one of 'llama', 'gpt2'"),
        ({"max_steps": 9, "model": {"layer": 2}}, "model: unknown field 'layer'"),
        ({"max_steps": "ten"}, "max_steps must be int, got 'ten'"),
    ],
)
def test_a_recipe_that_cannot_work(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(TrainConfig, fields)
