"""Structure types of a library as the comparison of search and draws reads them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crystallm.crystal.description import Description, Site
from crystallm.eval.prediction.prototypes import prototype
from studies.search.choose import library_prototypes


def test_the_texts_of_a_library_name_the_same_structure_types(tmp_path: Path) -> None:
    rutile = Description(
        (("Ti", 1), ("O", 2)), 2, 136, (4.6, 4.6, 2.96, 90, 90, 90), (Site("Ti", "a", ()), Site("O", "f", (0.305,)))
    )
    text = "data_\n_cell_length_a 4.6\nloop_atom_site\nTi a\nO f 0.305\n#END"
    rows = {"space_group": [136], "formula": ["TiO2"], "text": [text]}
    pq.write_table(pa.table(rows), tmp_path / "library.parquet")
    assert library_prototypes(tmp_path / "library.parquet") == {136: {prototype(rutile)}}
