"""Commands that are killed and given again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from studies.kills import kill
from studies.kills.commands import CIF, Command, prepared

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="adopts orphans")

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_what_is_not_equal_is_named() -> None:
    assert kill.differences({"a": 1, "b": [2]}, {"a": 1, "b": [3], "c": None}) == ["b"]
    assert kill.differences({"a": 1}, {"a": 1}) == []


def test_a_process_that_goes_on_is_found_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child of a child that has ended is not forgotten."""
    monkeypatch.setattr(kill, "GRACE_SECONDS", 0.5)
    kill.adopt_orphans()
    assert not kill.left_behind()
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); sys.exit(0)"
    subprocess.run([sys.executable, "-c", code, *SLEEPS], check=True)
    assert kill.left_behind()
    assert not kill.left_behind()


def test_a_command_is_killed_and_compared(tmp_path: Path) -> None:
    cifs = tmp_path / "cifs"
    cifs.mkdir()
    for cation, a in (("Li", 5.14), ("Na", 5.64), ("K", 6.29)):
        (cifs / f"{cation}Cl.cif").write_text(CIF.format(cation=cation, anion="Cl", a=a))
    arguments = ["data", "prepare", str(cifs)]
    options = ["--workers", "1", "--val-fraction", "0", "--test-fraction", "0"]
    command = Command("data prepare", lambda out: [*arguments, str(out), *options], prepared)
    outcome = kill.study(command, tmp_path, kills=2, random=np.random.default_rng(0))
    assert outcome.clean, outcome
    assert outcome.kills == 2
    assert outcome.compared >= 1
    assert f"| data prepare | {outcome.seconds:g} | 2 | {outcome.compared} | 0 | 0 | 0 |" in kill.markdown([outcome])


def test_a_result_that_differs_is_told(tmp_path: Path) -> None:
    """A command whose result is the number of times that it was begun."""

    def arguments(out: Path) -> list[str]:
        out.mkdir(exist_ok=True)
        (out / "begun").write_text((out / "begun").read_text() + "x" if (out / "begun").exists() else "x")
        return ["--help"]

    command = Command("help", arguments, lambda out: {"begun": (out / "begun").read_text()})
    outcome = kill.study(command, tmp_path, kills=1, random=np.random.default_rng(0))
    assert outcome.differing == ["begun"]
    assert not outcome.clean
