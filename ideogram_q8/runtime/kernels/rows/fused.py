"""What a block does between its products, and what ends a step, in one pass where Triton can: definitions in plain torch beside them.

comfy-kitchen 0.2.40 has `rms_gated_residual` on CPUs and AMD only, and its `rms_rope_split_half` keeps in float32 what diffusers
rounds to the activations' dtype in between; these programs round where the definitions do.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Sequence

import torch
from torch.nn import functional

from ideogram_q8.runtime.kernels.choosing.choice import indexed, tell_triton, trial
from ideogram_q8.runtime.kernels.choosing.operators import in_place_operator, pair_operator
from ideogram_q8.runtime.kernels.rows import triton_rows

_log = logging.getLogger(__name__)


@in_place_operator
def add_normalized(residual: torch.Tensor, x: torch.Tensor, factor: torch.Tensor, eps: float) -> None:
    """residual += rms_norm(x) * factor, the summand rounded to the dtype of `x` first.

    Args:
        residual: floating [..., K], contiguous.
        x: floating [..., K], contiguous, like `residual`.
        factor: floating [K] in their dtype: the norm's weight, and a gate.
    """
    if refusal(x.device, x.shape[-1]) is None:
        triton_rows.add_normalized(residual.view(-1, x.shape[-1]), x.view(-1, x.shape[-1]), factor, eps)
    else:
        residual += functional.rms_norm(x, factor.shape, factor, eps)


@in_place_operator
def place_heads(x: torch.Tensor, factor: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float) -> None:
    """x = n * cos + swap(n) * sin in place, where n = rms_norm(x) * factor by head and swap exchanges the halves of a head.

    n and n * cos are rounded to the dtype of `x`.

    Args:
        x: floating [1, tokens, heads, width], the heads of a token contiguous; may be a view of q, k and v together.
        factor: floating [width] in its dtype.
        cos, sin: [1, tokens, 1, width] in its dtype, contiguous; the first half of the sines is negative.
    """
    if refusal(x.device, x.shape[-1]) is None:
        triton_rows.place_heads(x[0], factor, cos, sin, eps)
        return
    normal = functional.rms_norm(x, factor.shape, factor, eps)
    turned = normal.roll(x.shape[-1] // 2, -1)
    x.copy_(normal.mul_(cos).addcmul_(turned, sin))


@pair_operator
def guided_step(
    latents: torch.Tensor, unconditional: torch.Tensor, conditional: torch.Tensor, guidance: float, step: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(velocity, latents + step * velocity), velocity = unconditional + guidance * (conditional - unconditional), rounded between.

    New tensors: whoever was given the latents of the step before keeps them.

    Args:
        latents, unconditional, conditional: floating of one shape and dtype.
        step: how far along the velocity, the difference of two noise levels.
    """
    if refusal(latents.device, latents.shape[-1]) is None:
        return triton_rows.guided_step(latents, unconditional, conditional, guidance, step)
    velocity = torch.lerp(unconditional, conditional, guidance)
    return velocity, torch.add(latents, velocity, alpha=step)


def refusal(device: torch.device, width: int) -> str | None:
    """Why Triton does not go over rows of `width` values on a device, or None; plain torch does it then."""
    if device.type != "cuda":
        return "needs CUDA"
    if width > triton_rows.LARGEST_WIDTH:
        return f"takes rows of at most {triton_rows.LARGEST_WIDTH} values, got {width}"
    return _broken(indexed(device))


@functools.lru_cache(maxsize=8)
def _broken(device: torch.device) -> str | None:
    """Why the programs cannot be trusted on a GPU, or None; logged. Compiles and tries them once."""
    reason = trial(lambda: wrong(device)) if importlib.util.find_spec("triton") else "Triton is not installed"
    tell_triton(_log, f"norms and steps on {device}", reason)
    return reason


def wrong(device: torch.device, dtypes: Sequence[torch.dtype] = (torch.bfloat16, torch.float16, torch.float32)) -> str | None:
    """What of the programs is not the definition on numbers whose sums are exact in every order, or None.

    What is expected is rounded after every product and sum, as the programs round. torch's own `addcmul_` is no such definition in
    float32: on a CPU with AVX2 or AVX512 the compiler fuses its product and its sum, which rounds once.
    """
    generator = torch.Generator().manual_seed(0)
    for dtype in dtypes:
        x = torch.randint(-8, 9, (5, 3, 256), generator=generator).to(dtype)  # mean squares are sums of integers
        residual, factor = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((15, 256), (256,)))
        cos, sin = (torch.randn(5, 256, generator=generator).to(dtype) for _ in range(2))
        start, first, second = torch.randint(-8, 9, (3, 5, 256), generator=generator).to(dtype)
        guided = first + 7 * (second - first)
        added = residual + functional.rms_norm(x.view(15, 256), (256,), factor, 1e-5)
        normal = functional.rms_norm(x, (256,), factor, 1e-5)
        kept, turned = (normal * cos[:, None]).float(), normal.roll(128, -1).float() * sin[:, None].float()
        placed = (kept + turned).to(dtype)
        x, residual, factor, cos, sin = (tensor.to(device) for tensor in (x, residual, factor, cos, sin))
        triton_rows.add_normalized(residual, x.view(15, 256), factor, 1e-5)
        triton_rows.place_heads(x, factor, cos, sin, 1e-5)
        velocity, moved = triton_rows.guided_step(start.to(device), first.to(device), second.to(device), 7.0, 0.25)
        for name, found, expected in (
            ("add_normalized", residual, added),
            ("place_heads", x, placed),
            ("guided_step", velocity, guided),
            ("guided_step", moved, start + 0.25 * guided),
        ):
            if not torch.equal(found.cpu(), expected):
                return f"{name} is not its definition in {dtype}"
    return None
