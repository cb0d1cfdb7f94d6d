"""CIF texts of crystals one can check by hand, and of files that must be refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from crystallm.data import PrepareConfig

ROCK_SALT = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Cl1 Cl 0.5 0.5 0.5 1
"""

RUTILE = """data_rutile
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
Ti1 Ti 0 0 0 1
O1 O 0.3053 0.3053 0 1
"""

RUTILE_MOVED = RUTILE.replace("'P 42/m n m'", "'P 1'").replace(
    "Ti1 Ti 0 0 0 1\nO1 O 0.3053 0.3053 0 1\n",
    """Ti1 Ti 0.25 0.5 0.75 1
Ti2 Ti 0.75 0.0 0.25 1
O1 O 0.5553 0.8053 0.75 1
O2 O 0.9447 0.1947 0.75 1
O3 O 0.4447 0.3053 0.25 1
O4 O 0.0553 0.6947 0.25 1
""",
)
"""The same crystal in P1 with another origin."""

DISORDERED = ROCK_SALT.replace("Cl1 Cl 0.5 0.5 0.5 1", "Cl1 Cl 0.5 0.5 0.5 0.5\nBr1 Br 0.5 0.5 0.5 0.5")
UNKNOWN_SPECIES = ROCK_SALT.replace("Na1 Na", "Xx1 Xx")
TOO_CLOSE = RUTILE.replace("O1 O 0.3053 0.3053 0", "O1 O 0.06 0.06 0")
TRUNCATED = RUTILE[: RUTILE.index("Ti1 Ti") + 12]


def rock_salt(cation: str, anion: str, a: float) -> str:
    """A rock salt of two elements with lattice parameter a in angstrom."""
    text = ROCK_SALT.replace("Na1 Na", f"{cation}1 {cation}").replace("Cl1 Cl", f"{anion}1 {anion}")
    return text.replace("5.64", f"{a:.2f}")


def rock_salt_supercell(n: int) -> str:
    """Rock salt as n x n x n conventional cells in P1."""
    face_centred = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
    lines = []
    for i in range(n):
        for j in range(n):
            for k in range(n):
                for x, y, z in face_centred:
                    for symbol, shift in (("Na", 0.0), ("Cl", 0.5)):
                        place = [(x + shift + i) / n % 1, (y + shift + j) / n % 1, (z + shift + k) / n % 1]
                        lines.append(f"{symbol}{len(lines)} {symbol} " + " ".join(f"{v:.6f}" for v in place) + " 1")
    head = ROCK_SALT[: ROCK_SALT.index("Na1 Na")].replace("'F m -3 m'", "'P 1'").replace("5.64", f"{5.64 * n:.2f}")
    return head + "\n".join(lines) + "\n"


@pytest.fixture
def cifs() -> SimpleNamespace:
    """The CIF texts, by name."""
    return SimpleNamespace(
        rock_salt=ROCK_SALT,
        rock_salt_of=rock_salt,
        rock_salt_supercell=rock_salt_supercell(2),
        rutile=RUTILE,
        rutile_moved=RUTILE_MOVED,
        disordered=DISORDERED,
        unknown_species=UNKNOWN_SPECIES,
        too_close=TOO_CLOSE,
        truncated=TRUNCATED,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes files given as name -> content into a folder of CIFs."""

    def write(contents: dict[str, str | bytes], name: str = "cifs") -> Path:
        for file, content in contents.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., PrepareConfig]:
    """A PrepareConfig for one source that uses one process and sends everything to train."""

    def make(*sources: Path | str, **options: object) -> PrepareConfig:
        defaults = {"out": tmp_path / "out", "workers": 1, "val_fraction": 0.0, "test_fraction": 0.0}
        return PrepareConfig(sources=tuple(map(str, sources)), **(defaults | options))

    return make
