"""Which programs open a build's files: what was run with them, by version, and what does not work, said plainly. Pure.

What was run, all on a CPU (December 2026): ComfyUI 0.33.0 with comfy-kitchen 0.2.31 and 0.2.40 on single files of INT8, plain and rotated,
of full width; ComfyUI-GGUF's main and its open pull requests' change; stable-diffusion.cpp master-898 (in the PyPI wheel inferna 0.7.0) and
97d2990, on all GGUF schemes and on INT8; diffusers 0.42 with torchao 0.18. molbal's fork of ComfyUI-GGUF was read.
"""

from __future__ import annotations

from typing import NamedTuple

from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.model.schemes import INT8
from ideogram_q8.recipes import Recipe

_SD_CPP = "master-898 and 97d2990 were run: `--diffusion-model` and `--uncond-diffusion-model`"
_SD_CPP_TIME = "its timestep embedding differs from Ideogram's, so the fidelity measured here does not hold there"
"""Frequencies over half instead of half - 1 (ideogram4.hpp, ggml's timestep_embedding): the embedding differs by 42 % at t = 0.6."""


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
        return [own, *_gguf(manifest)]
    return [own, *(_FOLDER if is_folder(manifest) else _single(recipe))]


def _gguf(manifest: Manifest) -> tuple[ToolRow, ...]:
    split = len(manifest.files) > len({file.branch for file in manifest.files})
    refused = "it reads one file a transformer: quantize again without `--split-size`"
    return (
        ToolRow("stable-diffusion.cpp", "no" if split else "yes", refused if split else f"{_SD_CPP}; {_SD_CPP_TIME}"),
        ToolRow(
            "ComfyUI",
            "no",
            "ComfyUI-GGUF's main refuses `ideogram4`; with the one-word change of its open pull requests 455 and 460 it was run and loads "
            "these; molbal's fork knows `ideogram`: quantize with `--architecture ideogram`",
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
    """Weight-only Linears have a marker that both programs pass over (ComfyUI 0.33: comfy/ops.py)."""
    opens = "partly" if recipe.has_weight_only else "yes"
    partly = (
        "Linears stored as int8 weights only are computed with int8 activations there, which these were not made for; "
        if recipe.has_weight_only
        else ""
    )
    needed = "needs a build with leejet's ggml, as his releases are: builds on upstream ggml refuse INT8"
    return (
        ToolRow("ComfyUI", opens, f"{partly}0.33 was run, two nodes *Load Diffusion Model*"),
        ToolRow(
            "stable-diffusion.cpp",
            opens,
            f"{partly}{needed}; `--diffusion-model` and `--uncond-diffusion-model`; {_SD_CPP_TIME}",
        ),
        ToolRow("diffusers", "no", _diffusers(recipe)),
    )


def _diffusers(recipe: Recipe) -> str:
    if recipe.is_rotated:
        return "torchao has no rotation; a recipe made with `--no-rotation` has a folder that it opens"
    return "not these files; `python -m ideogram_q8 convert FOLDER --to diffusers --out OUT` makes a folder that it opens, without loss"
