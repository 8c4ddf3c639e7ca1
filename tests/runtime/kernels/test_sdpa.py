"""The attention kernel that torch takes for heads of 256 values, by card, platform, build and dtype; and that it is shown."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.machine.platforms import of
from ideogram_q8.runtime.kernels.attention import sdpa

BF16, F32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("capability", "platform", "flash", "dtype", "width", "runs", "reason", "costs"),
    [
        ((8, 6), "linux", True, BF16, 256, sdpa.FLASH, None, False),
        ((8, 0), "linux", True, torch.float16, 256, sdpa.FLASH, None, False),
        ((9, 0), "linux", True, BF16, 256, sdpa.FLASH, None, False),
        ((12, 0), "linux", True, BF16, 128, sdpa.FLASH, None, False),
        ((8, 6), "win32", False, BF16, 256, sdpa.EFFICIENT, "torch is built without it for Windows", True),
        ((8, 9), "win32", True, BF16, 256, sdpa.EFFICIENT, "torch is built without it for Windows", True),
        ((8, 6), "linux", False, BF16, 256, sdpa.EFFICIENT, "this torch is built without it", True),
        ((7, 5), "linux", True, torch.float16, 256, sdpa.EFFICIENT, "needs compute capability 8.0, got 7.5", True),
        ((8, 6), "linux", True, F32, 256, sdpa.EFFICIENT, "takes bfloat16 and float16, got torch.float32", False),
        ((8, 6), "linux", True, BF16, 512, sdpa.EFFICIENT, "takes heads of at most 256 values, got 512", True),
        ((8, 6), "win32", False, BF16, 64, sdpa.EFFICIENT, "torch is built without it for Windows", False),
        (None, "linux", False, F32, 256, "torch's attention for CPUs", None, False),
    ],
)
def test_the_kernel_is_known_before_it_runs(
    capability: tuple[int, int] | None,
    platform: str,
    flash: bool,
    dtype: torch.dtype,
    width: int,
    runs: str,
    reason: str | None,
    costs: bool,
) -> None:
    found = sdpa.chosen(capability, of(platform), flash, dtype, width)
    assert (found.runs, found.reason, found.cost is not None) == (runs, reason, costs)
    said = str(found)
    assert said.startswith(runs) and (reason is None or f"flash attention refused: {reason}" in said)
    assert ("`--attention int8`" in said) == costs


def test_this_computer_is_asked_about_itself() -> None:
    assert sdpa.chosen_on(torch.device("cpu"), F32, 64).runs == "torch's attention for CPUs"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_torch_takes_what_was_said() -> None:
    """By the name of the kernel that ran."""
    q = torch.randn(1, 2, 512, 256, device="cuda", dtype=BF16)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    ran = {event.key for event in profile.key_averages()}
    said = sdpa.chosen_on(torch.device("cuda"), BF16, 256).runs
    known = {sdpa.FLASH: ("_flash_attention", "_cudnn_attention"), sdpa.EFFICIENT: ("_efficient_attention",)}[said]
    assert any(name in key for key in ran for name in known)
