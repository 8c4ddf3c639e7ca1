"""The embedded model on the card against the CPU: the same pictures in every format, streamed or not; and many changes of variant."""

from __future__ import annotations

import functools
import itertools
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ideogram_q8.bench.card.report import WRONG, PhaseReport, release
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ResourceError
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, picture, steps
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.memory import budget, usage
from ideogram_q8.sources import open_source

Found = Mapping[str, object]
_VARIANTS = ("fp8", "int8", "q8_0", "q4_k_s")
_CHANGING = ("fp8", "int8", "q8_0")
"""To build the others takes numba."""
_REQUEST = Request("a red star", 1, "turbo-12", 128, 128)
_STEPS = 4
_LEAST_PSNR = 40.0
"""dB of a picture to the CPU's: both are float32, and codes of INT8 activations may differ by one."""
SETTLED = 8
"""Changes of variant after which memory should grow no more."""


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""
    device = setting.device
    with tempfile.TemporaryDirectory(prefix="pocket-", dir=setting.folder) as name:
        folder = Path(name)
        works = [(f"picture, {variant}", functools.partial(_picture, device, folder, variant)) for variant in _VARIANTS]
        works += [
            ("streamed", functools.partial(_streamed, device, folder)),
            ("overlapped", functools.partial(_overlapped, device, folder)),
            ("changes of variant", functools.partial(_changes, setting, folder)),
        ]
        report.attempts(works)


def _place(folder: Path, name: str) -> str:
    """What `load` takes of a variant, built on first use."""
    if name == "fp8":
        return "pocket"
    if not (folder / name).exists():
        source = open_source("pocket")
        quantize(source, choose(name, source.config), folder / name)
    return str(folder / name)


@dataclass(frozen=True)
class _Painted:
    """`latents` float32 [1, tokens, channels] on the CPU after _STEPS steps, and the picture that the model expects then."""

    latents: torch.Tensor
    image: Any


def _paint(model: Model) -> _Painted:
    model.captions = None  # what the CPU encoded must not be found here
    *_, last = itertools.islice(steps(model, _REQUEST), _STEPS)
    return _Painted(last.latents.cpu(), np.asarray(picture(model, last.clean, _REQUEST.grid), dtype=np.float64))


def _picture(device: torch.device, folder: Path, variant: str) -> Found:
    """dB of the card's picture to the CPU's, both in float32; none where they are the same."""
    place = _place(folder, variant)
    expected, found = _paint(load(place)), _paint(load(place, device=device))
    error = float(np.square(found.image - expected.image).mean())
    distance = (found.latents - expected.latents).norm() / expected.latents.norm()
    psnr = math.inf if error == 0 else 10 * float(np.log10(255**2 / error))
    wrong = {} if psnr >= _LEAST_PSNR else {WRONG: f"{psnr:.1f} dB to the CPU's picture, expected {_LEAST_PSNR:.0f}"}
    return {"psnr": psnr, "same": error == 0, "latents_error": float(distance), **wrong}


def _streamed(device: torch.device, folder: Path) -> Found:
    """Whether a picture is the same to the bit with all blocks streamed."""
    place = _place(folder, "int8")
    resident, streamed = _paint(load(place, device=device)), _paint(load(place, device=device, plan=budget.PLANS[-1]))
    return _same(resident, streamed)


def _overlapped(device: torch.device, folder: Path) -> Found:
    """Whether a picture is the same to the bit with both branches at once. Raises ResourceError: there are no streams."""
    model = load(_place(folder, "int8"), device=device)
    if model.side is None:
        raise ResourceError("two streams need CUDA")
    apart = _paint(model)
    model.overlap = True
    return _same(apart, _paint(model))


def _same(first: _Painted, second: _Painted) -> Found:
    """What must be the same to the bit."""
    if torch.equal(first.latents, second.latents):
        return {"same": True}
    error = float((first.latents - second.latents).norm() / first.latents.norm())
    return {"same": False, WRONG: f"latents differ by {error:.2g} of their norm, expected the same bits"}


def _changes(setting: CardSetting, folder: Path) -> Found:
    """Bytes allocated, reserved and free on the card, and held in host memory, after each change."""
    device, held = setting.device, []
    places = [_place(folder, variant) for variant in _CHANGING]
    for _, place in zip(range(setting.sizes.switches), itertools.cycle(places), strict=False):
        model = load(place, device=device)
        model.captions = None
        next(steps(model, _REQUEST))
        del model
        release()
        held.append(_held(device))
    return {"settled_after": SETTLED, "allocated, reserved, free, host": held}


def _held(device: torch.device) -> tuple[int, int, int, int]:
    host = usage.host_bytes()[2]
    if device.type != "cuda":
        return 0, 0, 0, host
    return torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device), torch.cuda.mem_get_info(device)[0], host
