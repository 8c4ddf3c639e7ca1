"""Opens an artifact's folder. The manifest says what to expect; sizes and headers of the files must agree with it.

The contents are not hashed unless asked for: that would read gigabytes at every start.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ideogram_q8.builds import layout
from ideogram_q8.builds.forms import FORMS, FormName
from ideogram_q8.builds.packed import GgmlWeight, Int8Weight, Packed
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.manifest import FILE_NAME, FileRecord, Manifest, TensorRecord, sha256_of
from ideogram_q8.model.architecture import BRANCHES, Branch, PartName, Traits, TransformerConfig
from ideogram_q8.model.components import Dimensions, TextEncoderConfig, component
from ideogram_q8.model.schemes import INT8_SCHEMES
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.recipes import MAX_CHARACTERS, LayerPlan, Recipe

_MANIFEST_CHARACTERS = 2 * MAX_CHARACTERS
"""A manifest holds a recipe and the names of its tensors; an untrusted file is not read further."""


class ArtifactBranch:
    """One network by official names. A tensor is read when asked for, and not kept."""

    def __init__(
        self, path: Path, recipe: Recipe, stored: Mapping[str, tuple[TensorRecord, ...]], header: Mapping[str, str]
    ) -> None:
        """Opens the file, of which `path` may be the first shard, that holds the tensors `stored`, by official name, and `header`.

        Raises:
            ArtifactError: it holds something else.
        """
        self.path = path
        self._layout = stored
        self._plans = {layer.linear: layer for layer in recipe.parts[header[layout.BRANCH_KEY]].layers}
        self._file = layout.open_file(recipe.scheme, path)
        self._check(header)

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight file, or all its shards in order."""
        return self._file.files

    @property
    def metadata(self) -> dict[str, str]:
        """The text values of the file's header."""
        return self._file.metadata()

    @property
    def names(self) -> tuple[str, ...]:
        """The base tensors, whether packed or not."""
        return tuple(self._layout)

    def read(self, name: str) -> torch.Tensor:
        """A tensor that is stored plainly: bfloat16, float16 or float32.

        Raises:
            ArtifactError: the tensor is packed; ask `packed` for it.
        """
        records = self._layout[name]
        if records[0].dtype not in ("BF16", "F16", "F32"):
            raise ArtifactError(
                f"{name} is stored as {records[0].dtype}; read it with packed({name.removesuffix('.weight')!r})"
            )
        return self._join(records)

    def packed(self, name: str) -> Packed | None:
        """The weight of a Linear (name without `.weight`) as it is stored; None where it is plain."""
        records = self._layout[f"{name}.weight"]
        weight = records[0]
        if weight.scheme in INT8_SCHEMES:
            return self._int8(records, self._plans[name])
        if weight.scheme in BLOCKS:
            return GgmlWeight(self._file.read(weight.name), weight.scheme, (weight.shape[0], weight.shape[1]))
        return None

    def _int8(self, records: Sequence[TensorRecord], plan: LayerPlan) -> Int8Weight:
        for marker in (record for record in records if record.dtype == "U8"):
            self._check_marker(marker.name, layout.comfy_quant(plan))
        codes, scales = ([record for record in records if record.dtype == dtype] for dtype in ("I8", "F32"))
        return Int8Weight(self._join(codes), self._join(scales), plan.rotation, plan.scheme == "w8a16")

    def _join(self, records: Sequence[TensorRecord]) -> torch.Tensor:
        """The rows of several stored tensors as one; diffusers splits what the official file fuses."""
        parts = [self._file.read(record.name) for record in records]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _check(self, header: Mapping[str, str]) -> None:
        metadata, branch = self.metadata, header[layout.BRANCH_KEY]
        found = metadata.get(layout.BRANCH_KEY)
        if found != branch:
            raise ArtifactError(f"{self.path} holds the branch {found!r}, expected {branch!r}; were files swapped or renamed?")
        for key, value in header.items():
            if metadata.get(key) != value:
                raise ArtifactError(f"{self.path}: metadata {key} is not what its recipe gives; build the artifact again")
        stored = self._file.tensors()
        expected = {record.name: record for records in self._layout.values() for record in records}
        for name in sorted(expected.keys() ^ stored.keys()):
            problem = "is missing" if name in expected else "is unknown"
            raise ArtifactError(f"{self.path}: tensor {name} {problem}; build the artifact again")
        for name, record in expected.items():
            dtype, shape = stored[name]
            if (dtype, shape) != (record.dtype, record.shape):
                got, wanted = f"{dtype} {list(shape)}", f"{record.dtype} {list(record.shape)}"
                raise ArtifactError(f"{self.path}: tensor {name} is {got}, expected {wanted}; build the artifact again")

    def _check_marker(self, name: str, expected: bytes) -> None:
        marker = bytes(self._file.read(name).numpy())
        if marker != expected:
            raise ArtifactError(f"{self.path}: {name} is {marker!r}, expected {expected!r}")


