"""A step with blocks that come from host memory beside one with all of them on the card: whether their copies are hidden."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import torch

from ideogram_q8.bench import timing
from ideogram_q8.bench.card.report import PhaseReport, release
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.bench.linear.random_weights import Pool
from ideogram_q8.bench.picture import own
from ideogram_q8.bench.picture.scene import StepScene
from ideogram_q8.runtime.memory import budget, usage

_PLANS = ("resident", "unconditional", "both")
_SCHEME = "int8"


@torch.no_grad()
def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises DeviceLostError."""
    settings = setting.denoising((_SCHEME,))
    pool = Pool(0, setting.device, setting.dtype)
    scene = StepScene(
        settings, replace(setting.config, num_layers=settings.layers), pool, usage.available_bytes(setting.device)
    )
    scene.draw()
    report.attempts([(name, functools.partial(_measure, scene, name)) for name in _PLANS])


def _measure(scene: StepScene, name: str) -> Mapping[str, object]:
    """Seconds of steps after one that does not count, and bytes that are copied in each. Raises ResourceError: as `own.build`."""
    plan = next(plan for plan in budget.PLANS if plan.key == name)
    described = own.networks(scene, own.forms(scene, _SCHEME))
    settings = scene.settings
    size = settings.width, settings.height
    copied = budget.footprint(described, plan, size, settings.text_tokens, scene.device.type).host
    release()  # what the plan before left
    built = own.build(scene, _SCHEME, plan=plan)
    built.step(0)
    samples = [timing.seconds(functools.partial(built.step, i), scene.device) for i in range(1, settings.steps + 1)]
    return {"timing": timing.Timing.of(samples), "copied_bytes": copied}
