"""Running statistics of the inputs of a component's Linears, by hooks on its modules.

The modules are diffusers' or transformers', whatever layers stand in them (plain, packed, offloaded): a hook sees the input of
`to_q` as that of the fused qkv, and of w1 as that of w3. Sums stay on the device of the activations; only sampled rows are moved.
Rows need no mask, for `generation` pads nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ideogram_q8.model.architecture import PartName, diffusers_names
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.recipes.statistics import Calibration, LinearStatistics, Statistics, check_entry, shared_input

_GOLDEN, _MIX_A, _MIX_B = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""splitmix64's constants (Steele, Lea, Flood 2014; public domain code by Vigna) as signed 64-bit numbers."""
_SEES_TIMESTEPS = ("mlp_in", "mlp_out", "adaln_proj", "adaln_modulation")
"""Linears whose rows are timesteps: `denoising` gives them all steps at once, the first row being the step that runs."""
_ROWS_AT_ONCE = 1024
"""Rows that are copied to float32 at a time."""


class _Running:
    """One Linear's statistics while they grow."""

    def __init__(self, width: int, calibration: Calibration, device: torch.device) -> None:
        self.rows = calibration.sample_rows
        self.amax = torch.zeros(width, device=device)
        self.square_sum = torch.zeros(width, dtype=torch.float64, device=device)
        self.step_peak_sum = torch.zeros(calibration.steps, dtype=torch.float64, device=device)
        self.step_peak_max = torch.zeros(calibration.steps, device=device)
        self.step_count = torch.zeros(calibration.steps, dtype=torch.int64)
        self.sample = torch.empty(0, width)
        self.sample_key = torch.empty(0, dtype=torch.int64)

    def add(self, x: torch.Tensor, step: int, keys: torch.Tensor) -> None:
        """`x` floating [n, K], `keys` int64 [n] on the CPU."""
        self.step_count[step] += len(x)
        for part in x.split(_ROWS_AT_ONCE):
            values = part.float()
            magnitude = values.abs()
            largest, mean = magnitude.amax(1), magnitude.mean(1)
            peaks = torch.where(largest > 0, largest / torch.where(largest > 0, mean, largest), torch.ones_like(largest))
            self.amax = torch.maximum(self.amax, magnitude.amax(0))
            self.square_sum += values.square().sum(0, dtype=torch.float64)
            self.step_peak_sum[step] += peaks.sum(dtype=torch.float64)
            self.step_peak_max[step] = torch.maximum(self.step_peak_max[step], peaks.amax())
        self._sample(x, keys)

    def _sample(self, x: torch.Tensor, keys: torch.Tensor) -> None:
        new = keys.argsort(stable=True)[: self.rows]
        if len(self.sample_key) == self.rows:
            new = new[keys[new] < self.sample_key[-1]]
        if not len(new):
            return
        all_keys = torch.cat([self.sample_key, keys[new]])
        kept = all_keys.argsort(stable=True)[: self.rows]
        self.sample = torch.cat([self.sample, x[new.to(x.device)].to("cpu", torch.float32)])[kept]
        self.sample_key = all_keys[kept]

    def finish(self) -> LinearStatistics:
        return LinearStatistics(
            amax=self.amax.cpu(),
            square_sum=self.square_sum.cpu(),
            count=self.step_count.sum().reshape(1),
            step_peak_sum=self.step_peak_sum.cpu(),
            step_peak_max=self.step_peak_max.cpu(),
            step_count=self.step_count,
            sample=self.sample,
            sample_key=self.sample_key,
        )


class Recorder:
    """A context in which the Linears of the modules of a component's parts are watched; `step` says which denoising step is running.

    The sampled rows depend on `label` (one for each caption and seed), the branch, the step and the row's number alone, so that
    runs split over machines keep the same rows as one run over everything. All Linears of a branch that see a row keep it together.
    """

    def __init__(
        self,
        branches: Mapping[PartName, nn.Module],
        config: Dimensions,
        calibration: Calibration,
        label: str,
    ) -> None:
        self.step = 0
        self._branches, self._calibration, self._label = branches, calibration, label
        watched = (linear.name for linear in component(config).linears if linear.runs)
        self._names = [name for name in watched if shared_input(name) == name]
        self._by_step = {name for name in self._names if name.split(".")[-1] in _SEES_TIMESTEPS}
        self._running: dict[tuple[PartName, str], _Running] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Recorder:
        for branch, network in self._branches.items():
            for name in self._names:
                module = network.get_submodule(diffusers_names(f"{name}.weight")[0].removesuffix(".weight"))
                self._hooks.append(self._watch(branch, name, module))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _watch(self, branch: PartName, name: str, module: nn.Module) -> RemovableHandle:
        def record(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].detach()
            x = x.reshape(-1, x.shape[-1])
            if not len(x):
                return
            if (branch, name) not in self._running:
                self._running[branch, name] = _Running(x.shape[1], self._calibration, x.device)
            for step, rows in enumerate(x.split(1) if name in self._by_step else [x], self.step):
                self._running[branch, name].add(rows, step, row_keys(f"{self._label}/{branch}/{step}", len(rows)))

        return module.register_forward_pre_hook(record)

    def finish(self) -> Statistics:
        """What was seen so far.

        Raises:
            ArtifactError: an input was not finite.
        """
        entries = {key: self._running[key].finish() for key in sorted(self._running)}
        for (branch, name), entry in entries.items():
            check_entry(entry, self._calibration, f"inputs of {branch}/{name}")
        return Statistics(self._calibration, entries)


@functools.lru_cache(maxsize=8)  # all Linears of a step ask for the same
def row_keys(label: str, rows: int) -> torch.Tensor:
    """Random priorities of the rows 0 .. rows - 1 of a label: int64 [rows], not negative; the same on every machine.

    splitmix64 from the first 8 bytes of the label's sha256, without its sign bit.
    """
    start = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little", signed=True)
    z = torch.arange(1, rows + 1) * _GOLDEN + start  # wraps around, as it should
    z = (z ^ _shifted(z, 30)) * _MIX_A
    z = (z ^ _shifted(z, 27)) * _MIX_B
    return (z ^ _shifted(z, 31)) & 0x7FFF_FFFF_FFFF_FFFF


def _shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right of int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
