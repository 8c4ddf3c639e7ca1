"""Names of schemes, types, devices and presets as people type them: `Q4_K_M`, `q4-k-m`, `INT8`, `CUDA`, `bf16`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

ALIASES: Mapping[str, tuple[str, ...]] = {
    "q4_k": ("q4_k_m",),
    "q5_k": ("q5_k_m",),
    "q6": ("q6_k",),
    "q8": ("q8_0",),
    "w8a8": ("int8",),
    "bf16": ("bfloat16",),
    "f32": ("float32",),
    "fp32": ("float32", "f32"),
    "fp16": ("f16",),
    "bfloat16": ("bf16",),
    "float32": ("f32",),
    "float16": ("f16",),
    "turbo": ("turbo-12",),
    "default": ("default-20",),
    "quality": ("quality-48",),
}
"""Other names, each with what it means where that can be chosen. Q4_K and Q5_K are the M presets, as in llama.cpp (tools/quantize)."""


def as_typed(text: str, names: Iterable[str]) -> str:
    """The one of `names` that is meant, whatever its case and dashes; `text` itself where none is."""
    known = {_plain(name): name for name in names}
    plain = _plain(text)
    meant = next((other for other in (plain, *map(_plain, ALIASES.get(plain, ()))) if other in known), None)
    return text if meant is None else known[meant]


def _plain(text: str) -> str:
    return text.strip().casefold().replace("-", "_")
