"""Several processes that work together, started through Accelerate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def launch_command(module: str, arguments: Sequence[str], *, processes: int) -> list[str]:
    """The command line of `python -m MODULE ARGUMENTS` as so many processes; with one, of that alone."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    # What is not stated, accelerate takes from nowhere and warns about. Without --multi_gpu processes on CPUs would be
    # runs of their own. Port 0 is any free one, so that two commands can run side by side.
    stated: dict[str, int | str] = {"num_processes": processes, "num_machines": 1, "main_process_port": 0}
    stated |= {"mixed_precision": "no", "dynamo_backend": "no"}
    options = [text for name, value in stated.items() for text in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *options]
    return [*start, "-m", module, *arguments]


def launch_environment(processes: int) -> Mapping[str, str]:
    """The environment for them: they share the cores, unless OMP_NUM_THREADS says how many threads each has."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def is_one_of_several() -> bool:
    """Whether `accelerate launch` or `torchrun` has started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


PATIENCE_S = 30.0
"""How long a command may take to end after a signal before it gets a stronger one."""


def run_command(command: Sequence[str], **settings: Any) -> int:
    """Run a command, with settings of `subprocess.Popen`, and return its exit code; what ends us by SIGTERM or an
    exception ends it, too. Ctrl-C reaches it from the terminal."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    with subprocess.Popen(command, **settings) as child:
        before = signal.signal(signal.SIGTERM, stop)
        try:
            return child.wait()
        except KeyboardInterrupt:
            _wait(child)
            raise
        finally:
            if child.poll() is None:
                child.terminate()  # not killed at once: processes that it has started would go on
                if not _wait(child):
                    child.kill()
            signal.signal(signal.SIGTERM, before)


def _wait(child: subprocess.Popen[Any]) -> bool:
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return False
    return True
