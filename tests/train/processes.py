"""Starts groups of training processes, as a launcher would, from one that has loaded the libraries already.

Reads a JSON line per group from standard input: for each process the arguments of `crystallm`, its environment, and
perhaps after how many steps it dies; answers with the exit codes. A process ended by signal N has the code -N.
"""

import json
import os
import signal
import sys
from typing import Any

import torch.distributed.checkpoint.state_dict
import torch.distributed.fsdp
import torch.utils.tensorboard  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401

from crystallm import cli
from crystallm.train import corpus, loop, report, session  # noqa: F401


def become(process: dict[str, Any]) -> None:
    """Run one process of a group to its end, in a child."""
    os.environ.update(process["environment"])
    log = os.open(process["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    steps = 0
    step = loop.Trainer._step

    def step_or_die(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == process["dies_in_step"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments)

    loop.Trainer._step = step_or_die  # type: ignore[method-assign]
    sys.exit(cli.main(process["arguments"]))


def main() -> None:
    """Serve until the input ends."""
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
