"""The Space's app on ZeroGPU: a page that paints, and nothing that has to be remembered between two pictures.

ZeroGPU lends a GPU for one call, in a process that is forked for it: models must be on "cuda" when the page starts, and whatever a call
changes is lost. The app with its queue, its variants loaded in turn and its history does not fit that, so this page loads every build that
`space.json` names at the start and offers them side by side. How long a GPU is asked for comes from the measured time of a step.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from huggingface_hub import snapshot_download

from ideogram_q8.architecture import PRESETS
from ideogram_q8.caption import to_caption
from ideogram_q8.errors import IdeogramQ8Error
from ideogram_q8.generation import Request, generate, metadata
from ideogram_q8.loading import Model, load
from ideogram_q8.png import write_png

SETTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("space.json").read_text(encoding="utf-8"))
SEEDS = 2**31 - 1


def load_models() -> dict[str, Model]:
    """The builds by their names, on the GPU where there is one; the pocket where none are named."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if not SETTINGS["variants"]:
        return {"pocket": load("pocket", device=device, dtype=dtype)}
    folders = {v["name"]: snapshot_download(v["repo"], revision=v["revision"]) for v in SETTINGS["variants"]}
    return {name: load(folder, device=device, dtype=dtype) for name, folder in folders.items()}


def lent(seconds: Callable[..., int]) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """`spaces.GPU` on ZeroGPU, nothing elsewhere."""
    if importlib.util.find_spec("spaces") is None:
        return lambda function: function
    decorate: Callable[[Callable[..., str]], Callable[..., str]] = importlib.import_module("spaces").GPU(duration=seconds)
    return decorate


def painter(models: dict[str, Model]) -> Callable[[str, str, float, str], str]:
    """What the button calls: (build, caption, seed, preset) -> the path of a PNG, which holds how it was made."""
    outputs = Path(tempfile.mkdtemp())

    def seconds(*arguments: object) -> int:
        """How long the GPU is needed, given what `paint` is given."""
        return int(SETTINGS["seconds"][arguments[3]])

    @lent(seconds)
    def paint(name: str, caption: str, seed: float, preset: str) -> str:
        model = models[name]
        width, height = model.traits.default_size
        try:
            request = Request(caption=to_caption(caption), seed=int(seed), preset=preset, width=width, height=height)
            request.check(model.traits)
            result = generate(model, request)
        except IdeogramQ8Error as error:
            raise gr.Error(str(error)) from error
        path = outputs / f"{name}-{preset}-{int(seed)}-{os.urandom(4).hex()}.png"
        write_png(path, result.image, metadata(result))
        return str(path)

    return paint


def build_page(models: dict[str, Model]) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="Ideogram Q8", analytics_enabled=False) as page:
        gr.Markdown(SETTINGS["about"])
        name = gr.Radio(list(models), value=next(iter(models)), label="Build")
        caption = gr.Textbox(label="Caption", placeholder="A sentence, or a JSON caption", lines=3)
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS)
            preset = gr.Radio(list(PRESETS), value="turbo-12", label="Preset")
        button = gr.Button("Paint", variant="primary")
        picture = gr.Image(label="Picture", type="filepath", format="png")
        button.click(
            painter(models), [name, caption, seed, preset], picture, api_name="paint", concurrency_id="gpu", concurrency_limit=1
        )
    return page.queue(max_size=8)


def main() -> None:
    """Serves until it is stopped."""
    host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    build_page(load_models()).launch(server_name=host, server_port=port, ssr_mode=False, quiet=True, enable_monitoring=False)


if __name__ == "__main__":
    main()
