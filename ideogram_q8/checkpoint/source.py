"""A source checkpoint in the official FP8 layout: a folder tree whose tensors are read when asked for.

Opening reads headers only, and checks every name, shape and dtype of both transformers before anything is computed from
them: a job of hours must not find a missing tensor at its end. Other layouts (diffusers' split names, single files) are not read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ideogram_q8.architecture import (
    BRANCHES,
    COMPONENT_FOLDERS,
    IDEOGRAM4_TRAITS,
    Branch,
    Traits,
    TransformerConfig,
    check_size,
    linears,
    tensor_shapes,
)
from ideogram_q8.errors import RequestError, SourceError
from ideogram_q8.manifest import SourceRecord, sha256_of
from ideogram_q8.numerics import fp8
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.strict_json import decode, parse_json

POCKET = "pocket"
"""The word that names the embedded model wherever a source is asked for."""
WEIGHT_FILE = "diffusion_pytorch_model.safetensors"
_PROBLEMS_SHOWN = 5


class BranchReader:
    """One transformer by official names. A weight is read when asked for, and not kept."""

    def __init__(self, path: Path, config: TransformerConfig) -> None:
        """Raises SourceError with every missing, unknown or ill-typed tensor."""
        self.path = path
        self._file = _open(path)
        self._shapes = tensor_shapes(config)
        self._stored = set(self._file.keys())
        problems = self._problems(frozenset(f"{linear.name}.weight" for linear in linears(config)))
        if problems:
            more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
            shown = "; ".join(problems[:_PROBLEMS_SHOWN])
            raise SourceError(f"{path} is not the transformer that config.json describes: {shown}{more}")

    @property
    def names(self) -> tuple[str, ...]:
        """The base tensors, without scales."""
        return tuple(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def read(self, name: str) -> torch.Tensor:
        """bfloat16; a Linear's fp8 weight is multiplied out as the official code does (`numerics.fp8.dequantize_per_row`)."""
        stored = self.read_fp8(name)
        if stored is not None:
            return fp8.dequantize_per_row(*stored)
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def read_fp8(self, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(float8_e4m3fn [N, K], scale float32 [N]) of a weight that is stored so, else None."""
        if _scale_name(name) not in self._stored:
            return None
        return self._file.get_tensor(name), self._file.get_tensor(_scale_name(name))

    def _problems(self, weights: frozenset[str]) -> list[str]:
        scales = {_scale_name(name) for name in weights}
        found = [f"{name} is missing" for name in self._shapes if name not in self._stored]
        found += [f"{name} is unknown" for name in sorted(self._stored - set(self._shapes) - scales)]
        for name, shape in self._shapes.items():
            if name not in self._stored:
                continue
            scaled = name in weights and _scale_name(name) in self._stored
            found += self._mismatch(name, "F8_E4M3" if scaled else "BF16", shape)
            if scaled:
                found += self._mismatch(_scale_name(name), "F32", shape[:1])
        return found

    def _mismatch(self, name: str, dtype: str, shape: tuple[int, ...]) -> list[str]:
        view = self._file.get_slice(name)
        got_dtype, got_shape = view.get_dtype(), list(view.get_shape())
        if (got_dtype, got_shape) == (dtype, list(shape)):
            return []
        return [f"{name} is {got_dtype} {got_shape}, expected {dtype} {list(shape)}"]


class Source:
    """An opened checkpoint; `location` is what a manifest records, "pocket" or an absolute folder."""

    def __init__(self, location: str, folder: Path, traits: Traits, config: TransformerConfig) -> None:
        self.location, self.folder, self.traits, self.config = location, folder, traits, config
        self._branches = {branch: BranchReader(_weight_path(folder, branch), config) for branch in BRANCHES}

    def branch(self, branch: Branch) -> BranchReader:
        return self._branches[branch]

    def record(self) -> SourceRecord:
        """Where the weights came from, with the sha256 of both transformers' files (computed once)."""
        return self._record

    @cached_property
    def _record(self) -> SourceRecord:
        paths = [_weight_path(self.folder, branch) for branch in BRANCHES]
        return SourceRecord(self.location, None, {path.relative_to(self.folder).as_posix(): sha256_of(path) for path in paths})


def open_source(location: str | Path) -> Source:
    """Opens `pocket` or a folder in the official tree.

    Raises:
        SourceError: the folder, a file or a tensor is missing or not what it claims to be.
    """
    folder = WEIGHTS if str(location) == POCKET else Path(location).expanduser().resolve()
    if not folder.is_dir():
        parts = " and ".join(COMPONENT_FOLDERS.values())
        raise SourceError(f"no folder {str(location)!r}; expected {POCKET!r} or a folder with {parts}")
    traits = read_traits(folder)
    configs = {branch: _read_config(folder / COMPONENT_FOLDERS[branch]) for branch in BRANCHES}
    config = configs["conditional"]
    if configs["unconditional"] != config:
        raise SourceError(f"{folder}: the two transformers' config.json differ; expected the same dimensions in both")
    return Source(POCKET if folder == WEIGHTS else str(folder), folder, traits, config)


def read_traits(folder: Path) -> Traits:
    """What the checkpoint was made for: its traits.json, without one Ideogram 4's own traits.

    Raises:
        SourceError: traits.json is not valid.
    """
    path = folder / "traits.json"
    if not path.exists():
        return IDEOGRAM4_TRAITS
    traits = decode(Traits, _read_json(path), str(path), SourceError)
    try:
        check_size(*traits.default_size, traits)
    except RequestError as error:
        raise SourceError(f"{path}: default_size: {error}") from None
    return traits


def _read_config(folder: Path) -> TransformerConfig:
    value = _read_json(folder / "config.json")
    if not isinstance(value, dict):
        raise SourceError(f"{folder / 'config.json'}: expected an object")
    try:
        return TransformerConfig.from_json(value)
    except SourceError as error:
        raise SourceError(f"{folder.name}/{error}") from None


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; expected a checkpoint in the official folder tree") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path} is not a text file; expected JSON") from None
    return parse_json(text, str(path), SourceError)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise SourceError(f"no file {path}; download the checkpoint again or check the folder") from None
    except (SafetensorError, OSError) as error:
        size = f"{path.stat().st_size} bytes" if path.is_file() else "not a file"
        raise SourceError(f"{path} ({size}) is not a whole safetensors file: {error}; download it again") from None


def _weight_path(folder: Path, branch: Branch) -> Path:
    return folder / COMPONENT_FOLDERS[branch] / WEIGHT_FILE


def _scale_name(name: str) -> str:
    return f"{name.removesuffix('.weight')}.weight_scale"
