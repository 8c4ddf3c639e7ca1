"""The two forms of an int8 artifact: ComfyUI's single files and diffusers' folders. They hold the same numbers.

Which form a folder has is read from the tensors that its manifest lists, never from file names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ideogram_q8.builds import diffusers_folder, journal, layout
from ideogram_q8.builds.packed import Int8Weight, Packed
from ideogram_q8.formats.manifest import FILE_NAME, TensorRecord
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, PartName
from ideogram_q8.model.components import Dimensions
from ideogram_q8.model.schemes import SCHEMES
from ideogram_q8.recipes import LayerPlan, Recipe

FormName = Literal["single", "diffusers"]


@dataclass(frozen=True)
class Form:
    """What sets a form apart, as pure functions of a recipe.

    Attributes:
        check: raises ArtifactError where the form cannot hold a recipe.
        file_name: (scheme, part) -> the weight file's path in the artifact's folder.
        stored_tensors: (config, recipe, part) -> the stored tensors of each official one.
        split: (official name, plan of its Linear or None, weight) -> the tensors that `stored_tensors` plans for it.
        metadata: what the form's readers want in a weight file's header.
        texts: the text files of a part by their paths.
    """

    check: Callable[[Recipe], None]
    file_name: Callable[[str, PartName], str]
    stored_tensors: Callable[[Dimensions, Recipe, PartName], dict[str, tuple[TensorRecord, ...]]]
    split: Callable[[str, LayerPlan | None, Packed | torch.Tensor], tuple[torch.Tensor, ...]]
    metadata: Callable[[Dimensions, Recipe, PartName], dict[str, str]]
    texts: Callable[[Dimensions, Recipe, PartName], dict[str, str]]


def _single_tensors(_: str, plan: LayerPlan | None, weight: Packed | torch.Tensor) -> tuple[torch.Tensor, ...]:
    if isinstance(weight, torch.Tensor):
        return (weight,)
    assert isinstance(weight, Int8Weight) and plan is not None
    return weight.codes, weight.scale, torch.frombuffer(bytearray(layout.comfy_quant(plan)), dtype=torch.uint8)


FORMS: Mapping[FormName, Form] = {
    "single": Form(
        check=lambda _: None,
        file_name=layout.file_name,
        stored_tensors=layout.stored_tensors,
        split=_single_tensors,
        metadata=lambda *_: {},
        texts=lambda *_: {},
    ),
    "diffusers": Form(
        check=diffusers_folder.check,
        file_name=lambda _, part: diffusers_folder.file_name(part),
        stored_tensors=diffusers_folder.stored_tensors,
        split=lambda name, _, weight: diffusers_folder.split(name, weight),
        metadata=diffusers_folder.metadata,
        texts=diffusers_folder.texts,
    ),
}


def own_names(folder: Path) -> frozenset[str]:
    """The names right inside `folder` that can be an artifact's, of either form, whatever it holds: what may be overwritten.

    A checkpoint has folders called `transformer` too; without a manifest beside them they are not an artifact's.
    """
    paths = {form.file_name(scheme, part) for form in FORMS.values() for scheme in SCHEMES for part in COMPONENT_FOLDERS}
    names = {FILE_NAME, journal.NAME, *(path.split("/")[0] for path in paths)}
    if os.path.isdir(folder):
        names |= {name for name in os.listdir(folder) if layout.is_shard(name)}
    if not os.path.isfile(folder / FILE_NAME):  # unlike Path's, False where it cannot be looked up
        names.difference_update(COMPONENT_FOLDERS.values())
    return frozenset(names)
