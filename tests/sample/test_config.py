"""What can be asked of `crystallm sample`, and what is said of the impossible."""

from pathlib import Path
from typing import Any

import pytest

from crystallm.base.errors import ConfigError
from crystallm.sample.config import MOST_DRAWS, AnswerConfig, SampleConfig
from crystallm.sample.crystal import NOT_COMPARED, Crystal
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import make_prompt
from crystallm.sample.run import _Job

HUGE = 10**5000
"""More digits than Python writes as text."""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": float("inf")}, "temperature must be finite, got inf; 1 draws as the model has learnt"),
        ({"temperature": float("nan")}, "temperature must be above 0, got nan"),
        ({"n": HUGE}, rf"n must be at most {MOST_DRAWS}, got one of some 50\d\d digits; draw in several runs"),
        ({"n": -HUGE}, r"n must be at least 1, got one of some 50\d\d digits"),
        ({"n": 10**30}, f"got {10**30}"),
        ({"max_atoms": -HUGE}, "max_atoms must be at least 1"),
        ({"seed": HUGE}, "seed must be at least 0 and below 2 to the 128"),
        ({"seed": -1}, "seed must be at least 0 and below 2 to the 128, got -1"),
    ],
)
def test_impossible_numbers_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SampleConfig(**settings)


def test_what_was_not_compared_is_flagged_once(rutile: Any) -> None:
    crystal = Crystal(make_prompt("TiO2"), rutile, None, flags=("an own one",))
    flagged = crystal.uncompared()
    assert (flagged.flags, flagged.description) == (("an own one", NOT_COMPARED), rutile)
    assert flagged.uncompared() is flagged


def test_a_run_loads_its_model_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The draws and what a search asks for come from one model."""
    loaded = []

    def load(path: Path, *, device: str | None, precision: str | None, decoder: str) -> object:
        loaded.append((path, device, precision, decoder))
        return object()

    monkeypatch.setattr(Generator, "from_pretrained", load)
    job = _Job(tmp_path, [], SampleConfig(), AnswerConfig(), tmp_path, "m@1", {}, "cpu", "fp32", "torch", "none", None)
    assert loaded == []
    assert job.generator is job.generator
    assert loaded == [(tmp_path, "cpu", "fp32", "torch")]
