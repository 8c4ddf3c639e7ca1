"""manifest.json: what a quantized artifact consists of and what it was made from. Frozen, strict, versioned; no torch.

Strict means that an unknown key, a missing key or a wrong type is an error that names the key: a manifest vouches for files of
many gigabytes, so what is not understood must not be passed over. `decode` does that for any frozen dataclass.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from ideogram_q8.architecture import BRANCHES, Branch, Traits
from ideogram_q8.errors import ArtifactError, IdeogramQ8Error

T = TypeVar("T")

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
TOOL_VERSION = "0.1.0"
"""The version of this package, recorded in what it writes."""


@dataclass(frozen=True)
class SourceRecord:
    """The checkpoint that an artifact was made from.

    `location` is "pocket", an absolute folder or a Hub id; `files` maps the paths of the transformers' weights to their sha256.
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
    """A weight file: path inside the artifact's folder, size in bytes, sha256 in hexadecimal, the branch it holds."""

    path: str
    size: int
    sha256: str
    branch: Branch


@dataclass(frozen=True)
class Manifest:
    """`transformer` is the content of config.json, `recipe` the JSON value of the recipe, `tensors` lists each file's tensors."""

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
        """The artifact's identity: sha256 of its files' sorted sha256s in hexadecimal, one after the other."""
        return hashlib.sha256("".join(sorted(file.sha256 for file in self.files)).encode("ascii")).hexdigest()

    def file(self, branch: Branch) -> FileRecord:
        """The weight file of a branch."""
        return next(file for file in self.files if file.branch == branch)

    def to_json(self) -> str:
        """The text of manifest.json; `from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        value = parse_json(text, FILE_NAME, ArtifactError)
        version = value.get("format_version") if isinstance(value, dict) else None
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise ArtifactError(f"{FILE_NAME}: format_version is {version}, expected {FORMAT_VERSION}; use another release")
        manifest = decode(cls, value, FILE_NAME, ArtifactError)
        _check_files(manifest)
        return manifest


def _check_files(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    for path in paths:
        if PurePosixPath(path).is_absolute() or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise ArtifactError(f"{FILE_NAME}: file path {path!r} does not stay inside the artifact's folder")
    if sorted(file.branch for file in manifest.files) != sorted(BRANCHES) or len(set(paths)) != len(paths):
        found = ", ".join(f"{file.path} ({file.branch})" for file in manifest.files)
        raise ArtifactError(f"{FILE_NAME}: files are {found or 'none'}; expected one for each of {', '.join(BRANCHES)}")
    if set(manifest.tensors) != set(paths):
        raise ArtifactError(f"{FILE_NAME}: tensors are listed for {sorted(manifest.tensors)}, files are {sorted(paths)}")


def sha256_of(path: Path) -> str:
    """sha256 of a file in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


# ---- strict JSON ----


def parse_json(text: str, where: str, error: type[IdeogramQ8Error]) -> Any:
    """Standard JSON only: no NaN or Infinity, no repeated key. Raises `error`."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise error(f"{where}: key {key!r} is given twice")
            found[key] = value
        return found

    def refuse(constant: str) -> object:
        raise error(f"{where}: {constant} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not valid JSON: {problem}") from None


def decode(cls: type[T], value: object, where: str, error: type[IdeogramQ8Error]) -> T:
    """A parsed JSON object as a frozen dataclass, by the types of its fields.

    Understands str, int, float, bool, None, Literal, unions with None, tuples, mappings with text keys, `object`, dataclasses.

    Raises:
        error: a key is unknown or missing, or a value has a wrong type; the message has its path, as in `files[0].size`.
    """
    if not isinstance(value, dict):
        raise error(f"{where}: got {_describe(value)}, expected an object")
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in value:
        if key not in names:
            raise error(f"{where}: unknown key {key!r}; expected {', '.join(names)}")
    for name in names:
        if name not in value:
            raise error(f"{where}: key {name!r} is missing")
    return cls(**{name: _decode(hints[name], value[name], f"{where}: {name}", error) for name in names})


def _decode(hint: Any, value: object, where: str, error: type[IdeogramQ8Error]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is object:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, where, error)
    if origin in (types.UnionType, typing.Union) and value is None and type(None) in arguments:
        return None
    if origin in (types.UnionType, typing.Union):
        (only,) = (argument for argument in arguments if argument is not type(None))
        return _decode(only, value, where, error)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return _decode_tuple(arguments, value, where, error)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{where}[{key!r}]", error) for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (str, int, bool) and type(value) is hint:
        return value
    raise error(f"{where} is {_describe(value)}, expected {_expected(hint)}")


def _decode_tuple(arguments: tuple[Any, ...], value: list[object], where: str, error: type[IdeogramQ8Error]) -> tuple[Any, ...]:
    hints = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
    if len(hints) != len(value):
        raise error(f"{where} has {len(value)} values, expected {len(hints)}")
    return tuple(_decode(hint, item, f"{where}[{i}]", error) for i, (hint, item) in enumerate(zip(hints, value, strict=True)))


def _describe(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _expected(hint: Any) -> str:
    names = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        return "a list"
    return names.get(hint, "an object")
