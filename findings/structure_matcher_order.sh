#!/usr/bin/env bash
# pymatgen's StructureMatcher: whether two crystals match depends on which of them comes first.
#
# Rock salt (NaCl, 5.64 A) beside the same crystal stretched along c. Vectors of one cell are looked for among
# those of the other, with a tolerance relative to the cell that is looked for. At default settings a stretch of 25 % matches with an rms of 0 one way and does not match the other way; at the
# settings of the structure-prediction benchmarks (stol 0.5, ltol 0.3, angle_tol 10) so does a stretch of 60 %.
# It matters: match rates depend on the order of the arguments (prediction, truth), and merging of equal crystals on the
# order of a list. Expected: the same verdict both ways, or a word in the documentation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check pymatgen==2026.10.24 pymatgen-core==2026.10.16
MPLCONFIGDIR=$folder "$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure


def rock_salt(stretch: float) -> Structure:
    if stretch == 1:
        return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    cell = Lattice.tetragonal(5.64 / 2**0.5, 5.64 * stretch)
    return Structure.from_spacegroup("I4/mmm", cell, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.5]])


print("pymatgen", version("pymatgen"), "pymatgen-core", version("pymatgen-core"))
SETTINGS = {"default": {}, "benchmark": {"stol": 0.5, "ltol": 0.3, "angle_tol": 10}}
SEEN = {
    ("default", 0.8): (False, False),
    ("default", 1.1): (True, True),
    ("default", 1.25): (True, False),
    ("benchmark", 0.75): (False, True),
    ("benchmark", 1.25): (True, True),
    ("benchmark", 1.6): (True, False),
}
changed = False
for (name, stretch), expected in SEEN.items():
    matcher = StructureMatcher(**SETTINGS[name])
    found = (matcher.fit(rock_salt(1), rock_salt(stretch)), matcher.fit(rock_salt(stretch), rock_salt(1)))
    rms = matcher.get_rms_dist(rock_salt(1), rock_salt(stretch))
    told = "no rms" if rms is None else f"rms {rms[0]:.3f}"
    print(f"{name}, c stretched by {stretch}: fit(cubic, stretched) {found[0]} ({told}), fit(stretched, cubic) {found[1]}")
    changed |= found != expected
if changed:
    raise SystemExit("the behaviour has changed")
print("as described: the verdict depends on the order of the arguments")
PYTHON
