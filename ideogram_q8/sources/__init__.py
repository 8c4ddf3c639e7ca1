"""Lazy views of source checkpoints, a tensor at a time.

The names below are loaded when they are first used: headers are read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ideogram_q8.sources.branch import BranchReader
    from ideogram_q8.sources.companions import open_companions
    from ideogram_q8.sources.source import (
        POCKET,
        Checkpoint,
        Companions,
        Source,
        TextEncoderSource,
        open_source,
        open_text_encoder,
        open_text_encoder_file,
    )

__all__ = [
    "POCKET",
    "BranchReader",
    "Checkpoint",
    "Companions",
    "Source",
    "TextEncoderSource",
    "open_companions",
    "open_source",
    "open_text_encoder",
    "open_text_encoder_file",
]

_HOMES = {
    "BranchReader": "branch",
    "Checkpoint": "source",
    "Companions": "source",
    "POCKET": "source",
    "Source": "source",
    "TextEncoderSource": "source",
    "open_companions": "companions",
    "open_source": "source",
    "open_text_encoder": "source",
    "open_text_encoder_file": "source",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
