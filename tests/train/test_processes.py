"""Runs on several processes: the losses of one, sharded or not, begun on one number and continued on another."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crystallm.model.checkpoint import load_checkpoint

SERVER = Path(__file__).with_name("processes.py")

PLAIN = {"model__dropout": 0, "max_steps": 12, "save_every": 4}
"""Without dropout, whose masks fall on other texts when texts are shared out in another way."""

Group = Callable[..., list[int]]


@pytest.fixture(scope="module")
def server() -> Iterator["subprocess.Popen[str]"]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


@pytest.fixture
def group(server: "subprocess.Popen[str]", tmp_path: Path) -> Group:
    """Run `crystallm train` on some processes and return their exit codes; what they print goes to log-N."""

    def run(arguments: list[str], *, processes: int, fsdp: bool = False, dies: dict[int, int] | None = None) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        place |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        if fsdp:
            place |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
            place |= {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
        asked = [
            {
                "arguments": ["train", *arguments],
                "environment": place | {"RANK": str(i), "LOCAL_RANK": str(i)},
                "log": str(tmp_path / f"log-{i}"),
                "dies_in_step": (dies or {}).get(i),
            }
            for i in range(processes)
        ]
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        codes: list[int] = json.loads(server.stdout.readline())
        return codes

    return run


@pytest.fixture(scope="module", params=["adamw", "muon"])
def alone(
    request: pytest.FixtureRequest, arguments: Any, train_here: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The same run on one process, by optimiser."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert train_here(arguments(out, **PLAIN, optimizer=request.param)) == 0
    return request.param, out


def assert_same_losses(metrics: Any, run: Path, alone: Path, *, rel: float) -> None:
    ours, theirs = metrics(run, "train"), metrics(alone, "train")
    assert [(step, tokens) for step, _, tokens in ours] == [(step, tokens) for step, _, tokens in theirs]
    assert [loss for _, loss, _ in ours] == pytest.approx([loss for _, loss, _ in theirs], rel=rel)
    evaluated = [metrics(path, "eval")[-1][1] for path in (run, alone)]
    assert evaluated[0] == pytest.approx(evaluated[1], rel=rel)


@pytest.mark.parametrize(("processes", "fsdp"), [(2, False), (4, False), (2, True)], ids=["2", "4", "2-fsdp"])
def test_processes_train_as_one(
    alone: tuple[str, Path], group: Group, arguments: Any, metrics: Any, tmp_path: Path, processes: int, fsdp: bool
) -> None:
    optimizer, one = alone
    out = tmp_path / "run"
    codes = group(arguments(out, **PLAIN, optimizer=optimizer), processes=processes, fsdp=fsdp)
    assert codes == [0] * processes, (tmp_path / "log-0").read_text()[-2000:]
    assert_same_losses(metrics, out, one, rel=2e-3 if optimizer == "muon" else 2e-5)  # Muon works in bfloat16
    about = json.loads((out / "final" / "crystallm.json").read_text(encoding="utf-8"))
    assert about["provenance"]["training"]["processes"] == processes
    ours, theirs = (load_checkpoint(run / "final").model.state_dict() for run in (out, one))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
