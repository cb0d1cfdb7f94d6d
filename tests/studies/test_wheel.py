"""Weight of a wheel: every file is of one kind, and words are told from code."""

import zipfile
from pathlib import Path

import pytest

from studies.size.wheel import Kind, kind_of, weights, without_words


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("crystallm/crystal/cell.py", Kind.CODE),
        ("crystallm/crystal/wyckoff_positions.json", Kind.TABLE),
        ("crystallm-0.2.0.dist-info/RECORD", Kind.TABLE),
        ("crystallm/model/editions/full/model.safetensors", Kind.WEIGHTS),
        ("crystallm/model/editions/full/hull.parquet", Kind.ENERGIES),
        ("crystallm/model/editions/full/seen.parquet", Kind.LIBRARY),
        ("crystallm/data/general_corpus/replay.jsonl.xz", Kind.CORPUS),
        ("crystallm/eval/pages/viewer.html", Kind.FRONT_END),
    ],
)
def test_every_file_has_one_kind(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind


def test_what_stands_in_a_wheel_is_weighed(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:  # stored, so that bytes are bytes
        archive.writestr("crystallm/__init__.py", "x = 1\n")
        archive.writestr("crystallm/crystal/cell.py", '"""A cell."""\n')
        archive.writestr("crystallm/py.typed", "abc")
    kinds, rooms, bare = weights(wheel)
    assert kinds == {Kind.CODE: 20, Kind.TABLE: 3}
    assert rooms == {"(beside the rooms)": 6, "crystal": 14}
    assert 0 < bare < 40


def test_words_are_no_code() -> None:
    assert without_words('def f():\n    """Words."""\n    # more\n    return "text"\n') == 'def f():\n    return "text"'
