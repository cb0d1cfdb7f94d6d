"""The benchmark of textbook compounds: its list, and who is right."""

import json
from pathlib import Path

import pytest

from crystallm.base.errors import InputError
from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.eval.textbook.phases import Compound, Phase, read_compounds
from crystallm.eval.textbook.score import markdown, rates, score_run

ROCK_SALT = Description(
    parse_formula("NaCl"), 1, 225, (5.64, 5.64, 5.64, 90.0, 90.0, 90.0), (Site("Na", "a", ()), Site("Cl", "b", ()))
)
CESIUM_CHLORIDE = Description(
    parse_formula("NaCl"), 1, 221, (3.4, 3.4, 3.4, 90.0, 90.0, 90.0), (Site("Na", "a", ()), Site("Cl", "b", ()))
)
NACL = Compound("NaCl", (Phase(225, (2.165,), "halite"),))


def write_run(folder: Path, *crystals: tuple[Description, float]) -> Path:
    folder.mkdir()
    rows = []
    for rank, (crystal, density) in enumerate(crystals, start=1):
        (folder / f"{rank}.cif").write_text(write_cif(crystal))
        rows.append(
            {"formula": "NaCl", "rank": rank, "file": f"{rank}.cif", "density": density, "symbol": "", "origin": "new"}
        )
    (folder / "crystals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_list_has_what_everybody_knows() -> None:
    compounds = {compound.formula: compound for compound in read_compounds()}
    assert len(compounds) == 95
    assert all(compound.phases for compound in compounds.values())
    assert compounds["NaCl"].is_right(225, 2.165)  # halite
    assert compounds["SrTiO3"].is_right(221, 5.12)
    assert compounds["ZnS"].is_right(216, 4.09)  # sphalerite
    assert compounds["ZnS"].is_right(186, 4.08)  # wurtzite
    assert not compounds["NaCl"].is_right(221, 2.165)
    assert not compounds["NaCl"].is_right(225, 2.165 * 0.9)


def test_the_first_right_one_counts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (CESIUM_CHLORIDE, 2.47), (ROCK_SALT, 1.9), (ROCK_SALT, 2.16))
    (placed,) = score_run([NACL], run)
    assert (placed.rank, placed.answers) == (3, 3)
    found = {name: (rate.passed, rate.attempted) for name, rate in rates([placed]).items()}
    assert found == {"top 1": (0, 1), "top 3": (1, 1), "top 10": (1, 1), "any": (1, 1)}


def test_a_formula_without_answer_stays_in_the_denominator(tmp_path: Path) -> None:
    placed = score_run([NACL, Compound("MgO", (Phase(225, (3.58,), "periclase"),))], write_run(tmp_path / "run"))
    assert [one.rank for one in placed] == [None, None]
    assert rates(placed)["top 1"].attempted == 2


def test_the_report_says_what_the_edition_knows() -> None:
    report = {"version": 1, "label": "x", "model": "full edition", "seed": 0, "options": "", "knows": True}
    text = markdown(report | {"rates": {"top 1": (1, 2)}, "compounds": []})
    assert "how well it looks them up and chooses" in text
    assert "1/2 (50.0%" in text


def test_a_folder_without_ranking_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the folder of a `crystallm sample` run"):
        score_run([NACL], tmp_path)
