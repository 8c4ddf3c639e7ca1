"""What a measurement was taken on: the processor or card, its clocks while it worked, versions, and what it does at most.

A figure without its clocks says little: a card that is hot or capped runs at two thirds of its speed. They come from NVML, through the
package `nvidia-ml-py`, where it is installed; a CPU's are not asked for.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ideogram_q8.bench import timing
from ideogram_q8.bench.cards import in_turn
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.machine import nvml
from ideogram_q8.machine import platforms as computer
from ideogram_q8.runtime.kernels.linear import cpu, triton_int8
from ideogram_q8.runtime.memory import usage

_PACKAGES = ("torch", "diffusers", "transformers", "triton", "triton-windows", "comfy-kitchen", "torchao", "sdnq", "numba")
_SIDE = {"cuda": 8192, "cpu": 1024}
"""Of the square product whose rate is taken for the device's peak."""
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 28}
_PASSES = 5


@dataclass(frozen=True)
class Clocks:
    """State of a graphics card at one moment: MHz, degrees Celsius, watts; `slowed_by` are NVML's reasons for not running at full clock."""

    graphics: int
    graphics_most: int
    memory: int
    celsius: int
    watts: float
    watts_most: float
    slowed_by: str


@dataclass(frozen=True)
class Machine:
    """`device` is cpu or cuda; `capability` is CUDA's compute capability, as "8.6"."""

    device: str
    name: str
    capability: str | None
    memory_bytes: int
    cores: int
    threads: int
    instructions: tuple[str, ...]
    system: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Peak:
    """Operations a second (a multiplication and an addition are two), and what reached them; without them, why there are none."""

    rate: float | None
    by: str


@dataclass(frozen=True)
class Peaks:
    """What the device reached on the easiest work: a large square product of each kind, and a copy within its memory.

    Other programs lower them: what is measured beside them in one run may exceed them. `bytes_rate` counts bytes read and written.
    """

    dtype: str
    floating: Peak
    int8: Peak
    bytes_rate: float

    def of(self, arithmetic: str) -> float | None:
        """Operations a second of an `Arithmetic`."""
        if arithmetic == "float":
            return self.floating.rate
        if arithmetic == "int8" or self.int8.rate is None or self.floating.rate is None:
            return self.int8.rate
        return in_turn(self.int8.rate, self.floating.rate)


