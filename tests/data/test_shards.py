"""Parts prepared apart and put together equal one preparation."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.cli import main
from crystallm.data import PrepareConfig, prepare

Config = Callable[..., PrepareConfig]


@pytest.fixture(scope="module")
def options() -> dict[str, object]:
    return {"val_fraction": 0.3, "test_fraction": 0.1, "split_column": None, "rows_per_file": 3}


@pytest.fixture
def table(tmp_path: Path, cifs: SimpleNamespace) -> Path:
    """Eleven rows: eight rock salts of which one leaks, a repetition of the first, and two that must be refused."""
    metals = ["Li", "Na", "K", "Rb", "Ag", "Cu", "Tl", "Cs"]
    texts = [cifs.rock_salt_of(metal, "Cl", 5.0 + place / 10) for place, metal in enumerate(metals)]
    texts[4:4] = [cifs.disordered]
    texts += [texts[0].replace("5.00", "5.02"), cifs.truncated]
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(11)], "cif": texts}), tmp_path / "table.parquet")
    pq.write_table(pa.table({"id": ["t"], "cif": [texts[3]]}), tmp_path / "bench.parquet")
    return tmp_path / "table.parquet"


def written(out: Path) -> dict[str, bytes]:
    """What a reader of the folder sees, by file."""
    names = [*sorted(str(path.relative_to(out)) for path in out.rglob("*.parquet")), "drops.jsonl"]
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture
def parts(table: Path, config: Config, tmp_path: Path, options: dict[str, object]) -> list[Path]:
    """Three finished parts."""
    bench = (tmp_path / "bench.parquet",)
    folders = [tmp_path / f"part-{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, start=1):
        report = prepare(config(table, out=folder, shard=(number, 3), exclude_matching=bench, **options))
        assert report["counts"]["read"] == (4 if number < 3 else 3)
    return folders


def test_three_parts_merged_equal_one_run(
    parts: list[Path], table: Path, config: Config, tmp_path: Path, options: dict[str, object]
) -> None:
    bench = (tmp_path / "bench.parquet",)
    one = prepare(config(table, out=tmp_path / "one", exclude_matching=bench, **options))
    # In any order: each part knows its number.
    merged = prepare(config(parts[2], *parts[:2], out=tmp_path / "merged", exclude_matching=bench, **options))
    assert written(tmp_path / "merged") == written(tmp_path / "one")
    for name in ("counts", "statistics"):
        assert merged[name] == one[name]
    assert one["counts"]["duplicates"]["taken_out"] == one["counts"]["leakage"]["taken_out"] == 1
    assert one["counts"]["described"] == "9/11 (81.82%)"
    trained = pq.read_table(tmp_path / "one" / "train")["id"].to_pylist()
    assert len(trained) == one["counts"]["written"]["train"] > 3
    assert "train/train-00000-of-00002.parquet" in written(tmp_path / "one")


def test_parts_that_do_not_belong_together(
    parts: list[Path], table: Path, config: Config, tmp_path: Path, options: dict[str, object]
) -> None:
    bench = (tmp_path / "bench.parquet",)
    complete = {"out": tmp_path / "x", "exclude_matching": bench, **options}
    for sources, changes, message in (
        (parts[:2], {}, "2 parts of 3 are given, missing: 3/3"),
        ([*parts, parts[0]], {}, "one is given twice"),
        ([*parts[:2], table], {}, r"table.parquet is no finished part"),
        (parts, {"max_sites": 7}, "other options .max_sites was 200, now 7"),
        (parts, {"exclude_matching": ()}, "other exclude matching .bench.parquet of [0-9]+ bytes, and not none"),
        (parts, {"shard": (1, 3)}, "leave it out"),
    ):
        out = tmp_path / f"out-{message[:3]}-{len(changes)}-{len(sources)}-{next(iter(changes), '')}"
        with pytest.raises(InputError, match=message):
            prepare(config(*sources, **(complete | changes | {"out": out})))
    (parts[1] / "described.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"part-2/described\.parquet is damaged"):
        prepare(config(*parts, **(complete | {"out": tmp_path / "damaged"})))


def test_more_parts_than_crystals(table: Path, config: Config, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no structure in table.parquet for part 12 of 13; cut the sources into fewer"
    ):
        prepare(config(table, shard=(12, 13)))
    pq.write_table(pq.read_table(table).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"no structure in empty.parquet for part 1 of 1$"):
        prepare(config(tmp_path / "empty.parquet", out=tmp_path / "other"))


def test_command_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> int:
        return main(["data", "prepare", *map(str, arguments), "--workers", "1"])

    for number in (1, 2):
        assert run(table, tmp_path / f"part-{number}", "--shard", f"{number}/2") == 0
    assert "part 2 of 2 is complete" in capsys.readouterr().out
    assert run(tmp_path / "part-1", tmp_path / "part-2", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["read"] == 11
    assert run(table, tmp_path / "no", "--shard", "3/2") == 2
    assert "shard must be i/n" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        run(table, tmp_path / "no", "--shard", "second")
    assert stopped.value.code == 2
    with pytest.raises(ConfigError, match="rows_per_file must be at least 1"):
        PrepareConfig(sources=("x",), out=tmp_path, rows_per_file=0)
