"""From the names, shapes and types of stored tensors to the official fused tensors, whatever layout the file is in.

    fused or split    `attention.qkv`, `attention.o` (the official code) or `to_q`, `to_k`, `to_v`, `to_out.0` (diffusers)
    encodings         each Linear by itself: F8_E4M3 with F32 `weight_scale` (a row, or one for all with ComfyUI's marker); I8 with F32
                      `weight_scale` and ComfyUI's marker; BF16, F16 or F32; U8 with bitsandbytes' NF4 state. All else is BF16, F16 or F32.

Each tensor is recognised by itself, so that checkpoints with a few Linears left in bfloat16 need no rule of their own. Whatever is
missing, unknown or of another shape or type is collected, not raised: a person who mends a file wants the whole list.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.stored import StoredTensor
from ideogram_q8.formats.strict_json import parse_json
from ideogram_q8.model.architecture import diffusers_names
from ideogram_q8.model.components import Dimensions, component
from ideogram_q8.sources import markers, prefixes
from ideogram_q8.sources.encodings import Encoding, Fp8, Int8, Nf4, Plain
from ideogram_q8.sources.places import Stored

_PLAIN = ("BF16", "F16", "F32")
_NF4_STATE = ".quant_state.bitsandbytes__nf4"
_SIDE_TENSORS = ("_scale", "_scale_2", "_zero_point", "_zero", "_shape")
"""What goes with a weight in ComfyUI's formats that are not read here."""


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


@dataclass(frozen=True)
class Named:
    """A network's stored tensors by official or diffusers' names, and `marks`, what the header says of its Linears (`markers.listed`)."""

    tensors: dict[str, StoredTensor]
    marks: dict[str, object] = field(default_factory=dict)


def named(stored: Stored, where: str, prefix: str = "", other: str | None = None) -> Named:
    """What belongs to the network with a prefix (`prefixes.own_names`). Raises SourceError: names contradict each other."""
    tensors = prefixes.own_names(stored.tensors, prefix, where, other)
    marks = prefixes.own_names(markers.listed(stored.metadata, where), prefix, where, other)
    return Named(markers.today(tensors, where), marks)


def refuse_builds(stored: Mapping[str, StoredTensor], where: str) -> None:
    """Raises SourceError: the tensors are those of a quantized build, which is no source."""
    linears = (name.removesuffix(".comfy_quant") for name in stored if name.endswith(".comfy_quant"))
    marked = [f"{linear}.weight" for linear in linears]
    integers = [name for name, tensor in stored.items() if tensor.dtype == "I8"]
    for name in (*integers, *(name for name in marked if name in stored and stored[name].dtype != "F8_E4M3")):
        raise SourceError(
            f"{where} is a quantized build already: {name} is {stored[name].dtype}; "
            "expected the official FP8 checkpoint, or one in bfloat16, float16, float32 or NF4"
        )


def only(stored: Named, beginning: str) -> Named:
    """What has names that begin so."""
    tensors = {name: tensor for name, tensor in stored.tensors.items() if name.startswith(beginning)}
    return Named(tensors, {name: mark for name, mark in stored.marks.items() if name.startswith(beginning)})


