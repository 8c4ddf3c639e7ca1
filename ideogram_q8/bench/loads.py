"""`bench load`: from files to transformers on the device, in a process of its own each time, and from one variant to another.

A variant is loaded when its weights are where they are computed with: what a GGUF file maps into memory is touched page by page, or
else a CPU would have loaded it in no time. Text encoder and VAE are left out; they are the same for all variants.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ideogram_q8.bench import machine, timing
from ideogram_q8.bench.linear.random_weights import FP8, Pool, RandomBranch, WeightForm
from ideogram_q8.bench.processes import apart
from ideogram_q8.bench.quantizing import drop_from_cache
from ideogram_q8.bench.results import FORMAT_VERSION, BenchProgress, LoadResult, LoadRow, LoadSettings, OnProgress, now
from ideogram_q8.bench.timing import Timing
from ideogram_q8.builds import gguf_build, open_artifact
from ideogram_q8.builds.packed import Fp8Weight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.formats.manifest import FILE_NAME
from ideogram_q8.model.architecture import (
    BRANCHES,
    COMPONENT_FOLDERS,
    IDEOGRAM4,
    WEIGHT_FILES,
    Branch,
    TransformerConfig,
    linears,
    tensor_shapes,
)
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.loading.networks import WeightReader, build_transformer
from ideogram_q8.runtime.memory import usage
from ideogram_q8.sources import open_source

SCHEMES = ("int8", "q8_0", "q4_k_s")
"""What a random checkpoint is quantized to, where no places are named."""
_PAGE = 4096


@dataclass(frozen=True)
class Opened:
    """Both branches of what a place holds."""

    variant: str
    config: TransformerConfig
    readers: Mapping[Branch, WeightReader]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(path for reader in self.readers.values() for path in reader.files))


def open_branches(place: str) -> Opened:
    """An artifact folder, the first of two GGUF files, or what `open_source` takes. Raises SourceError, ArtifactError."""
    path = Path(place)
    if gguf_build.is_gguf(path):
        build = gguf_build.open_transformers(path)
        return Opened(build.variant, build.transformer_config, {branch: build.branch(branch) for branch in BRANCHES})
    if (path / FILE_NAME).is_file():
        artifact = open_artifact(path)
        return Opened(artifact.variant, artifact.transformer_config, {b: artifact.branch(b) for b in BRANCHES})
    source = open_source(place)
    return Opened(FP8, source.config, {branch: SourceWeights(source.branch(branch)) for branch in BRANCHES})


@dataclass(frozen=True)
class _Load:
    """What a child process measured: seconds from the headers on, bytes on the device and of host memory."""

    seconds: float
    device_bytes: int
    peak_bytes: int


def load(place: str, device: torch.device, dtype: torch.dtype) -> list[nn.Module]:
    """Both transformers, their weights in memory."""
    opened = open_branches(place)
    found: list[nn.Module] = [
        build_transformer(opened.readers[b], opened.config, device, dtype, text_projection=b == "conditional") for b in BRANCHES
    ]
    if device.type == "cpu":
        for module in found:
            _touch(module)
    timing.synchronize(device)
    return found


def _touch(module: nn.Module) -> None:
    """Reads a byte of every page."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_contiguous() and tensor.numel():
            tensor.detach().view(-1).view(torch.uint8)[::_PAGE].sum()


def measure(
    places: Sequence[str],
    settings: LoadSettings,
    device: torch.device,
    on_progress: OnProgress = lambda _: None,
    keep: Callable[[LoadResult], None] = lambda _: None,
) -> LoadResult:
    """Ctrl-C ends it early: the result has what was measured. A place that cannot be loaded is a row that says why.

    Args:
        keep: called after each place with the result so far, marked as interrupted, so that no later fault costs it.
    """
    started = now()
    rows: list[LoadRow] = []
    held: tuple[int, ...] = ()
    interrupted = False

    def result() -> LoadResult:
        # the folder of a random checkpoint is gone when the result is read
        shown = [replace(row, place=Path(row.place).name) for row in rows] if settings.layers else rows
        return LoadResult(FORMAT_VERSION, "load", started, machine.machine(device), settings, tuple(shown), held, interrupted)

    try:
        for i, place in enumerate(places):
            on_progress(BenchProgress(i, len(places) + 1, place))
            rows.append(_row(place, settings, device))
            keep(replace(result(), interrupted=True))
        on_progress(BenchProgress(len(places), len(places) + 1, "switching"))
        switches, held = _switches([row.place for row in rows if row.cold is not None], settings, device)
        rows = [replace(row, switch=switches.get(row.place)) for row in rows]
        on_progress(BenchProgress(len(places) + 1, len(places) + 1, ""))
    except KeyboardInterrupt:
        interrupted = True
    return result()


