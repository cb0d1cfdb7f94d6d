"""The picture of the README: the first known crystals of some formulas.

`python -m studies.pictures.answers docs/images/answers.png` looks them up in the library of the full edition.
"""

from __future__ import annotations

import sys
from pathlib import Path

from crystallm import known
from crystallm.eval.pages.pictures import draw_crystals

FORMULAS = ("TiO2", "SrTiO3", "GaN", "MgAl2O4")


def main() -> None:
    """Draw the picture."""
    crystals = [known(formula)[0] for formula in FORMULAS]
    titled = [(f"{one.formula}, {one.space_group}\n{one.origin}", one.cell) for one in crystals]
    draw_crystals([("", titled)], Path(sys.argv[1]))


if __name__ == "__main__":
    main()
