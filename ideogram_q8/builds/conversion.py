"""An int8 artifact from one form into the other, without loss: single files into diffusers' folders and back.

The numbers are copied tensor by tensor, never computed anew, so that a round trip gives the same files byte for byte. What is read
is compared with the manifest's sha256 first: the new manifest vouches for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ideogram_q8.builds import Artifact, open_artifact
from ideogram_q8.builds.folder import check_space, check_target, disk_errors, new_folder, write_text
from ideogram_q8.builds.forms import FORMS, FormName, own_names
from ideogram_q8.builds.quantization import HEADER_ALLOWANCE, OnProgress, Progress
from ideogram_q8.errors import RequestError
from ideogram_q8.formats import safetensors_file
from ideogram_q8.formats.manifest import FILE_NAME, FileRecord, Manifest, TensorRecord, sha256_of
from ideogram_q8.model.architecture import PartName

_OWN_METADATA = ("model_type", "ideogram_q8.")
"""What the keys of a weight file's header start with where they are this package's, whatever the form."""


def convert(
    folder: str | Path, to: FormName, out: Path, *, on_progress: OnProgress | None = None, overwrite: bool = False
) -> Manifest:
    """Writes the artifact in `folder` into `out` in the form `to`; `out` appears whole or not at all.

    Args:
        overwrite: replaces an artifact in `out`; a folder with anything else in it is refused always.

    Raises:
        ArtifactError: `folder` holds no sound artifact, the form cannot hold it, or `out` must not be written to.
        RequestError: the artifact has the form already, or one folder is inside the other.
        ResourceError: too little disk space.
    """
    artifact = open_artifact(folder)
    FORMS[to].check(artifact.recipe)
    if artifact.form == to:
        raise RequestError(f"{folder} has the form {to!r} already; name the other one")
    names = own_names(out)
    _check_apart(artifact.folder, out)
    check_target(out, names, overwrite)
    job = _Job(artifact, to, on_progress)
    check_space(out, job.total_bytes + HEADER_ALLOWANCE)
    open_artifact(folder, verify=True)
    with new_folder(out, names, overwrite) as partial:
        files = tuple(job.write_part(partial, part) for part in job.stored)
        tensors = {file.path: job.records(file.branch) for file in files}
        manifest = replace(artifact.manifest, files=files, tensors=tensors)
        write_text(partial / FILE_NAME, manifest.to_json())
    return manifest


def _check_apart(folder: Path, out: Path) -> None:
    here, there = folder.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise RequestError(f"{out} is, holds or lies in {folder}; name a folder elsewhere")


@dataclass
class _Job:
    """One run of `convert`."""

    artifact: Artifact
    to: FormName
    on_progress: OnProgress | None

    def __post_init__(self) -> None:
        config, recipe = self.artifact.config, self.artifact.recipe
        parts = self.artifact.parts
        self.stored = {part: FORMS[self.to].stored_tensors(config, recipe, part) for part in parts}
        self.total_bytes = sum(safetensors_file.stored_bytes(record) for part in parts for record in self.records(part))
        self.done_bytes = 0
        self.started = time.monotonic()

    def records(self, part: PartName) -> tuple[TensorRecord, ...]:
        return tuple(record for records in self.stored[part].values() for record in records)

    def write_part(self, folder: Path, part: PartName) -> FileRecord:
        config, recipe, form = self.artifact.config, self.artifact.recipe, FORMS[self.to]
        path = folder / form.file_name(recipe.scheme, part)
        with disk_errors(folder.parent):
            path.parent.mkdir(exist_ok=True)
            metadata = {**self._own_metadata(part), **form.metadata(config, recipe, part)}
            safetensors_file.write(path, self.records(part), self._tensors(part), metadata)
        for name, text in form.texts(config, recipe, part).items():
            write_text(folder / name, text)
        return FileRecord(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path), part)

    def _own_metadata(self, part: PartName) -> dict[str, str]:
        found = self.artifact.branch(part).metadata
        return {key: value for key, value in found.items() if key.startswith(_OWN_METADATA)}

    def _tensors(self, part: PartName) -> Iterator[tuple[str, torch.Tensor]]:
        reader = self.artifact.branch(part)
        plans = {f"{layer.linear}.weight": layer for layer in self.artifact.recipe.parts[part].layers}
        for name, records in self.stored[part].items():
            packed = reader.packed(name.removesuffix(".weight")) if name in plans else None
            weight = reader.read(name) if packed is None else packed
            for record, tensor in zip(records, FORMS[self.to].split(name, plans.get(name), weight), strict=True):
                yield record.name, tensor
                self.done_bytes += safetensors_file.stored_bytes(record)
            if self.on_progress is not None:
                self.on_progress(Progress(self.done_bytes, self.total_bytes, name, time.monotonic() - self.started))
