"""Opening a checkpoint: where it is, what it is, and that it is whole, all from headers.

Every name, shape and type of both transformers is checked before anything is computed from them: a job of hours must not find a
missing tensor at its end. What the layouts are is known to `layouts`, how values are stored to `encodings`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ideogram_q8.errors import RequestError, SourceError
from ideogram_q8.formats.manifest import FILE_NAME, SourceRecord, sha256_of
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
from ideogram_q8.model.components import LANGUAGE_MODEL, Dimensions, TextEncoderConfig, component
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.sources import dimensions, layouts, pairs, places, prefixes
from ideogram_q8.sources.branch import BranchReader

POCKET = "pocket"
"""The word that names the embedded model wherever a source is asked for."""
_PROBLEMS_SHOWN = 5
_TRAITS = "traits.json"


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

    @property
    def parts(self) -> tuple[PartName, ...]:
        """What is there of the component's parts."""
        return tuple(self._branches)

    def branch(self, branch: PartName) -> BranchReader:
        """The reader of a branch, or of the text encoder."""
        return self._branches[branch]

    @property
    def variant(self) -> str:
        """The format that most values of the matrices are stored in: "fp8", "nf4", "bf16", "f16", "f32", or of a build "int8"."""
        formats: Counter[str] = sum((reader.formats for reader in self._branches.values()), Counter())
        return formats.most_common(1)[0][0]

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
        digests = {path: self._digest(path) for path in self.states}
        return {
            branch: {f"{COMPONENT_FOLDERS[branch]}/{path.name}": digests[path] for path in reader.files}
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
    """The transformers of a checkpoint: the pair, or the conditional one alone."""

    config: TransformerConfig

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The transformers that the checkpoint holds."""
        return tuple(branch for branch in BRANCHES if branch in self._branches)


class TextEncoderSource(Checkpoint):
    """The text encoder of a checkpoint; `config.values` is its config.json."""

    config: TextEncoderConfig


def open_source(
    location: str | Path,
    *,
    unconditional: str | Path | None = None,
    revision: str | None = None,
    rest: Companions | None = None,
    builds: bool = False,
    as_given: bool = False,
) -> Source:
    """Opens `pocket`, a folder in the official tree, a pair of single files, or a repository on the Hugging Face Hub.

    A folder or a repository without unconditional_transformer, whose model_index.json does not promise it, has one transformer.

    Layout and encoding are found in the tensors' names, shapes and types (`checkpoint.layouts`), never in file names.

    Args:
        location: a path that exists is taken as one; else `org/name[@revision]` is a repository, which is downloaded.
        unconditional: the second file, where `location` is a single file with the conditional transformer; without it the file beside
            it that is named so (`pairs.other_branch`). A file with both transformers needs none. `pairs.NONE` takes the conditional
            one alone, whatever is beside it.
        revision: branch, tag or commit of a repository.
        rest: where VAE and text encoder are, and what the model was made for where no traits.json beside it says so; None is the
            folder itself, or that of the first file.
        builds: whether what is quantized to int8 already is opened too, to paint with: it is no source to quantize.
        as_given: leaves out the check that the transformers are not swapped (`pairs.check`).

    Raises:
        SourceError: a folder, a file or a tensor is missing or not what it claims to be, or the Hub refuses. Where tensors are
            wrong, `problems` has all of them, of both transformers.
    """
    text, path, alone = str(location), Path(location).expanduser(), pairs.is_none(unconditional)
    if path.is_file():
        _refuse_revision(revision, path)
        if alone:
            tables: dict[Branch, _Table] = {"conditional": _read_table((path.resolve(),), builds)}
        else:
            second = None if unconditional is None else Path(unconditional).expanduser().resolve()
            tables = _read_files(path.resolve(), second, builds)
        source = _from_files(tables, rest)
    elif unconditional is not None and not alone:
        raise SourceError(
            f"{text!r} is not a file, so the unconditional transformer is not to be named; expected one folder or two files"
        )
    else:
        parts = " and ".join(COMPONENT_FOLDERS[branch] for branch in BRANCHES)
        wanted = [pattern for pattern in hub.NEEDED if not (alone and pattern.startswith(COMPONENT_FOLDERS["unconditional"]))]
        folder = find_tree(text, revision, f"a folder with {parts}, two files", wanted)
        present = BRANCHES[:1] if alone else _branches_in(folder)
        configs = _configs(folder, present)
        tables = {branch: _read_table(places.in_tree(folder, branch), builds) for branch in present}
        config, branches = _resolve(tables, configs, folder)
        traits = read_traits(folder) if rest is None or (folder / _TRAITS).exists() else rest.traits
        source = Source(*origin(folder), folder if rest is None else rest.folder, traits, config, branches)
    if not as_given and not tables["conditional"].shared and text != POCKET:  # whose two are this package's own
        members = [pairs.Member(table.files, table.metadata, source.branch(b).read) for b, table in tables.items()]
        pairs.check_alone(*members) if len(members) == 1 else pairs.check(*members)
    return source


def _branches_in(folder: Path) -> tuple[Branch, ...]:
    """The transformers of a folder: one where nothing speaks of the other, so that a half of a pair is not taken for a whole."""
    name = COMPONENT_FOLDERS["unconditional"]
    index = folder / "model_index.json"
    listed = read_json(index) if index.is_file() else None
    promised = isinstance(listed, dict) and name in listed
    is_pair = promised or (folder / name).exists() or not (folder / COMPONENT_FOLDERS["conditional"]).is_dir()
    return BRANCHES if is_pair else BRANCHES[:1]


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
    stored, where = places.read_headers(files), _where(files)
    layouts.refuse_builds(stored.tensors, where)
    resolved = layouts.resolve(layouts.named(stored, where), config)
    _require_whole([*stored.problems, *resolved.problems], where)
    reader = BranchReader(files, resolved, component(config).shapes)
    return TextEncoderSource(*origin(folder), folder, read_traits(folder), config, {"text_encoder": reader})


def open_text_encoder_file(path: Path, config: TextEncoderConfig) -> TextEncoderSource:
    """Opens the language model of a text encoder in a single file, quantized or not; other networks in it are passed over.

    Raises:
        SourceError: as `open_source`.
    """
    files = (path.expanduser().resolve(),)
    stored, where = places.read_headers(files), str(path)
    prefix = prefixes.of_text_encoder(stored.tensors, where)
    named = layouts.only(layouts.named(stored, where, prefix), LANGUAGE_MODEL)
    shapes = {name: shape for name, shape in component(config).shapes.items() if name.startswith(LANGUAGE_MODEL)}
    resolved = layouts.resolve(named, config, shapes)
    _require_whole(resolved.problems, where)
    reader = BranchReader(files, resolved, shapes)
    return TextEncoderSource(str(files[0]), None, files[0].parent, IDEOGRAM4_TRAITS, config, {"text_encoder": reader})


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


@dataclass(frozen=True)
class Companions:
    """What a build needs of a checkpoint beside its own weights: `location` as `open_source` takes it, `folder` on this disk.

    `config` is None without a transformer/config.json.
    """

    location: str
    folder: Path
    traits: Traits
    config: TransformerConfig | None


@dataclass(frozen=True)
class _Table:
    """What the headers of a transformer's files say; `problems` is what is wrong already, `shared` if the other one is in them too."""

    files: tuple[Path, ...]
    named: layouts.Named
    problems: list[str]
    metadata: Mapping[str, str]
    shared: bool


def _where(files: Sequence[Path]) -> str:
    return str(files[0] if len(files) == 1 else files[0].parent)


def _read_table(files: tuple[Path, ...], builds: bool) -> _Table:
    """Reads the table of files that hold one transformer."""
    stored, where = places.read_headers(files), _where(files)
    return _table(files, stored, builds, prefixes.single(stored.tensors, where))


def _table(files: tuple[Path, ...], stored: places.Stored, builds: bool, prefix: str, other: str | None = None) -> _Table:
    """Raises SourceError: they hold a build where none is wanted."""
    named = layouts.named(stored, _where(files), prefix, other)
    if not builds:
        layouts.refuse_builds(named.tensors, _where(files))
    return _Table(files, named, stored.problems, stored.metadata, other is not None)


def _read_files(first: Path, second: Path | None, builds: bool) -> dict[Branch, _Table]:
    """Reads both tables from two files, of which the second may be found by its name, or from one file with both transformers."""
    if first.suffix.lower() == ".gguf":
        raise SourceError(
            f"{first} is a GGUF file, a build and no source; expected a checkpoint in FP8, bfloat16, float16, float32 or NF4"
        )
    stored = places.read_headers((first,))
    both = prefixes.by_branch(prefixes.find(stored.tensors, str(first)), str(first))
    if both is None:
        table = _read_table((first,), builds)
        return {"conditional": table, "unconditional": _read_table((second or _beside(first),), builds)}
    if second is not None:
        prefixes.single(stored.tensors, str(first))  # which says so
    prefix, other = both["conditional"], both["unconditional"]
    return {
        "conditional": _table((first,), stored, builds, prefix, other),
        "unconditional": _table((first,), stored, builds, other, prefix),
    }


def _beside(conditional: Path) -> Path:
    try:
        return pairs.other_branch(conditional)
    except SourceError as error:
        raise SourceError(
            f"{error}: {conditional.name} is a single file; name the unconditional transformer's file too, or --unconditional "
            f"{pairs.NONE} if it is the only one"
        ) from None


def _configs(folder: Path, branches: Sequence[Branch]) -> dict[Branch, TransformerConfig]:
    """The dimensions of a folder's transformers. Raises SourceError: there are none, or it holds a build."""
    paths = {branch: folder / COMPONENT_FOLDERS[branch] / "config.json" for branch in branches}
    if not paths["conditional"].is_file() and (folder / FILE_NAME).is_file():
        raise SourceError(f"{folder} holds a build, which is no source; expected the checkpoint that it was made from")
    return {branch: dimensions.from_config(path, TransformerConfig) for branch, path in paths.items()}


def _from_files(tables: Mapping[Branch, _Table], rest: Companions | None) -> Source:
    first = tables["conditional"].files[0]
    if rest is not None and rest.config is not None:
        configs = dict.fromkeys(tables, rest.config)
    else:
        configs = {branch: dimensions.from_shapes(table.named.tensors, table.files[0]) for branch, table in tables.items()}
    config, branches = _resolve(tables, configs, first.parent)
    folder, traits = (first.parent, read_traits(first.parent)) if rest is None else (rest.folder, rest.traits)
    return Source(str(first), None, folder, traits, config, branches)


def _resolve(
    tables: Mapping[Branch, _Table], configs: Mapping[Branch, TransformerConfig], where: Path
) -> tuple[TransformerConfig, dict[PartName, BranchReader]]:
    config = configs["conditional"]
    if any(other != config for other in configs.values()):
        raise SourceError(
            f"{where}: the two transformers have different dimensions (config.json, or shapes without one); expected the same in both"
        )
    problems: list[str] = []
    branches: dict[PartName, BranchReader] = {}
    shapes = component(config).shapes
    for branch, table in tables.items():
        resolved = layouts.resolve(table.named, config)
        problems += [f"{branch}: {problem}" for problem in (*table.problems, *resolved.problems)]
        branches[branch] = BranchReader(table.files, resolved, shapes)
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
    path = folder / _TRAITS
    if not path.exists():
        return IDEOGRAM4_TRAITS
    traits = decode(Traits, read_json(path), str(path), SourceError)
    try:
        check_size(*traits.default_size, traits)
    except RequestError as error:
        raise SourceError(f"{path}: default_size: {error}") from None
    return traits
