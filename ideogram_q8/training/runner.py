"""Running a training stage: its schedule, its randomness, its progress line and its checkpoints."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ideogram_q8.formats import whole_file

SAVE_SECONDS = 60.0
"""Time between checkpoints."""


def step_generator(seed: int, stage: str, step: int) -> tuple[random.Random, torch.Generator]:
    """The randomness of one step, the same whether or not the run was interrupted."""
    key = random.Random(f"{seed}/{stage}/{step}")
    return key, torch.Generator().manual_seed(key.getrandbits(62))


def cosine(step: int, steps: int, warmup: int = 50) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Clock:
    """Prints step, loss, rate and time left every few seconds."""

    def __init__(self, stage: str, first: int, steps: int) -> None:
        self.stage, self.first, self.steps = stage, first, steps
        self.started = self.printed = time.monotonic()

    def tick(self, step: int, text: str) -> None:
        now = time.monotonic()
        if now - self.printed < 15 and step + 1 < self.steps:
            return
        self.printed = now
        per_step = (now - self.started) / (step + 1 - self.first)
        left = per_step * (self.steps - step - 1)
        print(f"{self.stage} {step + 1}/{self.steps}  {text}  {per_step:.2f} s/step  {left / 60:.1f} min left", flush=True)


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Replaces the checkpoint at once, so that a kill leaves the old one or the new one."""
    with whole_file.replacing(path) as temporary:
        torch.save(state, temporary)


def run_stage(
    path: Path,
    steps: int,
    modules: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    train_step: Callable[[int], str],
) -> None:
    """Runs `train_step(step)` for all steps not yet in the checkpoint at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = 0
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        first = state["step"]
        for name, module in modules.items():
            module.load_state_dict(state[name])
        for i, optimizer in enumerate(optimizers):
            optimizer.load_state_dict(state[f"optimizer{i}"])
    if first >= steps:
        return
    clock, saved = Clock(path.stem, first, steps), time.monotonic()
    for step in range(first, steps):
        text = train_step(step)
        clock.tick(step, text)
        if time.monotonic() - saved >= SAVE_SECONDS or step + 1 == steps:
            saved = time.monotonic()
            state = {"step": step + 1} | {name: module.state_dict() for name, module in modules.items()}
            save_checkpoint(path, state | {f"optimizer{i}": o.state_dict() for i, o in enumerate(optimizers)})
