"""Reads what is to be published and checks, before anything is sent, that it is what its manifests say and may be published.

A folder holds one build (manifest.json right inside), or several of one source, each in a sub-folder of its own: the GGUF types of a
model in one repository, say. What is published of a manifest differs in one word from what is on the disk: the folder that the source
was read from becomes the repository that it is a copy of. The sha256 of the source's files stay, so whoever has that repository can
tell; and a build's own identity, the sha256 of its weights, does not depend on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.errors import ArtifactError, PublishError, printable
from ideogram_q8.formats.manifest import FILE_NAME as MANIFEST
from ideogram_q8.formats.manifest import Manifest, sha256_of
from ideogram_q8.formats.report import FILE_NAME as REPORT
from ideogram_q8.formats.report import Report, VariantReport
from ideogram_q8.formats.strict_json import parse_json
from ideogram_q8.publishing.cards.album import FILE_NAME as ALBUM
from ideogram_q8.publishing.cards.album import Samples
from ideogram_q8.publishing.cards.card import Figures
from ideogram_q8.publishing.cards.licence import (
    APACHE,
    IDEOGRAM,
    IDEOGRAM_REPO,
    NOTICE_FILE,
    Licence,
    licence_of,
    modification_notice,
    notice_text,
    source_name,
)
from ideogram_q8.publishing.folder import has, regular_file, shown
from ideogram_q8.publishing.project import PROJECT, licence_folder
from ideogram_q8.publishing.pushing.plan import ReleaseFile
from ideogram_q8.publishing.weight_headers import check_header

CARD, SUMS, CONFIG = "README.md", "SHA256SUMS", "config.json"

OnFile = Callable[[str, int], None]
"""Called with the path and size in bytes of each large file before it is hashed."""


@dataclass(frozen=True)
class ReleasedBuild:
    """A checked artifact folder.

    Attributes:
        prefix: where it goes in the repository: "" or "q4_k/".
        manifest: as it will be published.
        source_folder: the folder of this machine that the source was read from, if it was one.
        files: without what is made from them: card, licence texts, sums.
    """

    prefix: str
    manifest: Manifest
    source_folder: Path | None
    report: Report | None
    album: Samples | None
    files: tuple[ReleaseFile, ...]

    @property
    def measured(self) -> VariantReport | None:
        """The report's figures of this build."""
        return measured_variant(self.manifest, self.report)

    @property
    def figures(self) -> Figures:
        """What its card shows of the report."""
        return Figures(self.report, self.measured, self.album)


@dataclass(frozen=True)
class Release:
    """What is to be published of `folder`. `shared` are files for all builds: the licence's; `notes` are for the person."""

    folder: Path
    builds: tuple[ReleasedBuild, ...]
    licence: Licence
    shared: tuple[ReleaseFile, ...]
    notes: tuple[str, ...]

    @property
    def variant(self) -> str:
        """The builds' variants in a row: `int8`, or `q4_k_m, q8_0`."""
        return ", ".join(build.manifest.variant for build in self.builds)

    @property
    def artifacts(self) -> dict[str, str]:
        """sha256 of each build by its folder in the repository."""
        return {build.prefix: build.manifest.artifact_sha256 for build in self.builds}


def read_release(folder: Path, on_file: OnFile | None = None) -> Release:
    """Reads and checks all of `folder`; hashes every file that its manifests or reports name.

    Raises:
        PublishError: a file is missing or differs from the manifest, a header is damaged, a report measured other files, the builds do
            not belong together, the licence's text is missing, or the licence is not known.
        ArtifactError: a manifest.json or report.json is not valid.
    """
    folders = _build_folders(folder)
    builds = tuple(_read_build(folder, found, on_file) for found in folders)
    check_family(builds)
    licence = licence_of(builds[0].manifest)
    shared = _licence_files(folder, builds, licence)
    return Release(folder, builds, licence, shared, tuple(_notes(folder, builds, licence, shared)))


def complete(release: Release, cards: Mapping[str, str]) -> tuple[ReleaseFile, ...]:
    """All files of the release: with its cards, by their paths, and SHA256SUMS over everything else."""
    files = [made(path, text) for path, text in cards.items()]
    files += [file for build in release.builds for file in build.files]
    files += release.shared
    sums = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda f: f.path))
    return (*files, made(SUMS, sums))


