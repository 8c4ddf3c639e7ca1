"""Linears that see the same input, as one product: q, k and v, and the two halves of the feed-forward gate.

diffusers has them as modules of their own. `adjoin` lets them share one piece of memory, a row after the other; `joined` is one layer
over all of it. The separate modules stay what they are, for hooks and for diffusers' own forward.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight, Nf4Weight, Packed
from ideogram_q8.model.architecture import TOGETHER
from ideogram_q8.runtime.layers.packed import Fp8Linear, GgmlLinear, Int8Linear, Nf4Linear, PackedLinear, from_packed


def together(block: nn.Module) -> tuple[tuple[nn.Module, ...], ...]:
    """The layers of a block that see the same input: (q, k, v), (w1, w3)."""
    return tuple(tuple(block.get_submodule(name) for name in names) for names in TOGETHER)


def adjoin_block(block: nn.Module) -> None:
    """`adjoin` for a block. To be called when the weights are where they will stay: moving a module parts its memory."""
    for layers in together(block):
        adjoin(layers)


def adjoin(layers: Sequence[nn.Module]) -> None:
    """Makes the weights of `layers` neighbours in memory, if they are of one kind; copies them unless they are already."""
    if not _alike(layers):
        return
    for name in _weight_names(layers[0]):
        parts = [_tensor(layer, name) for layer in layers]
        if _neighbours(parts):
            continue
        rows = torch.cat(parts).split([len(part) for part in parts])
        for layer, part in zip(layers, rows, strict=True):
            held = layer._parameters if name in layer._parameters else layer._buffers
            held[name] = nn.Parameter(part, requires_grad=False) if name in layer._parameters else part


def joined(layers: Sequence[nn.Module]) -> nn.Module | None:
    """One layer [..., K] -> [..., N1 + N2 + ...] in the memory of `layers`; None where they are not alike or not neighbours."""
    if not _alike(layers):
        return None
    names = _weight_names(layers[0])
    parts = {name: [_tensor(layer, name) for layer in layers] for name in names}
    if not all(map(_neighbours, parts.values())):
        return None
    whole = {name: _span(tensors) for name, tensors in parts.items()}
    first = layers[0]
    if isinstance(first, PackedLinear):
        return from_packed(_repacked(first, whole))
    weight = whole["weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def _alike(layers: Sequence[nn.Module]) -> bool:
    """Whether one layer could hold all: one class, one treatment of the input, no bias."""
    first, *others = layers
    if not isinstance(first, PackedLinear | nn.Linear) or any(layer.bias is not None for layer in layers):
        return False
    return all(type(layer) is type(first) and _treatment(layer) == _treatment(first) for layer in others)


def _treatment(layer: nn.Module) -> tuple[object, ...]:
    match layer:
        case Int8Linear():
            return layer.in_features, layer.rotation, layer.weight_only, layer.codes.device
        case GgmlLinear():
            return layer.in_features, layer.block.name, layer.packed_names, layer.data.device
        case Nf4Linear():
            return layer.in_features, layer.absmax.shape[1], layer.data.device
        case Fp8Linear() | nn.Linear():
            return layer.in_features, layer.weight.dtype, layer.weight.device
        case _:
            return (id(layer),)


def _weight_names(layer: nn.Module) -> tuple[str, ...]:
    return layer.packed_names if isinstance(layer, PackedLinear) else ("weight",)


def _tensor(layer: nn.Module, name: str) -> torch.Tensor:
    found = getattr(layer, name)
    assert isinstance(found, torch.Tensor)
    return found


def _neighbours(parts: Sequence[torch.Tensor]) -> bool:
    """Whether each contiguous part begins where the one before ends."""
    end = parts[0].storage_offset()
    for part in parts:
        same = part.untyped_storage().data_ptr() == parts[0].untyped_storage().data_ptr()
        if not (same and part.is_contiguous() and part.storage_offset() == end):
            return False
        end += part.numel()
    return True


def _span(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Neighbours as one tensor, in the same memory."""
    first = parts[0].detach()
    return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())


def _repacked(layer: PackedLinear, whole: dict[str, torch.Tensor]) -> Packed:
    match layer:
        case Int8Linear():
            return Int8Weight(whole["codes"], whole["scale"], layer.rotation, layer.weight_only)
        case GgmlLinear():
            return GgmlWeight(whole["data"], layer.block.name, (len(whole["data"]), layer.in_features), whole.get("scale"))
        case Fp8Linear():
            return Fp8Weight(whole["weight"], whole["scale"])
        case Nf4Linear():
            return Nf4Weight(whole["data"], whole["absmax"])
    raise AssertionError(f"{type(layer).__name__} has no treatment")
