"""Ideogram 4 in eight bits and less: quantize, load, generate.

The names below are the public ones, each loaded when it is first used, so that importing the package costs nothing.
Inside the package modules import each other directly, never through here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ideogram_q8.artifact import open_artifact
    from ideogram_q8.caption import to_caption
    from ideogram_q8.checkpoint import open_source
    from ideogram_q8.errors import IdeogramQ8Error
    from ideogram_q8.generation.sampling import Request, Result, generate, steps
    from ideogram_q8.loading.model import Model, load
    from ideogram_q8.manifest import Manifest
    from ideogram_q8.png import read_metadata, write_png
    from ideogram_q8.quantization import quantize

__all__ = [
    "IdeogramQ8Error",
    "Manifest",
    "Model",
    "Request",
    "Result",
    "generate",
    "load",
    "open_artifact",
    "open_source",
    "quantize",
    "read_metadata",
    "steps",
    "to_caption",
    "write_png",
]

_HOMES = {
    "IdeogramQ8Error": "errors",
    "Manifest": "manifest",
    "Model": "loading.model",
    "Request": "generation.sampling",
    "Result": "generation.sampling",
    "generate": "generation.sampling",
    "load": "loading.model",
    "open_artifact": "artifact",
    "open_source": "checkpoint",
    "quantize": "quantization",
    "read_metadata": "png",
    "steps": "generation.sampling",
    "to_caption": "caption",
    "write_png": "png",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its public names are {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
