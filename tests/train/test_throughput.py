"""What the speed of a run is made of: counted texts, counted arithmetic, seconds without data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from crystallm.model.architecture import ModelConfig, build_model, count_parameters
from crystallm.train.monitor.throughput import PEAKS, Throughput, Work, measured_peak, training_flops, work_of
from crystallm.train.texts.batches import pad
from crystallm.train.texts.packing import pack

TEXTS = [np.arange(1, length + 1) for length in (7, 12, 3, 2)]
SHAPE = ModelConfig(layers=2, hidden=32, heads=4, ffn=64, context=64)


def test_work_is_counted_alike_packed_and_side_by_side() -> None:
    side_by_side = pad(TEXTS, wide=16, budget=96, longest=16, pad_id=0)
    packed = pack(TEXTS, budget=40, pad_id=0)
    expected = Work(tokens=6 + 11 + 2 + 1, crystals=4, squares=49 + 144 + 9 + 4)
    for arrays in (side_by_side, packed):
        assert work_of([[torch.from_numpy(array) for array in arrays]]) == expected


def test_arithmetic_against_torchs_own_count() -> None:
    """Of one text: torch counts the products it sees; norms, rotations and softmax are left out by both."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model(SHAPE, vocab_size=50, bos=1, eos=2, pad=0, attention="eager")
    length = 24
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(1, length, dtype=torch.long)).logits.sum().backward()
    work = Work(tokens=length - 1, crystals=1, squares=length**2)
    ours = training_flops(work, SHAPE, parameters=count_parameters(model))
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 5.0, 5.5, 9.0, 9.5])  # 1, 0.5 and 0.5 seconds until two items and the end are there
    monkeypatch.setattr("crystallm.train.monitor.throughput.time.perf_counter", lambda: next(clock))
    throughput = Throughput(SHAPE, parameters=1000, peak=1e6)
    passes = [[torch.from_numpy(array) for array in pad(TEXTS, wide=16, budget=96, longest=16, pad_id=0)]]
    for item in throughput.waiting([passes, passes]):
        throughput.add(item)
    flops = training_flops(Work(tokens=40, crystals=8, squares=2 * 206), SHAPE, parameters=1000)
    accelerator = Accelerator(cpu=True)
    assert throughput.rates(4.0, accelerator) == {
        "crystals_per_second": 2.0,
        "mfu": round(flops / 4e6, 4),
        "data_wait_share": 0.5,
    }
    assert throughput.rates(4.0, accelerator)["crystals_per_second"] == 0, "counted once"


def test_a_cpu_is_measured() -> None:
    assert 1e8 < measured_peak(torch.float32) < 1e14


def test_the_most_particular_name_comes_first() -> None:
    """`A10G` holds `A10`, and `NVIDIA L40S` holds `L4`; the first that fits is taken."""
    names = list(PEAKS)
    for later, name in enumerate(names):
        assert not any(earlier in name for earlier in names[:later])


def test_a_run_logs_its_speed(arguments: Any, train_here: Any, tmp_path: Path) -> None:
    assert train_here(arguments(tmp_path / "run", max_steps=3)) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "train":
            assert line["crystals_per_second"] > 0
            assert 0 < line["mfu"] < 1
            assert 0 <= line["data_wait_share"] < 1
