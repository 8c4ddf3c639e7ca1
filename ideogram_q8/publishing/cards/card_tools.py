"""Which programs open a build's files, by the format's documented rules, and what does not work, said plainly. Pure.

The rules were read from the programs' sources: ComfyUI 0.24 (comfy/utils.py, comfy/ops.py, comfy/quant_ops.py), stable-diffusion.cpp
(src/model_io/safetensors_io.cpp, docs/ideogram4.md), diffusers 0.42 (loaders/single_file_model.py), ComfyUI-GGUF (loader.py and its pull
requests 455 and 460).
"""

from __future__ import annotations

from typing import NamedTuple

from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.model.schemes import INT8
from ideogram_q8.recipes import Recipe

_NOT_RUN = "by its documented rules; not run here"


class ToolRow(NamedTuple):
    """Whether a program opens the files, and how or why not, which is the only part with Markdown in it."""

    tool: str
    opens: str
    how: str


def is_folder(manifest: Manifest) -> bool:
    """Whether the build has diffusers' layout of a folder for each transformer."""
    return all("/" in file.path for file in manifest.files)


def tool_rows(manifest: Manifest, recipe: Recipe) -> list[ToolRow]:
    """One for each program that people ask for."""
    own = ToolRow("Ideogram Q8", "yes", "`python -m ideogram_q8 generate`, and the app")
    if manifest.scheme != INT8:
        return [own, *_GGUF]
    return [own, *(_FOLDER if is_folder(manifest) else _single(recipe))]


_GGUF = (
    ToolRow("stable-diffusion.cpp", "yes", f"`--diffusion-model` and `--uncond-diffusion-model`, {_NOT_RUN}"),
    ToolRow(
        "ComfyUI", "no", "ComfyUI-GGUF's releases do not know Ideogram 4; its open pull requests 455 and 460 know `ideogram4`"
    ),
    ToolRow("diffusers", "no", "`Ideogram4Transformer2DModel` cannot be loaded from a single file; take an int8 folder"),
    ToolRow("llama.cpp", "no", "these are not language models"),
)
_FOLDER = (
    ToolRow("diffusers", "yes", "0.42 with torchao 0.18, see below; one transformer at a time"),
    ToolRow(
        "ComfyUI",
        "no",
        "it takes single files; `python -m ideogram_q8 convert FOLDER --to single --out OUT` makes them, without loss",
    ),
    ToolRow("stable-diffusion.cpp", "no", "it takes single files, as ComfyUI does"),
)


def _single(recipe: Recipe) -> tuple[ToolRow, ...]:
    return (
        ToolRow("ComfyUI", "yes", f"0.24 and later, two nodes *Load Diffusion Model*, {_NOT_RUN}"),
        ToolRow("stable-diffusion.cpp", "yes" if not recipe.has_weight_only else "partly", _sd_cpp(recipe)),
        ToolRow("diffusers", "no", _diffusers(recipe)),
    )


def _sd_cpp(recipe: Recipe) -> str:
    partly = (
        "Linears stored as int8 weights only run with int8 activations there, which these were not made for; "
        if recipe.has_weight_only
        else ""
    )
    return f"{partly}`--diffusion-model` and `--uncond-diffusion-model`, {_NOT_RUN}"


def _diffusers(recipe: Recipe) -> str:
    if recipe.is_rotated:
        return "torchao has no rotation; a recipe made with `--no-rotation` has a folder that it opens"
    return "not these files; `python -m ideogram_q8 convert FOLDER --to diffusers --out OUT` makes a folder that it opens, without loss"
