"""The page: a form on the left, the tabs on the right; and the server that serves it."""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import gradio as gr

from ideogram_q8.errors import RequestError
from ideogram_q8.sources.source import POCKET
from ideogram_q8.ui.doors.guarded import GuardedApp, Page
from ideogram_q8.ui.doors.limits import MAX_UPLOAD_BYTES, PICTURES_AN_HOUR, Quota
from ideogram_q8.ui.doors.middleware import LOOPBACK, names, on_space
from ideogram_q8.ui.engine.bin import Bin
from ideogram_q8.ui.engine.jobs import Jobs
from ideogram_q8.ui.engine.line import FEW, MOST_SESSIONS, Line, Sessions
from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts import fragments, style
from ideogram_q8.ui.parts.controls import DEVICE, PRIVATE
from ideogram_q8.ui.parts.form import Desk, Painter, build_form, full_choices
from ideogram_q8.ui.parts.remembering import build_remembering
from ideogram_q8.ui.parts.scripted import asset
from ideogram_q8.ui.tabs.caption_tab import build_caption_tab
from ideogram_q8.ui.tabs.compare_tab import build_compare_tab
from ideogram_q8.ui.tabs.generate_tab import build_generate_tab
from ideogram_q8.ui.tabs.history_tab import build_history_tab
from ideogram_q8.ui.tabs.machine_tab import build_machine_tab
from ideogram_q8.ui.tabs.vote_tab import build_vote_tab

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio asks whenever it would tell its makers something
_OWNER = re.compile(r"[0-9a-f]{32}")
_OWNER_BYTES = 16
_SWEEP_SECONDS = 600.0
_KEEP_SECONDS = (3600, 86400)
"""Gradio copies every preview into its own folder: each hour it removes those older than a day."""

_PRESS_COMPARE = """() => {
  const press = () => {
    const button = document.querySelector("#q8-compare");
    if (button) button.click();
    else setTimeout(press, 50);
  };
  setTimeout(press, 50);
}"""
"""Once the tab is there, which Gradio makes when it is first opened."""


@contextmanager
def _routes_at_launch() -> Iterator[None]:
    """Gradio makes the server's routes at the end of a page, with its queue and at launch, a third of a second each; the last count."""
    with mock.patch.object(gr.blocks.App, "create_app"):
        yield


@_routes_at_launch()
def build_page(studio: Studio, chosen: str | None = None, max_waiting: int = 8, *, own_machine: bool = True) -> gr.Blocks:
    """The whole page.

    Args:
        chosen: name of the variant that is picked at the start; None is the best that fits, but not the original.
        max_waiting: requests in the queue before visitors are turned away.
        own_machine: nobody else can reach the page, so it may delete what belongs to all, and has no quota.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(
        studio.temporary
    )  # for uploads and what Gradio copies: read when its components are made

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

    with Page(title="Ideogram Q8", analytics_enabled=False, fill_width=True, delete_cache=_KEEP_SECONDS) as page:
        owner = _build_owner(page)
        head = fragments.title(studio.traits, f"{studio.device} · {studio.dtype}", demo=studio.source == POCKET)
        gr.HTML(head, elem_classes="q8-flat", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340):
                form = build_form(studio.traits)
                desk = Desk(studio, form, owner, Jobs(Quota(None if own_machine else PICTURES_AN_HOUR, "pictures")))
            with gr.Column(scale=9, min_width=560), gr.Tabs() as tabs:
                with gr.Tab("Generate", id="generate"):
                    generate = build_generate_tab(desk, chosen or _first_pick(studio))
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
        opened = form.attempt.click(lambda: gr.Tabs(selected="compare"), None, tabs, **PRIVATE)
        opened.then(None, js=_PRESS_COMPARE)
        ready = build_remembering(page, [*form.inputs, form.keep_seed, generate.cards, compared.cards])
        if chosen is None:
            _pick_best(desk, generate, ready)
        _keep_cards(desk, [generate, compared, voted], page, tabs)
        page.unload(leave)
    page.queue(api_open=False)
    Line(page._queue, DEVICE, max_waiting, max_waiting if own_machine else FEW)
    return page


def _first_pick(studio: Studio) -> str:
    """Before it is known what fits: INT8, which is made for it, or the first that is no original."""
    names = [variant.name for variant in studio.variants()]
    return "int8" if "int8" in names else next((name for name in names if name != "fp8"), names[0])


def _pick_best(desk: Desk, generate: Painter, ready: Any) -> None:
    """Picks another variant where the first pick does not fit, and neither the visitor nor the browser chose one."""
    studio, first = desk.studio, _first_pick(desk.studio)

    def pick(now: str | None, width: float, height: float) -> Any:
        from ideogram_q8.ui.engine.fitting import best

        fits = {variant.name: studio.fit(variant, (int(width), int(height))) for variant in studio.variants()}
        fit = fits.get(first)
        found = None if now != first or (fit is not None and fit.plan is not None and not fit.offloads) else best(fits)
        return gr.skip() if found is None else found

    ready.then(pick, [generate.cards, desk.form.width, desk.form.height], generate.cards, **PRIVATE)


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
        secret = known if isinstance(known, str) and _OWNER.fullmatch(known) else secrets.token_hex(_OWNER_BYTES)
        return secret, secret

    page.load(recognise, kept, [kept, owner], queue=False, show_progress="hidden", api_visibility="private")
    return owner


@dataclass(frozen=True)
class Serving:
    """Where and for whom: address, accounts (name, password; None lets everyone in), names of a proxy, and what else is opened.

    `root_path` is where a proxy in front serves the page: a path, or an address with one; empty at the top of its host.
    """

    host: str
    port: int
    accounts: Sequence[tuple[str, str]] | None = None
    share: bool = False
    mcp: bool = False
    allowed_hosts: Sequence[str] = ()
    root_path: str = ""

    @property
    def is_private(self) -> bool:
        """Whether it can be reached from this computer only."""
        return self.host in LOOPBACK and not (self.share or self.accounts or self.allowed_hosts)

    @property
    def warning(self) -> str | None:
        """What to know before others come; None where nobody else can, or they log in. A Space is for everybody."""
        if (self.host in LOOPBACK and not (self.share or self.allowed_hosts)) or self.accounts or on_space():
            return None
        return "anybody who can reach this address may use the app; --auth FILE lets in whom you name (docs/security.md)"


def serve(page: gr.Blocks, studio: Studio, serving: Serving) -> str:
    """Starts the server in the background and returns its address. Files outside the outputs folder are not served.

    `find_port` says which port can be had.
    """
    server = GuardedApp(names(serving.host, serving.allowed_hosts), studio.temporary)
    app, local, shared = page.launch(
        _app=server,
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
        max_file_size=MAX_UPLOAD_BYTES,
        state_session_capacity=MOST_SESSIONS,
        theme=style.theme(),
        css=style.CSS,
        js=asset("page.js"),
    )
    app.add_api_route("/healthz", lambda: {"status": "ok"})
    if shared:
        server.names = names(serving.host, [*serving.allowed_hosts, urlsplit(shared).netloc])
    threading.Thread(target=_sweep, args=(studio, server.sessions), name="sweep", daemon=True).start()
    return shared or local


def _sweep(studio: Studio, sessions: Sessions) -> None:
    """Removes for good what was deleted an hour ago, copies that nobody fetches any more, and sessions that nobody uses."""
    deleted = Bin(studio.outputs)
    while True:
        deleted.empty()
        studio.copies.expire(_KEEP_SECONDS[1])
        sessions.expire()
        time.sleep(_SWEEP_SECONDS)


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
