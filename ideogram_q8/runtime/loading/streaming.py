"""Blocks that are kept in host memory and visit the device to be run, each fetched while the one before it computes.

A block's attention and feed-forward weights are copied as one run of bytes into one of two slots on the device; the block's tensors are
views of its slot for good, so nothing is allocated, and its modules look like any others. Outside its visit they hold another block's
bytes. Norms and modulation stay on the device: the modulation of all steps is computed ahead.

diffusers' `apply_group_offloading` is not used: its hooks need accelerate, move what lies outside the blocks in the transformer's own
`forward`, which our loop never calls, and copy weights back that have not changed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import Ideogram4Transformer2DModel
from torch import nn
from transformers import Qwen3VLTextModel

from ideogram_q8.model.architecture import TOGETHER

_ALIGNMENT = 64
SLOTS = 2
"""On the device: one block is computed, the next arrives."""
STREAMED = ("attention", "feed_forward")
"""The parts of a transformer's block that are streamed."""
_STREAMED_OF_ENCODER = ("self_attn", "mlp")

Source = tuple[torch.Tensor, ...]
"""A block's run of bytes in host memory, in pieces whose sizes are powers of two: torch rounds pinned memory up to the next one."""
_SMALLEST_PIECE = 1 << 20


def fill(slot: torch.Tensor, source: Source, non_blocking: bool = False) -> None:
    """Copies a run of bytes to the beginning of `slot`, which may lack the last piece's unused end."""
    start = 0
    for piece in source:
        part = slot[start : start + len(piece)]
        part.copy_(piece[: len(part)], non_blocking=non_blocking)
        start += len(piece)


class Lane(Protocol):
    """Where copies to the device run."""

    def use(self, slot: torch.Tensor) -> None:
        """Copies to `slot` will be asked for: its memory is not another's before they are done."""

    def copy(self, slot: torch.Tensor, source: Source) -> object:
        """Starts copying when all work that was asked for so far is done; what it returns is waited for."""

    def wait(self, ticket: Any) -> None:
        """Work that is asked for from now on begins after the copy."""


class HostLane:
    """Copies at once: without CUDA nothing runs beside."""

    def use(self, slot: torch.Tensor) -> None:
        """Nothing outlives a call."""

    def copy(self, slot: torch.Tensor, source: Source) -> None:
        fill(slot, source)

    def wait(self, ticket: None) -> None:
        """Nothing to wait for."""


class CudaLane:
    """A stream of its own, fed from pinned memory."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def use(self, slot: torch.Tensor) -> None:
        slot.record_stream(self._stream)  # the last copy that was asked for may still run when the slot is dropped

    def copy(self, slot: torch.Tensor, source: Source) -> torch.cuda.Event:
        self._stream.wait_stream(torch.cuda.current_stream(slot.device))
        with torch.cuda.stream(self._stream):
            fill(slot, source, non_blocking=True)
            return self._stream.record_event()

    def wait(self, ticket: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self._stream.device).wait_event(ticket)


@dataclass(frozen=True)
class _Held:
    """A tensor of a block: where the module keeps it, and its place in the block's run of bytes."""

    owner: dict[str, Any]
    name: str
    tensor: torch.Tensor
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.tensor.nbytes


