"""Known crystals as templates: elements exchanged, cells scaled, nearest first."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import CheckpointError, InputError
from crystallm.crystal.description import Description, Site, canonical
from crystallm.crystal.formulas.composition import Amounts, format_formula, parse_formula
from crystallm.crystal.formulas.element_similarity import exchanges, kind_of, load_similarity
from crystallm.data.__main__ import main
from crystallm.data.templates import TemplateLibrary
from crystallm.data.templates.writing import write_library
from crystallm.model.checkpoint import TEMPLATES_FILE
from crystallm.tokenizer.layout import get_layout
from tests.full_disk import full_disk

CUBIC = (90.0, 90.0, 90.0)
RUTILE = (Site("Sn", "a", ()), Site("O", "f", (0.3056,)))
FLUORITE = (Site("Ca", "a", ()), Site("F", "c", ()))
PEROVSKITE = (Site("Sr", "a", ()), Site("Ti", "b", ()), Site("O", "c", ()))


def crystal(formula: str, units: int, group: int, lengths: tuple[float, float, float], sites: tuple[Site, ...]) -> str:
    amounts: Amounts = parse_formula(formula)
    return get_layout().write(Description(amounts, units, group, (*lengths, *CUBIC), sites))


TEXTS = {
    "cassiterite": crystal("SnO2", 2, 136, (4.7373, 4.7373, 3.1864), RUTILE),
    "fluorite": crystal("CaF2", 1, 225, (5.4631, 5.4631, 5.4631), FLUORITE),
    "tausonite": crystal("SrTiO3", 1, 221, (3.905, 3.905, 3.905), PEROVSKITE),
}


def prepared(path: Path, names: Iterable[str] = TEXTS) -> Path:
    """A file as `crystallm data prepare` writes it."""
    found = [get_layout().read(TEXTS[name]) for name in names]
    crystals = [crystal for crystal in found if isinstance(crystal, Description)]
    columns = {
        "id": list(names),
        "text": [TEXTS[name] for name in names],
        "reduced_formula": [format_formula(crystal.amounts) for crystal in crystals],
        "n_sites": [crystal.n_sites for crystal in crystals],
        "space_group": [crystal.space_group for crystal in crystals],
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> TemplateLibrary:
    path = tmp_path_factory.mktemp("library") / "templates.parquet"
    assert write_library([prepared(path.parent / "train.parquet")], path, layout="wyckoff").rows == 3
    return TemplateLibrary(path)


def test_elements_of_equal_amount_can_change_places() -> None:
    assert kind_of(parse_formula("SrTiO3")) == ((1, 1, 3), ("Sr", "Ti", "O"))
    assert exchanges((1, 1, 3)) == ((0, 1, 2), (1, 0, 2))
    assert exchanges((1, 2)) == ((0, 1),)
    assert len(exchanges((1,) * 5)) == 120
    assert exchanges((1,) * 6) == (tuple(range(6)),)  # 720 ways are not looked at


def test_a_formula_is_at_no_distance_from_itself_and_nearer_to_its_like() -> None:
    titania, tin, zirconia, fluorite = (22, 8), (50, 8), (40, 8), (20, 9)
    others = np.array([titania, tin, zirconia, fluorite])
    found = load_similarity().distances((1, 2), titania, others)[:, 0]
    assert found[0] < 0.3
    assert found[0] < found[1:3].max() < found[3]


def test_known_crystals_become_those_of_the_formula(library: TemplateLibrary) -> None:
    found = library.find(parse_formula("TiO2"))
    assert found[0].id == "cassiterite"
    rutile = found[0].description
    assert found[0].formula == "SnO2"
    assert rutile.amounts == parse_formula("TiO2")
    assert (rutile.formula_units, rutile.space_group) == (2, 136)
    assert rutile.sites == (Site("Ti", "a", ()), Site("O", "f", (0.3056,)))
    # Titanium is smaller than tin: the cell shrinks, and keeps its shape.
    assert rutile.cell[0] < 4.7373
    assert rutile.cell[2] / rutile.cell[0] == pytest.approx(3.1864 / 4.7373)


def test_a_crystal_of_the_formula_itself_stays_as_it_is(library: TemplateLibrary) -> None:
    (found,) = library.find(parse_formula("CaF2"), space_group=225)
    assert found.description == get_layout().read(TEXTS["fluorite"])
    assert found.weight > library.find(parse_formula("BaF2"), space_group=225)[0].weight


def test_every_template_is_canonical(library: TemplateLibrary) -> None:
    """Also where a crystal of the formula itself has its elements exchanged: titanium where strontium was."""
    found = library.find(parse_formula("SrTiO3"))
    assert [site.letter for site in found[0].description.sites] == ["a", "b", "c"]
    assert all(canonical(template.description) == template.description for template in found)


def test_only_what_was_asked_for_is_found(library: TemplateLibrary) -> None:
    assert [t.id for t in library.find(parse_formula("TiO2"), formula_units=1)] in ([], ["fluorite"])
    assert {t.id for t in library.find(parse_formula("TiO2"), space_group=136)} == {"cassiterite"}
    assert library.find(parse_formula("TiO2"), formula_units=3) == []
    assert {t.description.formula_units for t in library.find(parse_formula("TiO2"), multiple=2)} == {2}
    assert library.find(parse_formula("TiO2"), multiple=3) == []
    assert library.find(parse_formula("Ba2YCu3O7")) == []


def test_exchanges_are_templates_of_their_own(library: TemplateLibrary) -> None:
    found = library.find(parse_formula("BaZrO3"))
    assert [t.id for t in found] == ["tausonite"] * len(found)
    assert found[0].description.sites[0].element == "Ba"  # barium for strontium, not for titanium
    weights = [template.weight for template in found]
    assert weights == sorted(weights, reverse=True)


def test_libraries_are_put_together_and_hold_each_crystal_once(tmp_path: Path) -> None:
    first = tmp_path / "first.parquet"
    assert write_library([prepared(tmp_path / "a.parquet", ["fluorite"])], first, layout="wyckoff").rows == 1
    both = tmp_path / "both.parquet"
    assert write_library([first, prepared(tmp_path / "b.parquet")], both, layout="wyckoff").rows == 3
    assert len(TemplateLibrary(both)) == 3
    found = TemplateLibrary(both).find(parse_formula("BaF2"), space_group=225)
    assert found == TemplateLibrary(first).find(parse_formula("BaF2"))


def test_the_command_writes_into_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prepared").mkdir()
    (tmp_path / "checkpoint").mkdir()
    prepared(tmp_path / "prepared" / "train.parquet")
    main(["templates", str(tmp_path / "prepared"), str(tmp_path / "checkpoint")])
    assert "3 known crystals" in capsys.readouterr().out
    assert len(TemplateLibrary(tmp_path / "checkpoint" / TEMPLATES_FILE)) == 3


def test_a_larger_library_is_not_replaced_without_being_told(tmp_path: Path) -> None:
    out = tmp_path / "templates.parquet"
    few = prepared(tmp_path / "few.parquet", ["fluorite"])
    write_library([prepared(tmp_path / "all.parquet")], out, layout="wyckoff")
    before = out.read_bytes()
    with pytest.raises(InputError, match="holds 3 known crystals, and the new library would hold 1; add that file"):
        main(["templates", str(few), str(out)])
    assert out.read_bytes() == before
    write_library([few, out], out, layout="wyckoff")  # to add to one is no loss
    assert len(TemplateLibrary(out)) == 3
    main(["templates", str(few), str(out), "--replace"])
    assert len(TemplateLibrary(out)) == 1


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "templates.parquet"
    damaged.write_bytes(b"PAR1 and no more")
    with pytest.raises(CheckpointError, match="cannot read"):
        TemplateLibrary(damaged)
    prepared(damaged)
    with pytest.raises(CheckpointError, match="no library of templates"):
        TemplateLibrary(damaged)


def test_other_layouts_and_other_files_are_refused(tmp_path: Path) -> None:
    source = prepared(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="layout 'wyckoff'"):
        write_library([source], tmp_path / "x", layout="crystallm")
    with pytest.raises(InputError, match="cannot read"):
        write_library([tmp_path / "missing.parquet"], tmp_path / "x", layout="wyckoff")
    pq.write_table(pq.read_table(source).select(["id", "text"]), source)
    with pytest.raises(InputError, match="has no columns"):
        write_library([source], tmp_path / "x", layout="wyckoff")


def test_a_full_disk_leaves_the_library(known_file: Path, prepared_crystals: Path, tmp_path: Path) -> None:
    out = tmp_path / "templates.parquet"
    out.write_bytes(known_file.read_bytes())
    with full_disk(), pytest.raises(InputError, match=r"cannot write .*templates\.parquet: .*make room there"):
        write_library([prepared_crystals], out, layout="wyckoff", corpus=[])
    assert out.read_bytes() == known_file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["templates.parquet"]