def measured_variant(manifest: Manifest, report: Report | None) -> VariantReport | None:
    """The report's figures of this build, None when it was not measured.

    Raises:
        PublishError: the report has figures of the same variant from other files.
    """
    found = report.variant(manifest.variant) if report else None
    if found and found.artifact_sha256 != manifest.artifact_sha256:
        raise PublishError(
            f"{REPORT} measured a {manifest.variant} build with sha256 {found.artifact_sha256[:12]}, this one has "
            f"{manifest.artifact_sha256[:12]}; measure these files, or remove {REPORT}"
        )
    return found


def made(path: str, text: str) -> ReleaseFile:
    """A file of the release whose content is made here."""
    content = text.encode()
    return ReleaseFile(path, len(content), hashlib.sha256(content).hexdigest(), content)


def _build_folders(folder: Path) -> list[Path]:
    if has(folder, MANIFEST) or not folder.is_dir():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    for build in found:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", build.name, re.ASCII):
            raise PublishError(
                f"{shown(build)} becomes a folder of the repository; rename it to letters, digits, '.', '_' and '-'"
            )
    return found or [folder]  # whose manifest will be reported as missing


def _read_build(root: Path, folder: Path, on_file: OnFile | None) -> ReleasedBuild:
    remedy = "write the artifact with `python -m ideogram_q8 quantize`"
    stored = Manifest.from_json(_text(regular_file(root, folder.relative_to(root) / MANIFEST, remedy)))
    place, manifest = Path(stored.source.location), as_published(stored)
    measured_in, (report, measured, album) = figures_beside(manifest, folder, root)
    files = list(_weights(folder, manifest, on_file))
    files += [_checked(measured_in, s.path, None, s.sha256, on_file) for s in (measured.samples if measured else ())]
    files += [_manifest_file(folder, stored, manifest)] + ([_whole(measured_in, REPORT)] if report else [])
    files += [_whole(measured_in, ALBUM)] if album else []
    files += [_checked(measured_in, image.path, None, image.sha256, on_file) for image in (album.images if album else ())]
    prefix = "" if folder == root else f"{folder.name}/"
    moved = tuple(dataclasses.replace(file, path=prefix + file.path) for file in files)
    return ReleasedBuild(prefix, manifest, place if place.is_absolute() else None, report, album, moved)


def as_published(stored: Manifest) -> Manifest:
    """The manifest with the name of its source in the place of a folder of this machine."""
    return dataclasses.replace(stored, source=dataclasses.replace(stored.source, location=source_name(stored)))


def figures_beside(manifest: Manifest, *places: Path) -> tuple[Path, Figures]:
    """The first of `places` that has a report, else the first, and what the report there says of a build.

    Raises:
        PublishError: the report measured other files.
        ArtifactError: the report or the pictures' index is not valid, or they do not belong together.
    """
    folder = next((place for place in places if has(place, REPORT)), places[0])
    report = Report.from_json(_text(_own(folder, REPORT))) if has(folder, REPORT) else None
    return folder, Figures(report, measured_variant(manifest, report), _album(folder, report))


def _album(folder: Path, report: Report | None) -> Samples | None:
    if report is None or not has(folder, ALBUM):
        return None
    album = Samples.from_json(_text(_own(folder, ALBUM)))
    album.check(report)
    return album


def _weights(folder: Path, manifest: Manifest, on_file: OnFile | None) -> Iterator[ReleaseFile]:
    """The weight files and, where a diffusers folder has them, the config.json beside each."""
    for record in manifest.files:
        file = regular_file(folder, record.path, "quantize again, or restore the file")
        _check_size(file, record.size)
        check_header(file, manifest.tensors[record.path])
    for record in manifest.files:
        yield _checked(folder, record.path, record.size, record.sha256, on_file)
        if "/" in record.path:
            config = str(Path(record.path).with_name(CONFIG).as_posix())
            _check_config(regular_file(folder, config, "convert the artifact again"), manifest)
            yield _whole(folder, config)


