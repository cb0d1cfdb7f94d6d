"""Where a model runs, in which precision, and whether a batch fits into the memory there."""

from __future__ import annotations

from typing import Any, Literal

import psutil
import torch

from crystallm.base.errors import ConfigError

Precision = Literal["fp32", "bf16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def native_precision(device: torch.device) -> Precision:
    """`bf16` where the hardware multiplies bfloat16 itself (as the models are trained), else `fp32`."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Older torch cannot tell.
    processor: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return "bf16" if processor.get("avx512_bf16") or processor.get("amx_bf16") else "fp32"


def check_memory(shape: Any, device: torch.device, precision: Precision, *, rows: int, context: int) -> None:
    """Raise ConfigError if the cache of that many rows could outgrow the memory that is free now.

    shape: the config of the model.
    """
    width = getattr(shape, "num_key_value_heads", shape.num_attention_heads)
    width *= getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    per_row = 2 * shape.num_hidden_layers * width * context * DTYPES[precision].itemsize
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if rows * per_row > free:
        raise ConfigError(
            f"--batch-size {rows} could need {rows * per_row / 2**30:.1f} GiB for texts of {context} tokens and "
            f"{free / 2**30:.1f} GiB are free; --batch-size {max(free // per_row, 1)} fits"
        )


def chosen_device(name: str | None) -> torch.device:
    """The device named, or the best there is. Raises ConfigError for one that is not here."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # how torch reports an unknown name or absent hardware
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use device {name!r}: {reason}; choose cpu or cuda, or leave it out") from error
    return device
