"""Opening a checkpoint: where it is, what it is, and that it is whole, all from headers.

Every name, shape and type of both transformers is checked before anything is computed from them: a job of hours must not find a
missing tensor at its end. What the layouts are is known to `layouts`, how values are stored to `encodings`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ideogram_q8.errors import RequestError, SourceError
from ideogram_q8.formats.manifest import SourceRecord, sha256_of
from ideogram_q8.formats.stored import StoredTensor
from ideogram_q8.formats.strict_json import decode
from ideogram_q8.formats.text import read_json
from ideogram_q8.hub import client as hub
from ideogram_q8.model.architecture import (
    BRANCHES,
    COMPONENT_FOLDERS,
    IDEOGRAM4_TRAITS,
    Branch,
    PartName,
    Traits,
    TransformerConfig,
    check_size,
)
from ideogram_q8.model.components import Dimensions, TextEncoderConfig, component
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.sources import dimensions, layouts, places
from ideogram_q8.sources.branch import BranchReader

POCKET = "pocket"
"""The word that names the embedded model wherever a source is asked for."""
_PROBLEMS_SHOWN = 5


class Checkpoint:
    """An opened component of a checkpoint, the transformers (`Source`) or the text encoder (`TextEncoderSource`).

    Attributes:
        location: what a manifest records and `open_source` takes: "pocket", a Hub repository, or an absolute path.
        revision: the commit on the Hub, where it is from there.
        folder: where the other components are (VAE, text encoder); of single files, the folder of the first.
        states: size in bytes and time of change in ns of each weight file, from when it was opened.
    """

    def __init__(
        self,
        location: str,
        revision: str | None,
        folder: Path,
        traits: Traits,
        config: Dimensions,
        branches: Mapping[PartName, BranchReader],
    ) -> None:
        self.location, self.revision, self.folder = location, revision, folder
        self.traits = traits
        self.config = config
        self.states = {path: _state(path) for reader in branches.values() for path in reader.files}
        self._branches = dict(branches)

    def branch(self, branch: PartName) -> BranchReader:
        """The reader of a branch, or of the text encoder."""
        return self._branches[branch]

    def record(self) -> SourceRecord:
        """Where the weights came from, with the sha256 of the component's files (computed once).

        Files are named by the component's folder in the official tree, wherever they lie.

        Raises:
            SourceError: a file is gone, cannot be read, or has changed since it was opened.
        """
        return SourceRecord(
            self.location, self.revision, {key: digest for files in self._digests.values() for key, digest in files.items()}
        )

    def sha256(self, branch: PartName) -> str:
        """The sha256 of a part's weight file; of several, that of their sorted sha256s in hexadecimal. Raises as `record`."""
        digests = sorted(self._digests[branch].values())
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode("ascii")).hexdigest()

    @cached_property
    def _digests(self) -> dict[PartName, dict[str, str]]:
        return {
            branch: {f"{COMPONENT_FOLDERS[branch]}/{path.name}": self._digest(path) for path in reader.files}
            for branch, reader in self._branches.items()
        }

    def _digest(self, path: Path) -> str:
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise _unreadable(path, error) from None
        if _state(path) != self.states[path]:
            raise SourceError(f"{path} has changed since it was opened; let nothing write to it and run again")
        return digest


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return found.st_size, found.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} cannot be read any more: {error.strerror}; check the disk")


class Source(Checkpoint):
    """The pair of transformers of a checkpoint."""

    config: TransformerConfig


class TextEncoderSource(Checkpoint):
    """The text encoder of a checkpoint; `config.values` is its config.json."""

    config: TextEncoderConfig


def open_source(location: str | Path, *, unconditional: str | Path | None = None, revision: str | None = None) -> Source:
    """Opens `pocket`, a folder in the official tree, a pair of single files, or a repository on the Hugging Face Hub.

    Layout and encoding are found in the tensors' names, shapes and types (`checkpoint.layouts`), never in file names.

    Args:
        location: a path that exists is taken as one; else `org/name[@revision]` is a repository, which is downloaded.
        unconditional: the second file, where `location` is a single file with the conditional transformer.
        revision: branch, tag or commit of a repository.

    Raises:
        SourceError: a folder, a file or a tensor is missing or not what it claims to be, or the Hub refuses. Where tensors are
            wrong, `problems` has all of them, of both transformers.
    """
    text, path = str(location), Path(location).expanduser()
    single = path.is_file()
    if single and path.suffix.lower() == ".gguf":
        raise SourceError(
            f"{path} is a GGUF file, a build and no source; expected a checkpoint in FP8, bfloat16, float16, float32 or NF4"
        )
    if single != (unconditional is not None):
        raise SourceError(
            f"{path} is a single file; name the unconditional transformer's file too"
            if single
            else f"{text!r} is not a file, so the unconditional transformer is not to be named; expected one folder or two files"
        )
    if unconditional is not None:
        return _open_files(path.resolve(), Path(unconditional).expanduser().resolve(), revision)
    parts = " and ".join(COMPONENT_FOLDERS[branch] for branch in BRANCHES)
    return _open_tree(find_tree(text, revision, f"a folder with {parts}, two files"))


