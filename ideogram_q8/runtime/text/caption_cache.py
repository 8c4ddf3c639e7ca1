"""Projected captions on disk, so that a known caption needs no text encoder: the largest file of the model stays unread.

An entry is a safetensors file named by the sha256 of everything its numbers come from: the caption, the text encoder, the projection,
the precision, and the release of this package. What is damaged counts as absent. Old entries make room for new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import torch

from ideogram_q8.errors import ResourceError, SourceError
from ideogram_q8.formats import whole_file
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.formats.stored import read_header
from ideogram_q8.model.architecture import MAX_TEXT_TOKENS
from ideogram_q8.numerics.dtypes import torch_dtype

DEFAULT_LIMIT = 256 * 2**20
"""Bytes: 56 of Ideogram 4's captions of 512 tokens in bfloat16."""
SWITCH = "IDEOGRAM_Q8_CAPTION_CACHE"
"""An environment variable: `off` keeps and reads nothing."""
_SUFFIX = ".safetensors"
_TENSOR = "projected"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """What a projected caption depends on: sha256s of the caption's text, the encoder and the projection; where and how it was computed."""

    caption: str
    encoder: str
    projection: str
    device: str
    dtype: str
    compute: str
    """One of `devices.COMPUTES`, of the encoder; that of the projection is in its sha256."""
    release: str = TOOL_VERSION

    @property
    def digest(self) -> str:
        """sha256 in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class CaptionCache:
    """A folder of entries, of at most `limit` bytes together. Several processes may use it at once."""

    folder: Path
    limit: int = DEFAULT_LIMIT

    def read(self, key: Key, width: int, dtype: torch.dtype) -> torch.Tensor | None:
        """The entry [n, width] on the CPU, if there is a sound one."""
        path = self._path(key)
        if not path.is_file():
            return None
        found = _read(path, key, width, dtype)
        if found is None:
            _log.warning("%s is damaged and will be written again", path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the entries used last stay longest
        return found

    def write(self, key: Key, projected: torch.Tensor) -> None:
        """Keeps `projected` [n, width]. A folder that cannot be written is said once in the log and costs nothing else."""
        from safetensors.torch import save  # imports torch, for which the app's page does not wait

        data = save({_TENSOR: projected.cpu().contiguous()}, {"key": key.digest, "sha256": _sha256(projected)})
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            whole_file.write_bytes(self._path(key), data)
            self._make_room()
        except (OSError, ResourceError) as error:
            _log.warning("the projected caption was not kept in %s: %s", self.folder, error)

    def _path(self, key: Key) -> Path:
        return self.folder / f"{key.digest}{_SUFFIX}"

    def _make_room(self) -> None:
        """Removes what was used longest ago, and what a killed process left, until the rest is within the limit."""
        entries = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                if path.suffix in (_SUFFIX, whole_file.SUFFIX):
                    state = path.stat()
                    entries.append((state.st_mtime_ns, state.st_size, path))
        total = 0
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > self.limit:
                path.unlink(missing_ok=True)


def from_environment() -> CaptionCache | None:
    """The cache in the user's cache folder, by the conventions of the operating system; none where SWITCH is `off`."""
    if os.environ.get(SWITCH, "").lower() == "off":
        return None
    return CaptionCache(platformdirs.user_cache_path("ideogram-q8") / "captions")


def files_digest(files: Iterable[Path]) -> str:
    """sha256 over paths, sizes and times of change: hashing gigabytes would take as long as what the cache saves.

    Raises:
        OSError: a file is gone.
    """
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(sorted(states)).encode()).hexdigest()


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()


def _read(path: Path, key: Key, width: int, dtype: torch.dtype) -> torch.Tensor | None:
    """The tensor of a whole entry of this key; None for anything else."""
    try:
        header = read_header(path)
        stored = header.tensors.get(_TENSOR)
        if stored is None or len(header.tensors) > 1 or len(stored.shape) != 2 or stored.shape[1] != width:
            return None
        if not 0 < stored.shape[0] <= MAX_TEXT_TOKENS or torch_dtype(stored.dtype) != dtype:
            return None
        found = stored.read().view(stored.shape)
    except (SourceError, KeyError):  # KeyError: a type that is not read here
        return None
    return found if header.metadata == {"key": key.digest, "sha256": _sha256(found)} else None
