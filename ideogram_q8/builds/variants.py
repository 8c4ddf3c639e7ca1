"""The variants of a source that a person can choose from: builds in the user's cache folder, artifacts made elsewhere, builds on the Hub.

A build is made on first use and kept: it is found again by the sha256 of the source's files in its manifest, so a changed
source is built anew. Nothing is ever written into the source folder or the working tree. What this module does not know:
how to quantize (`quantization`), how to load (`loading`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
from filelock import FileLock

from ideogram_q8.builds import layout, open_artifact
from ideogram_q8.builds.gguf_build import is_gguf, open_transformers
from ideogram_q8.builds.published import Published, find, find_one
from ideogram_q8.builds.quantization import OnProgress, quantize
from ideogram_q8.builds.reader import read_manifest
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.manifest import TOOL_VERSION, Manifest
from ideogram_q8.hub import client as hub
from ideogram_q8.hub.client import Place
from ideogram_q8.model.architecture import Branch, TransformerConfig
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.sources import Companions, Source, open_source
from ideogram_q8.sources.remote import RemoteSource


@dataclass(frozen=True)
class Variant:
    """One way to run a model.

    Attributes:
        name: "fp8" (the source, whatever it is stored in), "int8", "q8_0", "q4_k_s", ...; of an artifact made elsewhere, its own name
            ("int8-paper").
        title, format: what people read, for example "INT8" and "safetensors, W8A8".
        location: what `loading.load` takes; None until the variant is built or downloaded.
        size_bytes: size of both transformers' files; of a variant that is not built yet, the size of its tensors; 0: not known.
        rest_bytes: what else is to be downloaded before it can be built or loaded: the original, or its text encoder and VAE.
        missing_bytes: what is still to be downloaded of it.
        place: of a variant on the Hub, where.
        published: the same, as far as the Hub or the cache tells; None where they tell nothing, which `problem` explains.
    """

    name: str
    title: str
    format: str
    location: str | None
    size_bytes: int
    missing_bytes: int = 0
    place: Place | None = None
    published: Published | None = None
    problem: str = ""
    rest_bytes: int = 0

    @property
    def described_in(self) -> str | None:
        """The folder with its manifest and report: its own, or that of the small files of a build that is not downloaded yet."""
        return self.location if self.published is None else str(self.published.folder)


_TITLES = {
    "fp8": ("FP8", "the original · safetensors"),
    "int8": ("INT8", "W8A8 · safetensors"),
    "q8_0": ("Q8_0", "8.5 bits · GGUF"),
    "q4_k_s": ("Q4_K_S", "4.5 bits · GGUF"),
}
VARIANT_NAMES: tuple[str, ...] = tuple(_TITLES)


def default_cache() -> Path:
    """The user's cache folder for builds, by the conventions of the operating system."""
    return platformdirs.user_cache_path("ideogram-q8") / "variants"


def catalogue(source: str | RemoteSource = "pocket", cache: Path | None = None) -> list[Variant]:
    """All variants of a source in the order of `VARIANT_NAMES`, built or not. Hashes nothing, so it is quick.

    Raises:
        SourceError: the source is missing or not what it claims to be.
    """
    opened = _open(source)
    return [_describe(name, opened, _folder(name, opened, cache)) for name in VARIANT_NAMES]


def _open(source: str | RemoteSource) -> Source | RemoteSource:
    return source if isinstance(source, RemoteSource) else open_source(source)


def _describe(name: str, source: Source | RemoteSource, folder: Path) -> Variant:
    title, form = _TITLES[name]
    if name == "fp8":
        return _original(title, form, source)
    rest, manifest = source.missing_bytes() if isinstance(source, RemoteSource) else 0, _read_manifest(folder)
    if manifest is None:
        return Variant(name, title, form, None, expected_bytes(name, source.config, source.branches), rest_bytes=rest)
    return Variant(name, title, form, str(folder), sum(record.size for record in manifest.files), rest_bytes=rest)


def _original(title: str, form: str, source: Source | RemoteSource) -> Variant:
    if isinstance(source, Source):
        return Variant("fp8", source.variant.upper(), form, source.location, _source_bytes(source))
    missing, rest = source.missing_weight_bytes, source.missing_bytes(hub.COMPANIONS)
    return Variant("fp8", title, form, None, source.weight_bytes, missing, source.snapshot.place, rest_bytes=rest)