def open_text_encoder(location: str | Path, *, revision: str | None = None) -> TextEncoderSource:
    """Opens the text encoder of `pocket`, of a folder in the official tree, or of a repository on the Hugging Face Hub.

    Raises:
        SourceError: as `open_source`; everything that the vision tower consists of is looked for too.
    """
    text = str(location)
    if Path(location).expanduser().is_file():
        raise SourceError(
            f"{text} is a single file; expected {POCKET!r}, a folder with text_encoder or a Hub repository org/name"
        )
    folder = find_tree(text, revision, "a folder with text_encoder")
    config = dimensions.from_config(folder / COMPONENT_FOLDERS["text_encoder"] / "config.json", TextEncoderConfig)
    files = places.in_tree(folder, "text_encoder")
    stored, repeated = places.read_headers(files)
    where = str(files[0] if len(files) == 1 else files[0].parent)
    layouts.refuse_builds(stored, where)
    resolved = layouts.resolve(stored, config)
    _require_whole([*repeated, *resolved.problems], where)
    reader = BranchReader(files, resolved, component(config).shapes)
    return TextEncoderSource(*origin(folder), folder, read_traits(folder), config, {"text_encoder": reader})


def find_tree(text: str, revision: str | None, expected: str, wanted: Sequence[str] = hub.NEEDED) -> Path:
    """The absolute folder of a location: the pocket's, the one it names, or the download of what is `wanted` of a repository."""
    path = Path(text).expanduser()
    if text == POCKET or path.is_dir():
        folder = WEIGHTS if text == POCKET else path.resolve()
        _refuse_revision(revision, folder)
        return folder
    return hub.download(_repository(text, revision, expected), wanted).absolute()


def _repository(text: str, revision: str | None, expected: str) -> hub.Place:
    """The repository that a text names with its revision, or beside it."""
    place = hub.parse(text)
    if place is None or place.folder or (revision is not None and place.revision not in (None, revision)):
        raise SourceError(f"no folder {text!r}; expected {POCKET!r}, {expected} or a Hub repository org/name[@revision]")
    return dataclasses.replace(place, revision=revision or place.revision)


def origin(folder: Path) -> tuple[str, str | None]:
    """Location and revision of a checkpoint in a folder."""
    return hub.origin(folder) or (POCKET if folder == WEIGHTS else str(folder), None)


def _open_tree(folder: Path) -> Source:
    traits = read_traits(folder)
    paths = {branch: folder / COMPONENT_FOLDERS[branch] / "config.json" for branch in BRANCHES}
    configs = {branch: dimensions.from_config(path, TransformerConfig) for branch, path in paths.items()}
    files = {branch: places.in_tree(folder, branch) for branch in BRANCHES}
    tables = {branch: _read_table(files[branch]) for branch in BRANCHES}
    config, branches = _resolve(tables, configs, files, folder)
    return Source(*origin(folder), folder, traits, config, branches)


def _open_files(conditional: Path, unconditional: Path, revision: str | None) -> Source:
    _refuse_revision(revision, conditional)
    files: dict[Branch, tuple[Path, ...]] = {"conditional": (conditional,), "unconditional": (unconditional,)}
    tables = {branch: _read_table(files[branch]) for branch in BRANCHES}
    configs = {branch: dimensions.from_shapes(tables[branch][0], files[branch][0]) for branch in BRANCHES}
    config, branches = _resolve(tables, configs, files, conditional.parent)
    return Source(str(conditional), None, conditional.parent, read_traits(conditional.parent), config, branches)


_Table = tuple[dict[str, StoredTensor], list[str]]
"""The stored tensors of a transformer, and what is wrong with them already."""


def _read_table(files: tuple[Path, ...]) -> _Table:
    stored, repeated = places.read_headers(files)
    return layouts.without_prefix(stored, str(files[0] if len(files) == 1 else files[0].parent)), repeated


def _resolve(
    tables: Mapping[Branch, _Table],
    configs: Mapping[Branch, TransformerConfig],
    files: Mapping[Branch, tuple[Path, ...]],
    where: Path,
) -> tuple[TransformerConfig, dict[PartName, BranchReader]]:
    config = configs["conditional"]
    if configs["unconditional"] != config:
        raise SourceError(
            f"{where}: the two transformers have different dimensions (config.json, or shapes without one); expected the same in both"
        )
    problems: list[str] = []
    branches: dict[PartName, BranchReader] = {}
    shapes = component(config).shapes
    for branch, (stored, repeated) in tables.items():
        resolved = layouts.resolve(stored, config)
        problems += [f"{branch}: {problem}" for problem in (*repeated, *resolved.problems)]
        branches[branch] = BranchReader(files[branch], resolved, shapes)
    _require_whole(problems, str(where))
    return config, branches


def _require_whole(problems: Sequence[str], where: str) -> None:
    if problems:
        more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        shown = "; ".join(problems[:_PROBLEMS_SHOWN])
        raise SourceError(f"{where} is not the model that its dimensions describe: {shown}{more}", problems)


def _refuse_revision(revision: str | None, path: Path) -> None:
    if revision is not None:
        raise SourceError(
            f"{path} is on this disk and has no revision {revision!r}; expected a Hub repository org/name with it"
        )


def read_traits(folder: Path) -> Traits:
    """What the checkpoint was made for: its traits.json, without one Ideogram 4's own traits.

    Raises:
        SourceError: traits.json is not valid.
    """
    path = folder / "traits.json"
    if not path.exists():
        return IDEOGRAM4_TRAITS
    traits = decode(Traits, read_json(path), str(path), SourceError)
    try:
        check_size(*traits.default_size, traits)
    except RequestError as error:
        raise SourceError(f"{path}: default_size: {error}") from None
    return traits
