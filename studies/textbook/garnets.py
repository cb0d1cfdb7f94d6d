"""Makes a table of garnets from their lattice parameter and the coordinates of oxygen.

    python -m studies.textbook.garnets train/supplement/garnets.jsonl OUT.parquet

The table has those columns of the general corpus that `crystallm data prepare` and `crystallm data templates` read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

C, A, D = (1 / 8, 0, 1 / 4), (0, 0, 0), (3 / 8, 0, 1 / 4)
"""Of Ia-3d in its only setting: 24c, 16a, 24d (International Tables A)."""


def garnet(row: dict[str, Any]) -> Structure:
    """The primitive cell of a garnet.

    Args:
        row: `c`, `a`, `d`: elements on those positions; `length` in angstrom; `oxygen`: fractional coordinates on 96h.

    Returns:
        80 atoms.
    """
    sites, points = [row["c"], row["a"], row["d"], "O"], [C, A, D, row["oxygen"]]
    return Structure.from_spacegroup("Ia-3d", Lattice.cubic(row["length"]), sites, points).get_primitive_structure()


def main(listing: str, out: str) -> None:
    """Write the table."""
    rows = []
    for line in Path(listing).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        structure = garnet(row)
        name = f"garnet-{row['id'].lower()}"
        rows.append(
            {
                "id": name,
                "cif": str(CifWriter(structure)),
                "source": row["source"],
                "origin": "experiment",
                "experimentally_observed": True,
                "e_above_hull": None,
                "merged_ids": None,
                "reduced_formula": structure.composition.reduced_formula,
                "n_sites": len(structure),
            }
        )
    schema = pa.schema([("e_above_hull", pa.float32()), ("merged_ids", pa.string())])
    table = pa.Table.from_pylist(rows)
    for field in schema:
        place = table.schema.get_field_index(field.name)
        table = table.set_column(place, field.name, table[field.name].cast(field.type))
    pq.write_table(table, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
