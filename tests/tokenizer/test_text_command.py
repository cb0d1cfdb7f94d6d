"""`crystallm text`: what it shows, and what it says about files it cannot show."""

import gzip
import json
import os
import re
from pathlib import Path

import pytest

from crystallm.cli import main
from crystallm.tokenizer.layout import get_layout

HEAD = """data_rutile
_cell_length_a 4.5937
_cell_length_b 4.5937
_cell_length_c 2.9587
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 42/m n m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
RUTILE = HEAD + "Ti1 Ti 0 0 0 1\nO1 O 0.3053 0.3053 0 1\n"
TEXT = """data_
_chemical_formula_sum
Ti
O2
_cell_formula_units_Z_primitive 2
_space_group_IT_number 136
_cell_length_a 4.5937
_cell_length_c 2.9587
loop_atom_site
Ti a
O f 0.3053
#END
"""

BAD = {
    "empty.cif": (b"", "is empty; give a complete CIF"),
    "binary.cif": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is a binary file, not CIF text"),
    "truncated.cif": (RUTILE[:-20].encode(), "unreadable"),
    "no_atoms.cif": (HEAD.split("loop_")[0].encode(), "no atoms"),
    "prose.cif": (b"Rutile is tetragonal.", "unreadable"),
    "disordered.cif": (
        RUTILE.replace("Ti 0 0 0 1", "Ti 0 0 0 0.9").encode(),
        "'Ti1' has occupancy 0.9; give an ordered",
    ),
    "dummy.cif": (RUTILE.replace("Ti1 Ti", "X1 X").encode(), "unknown species: site 'X1'"),
    "huge.cif": (RUTILE.replace("4.5937", "250.0").encode(), "no token '250.'"),
    "collapsed.cif": (HEAD.encode() + b"Ti1 Ti 0 0 0 1\nTi2 Ti 0 0 0.01 1\n", "symmetry failed"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rutile.cif").write_text(RUTILE)
    return tmp_path


def test_text_and_length(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(folder / "rutile.cif")]) == 0
    assert capsys.readouterr() == (TEXT + "23 tokens\n", "")


def test_ids(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(folder / "rutile.cif"), "--ids"]) == 0
    lines = capsys.readouterr().out.removeprefix(TEXT).splitlines()
    assert lines[:2] == ["23 tokens", "     2 'data_'"]
    vocabulary = get_layout().vocabulary()
    assert lines[7:10] == [f"{vocabulary.index(token):6d} {token!r}" for token in _tokens()[6:9]]


def _tokens() -> list[str]:
    tokens = get_layout().split(TEXT.rstrip())
    assert isinstance(tokens, list)
    return tokens


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(folder / "rutile.cif"), "--json", "--ids"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["text"] == TEXT.rstrip()
    assert (record["layout"], record["n_tokens"]) == ("wyckoff", 23)
    assert record["tokens"] == _tokens()
    assert [get_layout().vocabulary()[number] for number in record["ids"]] == _tokens()


def test_layout_of_the_published_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(folder / "rutile.cif"), "--layout", "crystallm", "--json", "--ids"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["layout"], record["n_tokens"], record["ids"][:5]) == ("crystallm", 254, [124, 29, 91, 7, 93])
    assert "\n_symmetry_space_group_name_H-M P4_2/mnm\n" in record["text"]
    assert record["tokens"].count("P4_2/mnm_sg") == 1


def test_augmented_is_drawn_with_the_seed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def augmented(seed: int) -> str:
        assert main(["text", str(folder / "rutile.cif"), "--augmented", str(seed)]) == 0
        return capsys.readouterr().out

    assert augmented(1) == augmented(1)
    assert len({augmented(seed) for seed in range(12)}) > 2


def test_folder_shows_all_its_cifs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "again.CIF").write_text(RUTILE)
    (folder / "notes.txt").write_text("not a CIF")
    assert main(["text", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert shown == f"== {folder}/again.CIF\n{TEXT}23 tokens\n== {folder}/rutile.cif\n{TEXT}23 tokens\n"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_reason_and_remedy(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    assert main(["text", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"crystallm: {tmp_path / name}")
    assert message in err
    assert "; " in err
    assert err.count("\n") == 1


def test_one_bad_file_among_several_does_not_hide_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    assert main(["text", str(folder), str(folder / "missing.cif")]) == 0
    out, err = capsys.readouterr()
    assert out == f"== {folder / 'rutile.cif'}\n{TEXT}23 tokens\n"
    assert f"{folder / 'missing.cif'} does not exist" in err
    assert err.splitlines()[-1] == "crystallm: 10 of 11 structures could not be shown; the reasons stand above"


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(tmp_path / "none.cif")]) == 2
    assert "none.cif does not exist; give a CIF file or a folder" in capsys.readouterr().err


def test_folder_without_cifs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(tmp_path)]) == 2
    assert "holds no .cif file" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the superuser")
def test_file_without_permission(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rutile.cif").chmod(0)
    assert main(["text", str(folder / "rutile.cif")]) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_impossible_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", str(folder / "rutile.cif"), "--layout", "prose"]) == 2
    assert "unknown layout 'prose'; choose from" in capsys.readouterr().err
    assert main(["text", str(folder / "rutile.cif"), "--augmented", "-1"]) == 2
    assert "seed >= 0, got -1" in capsys.readouterr().err


def test_names_in_latin_1_are_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rutile.cif").write_bytes(b"# H. G\xf6ttingen\n" + RUTILE.encode())
    assert main(["text", str(folder / "rutile.cif")]) == 0
    assert capsys.readouterr().out.startswith(TEXT)


BRUCITE = """data_brucite
_chemical_formula_sum 'H2 Mg O2'
_cell_length_a 3.142
_cell_length_b 3.142
_cell_length_c 4.766
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_cell_volume 50
_space_group_name_H-M_alt 'P -3 m 1'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mg1 0 0 0
O1 0.33333 0.66667 0.2203
"""


def test_why_names_what_was_used_what_was_not_needed_and_what_contradicts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sure = RUTILE.replace("loop_", "_space_group_IT_number 136\n_cell_formula_units_Z 2\nloop_", 1)
    (folder / "rutile.cif").write_text(sure.replace("_cell_angle_gamma 90\n", ""))
    assert main(["text", str(folder / "rutile.cif"), "--why"]) == 0
    why = capsys.readouterr().out.split("23 tokens\n")[1].splitlines()
    assert why == [
        "cell: used: length_a 4.5937, length_b 4.5937, length_c 2.9587, angle_alpha 90, angle_beta 90",
        "cell: used: angle_gamma 90: not stated, P 42/m n m leaves no choice",
        "symmetry: used: _symmetry_space_group_name_H-M P 42/m n m as P 42/m n m",
        "symmetry: not needed: _space_group_IT_number 136: agrees",
        "content: used: 2 sites of the list of atoms",
        "content: used: _cell_formula_units_Z 2: agrees with the atoms",
    ]


def test_why_of_a_refused_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "brucite.cif").write_text(BRUCITE)
    assert main(["text", str(folder / "brucite.cif"), "--why", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "the formula sum is 'H2 Mg O2', the atoms make MgO2" in err
    assert "--trust-atoms" in err
    last = json.loads(out)["why"][-1]
    assert last == {
        "topic": "content",
        "use": "contradicts",
        "text": "the formula sum is 'H2 Mg O2', the atoms make MgO2",
    }


def test_atoms_can_be_trusted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "brucite.cif").write_text(BRUCITE)
    assert main(["text", str(folder / "brucite.cif"), "--trust-atoms", "--why"]) == 0
    out = capsys.readouterr().out
    assert "\nMg\nO2\n" in out
    assert "cell: contradicts: _cell_volume 50; the cell has 40.7471 cubic angstrom" in out
    assert "symmetry: contradicts: _symmetry_Int_Tables_number 225: another group than P -3 m 1" in out
    assert "content: contradicts: the formula sum is 'H2 Mg O2', the atoms make MgO2" in out


def test_every_structure_of_a_file_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = folder / "both.cif"
    both.write_text(RUTILE + RUTILE.replace("data_rutile", "data_again") + RUTILE.replace("Ti1 Ti", "X1 X"))
    assert main(["text", str(both)]) == 0
    out, err = capsys.readouterr()
    assert out == f"== {both}: rutile\n{TEXT}23 tokens\n== {both}: again\n{TEXT}23 tokens\n"
    assert f"{both}: rutile: unknown species" in err
    assert err.endswith("crystallm: 1 of 3 structures could not be shown; the reasons stand above\n")


def test_packed_and_large_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(folder / "packed.cif.gz", "wt") as file:
        file.write(RUTILE)
    assert main(["text", str(folder / "packed.cif.gz")]) == 0
    assert capsys.readouterr().out == TEXT + "23 tokens\n"
    assert main(["text", str(folder / "packed.cif.gz"), "--max-file-mb", "0.0001"]) == 2
    assert "max_file_mb" in capsys.readouterr().err


def test_a_cell_of_too_many_atoms_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `data prepare` refuses it: looking for the symmetry of 5,832 atoms would take minutes."""
    head = RUTILE[: RUTILE.index("Ti1 ")] if "Ti1 " in RUTILE else RUTILE[: RUTILE.index("Ti ")]
    head = re.sub(r"(?m)^(_cell_length_[abc]).*", r"\1 60.0", head)
    head = re.sub(r"(?m)^_(?:symmetry|space_group)_.*\n", "", head)
    columns = [line for line in head.splitlines() if line.startswith("_atom_site_")]
    values = {"_atom_site_label": "C{i}", "_atom_site_type_symbol": "C", "_atom_site_occupancy": "1"}
    rows = []
    for i in range(18**3):
        x, y, z = (f"{(i // 18**k % 18) / 18:.5f}" for k in range(3))
        at = {"_atom_site_fract_x": x, "_atom_site_fract_y": y, "_atom_site_fract_z": z}
        rows.append(" ".join((values | at)[column].format(i=i) for column in columns))
    (tmp_path / "large.cif").write_text(head + "\n".join(rows) + "\n")
    assert main(["text", str(tmp_path / "large.cif")]) == 2
    assert "too many sites: 5832 atoms in the cell as given, limit 5000" in capsys.readouterr().err
