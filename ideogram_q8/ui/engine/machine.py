"""What the Machine tab shows, as plain facts: the device, its memory now, which kernels run and why others do not, what is kept on disk."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ideogram_q8.builds import variants
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine import nvml
from ideogram_q8.machine import platforms as computer
from ideogram_q8.machine.devices import TorchBuild, notes
from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.measure.measurement import hardware
from ideogram_q8.model.architecture import BRANCHES, SIDE_MULTIPLE, TransformerConfig, linears
from ideogram_q8.runtime.kernels import BlockProduct, block_products, expansion_refusal
from ideogram_q8.runtime.kernels.attention import sdpa
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.memory import inventory, usage
from ideogram_q8.runtime.memory.budget import Encoder, Networks
from ideogram_q8.runtime.text import caption_cache
from ideogram_q8.ui.engine.studio import Studio

_LIBRARIES = ("torch", "diffusers", "transformers", "gradio", "comfy-kitchen", "triton", "triton-windows")


@dataclass(frozen=True)
class Gauge:
    """Memory of some kind: bytes in use, and of how many."""

    name: str
    used: int
    total: int


@dataclass(frozen=True)
class Kernel:
    """A product: the back end that computes it, and (name, reason) of those that were preferred and refused."""

    what: str
    runs: str
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Store:
    """Something kept on disk; `key` names it to `clean`."""

    key: str
    title: str
    folder: Path
    files: int
    size_bytes: int


def facts(device: str) -> dict[str, str]:
    """The machine and the libraries, in words."""
    found = hardware(device)
    rows = {"Processor": found.processor, "Threads": str(found.threads), "Memory": gigabytes(found.memory_bytes)}
    if found.accelerator is not None:
        card = torch.cuda.get_device_properties(device)
        rows = {
            "Card": f"{found.accelerator}, {gigabytes(card.total_memory)}",
            "Compute capability": f"{card.major}.{card.minor}",
            "Driver": f"{nvml.driver(torch.device(device)) or computer.here.nvidia_driver()}, CUDA {torch.version.cuda}",
        } | rows
    else:
        rows = {"Card": f"none that torch {torch.__version__} can use; everything runs on the processor"} | rows
    told = notes(TorchBuild(torch.__version__, torch.version.cuda, torch.version.hip))
    rows |= {"To know": "; ".join(told)} if told else {}
    return rows | {"Libraries": ", ".join(f"{name} {version}" for name, version in _versions().items())}


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def gauges(device: str) -> list[Gauge]:
    """Memory now: the card's, with what other programs hold; the computer's; this program's share of each."""
    total, free, resident = usage.host_bytes()
    rows = [Gauge("Memory of the computer", total - free, total), Gauge("of it, this program", resident, total)]
    if device != "cuda":
        return rows
    card_free, card_total = torch.cuda.mem_get_info(device)
    card = Gauge("Memory of the card", card_total - card_free, card_total)
    return [card, Gauge("of it, this program's tensors", torch.cuda.memory_allocated(device), card_total), *rows]


def kernels_of(studio: Studio, size: tuple[int, int]) -> list[Kernel]:
    """`kernels` for what a studio runs; while a picture is painted, a row that says why there are none.

    Back ends are tried when they are chosen, which takes up to 0.9 GB for a picture of 2048x2048: more than a painting model leaves.
    """
    with studio.unoccupied() as free:
        if free:
            return kernels(studio.config, size, studio.device, getattr(torch, studio.dtype))
    return [
        Kernel("Kernels", "a picture is being painted, and trying kernels needs the device: open this tab again after it", ())
    ]


def kernels(config: TransformerConfig, size: tuple[int, int], device: str, dtype: torch.dtype) -> list[Kernel]:
    """What computes a picture of `size` (width, height): the W8A8 products of a block, how ggml's blocks are expanded, and whether both
    branches run at once."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for product in block_products(config, size[0] * size[1] // SIDE_MULTIPLE**2, device, dtype):
        found.setdefault(_chosen(product), []).append(product.name)
    products = [Kernel(f"INT8 of {', '.join(names)}", runs, refused) for (runs, refused), names in found.items()]
    reason = expansion_refusal("q4_k", torch.device(device))
    blocks = Kernel(
        "GGUF blocks are expanded by", "plain torch" if reason else "Triton", (("Triton", reason),) if reason else ()
    )
    found_attention = sdpa.chosen_on(torch.device(device), dtype, config.attention_head_dim)
    attention = Kernel("Attention is computed by", found_attention.runs, found_attention.refused)
    return [*products, blocks, attention, Kernel("Both branches of INT8 run", _branches(config, size, device, dtype), ())]


def _chosen(product: BlockProduct) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The name of the back end that computes a product, and what was refused; beside a model that fills the card there may be neither."""
    try:
        choice = product.choose()
    except Exception as error:
        if not lacks_memory(error):
            raise
        return "not tried yet: no memory for it beside the model that is loaded", ()
    return choice.backend.name, choice.refused


def _branches(config: TransformerConfig, size: tuple[int, int], device: str, dtype: torch.dtype) -> str:
    schemes = {branch: {linear.name: "w8a8" for linear in linears(config)} for branch in BRANCHES}
    networks = Networks(config, schemes, Encoder(0, 0, 0), 0, (1, 1), dtype)
    return table.branches_note(torch.device(device), inventory.pair(networks, size))


def stores(studio: Studio, mine: Sequence[str]) -> list[Store]:
    """What is kept on disk.

    Args:
        mine: names of files in the outputs folder, those of the visitor's pictures.
    """
    captions = caption_cache.from_environment()
    pictures = [studio.outputs / name for name in mine if (studio.outputs / name).is_file()]
    found = [
        _store("variants", "Built variants of all sources", studio.cache or variants.default_cache()),
        Store("pictures", "Your pictures", studio.outputs, len(pictures), sum(path.stat().st_size for path in pictures)),
    ]
    if captions is not None:
        found.insert(1, _store("captions", "Projected captions", captions.folder))
    return found


def _store(key: str, title: str, folder: Path) -> Store:
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may go meanwhile
            if path.is_file() and path.suffix != ".lock":
                sizes.append(path.stat().st_size)
    return Store(key, title, folder, len(sizes), sum(sizes))


def clean(studio: Studio, key: str, owner: str) -> None:
    """Deletes what a store holds; of pictures, the owner's.

    Raises:
        RequestError: something is being painted, or there is no such store.
    """
    with studio.idle():
        if key == "pictures":
            files = studio.library.files(owner)
            studio.library.forget_all(owner)
            for file in files:
                (studio.outputs / file).unlink(missing_ok=True)
            studio.copies.remove(files)
            return
        found = next((store for store in stores(studio, ()) if store.key == key), None)
        if found is None:
            raise RequestError(f"nothing is kept under the name {key!r}; reload the page")
        _empty(found)


def _empty(store: Store) -> None:
    """Removes the builds that no other process is making, or all captions."""
    for lock in store.folder.glob("*/*.lock"):
        with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    for path in store.folder.glob("*.safetensors"):
        path.unlink(missing_ok=True)
