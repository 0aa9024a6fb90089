"""A frozen base cut over the processes of a training (FSDP), gathered block by block where it is computed with.

Only what is frozen is cut: it is nearly all of the memory and has no gradient to exchange. What is trained, about 10
million numbers over a 7B base, stays whole and alike in every process, so that the moving average, a training's state
and the run folder are what they are without sharding.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from hyperdpo.errors import ConfigError
from hyperdpo.text.model import TextModel, blocks

FIRST_TORCH = "2.7"  # whose fully_shard can leave parameters whole
LAUNCH = "`accelerate launch -m hyperdpo ...` on GPUs, `torchrun --nproc-per-node 2 -m hyperdpo ...` on a CPU"


def check_processes(processes: int) -> None:
    """Raises ConfigError where there is one process, or where this torch cannot shard what is frozen alone."""
    if processes < 2:
        raise ConfigError(
            f"--shard True cuts the base over several processes; got {processes}: start them with {LAUNCH}, or leave "
            "--shard out."
        )
    _fully_shard()


def shard(model: TextModel, device: torch.device) -> TextModel:
    """Leave this process its share of every frozen tensor of `model`, on `device`; changes it in place.

    `model` is on the CPU, whole and the same in every process. On the device a block at a time is whole while it is
    cut, later those that are computed with and, all through a pass, what is in no block: the embeddings, the last norm
    and the head. Main memory holds the whole base once for every process of a machine until it is cut.

    Every process must then make the same passes, through forward() or base_scores(): each gathers blocks from all.
    Raises ConfigError as `check_processes` does.
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import register_fsdp_forward_method

    check_processes(get_world_size())
    # FSDP refuses tensors without a dimension, which are too small to be worth cutting
    whole = {p for p in model.parameters() if p.requires_grad or p.dim() == 0}
    for p in whole:
        p.data = p.data.to(device)  # fully_shard moves the others
    mesh = init_device_mesh(device.type, (get_world_size(),))
    fully_shard = _fully_shard()
    for module in (*blocks(model.backbone), model):
        fully_shard(module, mesh=mesh, ignored_params=whole)
    register_fsdp_forward_method(model, "base_scores")
    model.shares_prompts = False  # in two passes where it pays, which is another question in each process
    return model


def _fully_shard() -> Any:
    """FSDP2's function. Raises ConfigError where it is too old. Imported late: it takes seconds."""
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise ConfigError(
            f"--shard True needs torch {FIRST_TORCH} or later, whose fully_shard leaves trained parameters whole; this "
            f"is {torch.__version__}: update torch, or leave --shard out."
        )
    return fully_shard
