"""Lazy views of source checkpoints, a tensor at a time."""

from ideogram_q8.checkpoint.branch import BranchReader
from ideogram_q8.checkpoint.source import POCKET, Checkpoint, Source, TextEncoderSource, open_source, open_text_encoder

__all__ = ["POCKET", "BranchReader", "Checkpoint", "Source", "TextEncoderSource", "open_source", "open_text_encoder"]