class Artifact:
    """An opened artifact of either component: its manifest, recipe and dimensions, and a view of each part."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Raises ArtifactError: a file is missing, truncated or not what the manifest says."""
        self.folder, self.manifest = folder, manifest
        self.recipe = Recipe.from_value(manifest.recipe)
        self.config = self._read_config()
        self.recipe.check(self.config)
        parts = self.parts
        if {file.branch for file in manifest.files} != set(parts):
            raise ArtifactError(f"{folder / FILE_NAME}: files are not those of {' and '.join(parts)}; build the artifact again")
        self.form = self._form()
        self._branches = {part: self._open(part) for part in parts}

    def _read_config(self) -> Dimensions:
        kind = TextEncoderConfig if "text_encoder" in self.recipe.parts else TransformerConfig
        try:
            return kind.from_json(self.manifest.transformer)
        except SourceError as error:
            raise ArtifactError(f"{FILE_NAME}: transformer: {error}") from None

    @property
    def transformer_config(self) -> TransformerConfig:
        """The dimensions of the transformers. Raises ArtifactError: the artifact is a text encoder."""
        if not isinstance(self.config, TransformerConfig):
            raise ArtifactError(
                f"{self.folder} holds a text encoder; expected transformers, and it as the text encoder beside them"
            )
        return self.config

    @property
    def text_encoder_config(self) -> TextEncoderConfig:
        """The dimensions of the text encoder. Raises ArtifactError: the artifact is a pair of transformers."""
        if not isinstance(self.config, TextEncoderConfig):
            raise ArtifactError(f"{self.folder} holds transformers; expected what `quantize --component text_encoder` wrote")
        return self.config

    @property
    def parts(self) -> tuple[PartName, ...]:
        """The networks that the artifact holds."""
        return tuple(part for part in component(self.config).parts if part in self.recipe.parts)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The transformers that the artifact holds; none of a text encoder."""
        return tuple(branch for branch in BRANCHES if branch in self._branches)

    @property
    def variant(self) -> str:
        return self.manifest.variant

    @property
    def traits(self) -> Traits:
        return self.manifest.traits

    @property
    def digests(self) -> tuple[str, ...]:
        """The sha256 of each weight file, as the manifest has them."""
        return tuple(file.sha256 for file in self.manifest.files)

    @property
    def has_blocks(self) -> bool:
        """Whether a Linear is in ggml's blocks, so that it computes in either of `devices.COMPUTES`."""
        return any(plan.scheme in BLOCKS for part in self.recipe.parts.values() for plan in part.layers)

    def branch(self, branch: PartName) -> ArtifactBranch:
        """The view of a branch, or of the text encoder."""
        return self._branches[branch]

    def _open(self, part: PartName) -> ArtifactBranch:
        for file in self.manifest.shards(part):
            self._check_size(file)
        form = FORMS[self.form]
        stored = form.stored_tensors(self.config, self.recipe, part)
        header = {layout.BRANCH_KEY: part, **form.metadata(self.config, self.recipe, part)}
        return ArtifactBranch(self.folder / self.manifest.file(part).path, self.recipe, stored, header)

    def _check_size(self, file: FileRecord) -> None:
        path = self.folder / file.path
        if not path.is_file():
            raise ArtifactError(f"no file {path}, which {FILE_NAME} lists; build the artifact again")
        size = path.stat().st_size
        if size != file.size:
            raise ArtifactError(f"{path} has {size} bytes, {FILE_NAME} says {file.size}; build the artifact again")

    def _form(self) -> FormName:
        """The form whose tensors the manifest lists. Raises ArtifactError."""
        candidates: tuple[FormName, ...] = ("single", "diffusers") if self.recipe.scheme == "int8" else ("single",)
        parts = self.parts
        for name in candidates:
            if all(self._lists(name, part) for part in parts):
                return name
        path = next(self.manifest.file(part).path for part in parts if not self._lists("single", part))
        raise ArtifactError(f"{FILE_NAME}: the tensors of {path} are not those that its recipe gives")

    def _lists(self, form: FormName, part: PartName) -> bool:
        stored = FORMS[form].stored_tensors(self.config, self.recipe, part)
        listed = [record for file in self.manifest.shards(part) for record in self.manifest.tensors[file.path]]
        expected = {record for records in stored.values() for record in records}
        return set(listed) == expected and len(listed) == len(expected)


def open_artifact(folder: str | Path, verify: bool = False) -> Artifact:
    """Opens a folder written by `quantize`; `verify` also compares the sha256 of each weight file with the manifest.

    Raises:
        ArtifactError: the manifest or a weight file is missing, truncated or not what it claims to be.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    artifact = Artifact(place, manifest)
    for file in manifest.files if verify else ():
        digest = sha256_of(place / file.path)
        if digest != file.sha256:
            raise ArtifactError(f"{place / file.path} has sha256 {digest}, {FILE_NAME} says {file.sha256}; build it again")
    return artifact


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        ArtifactError: there is none, or it is not valid.
    """
    path = folder / FILE_NAME
    try:
        with io.TextIOWrapper(file_kinds.open_regular(path), encoding="utf-8-sig") as file:
            text = file.read(_MANIFEST_CHARACTERS + 1)
    except OSError as error:
        hint = "expected a folder written by `python -m ideogram_q8 quantize`"
        raise ArtifactError(f"cannot read {path}: {error.strerror}; {hint}") from None
    except UnicodeDecodeError:
        raise ArtifactError(f"{path} is not a text file; expected JSON") from None
    if len(text) > _MANIFEST_CHARACTERS:
        raise ArtifactError(f"{path} is longer than a manifest can be; expected what `quantize` wrote")
    return Manifest.from_json(text)
