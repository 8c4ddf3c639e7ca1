"""One transformer block on the GPU at a time, for cards that do not hold both transformers.

diffusers' `apply_group_offloading` is not used: its hooks need accelerate, move what lies outside the blocks in the transformer's
own `forward`, which our loop never calls, and copy weights back that have not changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ideogram_q8.loading import Model


def offload_blocks(model: Model, device: torch.device) -> None:
    """Makes a model that was loaded on the CPU run on `device`, for good: its blocks visit the device for each call only.

    What lies outside the blocks moves there now, the text encoder when it is loaded. The VAE stays, for calibrating decodes nothing.
    """
    for transformer in model.branches.values():
        for name, child in transformer.named_children():
            if name != "layers":
                child.to(device)
        for block in transformer.layers:
            _visit(block, device)
    model.device = device


def _visit(block: nn.Module, device: torch.device) -> None:
    held: list[dict[str, Any]] = [tensors for module in block.modules() for tensors in (module._parameters, module._buffers)]
    home = [(tensors, name, tensor) for tensors in held for name, tensor in tensors.items() if tensor is not None]

    def arrive(*_: object) -> None:
        for tensors, name, tensor in home:
            visitor = tensor.to(device)
            tensors[name] = nn.Parameter(visitor, requires_grad=False) if isinstance(tensor, nn.Parameter) else visitor

    def leave(*_: object) -> None:
        for tensors, name, tensor in home:
            tensors[name] = tensor

    block.register_forward_pre_hook(arrive)
    block.register_forward_hook(leave, always_call=True)
