"""Lazy views of source checkpoints, a tensor at a time."""

from ideogram_q8.checkpoint.branch import BranchReader
from ideogram_q8.checkpoint.source import Source, open_source

__all__ = ["BranchReader", "Source", "open_source"]
