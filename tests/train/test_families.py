"""Families for the comparison of strategies: by formula, nothing seen, and a table with denominators."""

from typing import Any

import pytest

from crystallm.base.errors import InputError
from studies.finetuning.families import HELD_OUT, cut, few_of_each, forgetting_formulas, is_heusler, is_oxide, is_test
from studies.finetuning.strategies import Run, result_of, table

PARTS = ("train", "val", "test")
UNMARKED = {"suggested_split": "heldout", "mp20_split": "val", "mpts52_split": None, "benchmark_match": None}


def crystal(formula: str, group: int, n_sites: int = 4) -> dict[str, Any]:
    return {"id": formula, "cif": "", "reduced_formula": formula, "spacegroup_number": group, "n_sites": n_sites}


def test_heuslers() -> None:
    assert is_heusler(crystal("MnCu2Al", 225))
    assert is_heusler(crystal("TiNiSn", 216))
    assert not is_heusler(crystal("MnCu2Al", 139))
    assert not is_heusler(crystal("NaCl", 225))


def test_oxides() -> None:
    assert is_oxide(crystal("TiO2", 136))
    assert not is_oxide(crystal("MgO", 225))
    assert not is_oxide(crystal("TiO2", 136, n_sites=25))


@pytest.mark.parametrize(
    "mark",
    [
        {"suggested_split": "test"},
        {"mp20_split": "test"},
        {"mp20_split": "heldout"},
        {"mpts52_split": "test"},
        {"benchmark_match": "perov_5:test perov_5:val"},
    ],
)
def test_rows_of_test_splits(mark: dict[str, str]) -> None:
    assert is_test(UNMARKED | mark)
    assert not is_test(UNMARKED)


def test_a_cut_leaks_nothing_and_keeps_what_is_held_out() -> None:
    rows = [crystal(f"X{i // 2}", 1) | {"id": str(i)} for i in range(800)]
    formula = {row["id"]: row["reduced_formula"] for row in rows}
    cuts = [cut(rows, size=size, seed=seed) for size, seed in ((50, 0), (50, 1), (400, 0))]
    for found in cuts:
        parts = {
            part: {formula[row["id"]] for row in found if row["split"] == part} for part in ("train", "val", "test")
        }
        assert len(set().union(*parts.values())) == sum(map(len, parts.values()))
    held_out = [[row["id"] for row in found if row["split"] == "test"] for found in cuts]
    assert held_out[0] == held_out[1] == held_out[2]
    assert len(held_out[0]) == HELD_OUT
    assert [sum(row["split"] == "train" for row in found) for found in cuts] == [50, 50, 400]
    assert {row["id"] for row in cuts[0]} != {row["id"] for row in cuts[1]}


def test_orderings_of_one_lattice_count_as_few() -> None:
    rows = [crystal("LiMnO2", 12) for _ in range(40)] + [crystal("TiO2", 136)]
    assert [row["reduced_formula"] for row in few_of_each(rows)] == ["LiMnO2"] * 4 + ["TiO2"]


def test_a_family_that_is_too_small() -> None:
    with pytest.raises(InputError, match="a family of 300 crystals has no 500 to train on"):
        cut([crystal(f"X{i}", 1) for i in range(300)], size=500, seed=0)


def test_what_forgetting_is_measured_on_is_known() -> None:
    assert 300 < len(forgetting_formulas()) <= 400


def test_the_table_pools_rates_and_averages_losses() -> None:
    def report(passed: int, loss: float) -> dict[str, Any]:
        found = {
            "losses": {part: {"per_crystal": loss, "per_token": loss / 50} for part in ("val", "heldout", "general")},
            "metrics": {
                "match_rate@5": {"passed": passed, "attempted": 100},
                "match_rate@5_strict": {"passed": passed // 2, "attempted": 100},
            },
            "matching_draws": {"passed": 3 * passed, "attempted": 500},
        }
        common = {"steps": 8, "best_step": 4, "epochs": 2.0, "seconds": 1.0}
        return common | {"recipe": {"draws": 5}, "before": found, "after": found}

    rows = [result_of(report(40 + 10 * seed, 100.0 + seed), Run("oxides", 50, seed, "full")) for seed in (0, 1, 2)]
    lines = table(rows).splitlines()
    assert {line.count("|") for line in lines} == {11}
    assert lines[2].startswith("| oxides | 50 | none (the general model) | 3 | 101.00 ± 1.00 | 2.020 ± 0.020 |")
    assert lines[3].startswith("| oxides | 50 | full | 3 |")
    assert "| 450/1500 (30.0%) ± 6.0 | 150/300 (50.0%) ± 10.0 | 75/300 (25.0%) ± 5.0 | 2.0 ± 0.0 |" in lines[3]
    rows[0]["any_after"] = (*rows[0]["any_after"][:2], 2)
    assert "| 150/300 (50.0%), 2 undecided ± 10.0 |" in table(rows).splitlines()[3]
