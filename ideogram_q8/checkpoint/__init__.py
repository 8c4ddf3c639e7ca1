"""Lazy views of source checkpoints, a tensor at a time."""

from ideogram_q8.checkpoint.branch import BranchReader
from ideogram_q8.checkpoint.companions import Companions, open_companions
from ideogram_q8.checkpoint.source import (
    POCKET,
    Checkpoint,
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
