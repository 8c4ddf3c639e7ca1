"""The JSON caption that Ideogram 4 was trained on: read, checked, written, mended."""

from ideogram_q8.captions.findings import Finding
from ideogram_q8.captions.json_form import (
    BOX_LIMIT,
    ELEMENT_PALETTE_MAX,
    MAX_CHARACTERS,
    STYLE_PALETTE_MAX,
    Issue,
    canonical,
    lint,
    parse,
    wrap_plain_text,
)
from ideogram_q8.captions.reading import Reading, accept, to_caption, understand
from ideogram_q8.captions.unwrap import unwrap

__all__ = [
    "BOX_LIMIT",
    "ELEMENT_PALETTE_MAX",
    "MAX_CHARACTERS",
    "STYLE_PALETTE_MAX",
    "Finding",
    "Issue",
    "Reading",
    "accept",
    "canonical",
    "lint",
    "parse",
    "to_caption",
    "understand",
    "unwrap",
    "wrap_plain_text",
]
