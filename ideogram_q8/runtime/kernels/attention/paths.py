"""Attention with int8 scores, an option that changes pictures: the operator, and what computes it where.

On CUDA comfy-kitchen's or our Triton program, else plain attention, which the log says; the definition (`numerics.attention`) would
compute a head at a time there. Elsewhere the definition. comfy-kitchen 0.2.40 has weights and values in int8 as well, which is faster and
less exact (`numerics.attention` says by how much).
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from ideogram_q8.numerics import attention
from ideogram_q8.runtime.kernels.attention import triton_attention
from ideogram_q8.runtime.kernels.choosing.choice import Choice, first, placed, tell, trial
from ideogram_q8.runtime.kernels.choosing.operators import attention_operator
from ideogram_q8.runtime.kernels.linear import kitchen

_log = logging.getLogger(__name__)

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(q, k, v), floating [batch, heads, tokens, width] of one dtype, the last axis contiguous -> like q."""
LEAST_SNR = 20.0
"""dB of a trial's result to exact attention; int8 weights and values have 33 on such heads, float16 ones 36."""
_FEW_TOKENS, _MANY_TOKENS = 150, 4237
"""Of a trial, neither a multiple of any tile. The tiles of comfy-kitchen depend on the number of keys."""
_ROWS = 64
"""Queries at each end of a trial, and to each side of its middle, that are compared."""


@dataclass(frozen=True)
class AttentionProblem:
    """Attention of heads of `width` values of `dtype`; `device` as torch prints it, `capability` is CUDA's, None elsewhere."""

    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    width: int


@dataclass(frozen=True)
class AttentionBackend:
    """One way to compute; `refuses` gives its reason or None. What is `tried` is not ours, or needs a compiler.

    `arithmetic` of its products: float, int8, or int8 scores and float values.
    """

    name: str
    attend: Attend
    refuses: Callable[[AttentionProblem], str | None]
    arithmetic: Literal["float", "int8", "int8 scores"]
    tried: bool = False


def _kitchen_refuses(problem: AttentionProblem) -> str | None:
    return kitchen.attention_refuses(problem.capability, problem.dtype, problem.width)


def _triton_refuses(problem: AttentionProblem) -> str | None:
    reason = triton_attention.refuses(problem.capability, problem.width)
    return reason or (None if importlib.util.find_spec("triton") else "Triton is not installed")


def _definition_refuses(problem: AttentionProblem) -> str | None:
    return None if problem.capability is None else "computes a head at a time, on CUDA slower than plain attention"


BACKENDS: tuple[AttentionBackend, ...] = (
    AttentionBackend("comfy-kitchen", kitchen.attend, _kitchen_refuses, "int8", tried=True),
    AttentionBackend("Triton", triton_attention.attend, _triton_refuses, "int8 scores", tried=True),
    AttentionBackend("plain torch", attention.attend, _definition_refuses, "int8 scores"),
    AttentionBackend("attention without int8", functional.scaled_dot_product_attention, lambda _: None, "float"),
)
"""In order of preference; the last refuses nothing."""


def self_test(backend: AttentionBackend, problem: AttentionProblem) -> str | None:
    """Why `backend` cannot be trusted on the device of `problem`, or None. On CUDA tries it on as many tokens as a picture has too.

    Raises:
        Exception: memory ran out.
    """
    if not backend.tried:
        return None
    for tokens in (_FEW_TOKENS,) if problem.capability is None else (_FEW_TOKENS, _MANY_TOKENS):
        reason = trial(functools.partial(_wrong, backend, problem, tokens))
        if reason is not None:
            return f"self-test failed: {reason} ({tokens} tokens)"
    return None


def _wrong(backend: AttentionBackend, problem: AttentionProblem, tokens: int) -> str | None:
    """What the first, middle and last queries of `tokens` have against `backend`, or None."""
    generator = torch.Generator().manual_seed(0)
    shape = 1, 2, tokens, problem.width
    q, k, v = (torch.randn(shape, generator=generator).to(problem.dtype) for _ in range(3))
    rows = torch.arange(tokens)
    rows = rows[(rows < _ROWS) | (rows >= tokens - _ROWS) | ((rows - tokens // 2).abs() < _ROWS)]
    expected = functional.scaled_dot_product_attention(q[:, :, rows].double(), k.double(), v.double())
    found = backend.attend(*(x.to(problem.device) for x in (q, k, v))).cpu()[:, :, rows].double()
    ratio = float(10 * torch.log10(expected.square().sum() / (found - expected).square().sum()))
    return None if ratio >= LEAST_SNR else f"{ratio:.1f} dB to exact attention, expected {LEAST_SNR:.0f}"


@functools.lru_cache(maxsize=64)
def choose(problem: AttentionProblem) -> Choice[AttentionBackend]:
    """The first back end that takes `problem` and passes its test; says in the log which, and why not others."""
    choice = first(BACKENDS, lambda backend: backend.refuses(problem) or self_test(backend, problem))
    tell(
        _log, f"int8 attention on {problem.device}", choice.backend.name, choice.refused, slower=problem.capability is not None
    )
    return choice


def choose_on(device: torch.device, dtype: torch.dtype, width: int) -> Choice[AttentionBackend]:
    """`choose` for heads of `width` values on a device."""
    return choose(AttentionProblem(*placed(device), dtype, width))


@attention_operator
def int8_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(width)) v with int8 scores, as `numerics.attention` defines it, without a mask.

    Args:
        q, k, v: floating [batch, heads, tokens, width] of one dtype, the last axis contiguous, as for torch's own attention.

    Returns:
        Like q, the heads of a token side by side in memory.
    """
    found = choose_on(q.device, q.dtype, q.shape[-1]).backend.attend(q, k, v)
    return found.transpose(1, 2).contiguous().transpose(1, 2)
