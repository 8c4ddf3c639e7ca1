"""What the card is, what of its memory CUDA's own context takes, how fast it copies and multiplies, and which attention torch takes."""

from __future__ import annotations

import functools
import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ideogram_q8.bench import machine, timing
from ideogram_q8.bench.card.report import PhaseReport
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.memory import usage

Found = Mapping[str, object]
_ATTENTIONS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
"""torch's back ends of attention; the last one holds all scores at once."""
_NO_BACKEND = "No available kernel", "No viable backend"
"""torch's words on CUDA and on a CPU."""
_HEADS, _HEAD_WIDTH = 18, 256
"""Of Ideogram 4."""
_COPIED = {"cuda": 1 << 28, "cpu": 1 << 20}
_PASSES = 3


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""
    device = setting.device
    works: list[tuple[str, Callable[[], Found | str]]] = [
        ("memory", functools.partial(_memory, device)),  # first: what the context alone takes
        ("machine", functools.partial(_machine, device)),
        ("compiler", _compiler),
        ("copies", functools.partial(_copies, device)),
        ("peaks", lambda: asdict(machine.peaks(device, setting.dtype))),
        *((f"attention, {name}", functools.partial(_attention, setting, kind)) for name, kind in _ATTENTIONS.items()),
        ("attention, torch's choice", functools.partial(_attention, setting, None)),
    ]
    report.attempts(works)


def _memory(device: torch.device) -> Found:
    """Bytes: of the card, in use before this process's tensors, and of the computer."""
    total, available, _ = usage.host_bytes()
    host = {"host_bytes": total, "host_available_bytes": available}
    if device.type != "cuda":
        return host
    torch.zeros(1, device=device)
    free, whole = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device)
    return host | {"card_bytes": whole, "free_bytes": free, "context_and_others_bytes": whole - free - reserved}


def _machine(device: torch.device) -> Found:
    clocks = machine.clocks(device)
    found = {"machine": asdict(machine.machine(device)), "clocks": None if clocks is None else asdict(clocks)}
    return found | {"tuned": table.note(device), "arch_list": torch.cuda.get_arch_list() if device.type == "cuda" else []}


def _compiler() -> Found:
    """What Triton compiles its launcher with at first use on Linux: a C compiler and Python's headers."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return {"compiler": shutil.which("gcc") or shutil.which("clang") or shutil.which("cc"), "python_h": header.is_file()}


def _copies(device: torch.device) -> Found:
    """Bytes a second between the computer's memory, pinned and not, and the card's."""
    size = _COPIED[device.type]
    there = torch.empty(size, dtype=torch.uint8, device=device)
    found = {}
    for name, pinned in (("pinned", device.type == "cuda"), ("pageable", False)):
        here = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)
        for way, target, source in (("to_device", there, here), ("from_device", here, there)):
            copy = functools.partial(target.copy_, source, non_blocking=True)
            seconds = min(timing.seconds(copy, device) for _ in range(_PASSES))
            found[f"{name}_{way}"] = size / seconds
    return found


def _attention(setting: CardSetting, kind: SDPBackend | None) -> Found | str:
    """Seconds of attention as a block of the conditional branch computes it, and operations a second; None leaves the choice to torch.

    Why a back end does not compute it, where it does not.
    """
    device, (width, height) = setting.device, setting.sizes.size
    heads = _HEADS if device.type == "cuda" else 1
    tokens = setting.sizes.text_tokens + width * height // 256
    shape = 1, heads, tokens, _HEAD_WIDTH
    query, key, value = (torch.randn(shape, device=device).to(setting.dtype) for _ in range(3))

    def attend() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value)

    if kind is None:
        seconds = timing.typical(attend, device, _PASSES)
        chosen = SDPBackend(torch._fused_sdp_choice(query, key, value))
        named: dict[str, object] = {"chosen": chosen.name.lower()}
    else:
        try:
            with sdpa_kernel([kind]):
                seconds = timing.typical(attend, device, _PASSES)
        except RuntimeError as error:
            if lacks_memory(error) or not any(text in str(error) for text in _NO_BACKEND):
                raise
            return "torch has no such back end for these heads on this device"
        named = {}
    return named | {"shape": list(shape), "seconds": seconds, "rate": 4 * heads * tokens**2 * _HEAD_WIDTH / seconds}
