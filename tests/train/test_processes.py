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
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from crystallm.model.checkpoint import load_checkpoint

SERVER = Path(__file__).with_name("processes.py")

FSDP2 = Path(__file__).parents[2] / "train" / "accelerate" / "fsdp2.yaml"

PLAIN: dict[str, Any] = {"model__dropout": 0, "max_steps": 12, "save_every": 4}
"""Without dropout, whose masks fall on other texts when texts are shared out in another way."""

ROUNDING = {"adamw": 2e-5, "muon": 2e-3}
"""Relative difference of losses; Muon works in bfloat16."""

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


@pytest.fixture(scope="module")
def sharding() -> dict[str, str]:
    """What `accelerate launch` with the profile of FSDP2 tells the processes it starts."""
    asked = launch_command_parser().parse_args(["--config_file", str(FSDP2), "-m", "crystallm"])
    told = prepare_multi_gpu_env(_validate_launch_command(asked)[0])
    return {name: value for name, value in told.items() if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))}


@pytest.fixture
def group(server: "subprocess.Popen[str]", sharding: dict[str, str], tmp_path: Path) -> Group:
    """Run `crystallm train` on some processes and return their exit codes; what they print goes to log-N."""

    def run(
        arguments: list[str],
        *,
        processes: int,
        fsdp: bool = False,
        dies: dict[int, int] | None = None,
        disk_full_at: int | None = None,
    ) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        place |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)} | (sharding if fsdp else {})
        asked = [
            {
                "arguments": ["train", *arguments],
                "environment": place | {"RANK": str(i), "LOCAL_RANK": str(i)},
                "log": str(tmp_path / f"log-{i}"),
                "dies_in_step": (dies or {}).get(i),
                "disk_full_at": disk_full_at,
            }
            for i in range(processes)
        ]
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        codes: list[int] = json.loads(server.stdout.readline())
        return codes

    return run


