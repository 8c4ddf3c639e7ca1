"""Element types by the names that safetensors files give them.

`torch` is asked for them only when one is used: module constants would import it before the app's page could be shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

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
