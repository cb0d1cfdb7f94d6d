"""Profiles of Accelerate and the Slurm script: Accelerate reads them, and what they start is a command of ours."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env

from crystallm.base.errors import ConfigError
from crystallm.train.__main__ import train_command
from crystallm.train.config import TrainConfig
from crystallm.train.optim.sharding import set_up_sharding

ROOT = Path(__file__).parents[2]

PROFILES = sorted((ROOT / "train" / "accelerate").glob("*.yaml"))

SLURM = ROOT / "train" / "slurm.sh"

OURS = ["-m", "crystallm", "train", "train/tiny.yaml", "--data", "prepared", "--out", "run", "--resume"]


def launched(arguments: list[str]) -> Any:
    """What `accelerate launch` makes of its arguments and the profile they name."""
    return _validate_launch_command(launch_command_parser().parse_args(arguments))[0]


@pytest.mark.parametrize(
    ("name", "processes", "machines", "several", "sharded"),
    [
        ("cpu", 1, 1, False, False),
        ("cpu_2", 2, 1, True, False),
        ("gpu", 1, 1, False, False),
        ("ddp", 4, 1, True, False),
        ("fsdp2", 4, 1, False, True),
        ("nodes", 8, 2, True, False),
    ],
)
def test_profiles(name: str, processes: int, machines: int, several: bool, sharded: bool) -> None:
    assert {path.stem for path in PROFILES} == {"cpu", "cpu_2", "gpu", "ddp", "fsdp2", "nodes"}
    place = ["--main_process_ip", "node1", "--main_process_port", "29511"] if machines > 1 else []
    asked = launched(["--config_file", str(ROOT / "train" / "accelerate" / f"{name}.yaml"), *place, *OURS])
    assert (asked.num_processes, asked.num_machines) == (processes, machines)
    assert (asked.multi_gpu, asked.use_fsdp, asked.use_cpu) == (several, sharded, name == "cpu")
    assert asked.mixed_precision == "no"
    assert train_command.parser().parse_args(asked.training_script_args[1:]).resume
    if several or sharded:
        told = prepare_multi_gpu_env(asked)
        assert asked.nproc_per_node == str(processes // machines)
        assert told.get("FSDP_VERSION", "2") == "2"
        assert told.get("FSDP_AUTO_WRAP_POLICY") == ("TRANSFORMER_BASED_WRAP" if sharded else None)


@pytest.mark.parametrize(
    ("version_2", "fields", "message"),
    [
        (True, {"lora_rank": 4}, "lora_rank cannot be used with FSDP2: adapters are small"),
        (False, {}, "the profile asks for FSDP version 1; set fsdp_version: 2"),
    ],
)
def test_what_cannot_be_sharded(
    version_2: bool, fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    accelerator: Any = SimpleNamespace(
        num_processes=2, distributed_type=DistributedType.FSDP, is_fsdp2=version_2, state=SimpleNamespace()
    )
    with pytest.raises(ConfigError, match=message):
        set_up_sharding(accelerator, TrainConfig(max_steps=1, start_from="default", **fields))


SRUN = """#!/usr/bin/env bash
# Starts the command on two "nodes", which are this machine; with DRY only says for each what it would start.
while [[ $1 == --* ]]; do shift; done
if [ -n "${DRY:-}" ]; then
  python() { printf '%s\\n' "$@" >"$DRY.$SLURM_NODEID"; }
  export -f python
  command=${3#exec }
  for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$1" "$2" "$command" "${@:4}"; done
  exit 0
fi
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
trap 'kill -TERM $first $second' TERM
code=0
for step in $first $second $first $second; do wait $step || code=$?; done
exit $code
"""

SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo 127.0.0.1; echo 127.0.0.1; else echo "$@" >>"$REQUEUED"; fi
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on two nodes, with stand-ins for `srun` and `scontrol`."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_NNODES": "2", "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-2]"}
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable, "PROCESSES_PER_NODE": "1"}
    here |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    here |= {"REQUEUED": str(tmp_path / "requeued"), "PYTHONPATH": str(ROOT)}
    return os.environ | job | here


def test_a_job_saves_before_its_limit_and_goes_on(slurm: dict[str, str], arguments: Any, tmp_path: Path) -> None:
    """The first part really trains on two nodes of one process; the second only says what it would start."""
    out, job = tmp_path / "run", [str(SLURM)]
    recipe, _, data, *rest = arguments(out, model__dropout=0, max_steps=3000)
    options = [part for part in rest if part not in ("--out", str(out))]
    command, metrics, said = [*job, recipe, data, str(out), *options], out / "metrics.jsonl", tmp_path / "said"
    with said.open("w") as log, subprocess.Popen(command, env=slurm, cwd=ROOT, stderr=log) as first:
        give_up = time.monotonic() + 300
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 3):
            assert time.monotonic() < give_up
            assert first.poll() is None, said.read_text()
            time.sleep(0.05)
        first.send_signal(signal.SIGUSR1)
        first.wait(timeout=120)
    assert first.returncode != 0
    assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n", said.read_text()
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    checkpoints = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert checkpoints[-1] == f"step-{steps[-1]:08d}"

    told = slurm | {"DRY": str(tmp_path / "told"), "PYTHON": "python", "PROFILE": "train/accelerate/fsdp2.yaml"}
    subprocess.run(command, env=told, cwd=ROOT, check=True)
    for node in ("0", "1"):
        started = (tmp_path / f"told.{node}").read_text().splitlines()
        assert started[:2] == ["-m", "accelerate.commands.launch"]
        asked = launched(started[2:])
        assert (asked.machine_rank, asked.num_machines, asked.num_processes) == (int(node), 2, 2)
        assert (asked.use_fsdp, asked.fsdp_version) == (True, 2)
        assert asked.main_process_ip == "127.0.0.1"
        ours = train_command.parser().parse_args(asked.training_script_args[1:])
        assert (ours.recipe, ours.data, ours.out, ours.resume) == (Path(recipe), Path(data), out, True)


def test_a_job_without_arguments_says_how_to_use_it(slurm: dict[str, str]) -> None:
    done = subprocess.run([str(SLURM)], env=slurm, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch train/slurm.sh RECIPE DATA RUN")
