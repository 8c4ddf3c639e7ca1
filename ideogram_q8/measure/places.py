"""The variants of a comparison: `PLACE` or `NAME=PLACE`, where a place is what `loading.load` takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ideogram_q8.builds import Artifact
from ideogram_q8.builds.gguf_build import GgufBuild
from ideogram_q8.builds.opening import Build, open_weights
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import identity
from ideogram_q8.formats.report import VariantFile
from ideogram_q8.machine.devices import ATTENTIONS, COMPUTES
from ideogram_q8.model.architecture import Traits
from ideogram_q8.model.schemes import INT8_ATTENTION, INT8_COMPUTE
from ideogram_q8.sources import Source

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class MeasuredVariant:
    """A variant that was opened, not loaded. `channels` are those of its latents, `has_blocks` as of an `Artifact`."""

    name: str
    location: str
    traits: Traits
    channels: int
    files: tuple[VariantFile, ...]
    made_from: frozenset[str] | None
    """sha256s of the source's weight files; None where they are not known."""
    has_blocks: bool = False
    attention: str = ATTENTIONS[0]
    """One of ATTENTIONS."""
    compute: str = COMPUTES[0]
    """One of COMPUTES; without blocks the first."""

    @property
    def artifact_sha256(self) -> str:
        """The build's identity by the rule of `manifest.identity`: another attention or compute makes another variant of the same files."""
        return identity((file.sha256 for file in self.files), self.attention, self.compute)


def open_places(
    reference: str, candidates: Sequence[str], int8_attention: Sequence[str] = (), int8_compute: Sequence[str] = ()
) -> list[MeasuredVariant]:
    """The reference first, last the candidates that compute in int8: attention, then with ggml's blocks.

    Raises:
        RequestError: a name is malformed or given twice, or a candidate is of another model or was made from another source; or one
            of `int8_compute` has no blocks.
        SourceError, ArtifactError: a place is missing or not what it claims to be.
    """
    places = [_open(text) for text in (reference, *candidates)]
    places += [replace(_renamed(text, INT8_ATTENTION), attention="int8") for text in int8_attention]
    places += [replace(_renamed(text, INT8_COMPUTE), compute="int8") for text in int8_compute]
    names = [place.name for place in places]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"two variants are called {name!r}; name them, as in NAME=PLACE")
    first = places[0]
    for place in places[1:]:
        if place.compute != COMPUTES[0] and not place.has_blocks:
            raise RequestError(
                f"{place.location} has no Linear in ggml's blocks, and computes in one way only; use --candidate"
            )
        if place.traits != first.traits:
            raise RequestError(
                f"{place.name} is a {place.traits.name}, {first.name} a {first.traits.name}; compare one model's"
            )
        if place.made_from and first.made_from and place.made_from != first.made_from:
            raise RequestError(f"{place.name} was made from other weights than {first.name}; compare builds of one source")
    return places


def check_name(name: str) -> None:
    """Raises RequestError unless it can be a part of a file's name anywhere."""
    if not _NAME.fullmatch(name):
        raise RequestError(f"the variant's name is {name!r}; expected lower-case letters, digits, '.', '_' and '-'")


def _open(text: str) -> MeasuredVariant:
    name, separator, location = text.partition("=")
    if not separator or "/" in name:  # a path may hold an equals sign
        name, location = "", text
    opened = open_weights(location)
    variant = name or _plain(opened.variant if isinstance(opened, Source) else _built(opened).variant)
    check_name(variant)
    config = opened.config if isinstance(opened, Source) else _built(opened).transformer_config
    has_blocks = not isinstance(opened, Source) and _built(opened).has_blocks
    return MeasuredVariant(variant, location, opened.traits, config.in_channels, _files(opened), _made_from(opened), has_blocks)


def _renamed(text: str, ending: str) -> MeasuredVariant:
    """Named after its variant and what is different, unless it was given a name."""
    place = _open(text)
    return place if text.startswith(f"{place.name}=") else replace(place, name=f"{place.name}{ending}")


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text.lower())


def _built(opened: Artifact | Build) -> Artifact | GgufBuild:
    return opened.weights if isinstance(opened, Build) else opened


def _files(opened: Source | Artifact | Build) -> tuple[VariantFile, ...]:
    if isinstance(opened, Source):
        record = opened.record().files
        return tuple(VariantFile(path, (opened.folder / path).stat().st_size, digest) for path, digest in record.items())
    build = _built(opened)
    if isinstance(build, Artifact):
        return tuple(VariantFile(file.path, file.size, file.sha256) for file in build.manifest.files)
    paths = [path for weights in build.parts.values() for path in weights.files]
    return tuple(VariantFile(path.name, path.stat().st_size, digest) for path, digest in zip(paths, build.digests, strict=True))


def _made_from(opened: Source | Artifact | Build) -> frozenset[str] | None:
    if isinstance(opened, Source):
        return frozenset(opened.record().files.values())
    build = _built(opened)
    return frozenset(build.manifest.source.files.values()) if isinstance(build, Artifact) else None
