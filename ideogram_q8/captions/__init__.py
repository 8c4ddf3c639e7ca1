"""The JSON caption that Ideogram 4 was trained on: read, checked, written, mended."""

from ideogram_q8.captions.json_form import (
    BOX_LIMIT,
    ELEMENT_PALETTE_MAX,
    MAX_CHARACTERS,
    STYLE_PALETTE_MAX,
    Issue,
    canonical,
    lint,
    parse,
    to_caption,
    wrap_plain_text,
)

__all__ = [
    "BOX_LIMIT",
    "ELEMENT_PALETTE_MAX",
    "MAX_CHARACTERS",
    "STYLE_PALETTE_MAX",
    "Issue",
    "canonical",
    "lint",
    "parse",
    "to_caption",
    "wrap_plain_text",
]