def prepare(name: str, source: str = "pocket", cache: Path | None = None, on_progress: OnProgress | None = None) -> str:
    """Builds a variant unless the cache has it, and returns its location for `loading.load`.

    Two processes may ask at once: one builds, the other waits and finds the result. An exception raised by `on_progress`
    cancels the build, and the next one goes on from there.

    Args:
        name: one of `VARIANT_NAMES`; "fp8" is the source itself and needs no build.
        source: `pocket` or a folder in the official tree.
        cache: folder for builds; None is `default_cache()`.
        on_progress: called after each tensor of a build, and never when the build is found.

    Raises:
        RequestError: an unknown name.
        SourceError, ArtifactError, ResourceError: from reading the source and writing the build.
    """
    if name not in _TITLES:
        raise RequestError(f"unknown variant {name!r}; expected one of {', '.join(VARIANT_NAMES)}")
    opened = open_source(source)
    if name == "fp8":
        return opened.location
    folder = _folder(name, opened, cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        recipe = choose(name, opened.config)
        if not _is_build_of(folder, opened, recipe):
            quantize(opened, recipe, folder, on_progress=on_progress, overwrite=folder.exists())
    return str(folder)


def given(artifacts: Sequence[Path | str], source: str | RemoteSource = "pocket") -> list[Variant]:
    """Artifact folders and weight files made elsewhere, and builds on the Hub, as variants beside those of `catalogue`.

    Each has a name of its own. Of two GGUF or safetensors files the conditional one is named; the other is found beside it. Of the Hub
    only small files are fetched; what it does not give now is offered with its problem, and `look_again` asks once more.

    Args:
        artifacts: paths; what is no path and has the form `org/name[/folder][@revision]` is on the Hub.

    Raises:
        SourceError: the Hub has no such repository.
        ArtifactError: a folder is not an artifact, or a file is not of a pair for a model of these dimensions.
        RequestError: it was made from another source, so that nothing could be compared, or a folder is given twice.
    """
    opened = _open(source)
    found: dict[str, Variant] = {}
    for artifact in artifacts:
        for variant in _given(artifact, opened):
            name = variant.name
            if name in _TITLES or name in found:
                name = f"{name}-{_label(_own_name(artifact))}"
            if name in found:
                raise RequestError(f"artifact {artifact} is given twice, or two of one name hold the same variant")
            found[name] = replace(variant, name=name)
    return list(found.values())


def look_again(variant: Variant, source: str | RemoteSource) -> Variant:
    """A variant of the Hub that had a problem, as it is now, under its old name. Raises as `given`; Unavailable: it still has it."""
    assert variant.place is not None
    build = find_one(variant.place)
    if build is None:
        raise ArtifactError(f"{variant.place} on the Hugging Face Hub holds a checkpoint; expected what `quantize` wrote")
    return replace(_published(build, _open(source)), name=variant.name)


def current(variant: Variant, source: str | RemoteSource) -> Variant:
    """One of `given` with what is on the disk of it by now."""
    rest = source.missing_bytes(hub.COMPANIONS) if isinstance(source, RemoteSource) else 0
    if variant.published is None:
        return replace(variant, rest_bytes=rest)
    missing = variant.published.missing_bytes
    location = None if missing else str(variant.published.folder)
    return replace(variant, location=location, missing_bytes=missing, rest_bytes=rest)


def _given(artifact: Path | str, source: Source | RemoteSource) -> list[Variant]:
    path = Path(artifact).expanduser()
    place = None if path.exists() else hub.parse(str(artifact))
    if place is not None:
        return _on_the_hub(place, source)
    if is_gguf(path):
        return [_gguf_pair(path, source)]
    return [_safetensors_pair(path, source) if path.is_file() else _artifact(path, source)]


def _own_name(artifact: Path | str) -> str:
    place = hub.parse(str(artifact))
    return Path(artifact).resolve().name if place is None or Path(artifact).exists() else place.repository.replace("/", "-")


def _on_the_hub(place: Place, source: Source | RemoteSource) -> list[Variant]:
    owner, name = place.repository.split("/")
    try:
        builds = find(place)
    except hub.Unavailable as error:
        title, form = place.folder or name, f"from {owner}"
        return [Variant(_label(title), title, form, None, 0, place=place, problem=error.brief)]
    if not builds:
        raise ArtifactError(
            f"{place} on the Hugging Face Hub holds a checkpoint; expected a build, and checkpoints as --source"
        )
    return [_published(build, source) for build in builds]


def _published(build: Published, source: Source | RemoteSource) -> Variant:
    _check_origin(str(build.place), build.manifest, source)
    title, size = _title(build.manifest.variant), sum(record.size for record in build.manifest.files)
    form = f"from {build.place.repository}"
    found = Variant(_label(build.manifest.variant), title, form, None, size, place=build.place, published=build)
    return current(found, source.location if isinstance(source, Source) else source)


def _check_origin(name: str, manifest: Manifest, source: Source | RemoteSource) -> None:
    """Raises RequestError unless it is transformers made from this source."""
    if "text_encoder" in {file.branch for file in manifest.files}:
        raise RequestError(f"{name} holds a text encoder, which is no variant to paint with; name folders with transformers")
    if TransformerConfig.from_json(manifest.transformer) != source.config:
        raise RequestError(f"{name} is of other dimensions than {source.location}; leave out one of them")
    made_from = manifest.source
    if made_from.location != source.location and made_from.files != source.record().files:
        raise RequestError(f"{name} was made from {made_from.location}, not from {source.location}; leave out one of them")


def _title(variant: str) -> str:
    return variant.upper().replace("-", " · ", 1)


def _gguf_pair(path: Path, source: Source | RemoteSource) -> Variant:
    pair = open_transformers(path, config=source.config)
    size = sum(file.stat().st_size for file in {file for branch in pair.branches for file in pair.branch(branch).files})
    return Variant(_label(pair.variant), path.stem, f"{pair.variant} · of unknown origin", str(path.resolve()), size)


def _safetensors_pair(path: Path, source: Source | RemoteSource) -> Variant:
    """INT8 or FP8 files of another program's making, or ours without their manifest; the rest of the model is the source's."""
    rest = Companions(source.location, source.folder, source.traits, source.config)
    pair = open_source(path, rest=rest, builds=True)
    form = f"{pair.variant} · of unknown origin"
    return Variant(_label(f"{pair.variant} {path.stem}"), path.stem, form, str(path.resolve()), _source_bytes(pair))


def _artifact(folder: Path, source: Source | RemoteSource) -> Variant:
    artifact = open_artifact(folder)
    _check_origin(str(folder), artifact.manifest, source)
    size = sum(record.size for record in artifact.manifest.files)
    form = f"from {folder.resolve().name}"
    return Variant(_label(artifact.variant), _title(artifact.variant), form, str(folder.resolve()), size)


def expected_bytes(name: str, config: TransformerConfig, branches: Sequence[Branch]) -> int:
    """Bytes of the transformers' tensors in a scheme, from the shapes alone."""
    recipe = choose(name, config)
    container = layout.container(recipe.scheme)
    stored = (records for branch in branches for records in layout.stored_tensors(config, recipe, branch).values())
    return sum(container.stored_bytes(record) for records in stored for record in records)


def _folder(name: str, source: Source | RemoteSource, cache: Path | None) -> Path:
    """A folder for each source location, so that two sources do not take turns in one."""
    digest = hashlib.sha256(source.location.encode()).hexdigest()[:8]
    return (cache or default_cache()) / f"{_label(source.traits.name)}-{digest}" / name


def _label(text: str) -> str:
    """Text from a file as a part of a file name."""
    return "".join(c if c.isalnum() or c == "_" else "-" for c in text.lower())


def _source_bytes(source: Source) -> int:
    return sum(path.stat().st_size for path in {path for branch in source.branches for path in source.branch(branch).files})


def _read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished build; None where there is none that this version can read."""
    try:
        return read_manifest(folder)
    except ArtifactError:
        return None


def _is_build_of(folder: Path, source: Source, recipe: Recipe) -> bool:
    """A whole build of these weights by this very recipe and release; another one is built again."""
    manifest = _read_manifest(folder)
    if manifest is None:
        return False
    complete = all(
        (folder / record.path).is_file() and (folder / record.path).stat().st_size == record.size for record in manifest.files
    )
    same = manifest.recipe == recipe.only(source.parts).to_value() and manifest.tool_version == TOOL_VERSION
    return complete and same and manifest.source.files == source.record().files
