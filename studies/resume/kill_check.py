"""`python -m studies.resume.kill_check RECIPE --data FOLDER --out REPORT`: are losses bitwise the same after kill -9?

Trains a recipe twice on one process: once undisturbed, and once killed at random steps and resumed each time. The
report compares every loss of the two, training and validation, as the numbers they are.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from crystallm.base.config import load_recipe, to_mapping
from crystallm.base.errors import ConfigError, CrystallmError, ProcessError
from crystallm.base.provenance import provenance, write_json
from crystallm.train.config import TrainConfig
from crystallm.train.process import prepare_process
from crystallm.train.state.run_folder import RunFolder

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.01


def killing_steps(steps: int, kills: int, *, seed: int) -> list[int]:
    """Return the steps after which a run of `steps` steps is killed, in order and all different."""
    return sorted(int(step) for step in np.random.default_rng(seed).choice(np.arange(1, steps), kills, replace=False))


def losses(run: RunFolder) -> list[tuple[str, int, float]]:
    """Return kind, step and loss of every line a run has logged."""
    return [(line["kind"], line["step"], line["loss"]) for line in run.lines()]


def train_to(arguments: list[str], run: RunFolder, *, kill_after: int | None) -> int:
    """Run `crystallm train` with these arguments in a process of its own; kill it once step `kill_after` is logged.

    Return the last step logged. ProcessError if it ends in another way than by this kill, or badly where none is asked.
    """
    child = os.fork()  # it has the libraries loaded, which takes longer than all the steps
    if child == 0:
        _become(arguments)
    while kill_after is not None and not _has_ended(child):
        if any(step >= kill_after for _, step, _ in losses(run)):
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(POLL_SECONDS)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != (0 if kill_after is None else -signal.SIGKILL):
        raise ProcessError(f"`crystallm train {' '.join(arguments)}` ended with code {code}; run it to see why")
    return max(step for _, step, _ in losses(run))


def _has_ended(child: int) -> bool:
    """Return whether a child has ended; it stays there to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _become(arguments: list[str]) -> NoReturn:
    """Turn this process into a training run without output, which ends with 0 only if all went well."""
    from crystallm.train.__main__ import main as train

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    code = 1
    try:
        train(arguments)
        code = 0
    finally:
        os._exit(code)


def check(recipe: Path, data: Path, changes: list[str], folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Return what became of the two runs, which are written into `folder`."""
    config = load_recipe(TrainConfig, recipe, overrides=changes)
    if config.max_steps is None or config.max_steps <= kills:
        raise ConfigError(f"max_steps must be above the {kills} kills, got {config.max_steps}; add --set max_steps=40")
    sets = [part for change in changes for part in ("--set", change)]

    def asked(run: RunFolder, *options: str) -> list[str]:
        return [str(recipe), "--data", str(data), "--out", str(run.path), *sets, *options]

    calm, killed = RunFolder(folder / "undisturbed"), RunFolder(folder / "killed")
    train_to(asked(calm), calm, kill_after=None)
    logger.info("the undisturbed run is done")
    found: list[dict[str, Any]] = []
    for step in killing_steps(config.max_steps, kills, seed=seed):
        options = ["--resume"] if killed.recipe.is_file() else []
        reached = train_to(asked(killed, *options), killed, kill_after=step)
        saved = killed.latest()
        found.append({"killed_after_step": reached, "last_checkpoint": saved.name if saved else None})
        logger.info("killed after step %d, last checkpoint %s", reached, found[-1]["last_checkpoint"])
    train_to(asked(killed, "--resume"), killed, kill_after=None)
    ours, theirs = losses(killed), losses(calm)
    return {
        "kills": found,
        "losses_compared": len(theirs),
        "losses_equal": sum(a == b for a, b in zip(ours, theirs, strict=False)),
        "same_length": len(ours) == len(theirs),
        "config": to_mapping(config),
        "provenance": provenance(config, inputs=[data / "train.parquet", data / "val.parquet"]),
    }


def main(argv: list[str]) -> int:
    """Run the check and write its report; 0 if all losses are equal, else 1."""
    parser = argparse.ArgumentParser(prog="python -m studies.resume.kill_check", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe with a budget of max_steps")
    parser.add_argument("--data", type=Path, required=True, help="prepared folder")
    parser.add_argument("--out", type=Path, required=True, help="report to write, JSON")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe"
    )
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the steps at which the run is killed")
    options = parser.parse_args(argv)
    prepare_process()
    from crystallm.train import loop, session  # noqa: F401 (loaded once, before the processes part)

    changes = [*options.set, "log_every=1"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = check(options.recipe, options.data, changes, Path(folder), kills=options.kills, seed=options.seed)
    except CrystallmError as error:
        print(f"crystallm: {error}", file=sys.stderr)
        return 2
    write_json(options.out, report)
    equal = report["same_length"] and report["losses_equal"] == report["losses_compared"]
    print(f"{report['losses_equal']}/{report['losses_compared']} losses equal after {len(report['kills'])} kills")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
