"""Weights cut into shards over the processes (FSDP2): how a run asks for it, and tensors put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from crystallm.base.errors import ConfigError
from crystallm.train.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def is_sharded(accelerator: Accelerator) -> bool:
    """Return whether the run keeps only a shard of each weight on each process."""
    return bool(accelerator.is_fsdp2)


def set_up_sharding(accelerator: Accelerator, config: TrainConfig) -> None:
    """Make the FSDP2 that a profile asks for work as the rest of training expects; nothing without such a profile.

    ConfigError for what cannot be combined with it.
    """
    import os

    from accelerate.state import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true" or accelerator.num_processes == 1:
        return
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        # Accelerate knows FSDP on accelerators only and would go on unsharded; torch itself shards over gloo as well.
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        accelerator.state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    if not is_sharded(accelerator):
        raise ConfigError("the profile asks for FSDP version 1; set fsdp_version: 2, as train/accelerate/fsdp2.yaml")
    if config.lora_rank:
        raise ConfigError("lora_rank cannot be used with FSDP2: adapters are small, use train/accelerate/ddp.yaml")
    # Products in bfloat16 as autocast would have them, while gradients are summed over processes in full precision.
    kind = torch.bfloat16 if config.precision == "bf16" else None
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(kind, torch.float32)


def whole(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor put together from its shards; all processes must call this. A plain tensor as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def on_host(value: Any, *, keep: bool) -> Any:
    """Return a copy of a state, its tensors whole and in host memory; with `keep` false they are dropped at once.

    All processes must call this together where there are sharded tensors.
    """
    if isinstance(value, torch.Tensor):
        put_together = whole(value.detach())
        return put_together.to("cpu", copy=True).contiguous() if keep else None
    if isinstance(value, dict):
        return {key: on_host(one, keep=keep) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_host(one, keep=keep) for one in value)
    return value


def as_stored_in(parameter: torch.Tensor, value: Any) -> Any:
    """Return a whole tensor read from a file cut as `parameter` is, if it is and has that shape; else as it is."""
    if isinstance(parameter, DTensor) and isinstance(value, torch.Tensor) and value.shape == parameter.shape:
        placed = value.to(parameter.device)
        # Each process has read the file, so none needs to be sent its shard.
        return distribute_tensor(placed, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value


def whole_model(model: PreTrainedModel, *, keep: bool) -> PreTrainedModel | None:
    """Return a plain copy in host memory of a sharded model where `keep`, else None; all processes must call this."""
    from transformers import AutoModelForCausalLM

    weights = on_host(model.state_dict(), keep=keep)
    if not keep:
        return None
    copy: PreTrainedModel = AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)
    copy.load_state_dict(weights)
    return copy
