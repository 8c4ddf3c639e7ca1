"""The Space's app on ZeroGPU: a page that paints, and nothing that has to be remembered between two pictures.

ZeroGPU lends a GPU for one call, in a process that is forked for it: models must be on "cuda" when the page starts, where the package
`spaces` stands in for CUDA until then, and whatever a call changes is lost. The app with its queue, its variants loaded in turn and its
history does not fit that, so this page loads every build that `space.json` names at the start, text encoder included, and offers them side
by side. How long a GPU is asked for comes from the measured time of a step.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import spaces  # before torch, for which it stands in
import torch
from huggingface_hub import HfApi, errors, snapshot_download

from ideogram_q8.captions import to_caption
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.formats.png import write_png
from ideogram_q8.formats.quantities import gigabytes
from ideogram_q8.machine.terminal import say
from ideogram_q8.model.architecture import PRESETS
from ideogram_q8.runtime.generation.sampling import Request, generate, metadata
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.memory.usage import module_bytes
from ideogram_q8.ui.doors.guarded import GuardedApp, Page
from ideogram_q8.ui.doors.limits import PICTURES_AN_HOUR, Quota, address_of
from ideogram_q8.ui.doors.middleware import names
from ideogram_q8.ui.doors.private import check_disk
from ideogram_q8.ui.engine.copies import Copies
from ideogram_q8.ui.engine.line import FEW, MOST_SESSIONS, Line

SETTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("space.json").read_text(encoding="utf-8"))
SEEDS = 2**31 - 1
LINE = "gpu"
KEEP_SECONDS = 3600
"""For so long a picture can be fetched."""


def load_models() -> dict[str, Model]:
    """The builds by their names, whole, on the GPU where there is one; the pocket where none are named."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    places = {v["name"]: snapshot_download(v["repo"], revision=v["revision"]) for v in SETTINGS["variants"]}
    models = {name: load(place, device=device, dtype=dtype) for name, place in (places or {"pocket": "pocket"}).items()}
    for name, model in models.items():
        networks = (*model.branches.values(), model.vae, model.text_encoder)  # the last is loaded when asked for
        say(f"{name} is on {device}, {gigabytes(module_bytes(*networks), '.2f')}")
    return models


def seconds(name: str, caption: str, seed: float, preset: str) -> int:  # noqa: ARG001
    """For how long the GPU is asked, given what `paint` is given."""
    return int(SETTINGS["seconds"].get(preset, 1))


def painter(models: dict[str, Model], outputs: Path) -> Callable[[str, str, float, str], str]:
    """What needs the GPU: (build, caption, seed, preset) -> the path of a PNG in `outputs`, which holds how it was made."""

    def paint(name: str, caption: str, seed: float, preset: str) -> str:
        model = models[name]
        width, height = model.traits.default_size
        try:
            request = Request(caption=to_caption(caption), seed=int(seed), preset=preset, width=width, height=height)
            request.check(model.traits)
            result = generate(model, request)
        except IdeogramQ8Error as error:
            raise gr.Error(str(error), print_exception=False) from error
        path = outputs / f"{name}-{preset}-{int(seed)}-{os.urandom(4).hex()}.png"
        write_png(path, result.image, metadata(result))
        return str(path)

    lent: Callable[[str, str, float, str], str] = spaces.GPU(duration=seconds)(paint)
    return lent


def check_visitor(token: str | None) -> None:
    """Where visitors log in: that this one may have the weights that pictures come from.

    Raises:
        gr.Error: nobody is logged in, or the terms are not accepted.
    """
    base = SETTINGS["visitors_accept"]
    if base is None:
        return
    if token is None:
        raise gr.Error("log in first: the terms of the weights are accepted by each visitor", print_exception=False)
    try:
        HfApi().auth_check(base, token=token)
    except (errors.GatedRepoError, errors.RepositoryNotFoundError):
        raise gr.Error(
            f"accept the terms at https://huggingface.co/{base} first, then try again", print_exception=False
        ) from None
    except (OSError, errors.HTTPError):  # type: ignore[attr-defined]  # of the httpx that the installed version uses
        raise gr.Error(
            "the Hub does not say whether you have accepted the terms; try again in a minute", print_exception=False
        ) from None


def build_page(models: dict[str, Model]) -> gr.Blocks:
    """The page."""
    outputs = Path(tempfile.mkdtemp())  # of mode 0700
    paint, kept, quota = painter(models, outputs), Copies(outputs, outputs), Quota(PICTURES_AN_HOUR, "pictures")

    def paint_for(name: str, caption: str, seed: float, preset: str, request: gr.Request, visitor: gr.OAuthToken | None) -> str:
        check_visitor(visitor.token if visitor else None)
        address = address_of(request.request)
        kept.expire(KEEP_SECONDS)
        try:
            check_disk(outputs)
            quota.check(address)
        except IdeogramQ8Error as error:
            raise gr.Error(str(error), print_exception=False) from error
        path = paint(name, caption, seed, preset)
        quota.spend(address, Path(path).stat().st_size)
        return path

    with Page(title="Ideogram Q8", analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as page:
        gr.Markdown(SETTINGS["about"])
        if SETTINGS["visitors_accept"]:
            gr.LoginButton()
        name = gr.Radio(list(models), value=next(iter(models)), label="Build")
        caption = gr.Textbox(label="Caption", placeholder="A sentence, or a JSON caption", lines=3)
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS)
            preset = gr.Radio(list(PRESETS), value="turbo-12", label="Preset")
        button = gr.Button("Paint", variant="primary")
        picture = gr.Image(label="Picture", type="filepath", format="png")
        button.click(
            paint_for, [name, caption, seed, preset], picture, api_name="paint", concurrency_id=LINE, concurrency_limit=1
        )
    page.queue(api_open=False)
    Line(page._queue, LINE, 8, FEW)
    return page


def main() -> None:
    """Serves until it is stopped."""
    host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    uploads = Path(tempfile.mkdtemp())
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    build_page(load_models()).launch(
        _app=GuardedApp(names(host), uploads),
        server_name=host,
        server_port=port,
        ssr_mode=False,
        quiet=True,
        enable_monitoring=False,
        state_session_capacity=MOST_SESSIONS,
    )


if __name__ == "__main__":
    main()
