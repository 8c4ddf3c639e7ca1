"""From a location to what a model is loaded from: a checkpoint, an artifact, or GGUF files and the checkpoint that has the rest.

Reads headers and manifests, no weights; of a location on the Hub it downloads what is not here yet.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.builds import Artifact, gguf_build, open_artifact
from ideogram_q8.builds.encoder_file import EncoderFile, open_encoder_file
from ideogram_q8.builds.gguf_build import GgufBuild
from ideogram_q8.builds.published import Published, find_one
from ideogram_q8.builds.reader import read_manifest
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.manifest import FILE_NAME
from ideogram_q8.hub import client as hub
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, TEXT_TAPS, Traits, TransformerConfig
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.sources import POCKET, Companions, Source, dimensions, open_companions, open_source
from ideogram_q8.sources.source import find_tree


@dataclass(frozen=True)
class Build:
    """A build, and the checkpoint that the rest of its model comes from where no manifest names it, or another is wanted."""

    weights: Artifact | GgufBuild
    rest: Companions

    @property
    def traits(self) -> Traits:
        return self.rest.traits


def open_weights(
    location: str | Path,
    *,
    unconditional: str | Path | None = None,
    source: str | Path | None = None,
    revision: str | None = None,
    as_given: bool = False,
) -> Source | Artifact | Build:
    """Opens what `load` loads, without its weights: an artifact folder, GGUF files, single files, or else what `open_source` takes.

    Args:
        location: a path that exists is taken as one; else `org/name[/folder][@revision]` is a build or a checkpoint on the Hub.
        unconditional: the second file, where `location` is a single file; without it, it is found by its name beside the first.
            `pairs.NONE` takes the conditional transformer alone.
        source: what a build was made from, or another place that has text encoder, tokenizer and VAE: `pocket`, a folder or a Hub
            id. An artifact's manifest names it already; without it, single files lie in such a folder themselves. Of a checkpoint
            only where it has the transformer alone.
        revision: branch, tag or commit, where the location, or else the source, is a Hub id.
        as_given: leaves out the check that two files are not swapped.

    Raises:
        SourceError, ArtifactError: see `open_source`, `open_artifact` and `gguf_build.open_transformers`; or an argument is of no
            use with this location.
    """
    path = Path(location).expanduser()
    if str(location) != POCKET and (path / FILE_NAME).is_file():
        return _open_artifact(path, unconditional, source, revision)
    if unconditional is None and path.is_file() and _is_part_of_artifact(path):
        return _open_artifact(path.parent, None, source, revision)
    if gguf_build.is_gguf(location):
        _require_file(path)
        rest = open_companions(path.parent if source is None else source, revision=revision)
        return Build(gguf_build.open_transformers(path, unconditional, rest.config, as_given=as_given), rest)
    if path.is_file():
        companions = open_companions(path.parent if source is None else source, revision=revision)
        return open_source(path, unconditional=unconditional, rest=companions, builds=True, as_given=as_given)
    build = None if path.exists() else find_build(str(location), revision)
    if build is not None:
        return _open_artifact(build.download(), unconditional, source, None)
    others = None if source is None else _companions_beside(str(location), source, revision)
    return open_source(location, unconditional=unconditional, revision=revision, rest=others, builds=True, as_given=as_given)


def _companions_beside(location: str, source: str | Path, revision: str | None) -> Companions:
    """Opens the companions of a checkpoint without a text encoder of its own, as distilled ones are published.

    Raises:
        SourceError: the checkpoint has its own.
    """
    folder = find_tree(location, revision, "a folder with transformer")
    if (folder / COMPONENT_FOLDERS["text_encoder"]).is_dir():
        raise SourceError(
            f"{location} is a checkpoint, which needs no source; expected one beside an artifact, single files or a folder without a "
            "text encoder only"
        )
    return open_companions(source)


def _require_file(path: Path) -> None:
    """Raises ArtifactError: no file is there, whatever else is wrong."""
    if not path.exists():
        raise ArtifactError(f"there is no file {path}; check the path")


def find_build(location: str, revision: str | None = None) -> Published | None:
    """The build on the Hub that a location names, before it is downloaded; None where it is none: a checkpoint, or no Hub id at all.

    Raises:
        SourceError, ArtifactError: as `published.find_one`.
    """
    place = hub.parse(location)
    if location == POCKET or place is None:
        return None
    return find_one(dataclasses.replace(place, revision=revision or place.revision))


def _open_artifact(
    folder: Path, unconditional: str | Path | None, source: str | Path | None, revision: str | None
) -> Artifact | Build:
    if unconditional is not None or (revision is not None and source is None):
        raise ArtifactError(f"{folder} is an artifact; expected no unconditional file and no revision beside it")
    artifact = open_artifact(folder)
    return artifact if source is None else Build(artifact, open_companions(source, revision=revision))


def _is_part_of_artifact(path: Path) -> bool:
    return (path.parent / FILE_NAME).is_file() and path.name in read_manifest(path.parent).tensors


def origin(opened: Artifact | Build) -> tuple[str, Path]:
    """The location that a build was made from, or that was named in its place, and the folder that has the other components.

    Raises:
        SourceError: it is gone.
        ArtifactError: it is the pocket, with other weights by now.
    """
    if isinstance(opened, Build):
        return opened.rest.location, opened.rest.folder
    artifact, made_from = opened, opened.manifest.source
    file = Path(made_from.location)
    if made_from.location == POCKET and made_from.files != open_source(POCKET).record().files:
        raise ArtifactError(f"{artifact.folder} was built from other weights of pocket than these; quantize pocket again")
    is_file = made_from.location != POCKET and file.is_file()  # one of two, whose weights are not needed any more
    try:
        rest = open_companions(file.parent if is_file else made_from.location, revision=made_from.revision)
    except hub.Unavailable:
        raise
    except SourceError as error:
        raise SourceError(
            f"{artifact.folder} was made from {made_from.location}: {error}; if it has moved, name it with --source"
        ) from None
    return (made_from.location if is_file else rest.location), rest.folder


def open_text_encoder_build(location: Path, config: TransformerConfig, folder: Path) -> Artifact | GgufBuild | EncoderFile:
    """An artifact of the text encoder, or a GGUF or safetensors file of one, for transformers of these dimensions.

    Args:
        folder: of the model, whose text_encoder/config.json tells the dimensions of a file without a manifest.

    Raises:
        SourceError: there is no such config.json.
        ArtifactError: no sound build, no text encoder, or one of another model.
    """
    build: Artifact | GgufBuild | EncoderFile
    is_file = gguf_build.is_gguf(location) or location.is_file()
    if is_file and not _is_part_of_artifact(location):
        values = dimensions.from_config(folder / "text_encoder" / "config.json", TextEncoderConfig)
        open_file = gguf_build.open_text_encoder if gguf_build.is_gguf(location) else open_encoder_file
        build = open_file(location, values)
    else:
        build = open_artifact(location.parent if is_file else location)
    features = build.text_encoder_config.hidden_size * len(TEXT_TAPS)
    if features != config.llm_features_dim:
        raise ArtifactError(
            f"{location}: the text encoder gives {features} features, the transformers read {config.llm_features_dim}; "
            "quantize the text encoder of the same checkpoint"
        )
    return build
