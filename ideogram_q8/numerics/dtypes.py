"""Element types by the names that safetensors files give them.

`torch` is asked for them only when one is used: module constants would import it before the app's page could be shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

BITS: Mapping[str, int] = (
    dict.fromkeys(("F4",), 4)
    | dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6)
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 64)
)
"""All types that safetensors 0.8 knows, by bits of an element; files may hold any, only those of `torch_dtype` are read."""
_NAMES: Mapping[str, str] = {
    "F8_E4M3": "float8_e4m3fn",
    "I8": "int8",
    "U8": "uint8",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
}


def torch_dtype(name: str) -> torch.dtype:
    """torch's dtype for `F8_E4M3`, `I8`, `U8`, `F16`, `BF16` or `F32`. Raises KeyError for others."""
    found: torch.dtype = getattr(torch, _NAMES[name])
    return found
