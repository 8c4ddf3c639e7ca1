"""Where the weight files of a checkpoint are: in a folder in the official tree, or given one by one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.stored import StoredTensor, read_header
from ideogram_q8.formats.text import read_json
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, WEIGHT_FILES, PartName

_FILE_LIMIT = 1000


def in_tree(root: Path, part: PartName) -> tuple[Path, ...]:
    """The weight files of a part: those that the index lists, or without an index all safetensors files that are there.

    Raises:
        SourceError: the index is wrong, or there are more files than can be meant.
    """
    folder = root / COMPONENT_FOLDERS[part]
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if len(indexes) > 1:
        raise SourceError(f"{folder} has {len(indexes)} indexes, {indexes[0].name} first; leave the one that is meant")
    files = _indexed(indexes[0]) if indexes else tuple(sorted(folder.glob("*.safetensors")))
    if len(files) > _FILE_LIMIT:
        raise SourceError(f"{folder} has {len(files)} weight files, at most {_FILE_LIMIT} are read")
    return files or (folder / WEIGHT_FILES[part],)


def _indexed(index: Path) -> tuple[Path, ...]:
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(_is_file_name(name) for name in names.values()):
        raise SourceError(f"{index}: expected weight_map with the name of a file beside it for each tensor")
    return tuple(index.parent / name for name in sorted(set(names.values())))


def _is_file_name(value: object) -> bool:
    if not isinstance(value, str) or value in ("", "..") or "\\" in value:
        return False
    return value.isprintable() and PurePosixPath(value).name == value


@dataclass(frozen=True)
class Stored:
    """What the headers of a part's files have: tensors by name, what is wrong with them already, and metadata."""

    tensors: dict[str, StoredTensor]
    problems: list[str]
    metadata: dict[str, str]


def read_headers(files: tuple[Path, ...]) -> Stored:
    """The tensors of all files of a transformer together; names that more than one of them has are problems.

    Raises:
        SourceError: a file is missing or not a whole safetensors file.
    """
    found, repeated, metadata = dict[str, StoredTensor](), list[str](), dict[str, str]()
    for path in files:
        header = read_header(path)
        metadata |= header.metadata
        for name, tensor in header.tensors.items():
            if name in found:
                repeated.append(f"{name} is in {found[name].file.path.name} and in {path.name}")
            found[name] = tensor
    return Stored(found, repeated, metadata)
