"""The similarity of elements is fitted so that crystals are found among those of their like."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crystallm.base.errors import ConfigError, InputError
from crystallm.crystal.description import Description, Site
from crystallm.crystal.formulas.composition import parse_formula
from crystallm.crystal.formulas.element_similarity import N_ELEMENTS, load_similarity
from crystallm.tokenizer.layout import get_layout
from studies.tables.fit_similarity import Fit, SimilarityConfig, fit, main, read_groups

CUBIC = (90.0, 90.0, 90.0)
SMALL = SimilarityConfig(dimensions=8, steps=60)


def salt(cation: str, anion: str, *, group: int, length: float) -> str:
    sites = (Site(cation, "a", ()), Site(anion, "b", ()))
    amounts = parse_formula(f"{cation}{anion}")
    return get_layout().write(Description(amounts, 1, group, (length, length, length, *CUBIC), sites))


# Light alkali halides are rock salts; those of caesium and thallium have the structure of caesium chloride.
TEXTS = [
    *(salt(c, a, group=225, length=5.5) for c in ("Li", "Na", "K", "Rb") for a in ("F", "Cl", "Br", "I")),
    *(salt(c, a, group=221, length=4.2) for c in ("Cs", "Tl") for a in ("Cl", "Br", "I")),
]


def test_crystals_are_found_better_and_better() -> None:
    groups = read_groups(TEXTS, "wyckoff")
    assert [(group.kind, len(group)) for group in groups] == [((1, 1), len(TEXTS))]
    model = Fit(SMALL)
    before = float(_between(model, "Cs", "Tl")), float(_between(model, "Cs", "Li"))
    found = list(fit(model, groups, SMALL))
    assert np.mean(found[-10:]) > np.mean(found[:10])
    after = float(_between(model, "Cs", "Tl")), float(_between(model, "Cs", "Li"))
    assert after[0] / after[1] < before[0] / before[1]


def _between(model: Fit, first: str, second: str) -> float:
    numbers = [parse_formula(symbol)[0][0] for symbol in (first, second)]
    atomic = {"Cs": 55, "Tl": 81, "Li": 3}
    points = model.points.detach().numpy()[[atomic[symbol] for symbol in numbers]]
    return float(np.linalg.norm(points[0] - points[1]))


def test_the_same_seed_gives_the_same_points() -> None:
    groups = read_groups(TEXTS, "wyckoff")
    fits = [Fit(SMALL), Fit(SMALL)]
    for model in fits:
        list(fit(model, groups, SMALL))
    assert np.array_equal(*(model.points.detach().numpy() for model in fits))


def test_the_command_writes_what_the_package_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "train.parquet")
    main([str(tmp_path), str(tmp_path / "similarity.json"), "--steps", "5"])
    monkeypatch.setattr("crystallm.crystal.formulas.element_similarity.FILE", tmp_path / "similarity.json")
    found = load_similarity.__wrapped__()
    assert found.points.shape == (N_ELEMENTS, SimilarityConfig.dimensions)
    assert found.volumes.shape == (N_ELEMENTS,)


def test_impossible_settings_and_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        SimilarityConfig(steps=0)
    with pytest.raises(InputError, match="holds no crystal"):
        read_groups(["data_"], "wyckoff")
