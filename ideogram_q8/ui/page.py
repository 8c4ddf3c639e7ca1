"""The page: a form on the left, the tabs on the right; and the server that serves it."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.ui import fragments, style
from ideogram_q8.ui.caption_tab import build_caption_tab
from ideogram_q8.ui.compare_tab import build_compare_tab
from ideogram_q8.ui.controls import PRIVATE
from ideogram_q8.ui.form import Desk, Painter, build_form, full_choices
from ideogram_q8.ui.generate_tab import build_generate_tab
from ideogram_q8.ui.history_tab import build_history_tab
from ideogram_q8.ui.jobs import Jobs
from ideogram_q8.ui.machine_tab import build_machine_tab
from ideogram_q8.ui.scripted import asset
from ideogram_q8.ui.studio import Studio
from ideogram_q8.ui.vote_tab import build_vote_tab

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio asks whenever it would tell its makers something
MAX_UPLOAD = "64mb"
"""A PNG of the largest size; Gradio's route for uploads is always open."""
_OWNER_BYTES = 16
_KEEP_SECONDS = (3600, 86400)
"""Gradio copies every preview into its own folder: each hour it removes those older than a day."""


@contextmanager
def _routes_at_launch() -> Iterator[None]:
    """Gradio makes the server's routes at the end of a page, with its queue and at launch, a third of a second each; the last count."""
    with mock.patch.object(gr.blocks.App, "create_app"):
        yield


@_routes_at_launch()
def build_page(studio: Studio, chosen: str = "fp8", max_waiting: int = 8, *, own_machine: bool = True) -> gr.Blocks:
    """The whole page.

    Args:
        chosen: name of the variant that is picked at the start.
        max_waiting: requests in the queue before visitors are turned away.
        own_machine: nobody else can reach the page, so it may delete what belongs to all.
    """

    def variants() -> list[dict[str, Any]]:
        """The variants to choose from, whether they are built, and what of them is still to be downloaded."""
        return [
            {
                "name": v.name,
                "title": v.title,
                "format": v.format,
                "size_bytes": v.size_bytes,
                "built": v.location is not None,
                "bytes_to_download": v.missing_bytes + v.rest_bytes,
            }
            for v in studio.variants()
        ]

    def leave(request: gr.Request) -> None:
        desk.jobs.leave(request.session_hash)

    with gr.Blocks(title="Ideogram Q8", analytics_enabled=False, fill_width=True, delete_cache=_KEEP_SECONDS) as page:
        owner = _build_owner(page)
        gr.HTML(fragments.title(studio.traits, f"{studio.device} · {studio.dtype}"), elem_classes="q8-flat", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340):
                form = build_form(studio.traits)
                desk = Desk(studio, form, owner, Jobs())
            with gr.Column(scale=9, min_width=560), gr.Tabs() as tabs:
                with gr.Tab("Generate", id="generate"):
                    generate = build_generate_tab(desk, chosen)
                with gr.Tab("Caption", id="caption") as caption:
                    build_caption_tab(desk, caption)
                with gr.Tab("Compare", id="compare"):
                    compared = build_compare_tab(desk)
                with gr.Tab("Blind vote", id="vote"):
                    voted = build_vote_tab(desk, page)
                with gr.Tab("History", id="history") as history:
                    build_history_tab(desk, generate, tabs, history)
                with gr.Tab("Machine", id="machine") as machine:
                    build_machine_tab(desk, tabs, machine, everything=own_machine)
        gr.api(variants, api_name="variants", queue=False)
        _keep_cards(desk, [generate, compared, voted], page, tabs)
        page.unload(leave)
    page.queue(max_size=max_waiting)
    return page


def _keep_cards(desk: Desk, painters: Sequence[Painter], page: gr.Blocks, tabs: gr.Tabs) -> None:
    """The cards say what is built and what a picture of the chosen size takes: anew with each tab, size and finished work."""
    size, groups = [desk.form.width, desk.form.height], [painter.cards for painter in painters]

    def look(width: float, height: float) -> list[object]:
        choices = full_choices(desk.studio, width, height)
        return [gr.update(choices=choices) for _ in groups]

    triggers = [page.load, tabs.select, *(side.change for side in size)]
    gr.on(triggers, look, size, groups, **PRIVATE, trigger_mode="always_last")
    for painter in painters:
        for finished in painter.finished:
            finished.then(look, size, groups, **PRIVATE)


def _build_owner(page: gr.Blocks) -> gr.State:
    """A secret that the browser keeps, by which it finds its own history again."""
    kept = gr.BrowserState(storage_key="ideogram-q8-owner", secret="ideogram-q8")
    owner = gr.State()

    def recognise(known: object) -> tuple[str, str]:
        secret = known if isinstance(known, str) and len(known) == 2 * _OWNER_BYTES else secrets.token_hex(_OWNER_BYTES)
        return secret, secret

    page.load(recognise, kept, [kept, owner], queue=False, show_progress="hidden", api_visibility="private")
    return owner


@dataclass(frozen=True)
class Serving:
    """Where and for whom: address, accounts (name, password; None lets everyone in), and what else is opened.

    `root_path` is where a proxy in front serves the page: a path, or an address with one; empty at the top of its host.
    """

    host: str
    port: int
    accounts: Sequence[tuple[str, str]] | None = None
    share: bool = False
    mcp: bool = False
    root_path: str = ""

    @property
    def is_private(self) -> bool:
        """Whether it can be reached from this computer only."""
        return self.host in ("127.0.0.1", "::1", "localhost") and not self.share and not self.accounts


def serve(page: gr.Blocks, studio: Studio, serving: Serving) -> str:
    """Starts the server in the background and returns its address. Files outside the outputs folder are not served.

    `find_port` says which port can be had.
    """
    app, local, shared = page.launch(
        server_name=f"[{serving.host}]" if ":" in serving.host else serving.host,
        root_path=serving.root_path,
        server_port=serving.port,
        auth=list(serving.accounts) if serving.accounts else None,
        share=serving.share,
        mcp_server=serving.mcp,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        _frontend=False,  # skips Gradio's test of its own page, which gives up after 3 seconds: too few on a busy machine
        allowed_paths=[str(studio.outputs)],
        max_file_size=MAX_UPLOAD,
        theme=style.theme(),
        css=style.CSS,
        js=asset("page.js"),
    )
    app.add_api_route("/healthz", lambda: {"status": "ok", "source": studio.source, "variant": studio.loaded_variant})
    return shared or local


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
                f"--host {host} --port {port}: cannot listen there ({error.strerror}); choose another --port (0: any free one) or --host"
            ) from None
        return int(probe.getsockname()[1])
