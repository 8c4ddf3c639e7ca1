"""Compares a weight file's header with the manifest: the last moment at which a broken file costs nothing.

The headers are read by the package's strict readers. What wrote the files is other code: safetensors' and gguf-py's layouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ideogram_q8.errors import ArtifactError, PublishError, SourceError
from ideogram_q8.formats import gguf_header
from ideogram_q8.formats import safetensors_header as header
from ideogram_q8.formats.manifest import TensorRecord

_Described = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and dtype of each tensor by name."""


def check_header(path: Path, expected: Iterable[TensorRecord]) -> None:
    """Compares a .safetensors or .gguf file's header with the file's size and with the manifest's tensors.

    Raises:
        PublishError: the header is damaged, its tensors do not fill the file without gap or overlap, or they are not `expected`.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise _broken(path, f"its name ends in {path.suffix or 'nothing'}, expected {' or '.join(_READERS)}")
    try:
        found = reader(path)
    except (SourceError, ArtifactError) as error:
        raise _broken(path, f"its header cannot be read ({error})") from error
    wanted = {record.name: (record.shape, record.dtype) for record in expected}
    for name in sorted(found.keys() ^ wanted.keys()):
        raise _broken(path, f"tensor {name[:80]!r} is {'not in the manifest' if name in found else 'missing from its header'}")
    for name, described in wanted.items():
        if found[name] != described:
            raise _broken(path, f"tensor {name[:80]!r} is {found[name]} in its header, {described} in the manifest")


def _safetensors(path: Path) -> _Described:
    return {name: (entry.shape, entry.dtype) for name, entry in header.read_header(path).tensors.items()}


def _gguf(path: Path) -> _Described:
    return {tensor.name: (tensor.shape, tensor.dtype) for tensor in gguf_header.read_header(path).tensors}


_READERS = {".safetensors": _safetensors, ".gguf": _gguf}


def _broken(path: Path, what: str) -> PublishError:
    return PublishError(f"{path}: {what}; quantize again, and push the new files")
