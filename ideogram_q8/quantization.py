"""A source and a recipe in, an artifact's folder out: tensor by tensor, so that memory holds one weight at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.architecture import BRANCHES, Branch
from ideogram_q8.artifact import layout
from ideogram_q8.artifact.folder import check_space, check_target, disk_errors, new_folder, write_text
from ideogram_q8.checkpoint import Source
from ideogram_q8.errors import ArtifactError
from ideogram_q8.folding import Folding
from ideogram_q8.manifest import FILE_NAME, FORMAT_VERSION, TOOL_VERSION, FileRecord, Manifest, TensorRecord, sha256_of
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.recipe import SCHEMES, Recipe

HEADER_ALLOWANCE = 1 << 20
"""Bytes of a folder beside the tensors' data, generously: headers, padding, the manifest."""
_HALF_MAX = 65504.0
_MODEL_TYPES: Mapping[Branch, str] = {"conditional": "ideogram4_cond", "unconditional": "ideogram4_uncond"}
"""What Comfy-Org's files say, and musubi-tuner reads."""


@dataclass(frozen=True)
class Progress:
    """After a tensor: bytes written and to write in all (tensors' data), the tensor's official name, seconds since the start."""

    done_bytes: int
    total_bytes: int
    name: str
    seconds: float


OnProgress = Callable[[Progress], None]


def quantize(
    source: Source, recipe: Recipe, out: Path, *, on_progress: OnProgress | None = None, overwrite: bool = False
) -> Manifest:
    """Writes both branches of `source` and manifest.json into the folder `out`, which appears whole or not at all.

    An exception raised by `on_progress` cancels. The same source and recipe give the same weight files.

    Args:
        recipe: for a model of the source's dimensions.
        overwrite: replaces an artifact in `out`; a folder with anything else in it is refused always.

    Raises:
        ArtifactError: the recipe is for another model, `out` must not be written to, or a weight holds values that the scheme cannot store.
        ResourceError: too little disk space.
    """
    recipe.check(source.config)
    own_names = _own_names()
    check_target(out, own_names, overwrite)
    job = _Job(source, recipe, on_progress)
    check_space(out, job.total_bytes + HEADER_ALLOWANCE)
    with new_folder(out, own_names, overwrite) as folder:
        files = tuple(job.write_branch(folder, branch) for branch in BRANCHES)
        manifest = job.manifest(files)
        write_text(folder / FILE_NAME, manifest.to_json())
    return manifest


def _own_names() -> frozenset[str]:
    return frozenset({FILE_NAME} | {layout.file_name(scheme, branch) for scheme in SCHEMES for branch in BRANCHES})


class _Job:
    """One run of `quantize`."""

    def __init__(self, source: Source, recipe: Recipe, on_progress: OnProgress | None) -> None:
        self.source, self.recipe, self.on_progress = source, recipe, on_progress
        self.stored = {branch: layout.stored_tensors(source.config, recipe, branch) for branch in BRANCHES}
        self.foldings = {branch: Folding(recipe.parts[branch], source.config) for branch in BRANCHES}
        self.container = layout.container(recipe.scheme)
        self.total_bytes = sum(self.container.stored_bytes(record) for branch in BRANCHES for record in self.records(branch))
        self.done_bytes = 0
        self.started = time.monotonic()

    def records(self, branch: Branch) -> tuple[TensorRecord, ...]:
        return tuple(record for records in self.stored[branch].values() for record in records)

    def write_branch(self, folder: Path, branch: Branch) -> FileRecord:
        path = folder / layout.file_name(self.recipe.scheme, branch)
        with disk_errors(folder):
            self.container.write(path, self.records(branch), self._tensors(branch), self._metadata(branch))
        return FileRecord(path.name, path.stat().st_size, sha256_of(path), branch)

    def _tensors(self, branch: Branch) -> Iterator[tuple[str, torch.Tensor]]:
        reader = self.source.branch(branch)
        plans = {f"{layer.linear}.weight": layer for layer in self.recipe.parts[branch].layers}
        plain = layout.plain_scheme(self.recipe)
        for name, records in self.stored[branch].items():
            tensor = self.foldings[branch].apply(name, reader.read(name))
            _check_values(tensor, f"{reader.path}: {name}", records[0].scheme)
            for record, part in zip(records, layout.pack(tensor, plans.get(name), plain), strict=True):
                yield record.name, part
                self.done_bytes += self.container.stored_bytes(record)
            if self.on_progress is not None:
                self.on_progress(Progress(self.done_bytes, self.total_bytes, name, time.monotonic() - self.started))

    def _metadata(self, branch: Branch) -> dict[str, str]:
        """Header of a weight file. No paths of this machine: equal sources give equal files wherever they lie."""
        source_file = self.source.branch(branch).path.relative_to(self.source.folder).as_posix()
        return {
            "model_type": _MODEL_TYPES[branch],
            layout.BRANCH_KEY: branch,
            "ideogram_q8.tool_version": TOOL_VERSION,
            "ideogram_q8.source_sha256": self.source.record().files[source_file],
            "ideogram_q8.recipe_sha256": self.recipe.sha256,
        }

    def manifest(self, files: tuple[FileRecord, ...]) -> Manifest:
        return Manifest(
            format_version=FORMAT_VERSION,
            tool_version=TOOL_VERSION,
            variant=self.recipe.variant,
            scheme=self.recipe.scheme,
            source=self.source.record(),
            traits=self.source.traits,
            transformer=self.source.config.to_json(),
            recipe=self.recipe.to_value(),
            files=files,
            tensors={file.path: self.records(file.branch) for file in files},
        )


def _check_values(tensor: torch.Tensor, where: str, scheme: str) -> None:
    if not tensor.isfinite().all():
        count = int((~tensor.isfinite()).sum())
        raise ArtifactError(
            f"{where} has {count} values that are NaN or infinite; a scale needs finite weights: check the source"
        )
    if scheme in BLOCKS and tensor.abs().max() > _HALF_MAX:
        largest = tensor.abs().max().item()
        raise ArtifactError(f"{where} reaches {largest:g}; {scheme} has float16 scales: use int8, or check the source")