@pytest.fixture(scope="module")
def alone(arguments: Any, train_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same run on one process, by optimiser, with all its checkpoints."""
    done: dict[str, Path] = {}

    def run(optimizer: str) -> Path:
        if optimizer not in done:
            done[optimizer] = tmp_path_factory.mktemp(optimizer) / "run"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("crystallm.train.state.run_folder.KEPT", 99)
                assert train_here(arguments(done[optimizer], **PLAIN, optimizer=optimizer)) == 0
        return done[optimizer]

    return run


def cut(run: Path, out: Path, *, step: int) -> Path:
    """Copy a run without the checkpoints after `step`: one that was stopped there."""
    shutil.copytree(run, out)
    for checkpoint in (out / "checkpoints").iterdir():
        if checkpoint.name > f"step-{step:08d}":
            shutil.rmtree(checkpoint)
    return out


def assert_same_losses(metrics: Any, run: Path, alone: Path, *, rel: float) -> None:
    ours, theirs = metrics(run, "train"), metrics(alone, "train")
    assert [(step, tokens) for step, _, tokens in ours] == [(step, tokens) for step, _, tokens in theirs]
    assert [loss for _, loss, _ in ours] == pytest.approx([loss for _, loss, _ in theirs], rel=rel)
    evaluated = [metrics(path, "eval")[-1][1] for path in (run, alone)]
    assert evaluated[0] == pytest.approx(evaluated[1], rel=rel)


@pytest.mark.parametrize(
    ("optimizer", "processes", "fsdp"), [("adamw", 4, False), ("muon", 2, False), ("adamw", 2, True)]
)
def test_processes_train_as_one(
    optimizer: str,
    processes: int,
    fsdp: bool,
    alone: Callable[[str], Path],
    group: Group,
    arguments: Any,
    metrics: Any,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    codes = group(arguments(out, **PLAIN, optimizer=optimizer), processes=processes, fsdp=fsdp)
    assert codes == [0] * processes, (tmp_path / "log-0").read_text()[-2000:]
    assert_same_losses(metrics, out, alone(optimizer), rel=ROUNDING[optimizer])
    about = json.loads((out / "final" / "crystallm.json").read_text(encoding="utf-8"))
    assert about["provenance"]["training"]["processes"] == processes
    ours, theirs = (load_checkpoint(run / "final").model.state_dict() for run in (out, alone(optimizer)))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


def test_a_run_goes_on_with_other_numbers_of_processes(
    alone: Callable[[str], Path], group: Group, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    """One process up to step 4, four up to 8, two that share the weights up to 10, and one again."""
    one = cut(alone("adamw"), tmp_path / "one", step=4)
    assert group(arguments(one, "--resume", **PLAIN), processes=4) == [0] * 4
    assert_same_losses(metrics, one, alone("adamw"), rel=ROUNDING["adamw"])

    four = cut(one, tmp_path / "four", step=8)
    settings = PLAIN | {"save_every": 2, "checkpoints": "sharded"}
    codes = group(arguments(four, "--resume", **settings), processes=2, fsdp=True)
    assert codes == [0] * 2, (tmp_path / "log-0").read_text()[-2000:]
    assert_same_losses(metrics, four, alone("adamw"), rel=ROUNDING["adamw"])
    assert len(list((four / "checkpoints" / "step-00000010" / "shards").glob("__[01]_*.distcp"))) == 2

    two = cut(four, tmp_path / "two", step=10)
    assert train_here(arguments(two, "--resume", **PLAIN)) == 0
    assert_same_losses(metrics, two, alone("adamw"), rel=ROUNDING["adamw"])


def test_muon_goes_on_with_shared_weights(
    alone: Callable[[str], Path], group: Group, arguments: Any, metrics: Any, tmp_path: Path
) -> None:
    out = cut(alone("muon"), tmp_path / "run", step=4)
    codes = group(arguments(out, "--resume", **PLAIN, optimizer="muon"), processes=2, fsdp=True)
    assert codes == [0] * 2, (tmp_path / "log-0").read_text()[-2000:]
    assert_same_losses(metrics, out, alone("muon"), rel=ROUNDING["muon"])


def test_a_process_that_dies_stops_the_others(
    alone: Callable[[str], Path], group: Group, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert group(arguments(out, **PLAIN), processes=2, dies={1: 6}) == [2, -signal.SIGKILL]
    said = (tmp_path / "log-0").read_text()
    assert "crystallm: another process of this run has ended or does not answer (" in said
    assert f"Start {out} again with --resume" in said
    assert train_here(arguments(out, "--resume", **PLAIN)) == 0
    assert_same_losses(metrics, out, alone("adamw"), rel=ROUNDING["adamw"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_stops_all_processes_and_keeps_the_checkpoint_before(
    group: Group, arguments: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert group(arguments(out, **PLAIN), processes=2, disk_full_at=8) == [2, 2]
    said = (tmp_path / "log-0").read_text()
    assert f"cannot write the checkpoint {out / 'checkpoints' / 'step-00000008'}: " in said
    assert "make room and start again; step-00000004 is kept, --resume continues from it" in said
    assert "another process could not write its part of the checkpoint" in (tmp_path / "log-1").read_text()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000004"]


def test_streamed_texts_are_shared_out_alike(
    group: Group, sharded: Path, arguments: Any, train_here: Any, metrics: Any, tmp_path: Path
) -> None:
    streamed = {"data": sharded, "streaming": True, "stream_buffer": 60, "eval_every": 1000}
    settings = streamed | {"model__dropout": 0, "max_steps": 6}
    assert group(arguments(tmp_path / "two", **settings), processes=2) == [0, 0]
    assert train_here(arguments(tmp_path / "one", **settings)) == 0
    assert_same_losses(metrics, tmp_path / "two", tmp_path / "one", rel=ROUNDING["adamw"])
