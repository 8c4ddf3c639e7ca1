"""Every kernel that a picture may use, tried on numbers whose results are known, and why those that are refused are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from ideogram_q8.bench.card.report import PhaseReport
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.runtime.kernels import BACKENDS, Backend, Problem, block_products, expansion_refusal, norms_refusal
from ideogram_q8.runtime.kernels.attention import paths as attention
from ideogram_q8.runtime.kernels.attention import triton_attention
from ideogram_q8.runtime.kernels.choosing.choice import placed
from ideogram_q8.runtime.kernels.linear.int8 import self_test

Found = Mapping[str, object]


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""
    device, config = setting.device, setting.config
    works: list[tuple[str, Callable[[], Found | str | None]]] = [
        ("norms, positions, guided step", lambda: norms_refusal(device, config.hidden_size)),
        *((f"expanding {block}", functools.partial(expansion_refusal, block, device)) for block in BLOCKS),
    ]
    for rotation in (0, GROUP):
        for product in block_products(config, setting.sizes.rows[-1], device, setting.dtype, rotation):
            label = f"{product.name}{', rotated' if rotation else ''}"
            works += [(f"{label}: {each.name}", functools.partial(_product, each, product.problem)) for each in BACKENDS]
    asked = attention.AttentionProblem(*placed(device), setting.dtype, config.attention_head_dim)
    tried = [backend for backend in attention.BACKENDS if backend.tried]
    works += [(f"int8 attention: {each.name}", functools.partial(_attention, each, asked)) for each in tried]
    works.append(("int8 attention: Triton, sums in float16", functools.partial(_half_sums, asked)))
    report.attempts([(name, functools.partial(_then_release, work)) for name, work in works])


def _then_release(work: Callable[[], Found | str | None]) -> Found | str | None:
    """A trial in the shapes of a picture leaves up to a gigabyte behind."""
    try:
        return work()
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _product(backend: Backend, problem: Problem) -> str | None:
    return backend.refuses(problem) or self_test(backend, problem)


def _attention(backend: attention.AttentionBackend, problem: attention.AttentionProblem) -> str | None:
    return backend.refuses(problem) or attention.self_test(backend, problem)


def _half_sums(problem: attention.AttentionProblem) -> str | None:
    """What a GeForce computes, on any card."""
    triton = next(backend for backend in attention.BACKENDS if backend.attend is triton_attention.attend)
    halves = functools.partial(triton_attention.attend, half_sums=True)
    return _attention(attention.AttentionBackend("Triton", halves, triton.refuses, triton.arithmetic, tried=True), problem)
