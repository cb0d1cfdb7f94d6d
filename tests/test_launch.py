"""Commands that are run by others."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crystallm.base.errors import ConfigError
from crystallm.base.launch import is_one_of_several, run_command

WRITES = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(60)"
RUNS_IT = "import crystallm.base.launch as b, sys; b.run_command([sys.executable, '-c', *sys.argv[1:]])"


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_exit_code_is_that_of_the_command() -> None:
    assert run_command([sys.executable, "-c", "raise SystemExit(7)"]) == 7


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a process in /proc")
def test_a_command_ends_with_the_one_that_runs_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", RUNS_IT, WRITES, str(note)]) as runner:
        deadline = time.monotonic() + 30
        while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        pid = int(note.read_text())
        assert is_running(pid)
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(30) == 128 + signal.SIGTERM
    assert not is_running(pid)


def test_an_exception_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Interrupted(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise OSError("stopped")
            return super().wait(timeout)

    monkeypatch.setattr("crystallm.base.launch.subprocess.Popen", Interrupted)
    with pytest.raises(OSError, match="stopped"):
        run_command([sys.executable, "-c", "import time; time.sleep(60)"])
    assert started[0].returncode == -signal.SIGTERM


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a process in /proc")
def test_a_command_ends_with_one_that_is_killed(tmp_path: Path) -> None:
    """Kill -9 reaches no handler: what was started notices by itself, and so does what that started."""
    note = tmp_path / "pids"
    inner = (
        "import os, sys, time\nfrom crystallm.base.launch import follow_parent, run_command\nfollow_parent()\n"
        "print(os.getpid(), file=open(sys.argv[1], 'a'), flush=True)\n"
        "run_command([sys.executable, '-c', sys.argv[2], *sys.argv[1:]]) if len(sys.argv) > 2 else time.sleep(60)"
    )
    last = inner.replace("if len(sys.argv) > 2", "if False")
    with subprocess.Popen([sys.executable, "-c", RUNS_IT, inner, str(note), last]) as runner:
        deadline = time.monotonic() + 60
        while (not note.exists() or len(note.read_text().split()) < 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = [int(text) for text in note.read_text().split()]
        assert len(pids) == 2
        assert all(map(is_running, pids))
        runner.kill()
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("told", ["two", "-1", "0", "1e3", "9" * 400, "٣"])
def test_odd_numbers_of_processes_are_refused(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", told)
    with pytest.raises(ConfigError, match=r"WORLD_SIZE is '.*', which is no number of processes; unset it"):
        is_one_of_several()


def test_numbers_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, several in (("1", False), ("", False), (" 4 ", True)):
        monkeypatch.setenv("WORLD_SIZE", told)
        assert is_one_of_several() is several
