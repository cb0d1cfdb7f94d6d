"""Commands that are run by others."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crystallm.launch import run_command

WRITES = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(60)"
RUNS_IT = "import sys; from crystallm.launch import run_command; run_command([sys.executable, '-c', *sys.argv[1:]])"


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

    monkeypatch.setattr("crystallm.launch.subprocess.Popen", Interrupted)
    with pytest.raises(OSError, match="stopped"):
        run_command([sys.executable, "-c", "import time; time.sleep(60)"])
    assert started[0].returncode == -signal.SIGTERM
