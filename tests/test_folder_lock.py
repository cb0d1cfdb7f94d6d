"""One writer in a folder; the lock of a dead process is none."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crystallm.base.errors import InputError
from crystallm.base.folder_lock import LOCK, is_empty, only_writer

HOLDS = """
import os, sys, time
from pathlib import Path
from crystallm.base.folder_lock import only_writer
with only_writer(Path(sys.argv[1])):
    if os.fork() == 0:  # a worker that does not know of the lock and outlives its parent
        Path(sys.argv[1], "child.partial").write_text(str(os.getpid()))
        time.sleep(60)
    time.sleep(60)
"""


def test_a_second_writer_is_told_of_the_first(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        with pytest.raises(InputError) as caught, only_writer(tmp_path, remedy="choose another --out"):
            pass
        said = str(caught.value)
        assert said.startswith(f"another run (process {os.getpid()}, `")
        assert said.endswith(f"is writing into {tmp_path}; wait for its end, or choose another --out")
    with only_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    """Nor does it where a child of that process goes on."""
    note = tmp_path / "child.partial"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)]) as process:
        deadline = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(InputError, match=f"process {process.pid}, "), only_writer(tmp_path):
            pass
        process.kill()
    child = int(note.read_text())
    assert (tmp_path / LOCK).exists()
    assert is_empty(tmp_path)  # for a run that begins, leftovers of a kill are nothing
    try:
        with only_writer(tmp_path):
            assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    finally:
        os.kill(child, signal.SIGKILL)
