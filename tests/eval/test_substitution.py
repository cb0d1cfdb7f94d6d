"""Targets of structure prediction, and the templates of the substitution baseline."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import InputError
from crystallm.cli import main as cli
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.eval.baselines.substitution import SubstitutionLibrary, anonymous
from crystallm.eval.sets.select import SelectConfig, select_targets
from crystallm.eval.sets.targets import read_targets, target_name

Writer = Callable[..., Path]


def test_targets_know_formula_and_units_of_the_primitive_cell(parquet: Writer, tmp_path: Path) -> None:
    # The conventional cell of rock salt holds four units, its primitive cell one; rutile is primitive with two.
    source = parquet("corpus.parquet", "NaCl", "TiO2", "CsCl", split="val")
    assert cli(["eval", "select", str(source), "--out", str(tmp_path / "drawn"), "--max-sites", "8"]) == 0
    prompts = [json.loads(line) for line in (tmp_path / "drawn" / "prompts.jsonl").read_text().splitlines()]
    assert {p["formula"]: p["formula_units"] for p in prompts} == {"NaCl": 1, "TiO2": 2, "CsCl": 1}
    assert pq.read_table(tmp_path / "drawn" / "targets.parquet").num_rows == 3
    assert len(read_targets(tmp_path / "drawn" / "targets.parquet")) == 3


def test_the_draw_depends_on_the_seed_not_on_the_order_of_rows(cifs: dict[str, str]) -> None:
    rows = [
        {"id": f"{name} {i}", "cif": cifs[name], "suggested_split": "val"} for name in ("NaCl", "TiO2") for i in "abcd"
    ]
    drawn = [target.id for target in select_targets(rows, SelectConfig(number=3)).targets]
    assert drawn == [target.id for target in select_targets(rows[::-1], SelectConfig(number=3)).targets]
    assert drawn != [target.id for target in select_targets(rows, SelectConfig(number=3, seed=1)).targets]
    assert {target.n_sites for target in select_targets(rows, SelectConfig(max_sites=6)).targets} == {6}
    assert len(select_targets([*rows, {"id": "x", "cif": "", "suggested_split": "val"}], SelectConfig()).targets) == 8
    with pytest.raises(InputError, match="it takes the values val"):
        select_targets(rows, SelectConfig(split="test"))


def test_templates_have_the_asked_formula_units_and_keep_amounts(cifs: dict[str, str]) -> None:
    library = SubstitutionLibrary([("rutile", "TiO2", cifs["TiO2"], 6), ("salt", "NaCl", cifs["NaCl"], None)])
    library.fit_volumes()
    assert anonymous(parse_formula("TiO2")) == (1, 2)
    (tin,) = library.candidates(parse_formula("SnO2"), 2)
    assert tin.template_id == "rutile"
    assert tin.cell.amounts == {50: 2, 8: 4}
    assert library.candidates(parse_formula("SnO2"), 4) == []
    assert library.candidates(parse_formula("SrTiO3"), 1) == []
    both = library.candidates(parse_formula("KBr"), 1)
    assert [candidate.template_id for candidate in both] == ["salt"] * len(both)
    assert both[0].cell.amounts == {19: 4, 35: 4}


def test_targets_need_an_id_of_their_own_and_a_readable_truth(parquet: Writer) -> None:
    with pytest.raises(InputError, match="occurs twice"):
        read_targets(parquet("twice.parquet", "NaCl", "NaCl"))
    with pytest.raises(InputError, match="no column `id`"):
        target_name({"cif": ""}, "a file")
