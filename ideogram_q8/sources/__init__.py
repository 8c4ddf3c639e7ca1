"""Lazy views of source checkpoints, a tensor at a time."""

from ideogram_q8.sources.branch import BranchReader
from ideogram_q8.sources.companions import Companions, open_companions
from ideogram_q8.sources.source import POCKET, Checkpoint, Source, TextEncoderSource, open_source, open_text_encoder

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
]
