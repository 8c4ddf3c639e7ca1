"""Components of our own without a front-end build: a `gr.HTML` with a style and a script from the folder `static`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

_STATIC = Path(__file__).resolve().parents[1] / "static"


def build_scripted(name: str, value: dict[str, Any], elem_id: str) -> gr.HTML:
    """Adds the component that `static/NAME.js` draws, into a `.q8N` of its first letter, to the current Blocks context."""
    return gr.HTML(
        value,
        html_template=f'<div class="q8{name[0]}"></div>',
        css_template=asset(f"{name}.css"),
        js_on_load=asset("node.js") + asset(f"{name}.js"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def asset(name: str) -> str:
    """The text of a file in the folder of scripts and styles."""
    return (_STATIC / name).read_text(encoding="utf-8")
