"""The two editions: where they are, how they are chosen, and what is refused."""

import json
from typing import Any

import pytest

from crystallm.base.errors import ConfigError
from crystallm.base.provenance import sha256
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.data.seen import Seen
from crystallm.model.checkpoint import (
    chosen_folder,
    default_folder,
    load_checkpoint,
    open_checkpoint,
    read_about,
)
from crystallm.model.editions import EDITIONS, Edition, edition_folder, edition_with_weights
from crystallm.sample.generator import Generator

FOLDER = edition_folder("benchmark").parent
SHIPPED = [edition for edition in EDITIONS if (FOLDER / edition / "model.safetensors").is_file()]


@pytest.mark.parametrize("edition", SHIPPED)
def test_each_is_a_checkpoint_with_a_card_and_a_list(edition: Edition) -> None:
    folder = edition_folder(edition)
    assert read_about(folder)["layout"] == "wyckoff"
    assert f"{edition} edition" in (folder / "README.md").read_text()
    seen = Seen.read(folder)
    assert seen is not None
    assert seen.has_formula(parse_formula("TiO2"))
    assert (folder / "seen.parquet").stat().st_size < 1.5e6


def test_the_full_edition_is_the_default_for_use() -> None:
    assert default_folder() == default_folder("full") == open_checkpoint().folder
    assert open_checkpoint(edition="benchmark").folder == edition_folder("benchmark")
    assert load_checkpoint(edition="benchmark").folder == edition_folder("benchmark")
    assert Generator.from_pretrained(edition="benchmark").checkpoint.folder == edition_folder("benchmark")


def test_the_full_edition_has_seen_what_the_benchmark_edition_has_not() -> None:
    """Anatase (mp-390) is a test row of MP-20."""
    full, benchmark = Seen.read(FOLDER / "full"), Seen.read(FOLDER / "benchmark")
    assert full is not None
    assert benchmark is not None
    anatase = parse_formula("TiO2")
    assert full.has_id("mp-390", anatase)
    assert not benchmark.has_id("mp-390", anatase)


def test_measurements_choose_the_benchmark_edition() -> None:
    assert chosen_folder(None, None, otherwise="benchmark") == edition_folder("benchmark")
    assert chosen_folder(None, "full", otherwise="benchmark") == edition_folder("full")
    assert chosen_folder("mine", None).name == "mine"


def test_an_edition_and_a_folder_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="--model mine and --edition full both name a model; leave one of them out"):
        chosen_folder("mine", "full")
    with pytest.raises(ConfigError, match="both name a model"):
        Generator.from_pretrained("mine", edition="full")


def test_an_unknown_edition_is_refused() -> None:
    unknown: Any = "half"
    with pytest.raises(ConfigError, match="unknown edition 'half'; choose from full, benchmark"):
        open_checkpoint(edition=unknown)


def test_an_edition_is_known_by_its_weights() -> None:
    digest = sha256(edition_folder("benchmark") / "model.safetensors")
    assert edition_with_weights(digest) == edition_with_weights(digest[:12]) == "benchmark"
    assert edition_with_weights(digest[:4]) is None
    assert edition_with_weights("0" * 64) is None


def test_the_benchmark_edition_is_that_of_the_committed_reports() -> None:
    about = json.loads((edition_folder("benchmark") / "crystallm.json").read_text())
    assert about["provenance"]["training"]["train_texts"] == 113_140
