"""Prototypes: anonymous formula, space group and Wyckoff letters, whatever the elements and the origin."""

from pathlib import Path

from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from crystallm.eval.prediction.prototypes import NO_SYMMETRY, prototype_of_cif, seen_prototypes
from crystallm.eval.sets.targets import Target, make_target


def target(name: str, cif: str) -> Target:
    found = make_target(name, cif)
    assert isinstance(found, Target)
    return found


def test_prototypes_of_textbook_crystals(cifs: dict[str, str], crystals: dict[str, Structure]) -> None:
    assert prototype_of_cif(cifs["TiO2"]) == "136 1:a 2:f"
    assert prototype_of_cif(cifs["NaCl"]) == prototype_of_cif(cifs["KBr"]) == "225 1:a 1:b"
    assert prototype_of_cif(cifs["CsCl"]) == "221 1:a 1:b"
    moved = crystals["TiO2"].copy()
    moved.translate_sites(range(6), [0.5, 0.5, 0.5])
    assert prototype_of_cif(str(CifWriter(moved))) == "136 1:a 2:f"
    assert prototype_of_cif("data_broken") is None


def test_seen_and_unseen(cifs: dict[str, str], tmp_path: Path) -> None:
    targets = [target(name, cifs[name]) for name in ("NaCl", "CsCl", "TiO2")]
    collided = Structure(Lattice.cubic(5), ["Na", "Cl"], [[0, 0, 0], [1e-4, 0, 0]])
    rows = [
        {"id": "a", "cif": cifs["KBr"], "reduced_formula": "KBr", "spacegroup_number": 225},
        {"id": "b", "cif": cifs["LiF"], "reduced_formula": "LiF", "spacegroup_number": None},
        {"id": "c", "cif": "never read: another space group", "reduced_formula": "LiF", "spacegroup_number": 5},
        {"id": "d", "cif": str(CifWriter(collided)), "reduced_formula": "NaCl", "spacegroup_number": None},
    ]
    cache = tmp_path / "prototypes.jsonl"
    found = seen_prototypes(targets, rows, workers=1, time_limit_s=30, cache=cache)
    assert found == {"NaCl": "seen", "CsCl": "unseen", "TiO2": "unseen"}
    assert {line.split('"')[1] for line in cache.read_text().splitlines()} == {"a", "b", "d"}
    # A second time the cache answers, so that what it says is what counts; a line cut by a kill is made again.
    cache.write_text('["a", "221 1:a 1:b"]\n["b", null]\n["d", null]\n["x"')
    again = seen_prototypes(targets, rows, workers=1, time_limit_s=30, cache=cache)
    assert again == {"NaCl": "unseen", "CsCl": "seen", "TiO2": "unseen"}


def test_rows_that_decide_nothing_any_more_are_not_looked_at(cifs: dict[str, str], tmp_path: Path) -> None:
    """KBr shows that rock salt has been seen; LiF, of the same formula and space group, need not be described."""
    rows = [
        {"id": name, "cif": cifs[name], "reduced_formula": name, "spacegroup_number": 225} for name in ("KBr", "LiF")
    ]
    cache = tmp_path / "prototypes.jsonl"
    targets = [target("NaCl", cifs["NaCl"])]
    assert seen_prototypes(targets, rows * 2, workers=1, time_limit_s=30, cache=cache) == {"NaCl": "seen"}
    assert cache.read_text() == '["KBr", "225 1:a 1:b"]\n'


def test_a_target_without_symmetry_is_neither(cifs: dict[str, str], tmp_path: Path) -> None:
    found = target("NaCl", cifs["NaCl"])
    from dataclasses import replace

    from crystallm.crystal.cell import Reason, Rejection

    lost = replace(found, description=Rejection(Reason.SYMMETRY_FAILED, ""))
    assert seen_prototypes([lost], [], workers=1, time_limit_s=1, cache=tmp_path / "c") == {"NaCl": NO_SYMMETRY}
