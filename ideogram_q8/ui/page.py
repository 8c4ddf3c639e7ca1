"""The page: a form on the left, the tabs on the right; and the server that serves it."""

from __future__ import annotations

import os
import socket
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by Gradio when it is imported

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.ui import fragments, style
from ideogram_q8.ui.compare_tab import build_compare_tab
from ideogram_q8.ui.form import build_form
from ideogram_q8.ui.generate_tab import build_generate_tab
from ideogram_q8.ui.studio import Studio

MAX_WAITING = 8
"""Requests in the queue before visitors are turned away."""
_KEEP_SECONDS = (3600, 86400)
"""Gradio copies every preview into its own folder: each hour it removes those older than a day."""


def build_page(studio: Studio, chosen: str = "fp8") -> gr.Blocks:
    """The whole page.

    Args:
        chosen: name of the variant that is picked at the start.
    """

    def variants() -> list[dict[str, Any]]:
        """The variants to choose from, and whether they are built."""
        return [
            {"name": v.name, "title": v.title, "format": v.format, "size_bytes": v.size_bytes, "built": v.location is not None}
            for v in studio.variants()
        ]

    with gr.Blocks(title="Ideogram Q8", analytics_enabled=False, fill_width=True, delete_cache=_KEEP_SECONDS) as page:
        gr.HTML(fragments.title(studio.traits, f"{studio.device} · {studio.dtype}"), elem_classes="q8-flat", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340):
                form = build_form(studio.traits)
            with gr.Column(scale=9, min_width=560), gr.Tabs():
                with gr.Tab("Generate", id="generate"):
                    build_generate_tab(studio, form, chosen)
                with gr.Tab("Compare", id="compare"):
                    build_compare_tab(studio, form)
        gr.api(variants, api_name="variants", queue=False)
    page.queue(max_size=MAX_WAITING)
    return page


def serve(page: gr.Blocks, studio: Studio, host: str, port: int) -> str:
    """Starts the server in the background and returns its address. Files outside the outputs folder are not served.

    `find_port` says which port can be had.
    """
    app, local, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        share=False,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        _frontend=False,  # skips Gradio's test of its own page, which gives up after 3 seconds: too few on a busy machine
        allowed_paths=[str(studio.outputs)],
        max_file_size="1kb",  # nothing on the page takes a file, but Gradio's route for uploads is always open
        theme=style.theme(),
        css=style.CSS,
    )
    app.add_api_route("/healthz", lambda: {"status": "ok", "source": studio.source, "variant": studio.loaded_variant})
    return local


def find_port(host: str, port: int) -> int:
    """A port that a server can listen on: `port` itself, or any free one for 0.

    Raises:
        RequestError: it is taken or not allowed, or the host is none of this computer's addresses.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: else a closed one blocks for a minute
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RequestError(
                f"cannot listen on {host} port {port}: {error.strerror}; choose another --port (0: any free one) or --host"
            ) from None
        return int(probe.getsockname()[1])
