"""Reading evidence of runs, choosing an answer, and a fit on a dozen small targets."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crystallm.energy.ranking import Evidence, Ranking, read_ranking
from studies.ranking.database import chosen, main, raw_chances, read_rows
from studies.ranking.fitting import nearest

DRAWN = Evidence(
    space_group=225, formula_units=1, n_sites=2, n_orbits=2, n_free=1, draw=0, draws=1, ranking_log_probability=-0.1
)
SECOND = replace(DRAWN, draw=1, ranking_log_probability=-2.0, votes=0.9)


def line(name: str, formula: str, *rms: float | None, observed: bool | None = True) -> dict[str, Any]:
    """A target with two draws; the second one lies in what is voted for."""
    return {
        "target": name,
        "formula": formula,
        "observed": observed,
        "verdicts": [None if x is None else [x, x, True] for x in rms],
        "candidates": [asdict(one) | {"number": place, "text": ""} for place, one in enumerate((DRAWN, SECOND))],
    }


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """Twelve formulas; for two thirds the second draw is right, for two none."""
    lines = [line(f"t{n}", f"Mg{n + 1}O", None, 0.1) for n in range(8)]
    lines += [line(f"u{n}", f"Ca{n + 1}O", 0.1, None, observed=False) for n in range(2)]
    lines += [line(f"v{n}", f"Sr{n + 1}O", None, None) for n in range(2)]
    file = tmp_path / "evidence.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return file


def test_the_nearest_alone_is_right() -> None:
    assert nearest([[0.4, None, True], [0.1, 0.1, True], None]).tolist() == [False, True, False]
    assert nearest([None, [None, None, False]]).tolist() == [False, False]


def test_answers(evidence: Path) -> None:
    first, *_ = read_rows([evidence])
    assert chosen(first, None) == 0
    assert chosen(first, Ranking({"votes": 5.0}, 0.0)) == 1
    assert not first.matches(0, filtered=False)
    assert first.matches(1, filtered=True)
    assert first.case.parts == ("observed", "relatives")


def test_formulas_that_are_left_out(evidence: Path) -> None:
    assert len(read_rows([evidence], frozenset({"Mg1O"}))) == 11


def test_probability_as_drawn(evidence: Path) -> None:
    assert raw_chances(read_rows([evidence])[:1]) == pytest.approx(np.exp([-0.1, -2.0]))


def test_a_fit_from_the_command(evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["database", str(evidence), "--out", str(out), "--penalty", "0.1"])
    main()
    ranking = read_ranking(out / "weights.json")
    low, high = ranking.probabilities([DRAWN, SECOND])
    assert high > low
    report = (out / "database.md").read_text()
    assert "| **fitted ranking** |" in report
    monkeypatch.setattr(
        sys, "argv", ["database", str(evidence), "--out", str(out), "--judge", str(out / "weights.json")]
    )
    main()
    assert "12 targets" in (out / "database.md").read_text()
