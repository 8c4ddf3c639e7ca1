"""From the names, shapes and types of stored tensors to the official fused tensors, whatever layout the file is in.

    fused or split    `attention.qkv`, `attention.o` (the official code) or `to_q`, `to_k`, `to_v`, `to_out.0` (diffusers)
    encodings         each Linear by itself: F8_E4M3 with F32 `weight_scale` (a row, or one for all with ComfyUI's marker); BF16, F16
                      or F32; U8 with bitsandbytes' NF4 state. All else is BF16, F16 or F32.

Each tensor is recognised by itself, so that checkpoints with a few Linears left in bfloat16 need no rule of their own. Whatever is
missing, unknown or of another shape or type is collected, not raised: a person who mends a file wants the whole list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.stored import StoredTensor
from ideogram_q8.formats.strict_json import parse_json
from ideogram_q8.model.architecture import diffusers_names
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.sources.encodings import Encoding, Fp8, Nf4, Plain

_MARKS = ("embed_image_indicator.weight", "llm_cond_norm.weight", "t_embedding.mlp_in.weight")
"""Names that tell Ideogram 4 from other models; the first is the one that ComfyUI and stable-diffusion.cpp go by."""
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.")
_PLAIN = ("BF16", "F16", "F32")
_NF4_STATE = ".quant_state.bitsandbytes__nf4"
_COMFY_FP8 = "float8_e4m3fn"
_COMFY_KEYS = {"format", "full_precision_matrix_mult"}


@dataclass
class Resolved:
    """The rows of each official tensor as one encoding, or one after the other as several; and all that is wrong."""

    parts: dict[str, tuple[Encoding, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> str:
        """For people: the encodings of the matrices, and whether qkv is fused, as in "F8_E4M3, fused"."""
        kinds = {part.kind for parts in self.parts.values() for part in parts if len(part.shape) > 1}
        fused = all(len(parts) == 1 for parts in self.parts.values())
        return f"{' and '.join(sorted(kinds))}, {'fused' if fused else 'split'}"


_Stored = TypeVar("_Stored")


def own_names(stored: Mapping[str, _Stored], where: str) -> dict[str, _Stored]:
    """The tensors under their own names, where all carry a prefix that single-file checkpoints use.

    Raises:
        SourceError: not an Ideogram 4 transformer, or a tensor with the prefix and without.
    """
    prefix = next((prefix for prefix in _PREFIXES if any(prefix + mark in stored for mark in _MARKS)), None)
    if prefix is None:
        raise SourceError(f"{where} is no Ideogram 4 transformer: it has {len(stored)} tensors, none of them {_MARKS[0]}")
    named: dict[str, _Stored] = {}
    for name, tensor in stored.items():
        own = name.removeprefix(prefix)
        if own in named:
            raise SourceError(f"{where} has both {own} and {prefix}{own}; expected one of them: leave the one that is meant")
        named[own] = tensor
    return named


def without_prefix(stored: Mapping[str, StoredTensor], where: str) -> dict[str, StoredTensor]:
    """`own_names` of a source. Raises SourceError also for a build of one, which is no source."""
    named = own_names(stored, where)
    refuse_builds(named, where)
    return named


def refuse_builds(stored: Mapping[str, StoredTensor], where: str) -> None:
    """Raises SourceError: the tensors are those of a quantized build, which is no source."""
    markers = (name.removesuffix(".comfy_quant") for name in stored if name.endswith(".comfy_quant"))
    marked = [f"{linear}.weight" for linear in markers]
    integers = [name for name, tensor in stored.items() if tensor.dtype == "I8"]
    for name in (*integers, *(name for name in marked if name in stored and stored[name].dtype != "F8_E4M3")):
        raise SourceError(
            f"{where} is a quantized build already: {name} is {stored[name].dtype}; "
            "expected the official FP8 checkpoint, or one in bfloat16, float16, float32 or NF4"
        )


def resolve(stored: Mapping[str, StoredTensor], config: Dimensions) -> Resolved:
    """Finds every official tensor of `config`. Reads the small JSON texts of NF4 and ComfyUI, no weights."""
    model = component(config)
    return _Search(dict(stored), {f"{linear.name}.weight" for linear in model.linears}).run(model.shapes)


class _Search:
    """One run of `resolve`: `left` are the stored tensors that nothing has claimed yet."""

    def __init__(self, left: dict[str, StoredTensor], weights: set[str]) -> None:
        self.left, self.weights, self.found = left, weights, Resolved()

    def run(self, shapes: Mapping[str, tuple[int, ...]]) -> Resolved:
        for name, shape in shapes.items():
            names = self._names(name)
            rows = (shape[0] // len(names), *shape[1:])
            parts = [self._part(part, rows, linear=name in self.weights) for part in names]
            self.found.parts[name] = tuple(part for part in parts if part is not None)
        self.found.problems += [f"{name} is unknown" for name in sorted(self.left)]
        return self.found

    def _names(self, name: str) -> tuple[str, ...]:
        """The official name unless diffusers' are what is there."""
        split = diffusers_names(name)
        return split if name not in self.left and any(part in self.left for part in split) else (name,)

    def _part(self, name: str, shape: tuple[int, ...], linear: bool) -> Encoding | None:
        stored = self.left.pop(name, None)
        if stored is None:
            self.found.problems.append(f"{name} is missing")
        elif stored.dtype in _PLAIN:
            return Plain(stored) if self._fits(stored, _PLAIN, (shape,)) else None
        elif linear and stored.dtype == "F8_E4M3":
            return self._fp8(stored, name, shape)
        elif linear and stored.dtype == "U8" and f"{name}{_NF4_STATE}" in self.left:
            return self._nf4(stored, name, shape)
        else:
            self._fits(stored, (*_PLAIN, "F8_E4M3", "NF4") if linear else _PLAIN, (shape,))
        return None

    def _fp8(self, codes: StoredTensor, name: str, shape: tuple[int, ...]) -> Encoding | None:
        fits = self._fits(codes, ("F8_E4M3",), (shape,))
        self._check_marker(self.left.pop(f"{name.removesuffix('.weight')}.comfy_quant", None))
        scale = self.left.pop(f"{name}_scale", None)
        if scale is None:
            self.found.problems.append(f"{name}_scale is missing: {name} is F8_E4M3")
            return None
        fits &= self._fits(scale, ("F32",), ((shape[0],), (shape[0], 1), (), (1,)))
        return Fp8(codes, scale) if fits else None

    def _check_marker(self, marker: StoredTensor | None) -> None:
        if marker is None:
            return
        value = self._json(marker)
        if value is not None and (value.get("format") != _COMFY_FP8 or not set(value) <= _COMFY_KEYS):
            self.found.problems.append(f"{marker.name} is {str(value)[:80]}, expected the format {_COMFY_FP8}")

    def _nf4(self, packed: StoredTensor, name: str, shape: tuple[int, ...]) -> Encoding | None:
        state = self._json(self.left.pop(f"{name}{_NF4_STATE}"))
        absmax, levels = self.left.pop(f"{name}.absmax", None), self.left.pop(f"{name}.quant_map", None)
        if absmax is not None and absmax.dtype == "U8":
            for suffix in ("nested_absmax", "nested_quant_map"):
                self.left.pop(f"{name}.{suffix}", None)
            self.found.problems.append(
                f"{name} has scales that are quantized themselves (double quantization); expected F32 scales"
            )
            return None
        self.found.problems += [f"{name}.absmax is missing"] * (absmax is None)
        self.found.problems += [f"{name}.quant_map is missing"] * (levels is None)
        if state is None or absmax is None or levels is None:
            return None
        block = state.get("blocksize")
        if type(block) is not int or block not in _NF4_BLOCKS or state.get("shape") != list(shape):
            got = f"blocksize {block!r} and shape {state.get('shape')!r}"
            self.found.problems.append(f"{name} has {got[:100]}, expected {list(shape)} in blocks of {_NF4_BLOCKS[0]} to 4096")
            return None
        count = math.prod(shape)
        fits = self._fits(packed, ("U8",), ((-(-count // 2), 1), (1, -(-count // 2)), (-(-count // 2),)))
        fits &= self._fits(absmax, ("F32",), ((-(-count // block),),))
        fits &= self._fits(levels, ("F32",), ((16,),))
        return Nf4(packed, absmax, levels, block, shape) if fits else None

    def _json(self, stored: StoredTensor) -> dict[str, object] | None:
        try:
            value = parse_json(stored.read_text(), stored.name, SourceError)
        except SourceError as error:
            self.found.problems.append(str(error))
            return None
        if not isinstance(value, dict):
            self.found.problems.append(f"{stored.name} holds {str(value)[:40]!r}, expected a JSON object")
            return None
        return value

    def _fits(self, stored: StoredTensor, dtypes: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> bool:
        if stored.dtype in dtypes and stored.shape in shapes:
            return True
        wanted = f"{' or '.join(dtypes)} {' or '.join(str(list(shape)) for shape in shapes)}"
        self.found.problems.append(f"{stored.name} is {stored.dtype} {list(stored.shape)}, expected {wanted}")
        return False


_NF4_BLOCKS = (64, 128, 256, 512, 1024, 2048, 4096)
"""bitsandbytes' block sizes."""
