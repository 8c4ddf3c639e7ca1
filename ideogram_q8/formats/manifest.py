"""manifest.json: what a quantized artifact consists of and what it was made from. Frozen, strict, versioned; no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.names import is_inner_path, is_line, is_name, is_revision, is_sha256, is_version
from ideogram_q8.formats.strict_json import check_version, decode, parse_json
from ideogram_q8.machine.devices import ATTENTIONS, COMPUTES
from ideogram_q8.model.architecture import BRANCHES, PartName, Traits
from ideogram_q8.model.schemes import SCHEMES

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
TOOL_VERSION = "0.1.0"
"""The version of this package, recorded in what it writes."""


def identity(digests: Iterable[str], attention: str = ATTENTIONS[0], compute: str = COMPUTES[0]) -> str:
    """The identity of weight files: sha256 of their sorted sha256s in hexadecimal, one after the other.

    What changes pictures makes another variant of the same files: the sha256 of "attention int8" or "compute int8" is then sorted
    among theirs.

    Args:
        attention: one of ATTENTIONS.
        compute: one of COMPUTES; of files without ggml's blocks the first.
    """
    others = [hashlib.sha256(f"{what} {how}".encode()).hexdigest() for what, how in _unusual(attention, compute)]
    return hashlib.sha256("".join(sorted([*digests, *others])).encode("ascii")).hexdigest()


def variant_name(variant: str, attention: str, compute: str) -> str:
    """The name of a variant with what changes its pictures, as `identity` takes it: `q4_k_s, int8 compute, int8 attention`."""
    return ", ".join((variant, *(f"{how} {what}" for what, how in _unusual(attention, compute))))


def _unusual(attention: str, compute: str) -> list[tuple[str, str]]:
    chosen = (("compute", compute, COMPUTES[0]), ("attention", attention, ATTENTIONS[0]))
    return [(what, how) for what, how, usual in chosen if how != usual]


@dataclass(frozen=True)
class SourceRecord:
    """The checkpoint that an artifact was made from.

    `location` is "pocket", an absolute folder or a Hub id; `files` maps the paths of the weights that were read to their sha256.
    """

    location: str
    revision: str | None
    files: Mapping[str, str]


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as stored: dtype in the container's own word ("I8", "BF16", "Q4_K", ...); scheme "w8a8", "q8_0", "bf16", ..."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scheme: str


@dataclass(frozen=True)
class FileRecord:
    """A weight file: path inside the artifact's folder, size in bytes, sha256 in hexadecimal.

    `branch` is what it holds, or is a shard of: a branch, or the text encoder.
    """

    path: str
    size: int
    sha256: str
    branch: PartName


@dataclass(frozen=True)
class Manifest:
    """`transformer` is the content of the component's config.json, `recipe` the JSON value of the recipe.

    `tensors` lists each file's tensors.
    """

    format_version: int
    tool_version: str
    variant: str
    scheme: str
    source: SourceRecord
    traits: Traits
    transformer: Mapping[str, object]
    recipe: Mapping[str, object]
    files: tuple[FileRecord, ...]
    tensors: Mapping[str, tuple[TensorRecord, ...]]

    @property
    def artifact_sha256(self) -> str:
        """The artifact's identity, see `identity`."""
        return identity(file.sha256 for file in self.files)

    def file(self, branch: PartName) -> FileRecord:
        """The weight file of a branch, or of the text encoder; of several shards the first."""
        return self.shards(branch)[0]

    def shards(self, branch: PartName) -> tuple[FileRecord, ...]:
        """The files of a branch, or of the text encoder, in order."""
        return tuple(file for file in self.files if file.branch == branch)

    def to_json(self) -> str:
        """The text of manifest.json; `from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type, or whose text is not of its kind."""
        value = parse_json(text, FILE_NAME, ArtifactError)
        check_version(value, FORMAT_VERSION, FILE_NAME, ArtifactError, "use another release")
        manifest = decode(cls, value, FILE_NAME, ArtifactError)
        _check_files(manifest)
        _check_texts(manifest)
        return manifest


def _check_files(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    for path in paths:
        if PurePosixPath(path).is_absolute() or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise ArtifactError(f"{FILE_NAME}: file path {path!r} does not stay inside the artifact's folder")
    held = {file.branch for file in manifest.files}
    if (
        held not in (set(BRANCHES), {"conditional"}, {"text_encoder"})
        or len(set(paths)) != len(paths)
        or not _are_shards(manifest)
    ):
        found = ", ".join(f"{file.path} ({file.branch})" for file in manifest.files)[:300] or "none"
        expected = f"one for each of {', '.join(BRANCHES)}, or one conditional, or one text_encoder, or all shards of one"
        raise ArtifactError(f"{FILE_NAME}: files are {found}; expected {expected}")
    if set(manifest.tensors) != set(paths):
        raise ArtifactError(f"{FILE_NAME}: tensors are listed for {sorted(manifest.tensors)}, files are {sorted(paths)}")


def _check_texts(manifest: Manifest) -> None:
    """Refuses texts that are not of their field's kind: they are shown, written into cards and become parts of commands."""
    _require(is_version(manifest.tool_version), "tool_version", manifest.tool_version, "a version")
    _require(is_name(manifest.variant), "variant", manifest.variant, "a short name")
    _require(manifest.scheme in SCHEMES, "scheme", manifest.scheme, f"one of {', '.join(SCHEMES)}")
    _require(is_line(manifest.traits.name, 100), "traits: name", manifest.traits.name, "a short line")
    source = manifest.source
    _require(is_line(source.location, 4096), "source: location", source.location, "a folder or a repository")
    revision = source.revision
    _require(revision is None or is_revision(revision), "source: revision", revision, "a branch, tag or commit")
    for path, digest in source.files.items():
        _require(is_inner_path(path), "source: files", path, "paths inside the source")
        _require(is_sha256(digest), f"source: files[{path!r}]", digest, "a sha256")
    for file in manifest.files:
        _require(is_inner_path(file.path), "files: path", file.path, "a name that every system can hold")
        _require(is_sha256(file.sha256), f"files[{file.path!r}]: sha256", file.sha256, "a sha256")
        _require(file.size >= 0, f"files[{file.path!r}]: size", file.size, "a number of bytes")
    for tensor in (tensor for tensors in manifest.tensors.values() for tensor in tensors):
        _require(is_line(tensor.name, 256), "tensors: name", tensor.name, "a short line")
        _require(is_version(tensor.dtype), f"tensors: dtype of {tensor.name}", tensor.dtype, "a type")
        _require(is_version(tensor.scheme), f"tensors: scheme of {tensor.name}", tensor.scheme, "a scheme")
    try:
        json.dumps([manifest.transformer, manifest.recipe], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ArtifactError(f"{FILE_NAME}: holds half of a UTF-16 surrogate pair, expected valid Unicode") from None


def _require(condition: bool, key: str, found: object, expected: str) -> None:
    if not condition:
        raise ArtifactError(f"{FILE_NAME}: {key} is {repr(found)[:80]}, expected {expected}")


def _are_shards(manifest: Manifest) -> bool:
    """Whether files of which a branch has several are named as all shards of one, in order."""
    for branch in {file.branch for file in manifest.files}:
        paths = [file.path for file in manifest.shards(branch)]
        stem = paths[0].removesuffix(f"-00001-of-{len(paths):05d}.gguf")
        if len(paths) > 1 and paths != [f"{stem}-{i:05d}-of-{len(paths):05d}.gguf" for i in range(1, len(paths) + 1)]:
            return False
    return True


def sha256_of(path: Path) -> str:
    """sha256 of a file in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with file_kinds.open_regular(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
