"""The ways there are to compute a product, ours and others': each is prepared from a random weight in the format that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ideogram_q8.bench.linear import peer_linears
from ideogram_q8.bench.linear.operations import ProductShape
from ideogram_q8.bench.linear.peer_linears import Function
from ideogram_q8.bench.linear.random_weights import FP8, Pool
from ideogram_q8.bench.results import Arithmetic
from ideogram_q8.builds.packed import Int8Weight, Packed
from ideogram_q8.errors import ResourceError
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.numerics.rotation import GROUP
from ideogram_q8.runtime.kernels import BACKENDS, Backend, Problem, choose
from ideogram_q8.runtime.kernels.choosing.choice import placed
from ideogram_q8.runtime.kernels.linear.int8 import self_test
from ideogram_q8.runtime.kernels.linear.prologue import NOTHING
from ideogram_q8.runtime.layers.packed import for_int8_compute, from_packed

_DEFINITION = BACKENDS[-1]


@dataclass(frozen=True)
class LinearCase:
    """A product with so many rows."""

    shape: ProductShape
    rows: int


@dataclass(frozen=True)
class Path:
    """A way to compute. `prepare` gives the function, and a note; it raises where there is no such way here."""

    name: str
    arithmetic: Arithmetic
    prepare: Callable[[Weight], tuple[Function, str]]


@dataclass(frozen=True)
class Weight:
    """The random weight of a case, in any format."""

    case: LinearCase
    pool: Pool

    def packed(self, scheme: str, rotation: int = 0) -> Packed:
        """In a scheme of recipes, or `fp8`, rotated or not. Raises ResourceError: the width does not allow it."""
        step = rotation or (BLOCKS[scheme].block_size if scheme in BLOCKS else 1)
        if self.case.shape.inputs % step:
            raise ResourceError(f"{self.case.shape.inputs} inputs are no multiple of {step}")
        found = self.pool.draw(self.case.shape.kind, self.case.shape.outputs, self.case.shape.inputs, scheme, rotation)
        assert not isinstance(found, torch.Tensor)
        return found

    def int8(self, rotation: int = 0) -> Int8Weight:
        """Codes and scales by row. Raises ResourceError: as `packed`."""
        found = self.packed("w8a8", rotation)
        assert isinstance(found, Int8Weight)
        return found

    def plain(self) -> torch.Tensor:
        """[outputs, inputs] in the dtype of the activations."""
        found = self.pool.draw(self.case.shape.kind, self.case.shape.outputs, self.case.shape.inputs, "bf16")
        assert isinstance(found, torch.Tensor)
        return found

    @property
    def problem(self) -> Problem:
        """The question that is put to the back ends: shapes, dtype and device of this product."""
        shape = self.case.shape
        return Problem(*placed(self.pool.device), self.pool.dtype, self.case.rows, shape.inputs, shape.outputs)


def _layer(scheme: str, *, rotation: int = 0, int8_compute: bool = False) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        packed = weight.packed(scheme, rotation)
        if int8_compute:
            packed = for_int8_compute(packed, weight.pool.device)
        note = choose(weight.problem).backend.name if scheme == "w8a8" or int8_compute else ""
        return from_packed(packed), note

    return prepare


def _plain(weight: Weight) -> tuple[Function, str]:
    matrix = weight.plain()
    return (lambda x: torch.nn.functional.linear(x, matrix)), ""


def _backend(backend: Backend) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        problem = weight.problem
        reason = backend.refuses(problem) or self_test(backend, problem)
        chosen = choose(problem).backend
        if reason is None and backend is _DEFINITION and chosen is not backend:
            reason = "the definition; another is there"
        if reason is not None:
            raise ResourceError(reason)
        packed = weight.int8()
        note = "the one that runs" if chosen is backend else ""
        return (lambda x: backend.linear(x, packed.codes, packed.scale, None, NOTHING)), note

    return prepare


def _peer(convert: peer_linears.Convert) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        return peer_linears.converted(weight.plain(), convert)

    return prepare


def _kitchen(rotation: int) -> Callable[[Weight], tuple[Function, str]]:
    def prepare(weight: Weight) -> tuple[Function, str]:
        return peer_linears.kitchen(weight.int8(rotation)), "its plain torch" if weight.pool.device.type == "cpu" else ""

    return prepare


OWN: tuple[Path, ...] = (
    Path("not quantized", "float", _plain),
    Path("FP8, weight only", "float", _layer(FP8)),
    Path("INT8, weight only", "float", _layer("w8a16")),
    *(Path(f"INT8, {backend.name}", "int8", _backend(backend)) for backend in BACKENDS if backend.name != "dequantize"),
    Path("INT8, rotated", "int8", _layer("w8a8", rotation=GROUP)),
    Path("Q8_0", "float", _layer("q8_0")),
    Path("Q8_0, int8", "int8", _layer("q8_0", int8_compute=True)),
    Path("Q4_K", "float", _layer("q4_k")),
    Path("Q4_K, int8", "int8", _layer("q4_k", int8_compute=True)),
)
"""Ours; the first is what the others are measured against."""
PATHS: tuple[Path, ...] = (
    *OWN,
    Path("peer: torchao int8 dynamic", "int8", _peer(peer_linears.to_torchao)),
    Path("peer: SDNQ int8", "int8", _peer(peer_linears.to_sdnq)),
    Path("peer: comfy-kitchen", "int8", _kitchen(0)),
    Path("peer: comfy-kitchen, rotated", "int8", _kitchen(GROUP)),
)
"""All, other people's last."""