def _check_config(file: Path, manifest: Manifest) -> None:
    values = parse_json(_text(file), str(file), PublishError)
    for key, expected in manifest.transformer.items():
        if not isinstance(values, dict) or values.get(key) != expected:
            raise PublishError(f"{file}: {key} is not {expected!r} as in {MANIFEST}; convert the artifact again")


def _manifest_file(folder: Path, stored: Manifest, published: Manifest) -> ReleaseFile:
    """The file itself where nothing in it must change, so that its bytes stay."""
    return _whole(folder, MANIFEST) if stored == published else made(MANIFEST, published.to_json())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file} is not UTF-8 text: {error}") from error


def _own(folder: Path, path: str) -> Path:
    return regular_file(folder, path, "measure again, or restore the file")


def _whole(folder: Path, path: str) -> ReleaseFile:
    file = _own(folder, path)
    return ReleaseFile(path, file.stat().st_size, sha256_of(file), file)


def _check_size(file: Path, size: int) -> None:
    found = file.stat().st_size
    if found != size:
        raise PublishError(f"{file} has {found:,} bytes, its manifest says {size:,}; quantize again")


def _checked(folder: Path, path: str, size: int | None, sha256: str, on_file: OnFile | None) -> ReleaseFile:
    file = _own(folder, path)
    found = file.stat().st_size if size is None else size
    if on_file:
        on_file(path, found)
    digest = sha256_of(file)
    if digest != sha256:
        raise PublishError(f"{file} has sha256 {digest[:12]}..., expected {sha256[:12]}...; it changed since it was written")
    return ReleaseFile(path, found, sha256, file)


def check_family(builds: Sequence[ReleasedBuild]) -> None:
    """Raises PublishError: the builds are of several sources, or two of one variant."""
    first = builds[0].manifest
    for build in builds[1:]:
        if (build.manifest.source, build.manifest.traits) != (first.source, first.traits):
            raise PublishError(
                f"{build.prefix} was made from other weights than {builds[0].prefix}; publish builds of one source in a repository"
            )
    variants = [build.manifest.variant for build in builds]
    if len(set(variants)) != len(variants):
        raise PublishError(f"the builds are {', '.join(variants)}; a repository takes one of each")


def _licence_files(folder: Path, builds: Sequence[ReleasedBuild], licence: Licence) -> tuple[ReleaseFile, ...]:
    """The licence's text and, for Ideogram's, the Notice. Apache's is always the project's own; Ideogram's may lie in the folder."""
    name, own = licence.copy_file, builds[0].source_folder
    if licence == APACHE:
        return (_whole(licence_folder(PROJECT), name),)
    found = next((place for place in (folder, own) if place and has(place, name)), None)
    if found is None:
        raise PublishError(f"{licence.title} asks for a copy of its text: put {name} into {folder}")
    copy = _whole(found, name)
    variants = " and ".join(build.manifest.variant for build in builds)
    modification = modification_notice(variants, builds[0].manifest.tool_version)
    return copy, made(NOTICE_FILE, notice_text(_text(found / name), modification))


def _notes(folder: Path, builds: Sequence[ReleasedBuild], licence: Licence, shared: Sequence[ReleaseFile]) -> Iterator[str]:
    if licence == IDEOGRAM:
        yield f"{IDEOGRAM_REPO} is gated; with --gated auto people accept the terms here as well"
    if licence == APACHE and has(folder, licence.copy_file):
        yield f"{licence.copy_file} will be this project's own, not the one in the folder"
    for build in builds:
        place, variant = folder / build.prefix, build.manifest.variant
        if build.report is None:
            yield f"no {REPORT} in {place}: every figure of the card reads 'not measured'"
        elif build.measured is None:
            yield f"{REPORT} has no variant {variant!r}: every figure of this build reads 'not measured'"
        if build.source_folder:
            source = build.manifest.source.location
            yield f"{MANIFEST} will name {source} as the source instead of the folder {build.source_folder}"
    known = {file.path for build in builds for file in build.files} | {file.path for file in shared} | {CARD, SUMS, REPORT}
    others = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    left_out = [path for path in others if path not in known]
    if left_out:
        yield printable(f"not part of the release, left out: {', '.join(left_out)}")