class BlockStream:
    """The blocks of one transformer or several, in the order in which they run, over and over.

    `enter(i)` before block i runs; blocks may be skipped, at the price of a copy that is not hidden.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], device: torch.device, lane: Lane | None = None, parts: tuple[str, ...] = STREAMED
    ) -> None:
        """Moves `parts` of the blocks to host memory (pinned, for a CUDA device); the rest of them is on `device` already."""
        self._lane: Lane = lane or (CudaLane(device) if device.type == "cuda" else HostLane())
        self._sizes = [_layout(block, parts)[-1].stop for block in blocks]
        self._slots = [torch.empty(max(self._sizes), dtype=torch.uint8, device=device) for _ in range(min(SLOTS, len(blocks)))]
        for slot in self._slots:
            self._lane.use(slot)
        self._sources: list[Source] = []
        for i, block in enumerate(blocks):  # one at a time, so that no two of them are held twice
            layout = _layout(block, parts)
            self._sources.append(_packed(layout, device.type == "cuda"))
            while layout:
                _point(layout.pop(), self._slots[i % SLOTS])
        self._arriving: dict[int, tuple[int, object]] = {}
        """By slot: the block whose bytes are there or on their way, and what to wait for."""

    @property
    def device_bytes(self) -> int:
        """Bytes of all slots."""
        return sum(slot.nbytes for slot in self._slots)

    @property
    def host_bytes(self) -> int:
        """Bytes of all blocks, in host memory."""
        return sum(piece.nbytes for source in self._sources for piece in source)

    def enter(self, index: int) -> None:
        """Block `index` is next: waits for its weights, and starts fetching those of the block after it."""
        self._fetch(index)
        _, ticket = self._arriving[index % SLOTS]
        self._lane.wait(ticket)
        following = (index + 1) % len(self._sources)
        if following % SLOTS != index % SLOTS:
            self._fetch(following)

    def _fetch(self, index: int) -> None:
        slot = index % SLOTS
        if slot in self._arriving and self._arriving[slot][0] == index:
            return
        self._arriving[slot] = index, self._lane.copy(self._slots[slot][: self._sizes[index]], self._sources[index])


def stream_blocks(transformers: Sequence[Ideogram4Transformer2DModel], device: torch.device) -> list[Callable[[int], None]]:
    """Makes transformers run on `device`, one after the other in every step, with their blocks in host memory.

    What lies outside the blocks, and what of them is not streamed, moves to the device now.

    Returns:
        For each transformer, what `denoising.Denoiser` calls before each of its blocks.
    """
    for transformer in transformers:
        _move(transformer, ("layers",), device)
        for block in transformer.layers:
            _move(block, STREAMED, device)
    stream = BlockStream([block for transformer in transformers for block in transformer.layers], device)
    starts = itertools.accumulate((len(transformer.layers) for transformer in transformers), initial=0)
    return [functools.partial(_enter, stream, start) for start in list(starts)[:-1]]


def stream_encoder(encoder: Qwen3VLTextModel, device: torch.device) -> None:
    """Makes a text encoder run on `device` with its layers in host memory; its embedding is looked up there, too."""
    _move(encoder, ("layers", "embed_tokens"), device)
    for layer in encoder.layers:
        _move(layer, _STREAMED_OF_ENCODER, device)
    stream = BlockStream(list(encoder.layers), device, parts=_STREAMED_OF_ENCODER)
    for index, layer in enumerate(encoder.layers):
        layer.register_forward_pre_hook(functools.partial(_enter_layer, stream, index))


def _enter_layer(stream: BlockStream, index: int, *_: object) -> None:
    stream.enter(index)


def _move(module: nn.Module, stay: tuple[str, ...], device: torch.device) -> None:
    """Moves all children but those that stay."""
    for name, child in module.named_children():
        if name not in stay:
            child.to(device)


def _enter(stream: BlockStream, start: int, index: int) -> None:
    stream.enter(start + index)


def _layout(block: nn.Module, parts: tuple[str, ...]) -> list[_Held]:
    """The streamed tensors of a block with their places.

    Those of TOGETHER lie side by side, a row after the other, so that they run as one product (`fusing.joined`): what a GGUF file
    maps lies apart until now.
    """
    modules = {name: module for part in parts for name, module in block.get_submodule(part).named_modules(prefix=part)}
    runs = {name: names for names in TOGETHER for name in names}
    found: list[_Held] = []
    position = 0
    for run in dict.fromkeys(runs.get(name, (name,)) for name in modules):
        owners: list[dict[str, Any]] = [owner for name in run for owner in (modules[name]._parameters, modules[name]._buffers)]
        tensors = [(name, owner, tensor) for owner in owners for name, tensor in owner.items() if tensor is not None]
        tensors.sort(key=lambda item: item[0])
        before = None
        for name, owner, tensor in tensors:
            if (name, tensor.dtype) != before:
                position += -position % _ALIGNMENT
            found.append(_Held(owner, name, tensor.detach(), position))
            position, before = found[-1].stop, (name, tensor.dtype)
    return found


def _packed(layout: Sequence[_Held], pinned: bool) -> Source:
    """All of a block's tensors as one run of bytes in host memory."""
    source = tuple(torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for size in piece_sizes(layout[-1].stop))
    for held in layout:
        data, at = held.tensor.contiguous().view(-1).view(torch.uint8), held.start
        for piece in source:
            if 0 <= at < len(piece):
                part = data[: len(piece) - at]
                piece[at : at + len(part)].copy_(part)
                data, at = data[len(part) :], at + len(part)
            at -= len(piece)
            if not len(data):
                break
    return source


def piece_sizes(size: int) -> list[int]:
    """Powers of two, the largest first, that hold `size` bytes with less than _SMALLEST_PIECE to spare."""
    rest = -(-size // _SMALLEST_PIECE)
    return [_SMALLEST_PIECE << bit for bit in reversed(range(rest.bit_length())) if rest >> bit & 1]


def _point(held: _Held, slot: torch.Tensor) -> None:
    view = slot[held.start : held.stop].view(held.tensor.dtype).view(held.tensor.shape)
    was_parameter = isinstance(held.owner[held.name], nn.Parameter)
    held.owner[held.name] = nn.Parameter(view, requires_grad=False) if was_parameter else view
