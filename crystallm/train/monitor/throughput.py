"""How fast a run is: crystals a second, share of the hardware's arithmetic (MFU), share of the time without data."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import torch

from crystallm.model.architecture import ModelConfig
from crystallm.train.texts.batches import IGNORED

if TYPE_CHECKING:
    from accelerate import Accelerator

Item = TypeVar("Item")

PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10G": 70,
    "A10": 125,
    "A40": 150,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bfloat16 products with float32 sums, 10^12 FLOP/s, from NVIDIA's data sheets (half of what they give with
sparsity). The first name contained in the device's name holds."""

PRODUCT_WIDTH = 768
"""Side of the matrices that a CPU is measured with: large enough to run at its full rate, done in milliseconds."""


@dataclass
class Work:
    """What forward passes hold, padding left out."""

    tokens: int = 0
    """Predicted tokens: all but the first of each text."""
    crystals: int = 0
    squares: int = 0
    """Squared lengths of the texts, summed: what attention costs."""

    def __iadd__(self, other: "Work") -> "Work":
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self


def work_of(passes: Iterable[Sequence[torch.Tensor]]) -> Work:
    """Count the texts of forward passes, packed (ids, labels, positions) or side by side (ids, labels)."""
    total = Work()
    for ids_BT, labels_BT, *positions in passes:
        places_BT = positions[0] if positions else torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
        places = places_BT[:, 1:][labels_BT[:, 1:] != IGNORED]
        crystals = int((places == 1).sum())  # each text predicts its second token once
        # n^2 is the sum of the first n odd numbers; place 0 is not predicted.
        total += Work(tokens=len(places), crystals=crystals, squares=int((2 * places + 1).sum()) + crystals)
    return total


def flops_per_token(model: ModelConfig, *, parameters: int, length: float) -> float:
    """Return the arithmetic of training on one token of a text of `length` tokens, forward and backward.

    6 N + 12 L H Q T, with N parameters, L layers, H heads of width Q, and T the length: appendix B of the PaLM paper
    (Chowdhery et al. 2022, arXiv:2204.02311). Like there, the attention is counted as if no token were hidden from
    another, and all weights as trained. Tied embeddings count once: as the output matrix.
    """
    return 6 * parameters + 12 * model.layers * model.hidden * length


def training_flops(work: Work, model: ModelConfig, *, parameters: int) -> float:
    """Return the same for texts, recomputation and padding left out."""
    tokens = work.tokens + work.crystals
    return tokens * flops_per_token(model, parameters=parameters, length=work.squares / tokens) if tokens else 0.0


def peak_flops(device: torch.device, *, precision: str) -> float | None:
    """Return the FLOP/s that are 100 %: of a known GPU by its data sheet, of a CPU measured; None for others."""
    if device.type == "cpu":
        return measured_peak(torch.bfloat16 if precision == "bf16" else torch.float32)
    if device.type != "cuda" or precision != "bf16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for known, peak in PEAKS.items() if known in name), None)


def measured_peak(dtype: torch.dtype) -> float:
    """Return the FLOP/s of the fastest of eight matrix products on this process's CPU threads; takes milliseconds."""
    matrix = torch.ones(PRODUCT_WIDTH, PRODUCT_WIDTH, dtype=dtype)
    matrix @ matrix  # prepares the kernel
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return float(2 * PRODUCT_WIDTH**3 / min(seconds))


class Throughput:
    """Counts the work of this process between two log lines, and the time in which it waited for data."""

    def __init__(self, model: ModelConfig, *, parameters: int, peak: float | None) -> None:
        self.model, self.parameters, self.peak = model, parameters, peak
        self.work, self.waited = Work(), 0.0

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hand on `items`, counting the time until each is there."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            item = next(iterator, None)
            self.waited += time.perf_counter() - start
            if item is None:
                return
            yield item

    def add(self, passes: Iterable[Sequence[torch.Tensor]]) -> None:
        """Count the passes of a step."""
        self.work += work_of(passes)

    def rates(self, seconds: float, accelerator: "Accelerator") -> dict[str, float]:
        """Return the rates of all processes together over the last `seconds`, and begin anew."""
        flops = training_flops(self.work, self.model, parameters=self.parameters)
        local = torch.tensor(
            [self.work.crystals, flops, self.waited, self.peak or 0.0], dtype=torch.float64, device=accelerator.device
        )
        crystals, flops, waited, peak = accelerator.reduce(local, "sum").tolist()
        self.work, self.waited = Work(), 0.0
        rates = {"crystals_per_second": round(crystals / seconds, 2)}
        if peak:
            rates["mfu"] = round(flops / seconds / peak, 4)
        return rates | {"data_wait_share": round(waited / accelerator.num_processes / seconds, 4)}


def shown(rates: dict[str, float]) -> str:
    """Return rates for the progress bar."""
    mfu = f", MFU {rates['mfu']:.0%}" if "mfu" in rates else ""
    return f"{rates['crystals_per_second']:,.1f} crystals/s{mfu}, waiting {rates['data_wait_share']:.0%}"
