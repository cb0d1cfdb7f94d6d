"""Do three programs read the same crystal? On rutile, whole and damaged."""

import json
from pathlib import Path

import pytest

from crystallm.cli import main
from crystallm.crystal.cif import write_cif
from crystallm.crystal.description import Description, Site
from studies.audit.foreign_readers import agreement

SITES = (Site("Ti", "a", ()), Site("O", "f", (0.3053,)))
RUTILE = write_cif(Description((("Ti", 1), ("O", 2)), 2, 136, (4.5937, 4.5937, 2.9587, 90.0, 90.0, 90.0), SITES))


def test_rutile_is_read_alike() -> None:
    assert agreement((RUTILE, "TiO2", 0.6)) == {}


def test_another_formula_was_asked_for() -> None:
    assert set(agreement((RUTILE, "Ti2O3", 0.0))) == {"formula asked for"}


def test_a_wrong_multiplicity_is_found() -> None:
    assert "multiplicity" in agreement((RUTILE.replace("O1 O 4 f", "O1 O 8 f"), "TiO2", 0.0))


def test_distances_that_were_promised() -> None:
    """Ti and O stand at 1.95 angstrom; the sum of their radii is near 2.2."""
    assert agreement((RUTILE, "TiO2", 0.8)) == {}
    assert agreement((RUTILE, "TiO2", 0.95))["contact"].startswith(("Ti-O 1.9", "O-Ti 1.9"))


def test_nonmetals_promised_to_be_bonded_or_apart() -> None:
    """In a short cell the two oxygens of an edge come to 1.9 angstrom."""
    short = Description((("Ti", 1), ("O", 2)), 2, 136, (3.5, 3.5, 2.9587, 90.0, 90.0, 90.0), SITES)
    assert agreement((write_cif(short), "TiO2", 0.1))["contact"].startswith("O-O")


def test_a_truncated_cif_is_not_readable() -> None:
    assert {"readable", "gemmi"} <= set(agreement((RUTILE[:300], "TiO2", 0.6)))


def test_the_command_counts_records_without_a_crystal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [{"prompt": {"formula": "TiO2"}, "cif": RUTILE}, {"prompt": {"formula": "TiO2"}, "cif": None}]
    source = tmp_path / "samples.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["eval", "readers", str(source), "--workers", "1", "--json", str(tmp_path / "out.json")]) == 0
    assert "2 records, 1 with a CIF" in capsys.readouterr().out
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["rates"]["formula asked for"]["passed"] == result["rates"]["ase"]["attempted"] == 1
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()


def test_what_another_reader_cannot_read_is_its_failure(cifs: dict[str, str]) -> None:
    # A text field with a line that looks like a block: ours reads the file, and whoever does not is named.
    text = cifs["NaCl"].replace("data_NaCl", "data_NaCl\n_journal_note\n;\ndata_ in a text\n;")
    failures = agreement((text, "NaCl", 0.0))
    assert not failures.keys() & {"readable", "gemmi", "formula asked for", "same atoms"}
    broken = agreement(("data_x", "NaCl", 0.0))
    assert {"readable", "gemmi", "ase", "pymatgen"} <= broken.keys()
