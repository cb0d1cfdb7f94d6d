"""Untrained baselines: substitution finds rock salt, random ones keep composition and volume."""

import json
from pathlib import Path

import numpy as np
import pytest

from crystallm.base.errors import InputError
from crystallm.crystal.cell import Cell, Rejection
from crystallm.crystal.cif import read_cif
from crystallm.eval.baselines.baseline import Baseline, BaselineConfig, main, random_cell, shuffle_elements
from crystallm.eval.benchmarking.score_command import main as score


def samples(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def test_substitution_finds_rock_salt_from_rock_salts(salts: Path, tmp_path: Path) -> None:
    there = ["--data", str(tmp_path), "--out", str(tmp_path / "made")]
    main([str(salts), "-n", "5", *there])
    assert {row["template"] for row in samples(tmp_path / "made")} == {"LiF", "KBr"}
    out = tmp_path / "out"
    score([str(salts), str(tmp_path / "made" / "samples.jsonl"), "--data", str(tmp_path), "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    # Sodium chloride is a rock salt; caesium chloride is not, and nothing in training is like rutile.
    assert report["metrics"]["match_rate@5"]["passed"] == 1
    assert report["samples"]["targets_without_samples"] == 1


@pytest.mark.parametrize("method", ["random_positions", "random_template"])
def test_random_baselines_keep_composition_and_repeat_for_a_seed(salts: Path, tmp_path: Path, method: str) -> None:
    def draw(seed: int) -> list[dict[str, str]]:
        out = tmp_path / f"made{seed}"
        there = ["--data", str(tmp_path), "--out", str(out)]
        main([str(salts), "--method", method, "-n", "3", "--seed", str(seed), *there])
        return samples(out)

    wanted = {"NaCl": {11: 1, 17: 1}, "TiO2": {22: 2, 8: 4}, "CsCl": {55: 1, 17: 1}}
    if method == "random_template":  # of as many atoms as the stored cell: rock salt only has company
        wanted = {"NaCl": {11: 4, 17: 4}}
    first = draw(0)
    assert first == draw(0)
    assert {row["target_id"] for row in first} == wanted.keys()
    for row in first:
        cell = read_cif(row["cif"])
        assert not isinstance(cell, Rejection)
        assert wanted[row["target_id"]] == cell.amounts
    if method == "random_positions":
        assert len(first) == 9
        assert first != draw(1)


def test_random_cells_have_the_volume_asked_for() -> None:
    numbers = np.array([6] * 8)
    cell = random_cell(numbers, 80.0, np.random.default_rng(0))
    assert cell.volume == pytest.approx(80.0)
    difference = cell.positions[:, None] - cell.positions[None]
    distances = np.linalg.norm((difference - np.round(difference)) @ cell.lattice, axis=-1)
    assert distances[~np.eye(8, dtype=bool)].min() >= 0.5 * 10 ** (1 / 3) - 1e-9


def test_elements_are_exchanged_for_those_asked_for() -> None:
    rutile = Cell(np.diag([4.6, 4.6, 3.0]), np.random.default_rng(1).random((6, 3)), np.array([22, 22, 8, 8, 8, 8]))
    made = shuffle_elements(rutile, np.array([50, 50, 9, 9, 9, 9]), 70.0, np.random.default_rng(0))
    assert made.amounts == {9: 4, 50: 2}
    assert made.volume == pytest.approx(70.0)


def test_no_training_rows_is_a_message() -> None:
    with pytest.raises(InputError, match="no training rows"):
        Baseline([], BaselineConfig())