def _row(place: str, settings: LoadSettings, device: torch.device) -> LoadRow:
    try:
        opened = open_branches(place)
        found: dict[bool, list[_Load]] = {True: [], False: []}
        note = ""
        for _ in range(settings.rounds):
            for cold in (True, False):
                if cold:
                    note = f"files {drop_from_cache(opened.files)}"
                found[cold].append(apart("loaded", _load_once, place, str(device), settings.dtype))
    except IdeogramQ8Error as error:
        return LoadRow("unknown", place, 0, 0, None, None, None, None, str(error))
    cold_loads, warm_loads = found[True], found[False]
    return LoadRow(
        variant=opened.variant,
        place=place,
        file_bytes=sum(path.stat().st_size for path in opened.files),
        device_bytes=cold_loads[0].device_bytes,
        cold=Timing.of([each.seconds for each in cold_loads]),
        warm=Timing.of([each.seconds for each in warm_loads]),
        peak_bytes=max(each.peak_bytes for each in cold_loads + warm_loads),
        switch=None,
        note=note,
    )


def _load_once(place: str, device: str, dtype: str) -> _Load:
    """In a fresh process."""
    target, host = torch.device(device), torch.device("cpu")
    torch.zeros(1, device=target)  # CUDA's own start is not the variant's
    before = usage.host_bytes()[2]
    usage.reset_peak(host)
    start = time.perf_counter()
    modules = load(place, target, getattr(torch, dtype))
    seconds = time.perf_counter() - start
    return _Load(seconds, usage.module_bytes(*modules), max(0, usage.peak_bytes(host) - before))


def _switches(places: Sequence[str], settings: LoadSettings, device: torch.device) -> tuple[dict[str, Timing], tuple[int, ...]]:
    if not places:
        return {}, ()
    samples, held = apart("loaded", _switch, list(places), str(device), settings.dtype, settings.rounds)
    return {place: Timing.of(seconds) for place, seconds in samples.items() if seconds}, held


def _switch(places: list[str], device: str, dtype: str, rounds: int) -> tuple[dict[str, list[float]], tuple[int, ...]]:
    """From each variant to the next, round and round: seconds of each switch, and bytes held after each round."""
    target = torch.device(device)
    samples: dict[str, list[float]] = {place: [] for place in places}
    held: list[int] = []
    current = load(places[-1], target, getattr(torch, dtype))
    for _ in range(rounds):
        for place in places:
            start = time.perf_counter()
            current.clear()
            gc.collect()
            if target.type == "cuda":
                torch.cuda.empty_cache()
            current = load(place, target, getattr(torch, dtype))
            samples[place].append(time.perf_counter() - start)
        held.append(usage.host_bytes()[2])
    return samples, tuple(held)


# ---- a checkpoint to measure with ----


def write_random(folder: Path, layers: int, seed: int = 0, config: TransformerConfig = IDEOGRAM4) -> Path:
    """A random checkpoint in the official FP8 layout, at the model's width, with so many blocks; returns its folder."""
    dimensions = replace(config, num_layers=layers)
    pool = Pool(seed, torch.device("cpu"), torch.bfloat16)
    forms = {linear.name: WeightForm(FP8) for linear in linears(dimensions)}
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Ideogram4Pipeline"}), encoding="utf-8")
    for branch in BRANCHES:
        part = folder / COMPONENT_FOLDERS[branch]
        part.mkdir()
        (part / "config.json").write_text(json.dumps(dimensions.to_json()), encoding="utf-8")
        reader = RandomBranch(pool, dimensions, branch, forms)
        tensors: dict[str, torch.Tensor] = {}
        for name in tensor_shapes(dimensions):
            packed = reader.packed(name.removesuffix(".weight")) if name.removesuffix(".weight") in forms else None
            if packed is None or not name.endswith(".weight"):
                tensors[name] = reader.read(name)
            else:
                assert isinstance(packed, Fp8Weight)
                tensors |= {name: packed.weight, f"{name}_scale": packed.scale}
        save_file(tensors, part / WEIGHT_FILES[branch], metadata={"format": "pt"})
    return folder


def write_variants(folder: Path, source: Path, schemes: Sequence[str]) -> list[str]:
    """The checkpoint's builds in these schemes: their folders, after the checkpoint's own."""
    opened = open_source(str(source))
    for scheme in schemes:
        quantize(opened, choose(scheme, opened.config), folder / scheme)
    return [str(source), *(str(folder / scheme) for scheme in schemes)]
