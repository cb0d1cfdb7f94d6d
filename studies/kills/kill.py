"""Kills commands at random moments, gives them again until they end, and compares what they made with a calm run.

python -m studies.kills.kill --kills 20 --out eval/reports/kills

A kill is SIGKILL to the process that was started, and to nothing else: what it has started must end by itself. Moments
are uniform over the time of the calm run. After each kill the same command is given at once; when it ends before it is
killed, its result is compared and the next folder begun.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil

from crystallm.base.provenance import output_folder, provenance, write_json, write_text
from studies.kills.commands import Command, commands, write_inputs

POLL_SECONDS = 0.005
GRACE_SECONDS = 5.0
"""Within which all that a killed command has started must have ended."""
CRYSTALS_PER_PART = 6
"""Of a preparation, so that there is something to resume."""


@dataclass
class Outcome:
    """What became of one command."""

    command: str
    seconds: float
    """Of the calm run."""
    kills: int = 0
    compared: int = 0
    """Runs that were killed at least once and then ended."""
    differing: list[str] = field(default_factory=list)
    """What of a result was not that of the calm run, for each run where something was not."""
    failed: list[str] = field(default_factory=list)
    """Commands after a kill that ended with another code than 0, with what they said last."""
    left_behind: int = 0
    """Kills after which a process went on for longer than GRACE_SECONDS."""

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not (self.differing or self.failed or self.left_behind)


def adopt_orphans() -> None:
    """Become the parent of what killed commands leave behind, so that it can be counted."""
    set_child_subreaper = 36  # PR_SET_CHILD_SUBREAPER, see `man 2 prctl`
    if ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the parent of orphans; this study needs Linux")


def load_libraries() -> None:
    """Load them once, before the processes part: it takes longer than what they do."""
    from crystallm.train.process import prepare_process

    prepare_process()
    import crystallm.eval.benchmarking.run_command
    import crystallm.sample.generator
    import crystallm.sample.run
    import crystallm.train.finetune.finetuning
    import crystallm.train.loop  # noqa: F401


def become(arguments: Sequence[str], log: Path) -> NoReturn:
    """Turn this process, a fork of one that has the libraries loaded, into a command that writes to a log."""
    place = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(place, 1)
    os.dup2(place, 2)
    code = 1
    try:
        import crystallm.data.preparing.steps as steps
        from crystallm.cli import main

        steps.CRYSTALS_PER_PART = CRYSTALS_PER_PART
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_until(arguments: Sequence[str], log: Path, *, kill_after: float | None) -> int | None:
    """Run a command, and kill it after so many seconds; its exit code, or None if it was killed."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        become(arguments, log)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if kill_after is not None and time.monotonic() - started > kill_after:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(POLL_SECONDS)


def left_behind() -> bool:
    """Whether anything that was started goes on for longer than GRACE_SECONDS; it is ended then."""
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        running = [one for one in psutil.Process().children(recursive=True) if _runs(one)]
        if not running:
            return False
        if time.monotonic() > deadline:
            for one in running:
                one.kill()
            return True
        time.sleep(POLL_SECONDS)


def _runs(process: psutil.Process) -> bool:
    """Whether a process is there; one that has ended is waited for."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
        process.wait(0)
    except (psutil.Error, ChildProcessError):
        pass
    return False


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Names of what is not equal."""
    return [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]


def study(command: Command, folder: Path, *, kills: int, random: np.random.Generator) -> Outcome:
    """Kill a command so many times."""
    log = folder / "log"
    calm = folder / "calm"
    seconds = 0.0
    for name in ("first", "calm"):  # the first one compiles and fills caches
        started = time.monotonic()
        code = run_until(command.arguments(folder / name), log, kill_after=None)
        seconds = time.monotonic() - started
        if code != 0:
            raise RuntimeError(f"{command.name} ended with {code} before anything was killed: {last_words(log)}")
    outcome = Outcome(command.name, round(seconds, 2))
    truth = command.result(calm)
    if different := differences(command.result(folder / "first"), truth):
        raise RuntimeError(f"{command.name} gives another {', '.join(different)} without any kill")
    number = 0
    while outcome.kills < kills:
        number += 1
        out, killed = folder / f"killed{number}", 0
        while True:
            moment = float(random.uniform(0.02, 1.0)) * seconds if outcome.kills < kills else None
            code = run_until(command.arguments(out), log, kill_after=moment)
            if code is not None:
                break
            killed += 1
            outcome.kills += 1
            outcome.left_behind += left_behind()
        if code != 0:
            outcome.failed.append(f"after {killed} kills exit code {code}: {last_words(log)}")
        elif killed:
            outcome.compared += 1
            if different := differences(command.result(out), truth):
                outcome.differing.append(", ".join(different))
    return outcome


def last_words(log: Path) -> str:
    """The last lines that a command wrote, without folders."""
    lines = log.read_text(errors="replace").splitlines()[-2:]
    return " | ".join(lines)[-300:].replace(str(log.parent), "...")


def write_report(out: Path, outcome: Outcome, record: dict[str, Any]) -> None:
    """Put what became of a command into kills.json and kills.md of a folder, in the place of what was there of it."""
    path = output_folder(out) / "kills.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[outcome.command] = vars(outcome) | {"provenance": record}
    write_json(path, known)
    kept = [{name: value for name, value in one.items() if name != "provenance"} for one in known.values()]
    write_text(out / "kills.md", markdown([Outcome(**one) for one in kept]))


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table of a report."""
    lines = ["# Commands killed at random moments", ""]
    lines += ["| command | seconds undisturbed | kills | runs compared | differing | failed | left behind |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for one in outcomes:
        counts = (one.kills, one.compared, len(one.differing), len(one.failed), one.left_behind)
        lines.append(f"| {one.command} | {one.seconds:g} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", "Kills: SIGKILL to the command alone. Compared: runs that were killed once or more and given again."]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the study and write its report; 0 if every promise held."""
    parser = argparse.ArgumentParser(prog="python -m studies.kills.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each command (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="commands to kill, such as 'data prepare'")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for kills.json and kills.md")
    options = parser.parse_args(argv)
    adopt_orphans()
    load_libraries()
    random = np.random.default_rng(options.seed)
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name) / "inputs")
        gc.collect()
        for command in commands(Path(name) / "inputs"):
            if options.only and command.name not in options.only:
                continue
            folder = output_folder(Path(name) / command.name.replace(" ", "_"))
            outcomes.append(study(command, folder, kills=options.kills, random=random))
            print(outcomes[-1], flush=True)
            settings = {"kills": options.kills, "seed": options.seed}
            write_report(options.out, outcomes[-1], provenance(settings))
    return 0 if all(one.clean for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
