"""Several processes that work together, started through Accelerate."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from crystallm.base.errors import ConfigError

PARENT = "CRYSTALLM_PARENT"
"""Variable that tells a process which one has started it, to end with it."""


def launch_command(module: str, arguments: Sequence[str], *, processes: int) -> list[str]:
    """The command line of `python -m MODULE ARGUMENTS` as so many processes; with one, of that alone."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    # What is not stated, accelerate takes from nowhere and warns about. Without --multi_gpu processes on CPUs would be
    # runs of their own. Port 0 is any free one, so that two commands can run side by side.
    stated: dict[str, int | str] = {"num_processes": processes, "num_machines": 1, "main_process_port": 0}
    stated |= {"mixed_precision": "no", "dynamo_backend": "no"}
    options = [text for name, value in stated.items() for text in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "crystallm.base.launch", "--multi_gpu", *options]
    return [*start, "-m", module, *arguments]


def launch_environment(processes: int) -> Mapping[str, str]:
    """The environment for them: they share the cores, unless OMP_NUM_THREADS says how many threads each has."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def is_one_of_several() -> bool:
    """Whether `accelerate launch` or `torchrun` has started this process together with others.

    Raises:
        ConfigError: the variable WORLD_SIZE, by which they tell how many there are, is no number of processes.
    """
    told = os.environ.get("WORLD_SIZE", "1").strip() or "1"
    if not (told.isascii() and told.isdecimal() and 0 < len(told) < 7 and int(told) > 0):
        raise ConfigError(
            f"the environment variable WORLD_SIZE is {told[:40]!r}, which is no number of processes; unset it, or "
            "start several processes with --processes, `accelerate launch` or `torchrun`"
        )
    return int(told) > 1


PATIENCE_S = 30.0
"""How long a command may take to end after a signal before it gets a stronger one."""


def run_command(command: Sequence[str], **settings: Any) -> int:
    """Run a command, with settings of `subprocess.Popen`, and return its exit code; what ends us by SIGTERM or an
    exception ends it, too. Ctrl-C reaches it from the terminal."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    settings["env"] = {**(settings.get("env") or os.environ), PARENT: str(os.getpid())}
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


def follow_parent() -> None:
    """End this process when the one that has started it ends, however that ends: a kill reaches no handler.

    For a process that `run_command` started, and for each of several that work together; nothing happens in others.
    """
    parent = os.environ.get(PARENT, "")
    if parent.isdecimal():
        end_with(int(parent))
        os.environ[PARENT] = str(os.getpid())  # what this one starts follows it in turn
    elif is_one_of_several():
        end_with(os.getppid())


POLL_S = 1.0


def end_with(parent: int) -> None:
    """End this process when its parent ends.

    Args:
        parent: its process id. If another process is our parent by now, that one has ended.
    """
    if sys.platform == "win32":
        return
    if sys.platform.startswith("linux"):
        import ctypes

        set_signal_of_parents_end = 1  # PR_SET_PDEATHSIG, see `man 2 prctl`
        # Where it is forbidden (a sandbox), the thread below is enough but for compiled code that never ends.
        with contextlib.suppress(OSError, AttributeError):
            if ctypes.CDLL(None, use_errno=True).prctl(set_signal_of_parents_end, signal.SIGKILL, 0, 0, 0) == 0:
                if os.getppid() != parent:
                    os.kill(os.getpid(), signal.SIGKILL)
                return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="follows its parent", daemon=True).start()


def _wait(child: subprocess.Popen[Any]) -> bool:
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return False
    return True


if __name__ == "__main__":
    # What starts several processes ends with the command that runs it, and they end with it (`cli`).
    follow_parent()
    from accelerate.commands.launch import main

    main()
