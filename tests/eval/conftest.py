"""Textbook crystals as CIF text, and small files made of them."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter


def rock_salt(a: float = 5.64, cation: str = "Na", anion: str = "Cl") -> Structure:
    return Structure.from_spacegroup(225, Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="session")
def crystals() -> dict[str, Structure]:
    rutile = Structure.from_spacegroup(
        136, Lattice.tetragonal(4.5937, 2.9587), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
    )
    return {
        "NaCl": rock_salt(),
        "NaCl in the CsCl type": Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "KCl": rock_salt(6.29, "K"),
        "LiF": rock_salt(4.03, "Li", "F"),
        "KBr": rock_salt(6.60, "K", "Br"),
        "CsCl": Structure(Lattice.cubic(4.123), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "TiO2": rutile,
        "too close": Structure(Lattice.cubic(5), ["Na", "Cl"], [[0, 0, 0], [0.05, 0, 0]]),
    }


@pytest.fixture(scope="session")
def cifs(crystals: dict[str, Structure]) -> dict[str, str]:
    return {name: str(CifWriter(structure)) for name, structure in crystals.items()}


@pytest.fixture
def parquet(tmp_path: Path, cifs: dict[str, str], crystals: dict[str, Structure]) -> Callable[..., Path]:
    def write(name: str, *chosen: str, split: str = "train") -> Path:
        rows = [
            {
                "id": crystal,
                "cif": cifs[crystal],
                "reduced_formula": crystals[crystal].composition.reduced_formula,
                "suggested_split": split,
            }
            for crystal in chosen
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        return tmp_path / name

    return write


BENCHMARK = """
name: salts
version: 1
task: prediction
title: three textbook crystals
rows: {files: [targets.parquet], column: suggested_split, value: val}
rows_at_hand: 3
rows_published: 3
train: {files: [train.parquet], column: suggested_split, value: train}
samples_per_target: 5
tops: [1, 5]
metre_tops: [1, 5]
standard: {stol: 0.5, ltol: 0.3, angle_tol: 10.0}
strict: {stol: 0.3, ltol: 0.2, angle_tol: 5.0}
metrics: [match_rate]
sources: [a textbook]
pitfalls: [they are few]
changes: [first version]
"""


@pytest.fixture
def salts(tmp_path: Path, parquet: Callable[..., Path]) -> Path:
    """A benchmark file whose data (targets NaCl, TiO2, CsCl; training rows LiF, KBr) lie beside it."""
    parquet("targets.parquet", "NaCl", "TiO2", "CsCl", split="val")
    parquet("train.parquet", "LiF", "KBr")
    (tmp_path / "salts.yaml").write_text(BENCHMARK)
    return tmp_path / "salts.yaml"
