"""Ideogram 4 in eight bits and less: quantize, load, generate.

The names below are the public ones, each loaded when it is first used, so that importing the package costs nothing.
Inside the package modules import each other directly, never through here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ideogram_q8.builds import open_artifact
    from ideogram_q8.builds.quantization import quantize
    from ideogram_q8.captions import to_caption
    from ideogram_q8.errors import IdeogramQ8Error
    from ideogram_q8.formats.manifest import Manifest
    from ideogram_q8.formats.png import read_metadata, write_png
    from ideogram_q8.runtime.generation.sampling import Request, Result, generate, steps
    from ideogram_q8.runtime.loading.model import Model, load
    from ideogram_q8.sources import open_source

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
    "Manifest": "formats.manifest",
    "Model": "runtime.loading.model",
    "Request": "runtime.generation.sampling",
    "Result": "runtime.generation.sampling",
    "generate": "runtime.generation.sampling",
    "load": "runtime.loading.model",
    "open_artifact": "builds",
    "open_source": "sources",
    "quantize": "builds.quantization",
    "read_metadata": "formats.png",
    "steps": "runtime.generation.sampling",
    "to_caption": "captions",
    "write_png": "formats.png",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its public names are {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
