"""Quantized artifacts on disk: writers and readers of their weight files and folders.

The names below are loaded when they are first used: headers are read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ideogram_q8.builds.reader import Artifact, ArtifactBranch, open_artifact

__all__ = ["Artifact", "ArtifactBranch", "open_artifact"]

_HOMES = {
    "Artifact": "reader",
    "ArtifactBranch": "reader",
    "open_artifact": "reader",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
