"""Starts groups of training processes, as a launcher would, from one that has loaded the libraries already.

Reads a JSON line per group from standard input: for each process the arguments of `crystallm`, its environment, and
perhaps in which of its steps it dies and at which step the disk is full; answers with the exit codes. A process ended
by signal N has the code -N.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import pandas  # noqa: F401
import torch.distributed.checkpoint.state_dict
import torch.distributed.fsdp
import torch.utils.tensorboard
import transformers.models.llama.modeling_llama  # noqa: F401

from crystallm import cli
from crystallm.train import loop
from crystallm.train.state import run_folder as run


def become(process: dict[str, Any]) -> None:
    """Run one process of a group to its end, in a child."""
    os.environ.update(process["environment"])
    log = os.open(process["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    run.KEPT = 99  # so that tests may go on from each
    steps = 0
    step, partial = loop.Trainer._step, run.RunFolder.partial

    def step_or_die(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == process["dies_in_step"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments)

    def partial_on_full_disk(folder: Any, position: Any) -> Path:
        where = partial(folder, position)
        if position.step == process["disk_full_at"] and os.environ["RANK"] == "0" and not where.exists():
            where.mkdir(parents=True)
            (where / "optimizer.bin").symlink_to("/dev/full")  # whoever writes to it is told that no space is left
        return where

    loop.Trainer._step = step_or_die  # type: ignore[method-assign]
    run.RunFolder.partial = partial_on_full_disk  # type: ignore[method-assign]
    code = cli.main(process["arguments"])
    sys.stdout.flush()
    os._exit(code)  # taking down what the parent has loaded would take as long as the run


def main() -> None:
    """Serve until the input ends."""
    gc.freeze()  # collecting garbage would copy the pages that children share
    for line in sys.stdin:
        started = []
        for process in json.loads(line):
            child = os.fork()
            if child == 0:
                become(process)
            started.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started]
        print(json.dumps(codes), flush=True)


main()