def resolve(stored: Named, config: Dimensions, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Resolved:
    """Finds every official tensor of `config`, or those of `shapes`. Reads the small JSON texts of NF4 and ComfyUI, no weights."""
    model = component(config)
    return _Search(stored, {f"{linear.name}.weight" for linear in model.linears}).run(shapes or model.shapes)


class _Search:
    """One run of `resolve`: `left` and `marks` are what nothing has claimed yet, `unread` the formats of Linears that are not read."""

    def __init__(self, stored: Named, weights: set[str]) -> None:
        self.left, self.marks = dict(stored.tensors), dict(stored.marks)
        self.weights, self.found = weights, Resolved()
        self.unread: Counter[str] = Counter()

    def run(self, shapes: Mapping[str, tuple[int, ...]]) -> Resolved:
        for name, shape in shapes.items():
            names = self._names(name)
            rows = (shape[0] // len(names), *shape[1:])
            parts = [self._part(part, rows, linear=name in self.weights) for part in names]
            self.found.parts[name] = tuple(part for part in parts if part is not None)
        self.found.problems += [
            f"{count} Linears are in ComfyUI's format {name}, which is not read" for name, count in self.unread.items()
        ]
        self.found.problems += [f"{name} is unknown" for name in sorted(self.left)]
        self.found.problems += [f"{name} is listed as quantized, and is not" for name in sorted(self.marks)]
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
        elif linear and stored.dtype == "U8" and f"{name}{_NF4_STATE}" in self.left:
            return self._nf4(stored, name, shape)
        elif linear:
            return self._marked(stored, name, shape)
        else:
            self._fits(stored, _PLAIN, (shape,))
        return None

    def _marked(self, stored: StoredTensor, name: str, shape: tuple[int, ...]) -> Encoding | None:
        """A weight that needs more than itself to be read: scales, and mostly a marker that says how."""
        before = len(self.found.problems)
        marker = self._marker(name)
        if len(self.found.problems) > before:
            self._drop_side_tensors(name)
        elif marker is not None and marker.format not in (*markers.FP8, markers.INT8):
            self.unread[marker.format] += 1
            self._drop_side_tensors(name)
        elif stored.dtype == "F8_E4M3" and (marker is None or marker.format in markers.FP8):
            return self._fp8(stored, name, shape)
        elif stored.dtype == "I8" and marker is not None and marker.format == markers.INT8:
            return self._int8(stored, name, shape, marker)
        elif stored.dtype == "I8" and marker is None:
            self.found.problems.append(
                f"{name} is I8 without {name.removesuffix('.weight')}.comfy_quant, which says how it is read"
            )
            self._drop_side_tensors(name)
        elif marker is not None:
            self.found.problems.append(f"{name} is {stored.dtype}, and marked as {marker.format}")
            self._drop_side_tensors(name)
        else:
            self._fits(stored, (*_PLAIN, "F8_E4M3", "NF4"), (shape,))
        return None

    def _marker(self, name: str) -> markers.Marker | None:
        """What a Linear's marker says, in the file or in its header; a problem is noted where it says nothing that is known."""
        linear = name.removesuffix(".weight")
        listed, tensor = self.marks.pop(linear, None), self.left.pop(f"{linear}.comfy_quant", None)
        if listed is None and tensor is None:
            return None
        value = listed if tensor is None else self._json(tensor)
        try:
            return None if value is None else markers.parse(value, f"{linear}.comfy_quant")
        except SourceError as error:
            self.found.problems.append(str(error))
            return None

    def _drop_side_tensors(self, name: str) -> None:
        """What goes with a weight that a problem was noted of."""
        for suffix in _SIDE_TENSORS:
            self.left.pop(f"{name}{suffix}", None)
        self.left.pop(f"{name.removesuffix('.weight')}.input_scale", None)

    def _scale(self, name: str, rows: int, dtype: str) -> StoredTensor | None:
        """The scales of a weight; that of its activations, if any, is for those who quantize these."""
        of_inputs = self.left.pop(f"{name.removesuffix('.weight')}.input_scale", None)
        if of_inputs is not None:
            self._fits(of_inputs, ("F32",), ((), (1,)))
        scale = self.left.pop(f"{name}_scale", None)
        if scale is None:
            self.found.problems.append(f"{name}_scale is missing: {name} is {dtype}")
            return None
        return scale if self._fits(scale, ("F32",), ((rows,), (rows, 1), (), (1,))) else None

    def _fp8(self, codes: StoredTensor, name: str, shape: tuple[int, ...]) -> Encoding | None:
        fits, scale = self._fits(codes, ("F8_E4M3",), (shape,)), self._scale(name, shape[0], "F8_E4M3")
        return Fp8(codes, scale) if fits and scale is not None else None

    def _int8(self, codes: StoredTensor, name: str, shape: tuple[int, ...], marker: markers.Marker) -> Encoding | None:
        fits, scale = self._fits(codes, ("I8",), (shape,)), self._scale(name, shape[0], "I8")
        if marker.rotation and shape[1] % marker.rotation:
            self.found.problems.append(
                f"{name} is rotated in groups of {marker.rotation}, which do not divide its {shape[1]} inputs"
            )
            return None
        return Int8(codes, scale, marker.rotation, marker.weight_only) if fits and scale is not None else None

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