def machine(device: torch.device) -> Machine:
    """What `device` is."""
    cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if cuda else None
    versions = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    versions["torch"] = torch.__version__  # with its build, which the metadata of PyPI's wheels leave out
    return Machine(
        device=device.type,
        name=computer.here.processor() if properties is None else properties.name,
        capability=None if properties is None else f"{properties.major}.{properties.minor}",
        memory_bytes=usage.host_bytes()[0] if properties is None else properties.total_memory,
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        instructions=computer.here.instructions(),
        system=platform.platform(),
        versions={"ideogram_q8": TOOL_VERSION, "python": platform.python_version(), **versions, **_driver(device)},
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver(device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {}
    version = nvml.driver(device)
    return {"cuda": str(torch.version.cuda)} | ({} if version is None else {"driver": version})


def clocks(device: torch.device) -> Clocks | None:
    """Reads the state of a CUDA device's card; None where NVML is not there."""
    return nvml.ask(device, _clocks)


def reader(device: torch.device, into: list[Clocks]) -> Callable[[], None]:
    """What appends the card's clocks of that moment to a list, where there are any."""

    def read() -> None:
        found = clocks(device)
        into.extend([] if found is None else [found])

    return read


def _clocks(nvml: Any, card: Any) -> Clocks:
    """From NVML's module and a handle."""

    def ask(name: str, *arguments: object) -> int:
        found: int = getattr(nvml, f"nvmlDeviceGet{name}")(card, *arguments)
        return found

    graphics, memory_clock = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
    reasons = ask("CurrentClocksThrottleReasons")
    names = {
        "power cap": "nvmlClocksThrottleReasonSwPowerCap",
        "hardware slowdown": "nvmlClocksThrottleReasonHwSlowdown",
        "heat": "nvmlClocksThrottleReasonSwThermalSlowdown",
        "set clocks": "nvmlClocksThrottleReasonApplicationsClocksSetting",
    }
    return Clocks(
        graphics=ask("ClockInfo", graphics),
        graphics_most=ask("MaxClockInfo", graphics),
        memory=ask("ClockInfo", memory_clock),
        celsius=ask("Temperature", 0),
        watts=ask("PowerUsage") / 1000,
        watts_most=ask("EnforcedPowerLimit") / 1000,
        slowed_by=", ".join(label for label, name in names.items() if reasons & getattr(nvml, name)),
    )


# ---- peaks ----


def peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """Measures the device: a second or two on a card, a few on a CPU."""
    side = _SIDE.get(device.type, _SIDE["cpu"])
    floats = torch.randn(side, side, device=device).to(dtype)
    ways: dict[str, Callable[[], object]] = {
        f"torch.mm, {side}x{side}": lambda: torch.mm(floats, floats.t()),
        f"torch.mm, {side}x{side}, not transposed": lambda: torch.mm(floats, floats),
    }
    found = _best(ways, side, device)
    integers = torch.randint(-127, 128, (side, side), device=device, dtype=torch.int8)
    products, reason = _integer_products(integers)
    int8 = _best(products, side, device) if products else Peak(None, reason)
    source = torch.ones(_COPY_BYTES.get(device.type, _COPY_BYTES["cpu"]), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    seconds = min(timing.seconds(lambda: target.copy_(source), device) for _ in range(_PASSES))
    return Peaks(str(dtype).removeprefix("torch."), found, int8, 2 * source.nbytes / seconds)


def highest(first: Peaks, second: Peaks) -> Peaks:
    """The better of two measurements of one device in one dtype: other programs only ever lower a rate."""

    def better(a: Peak, b: Peak) -> Peak:
        return a if (a.rate or 0.0) >= (b.rate or 0.0) else b

    most = max(first.bytes_rate, second.bytes_rate)
    return Peaks(first.dtype, better(first.floating, second.floating), better(first.int8, second.int8), most)


def _best(products: Mapping[str, Callable[[], object]], side: int, device: torch.device) -> Peak:
    """The fastest pass of the fastest product that works computer.here."""
    found: list[tuple[float, str]] = []
    problems: list[str] = []
    for name, product in products.items():
        seconds = _fastest(product, device)
        if isinstance(seconds, str):
            problems.append(f"{name}: {seconds}")
        else:
            found.append((2 * side**3 / seconds, name))
    return Peak(*max(found)) if found else Peak(None, "; ".join(problems))


def _fastest(product: Callable[[], object], device: torch.device) -> float | str:
    """Seconds after a pass that warms up, or what went wrong."""
    try:
        return min([timing.seconds(product, device) for _ in range(_PASSES + 1)][1:])
    except Exception as error:  # noqa: BLE001 (compilers and drivers; the reason is kept)
        return f"{type(error).__name__}: {error}"[:200]


def _integer_products(codes: torch.Tensor) -> tuple[dict[str, Callable[[], object]], str]:
    """Products of int8 codes to int32 sums, by name; where there are none, why."""
    side = len(codes)
    if codes.device.type == "cpu":
        reason = cpu.refuses("cpu")
        return ({}, reason) if reason else ({f"torch._int_mm, {side}x{side}": lambda: torch._int_mm(codes, codes.t())}, "")
    found: dict[str, Callable[[], object]] = {f"torch._int_mm, {side}x{side}": lambda: torch._int_mm(codes, codes.t())}
    if importlib.util.find_spec("triton"):
        ones = torch.ones(side, 1, device=codes.device)
        found[f"Triton, {side}x{side}"] = lambda: triton_int8.matmul(codes, ones, codes, ones, None, torch.int32)
    return found, ""
