"""Reads an artifact folder and checks, before anything is sent, that it is what its manifest says and may be published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.errors import ArtifactError, PublishError
from ideogram_q8.manifest import FILE_NAME as MANIFEST
from ideogram_q8.manifest import Manifest, sha256_of
from ideogram_q8.report import Report, VariantReport
from publish.licence import APACHE, NOTICE_FILE, Licence, licence_of, modification_notice, notice_text
from publish.plan import ReleaseFile

REPORT, CARD, SUMS = "report.json", "README.md", "SHA256SUMS"
PROJECT = Path(__file__).resolve().parents[1]

OnFile = Callable[[str, int], None]
"""Called with the path and size in bytes of each large file before it is hashed."""


@dataclass(frozen=True)
class Release:
    """A checked artifact folder. `files` lack the card and the sums, which are made from the rest; `notes` are for the person."""

    manifest: Manifest
    report: Report | None
    licence: Licence
    files: tuple[ReleaseFile, ...]
    notes: tuple[str, ...]


def read_release(folder: Path, on_file: OnFile | None = None) -> Release:
    """Reads and checks all of `folder`; hashes every file that its manifest or report names.

    Raises:
        PublishError: a file is missing or differs from the manifest, the report measured other files, the licence's text is
            missing, or the licence is not known.
        ArtifactError: manifest.json or report.json is not valid.
    """
    manifest_file = _read(folder, MANIFEST, "write the artifact with `python -m ideogram_q8 quantize`")
    manifest = Manifest.from_json(_text(folder / MANIFEST))
    licence = licence_of(manifest)
    report = _report(folder)
    measured = measured_variant(manifest, report)
    files = [_checked(folder, f.path, f.size, f.sha256, on_file) for f in manifest.files]
    files += [_checked(folder, sample.path, None, sample.sha256, on_file) for sample in (measured.samples if measured else ())]
    files += [manifest_file] if report is None else [manifest_file, _read(folder, REPORT, "measure again")]
    files += _licence_files(folder, manifest, licence)
    return Release(manifest, report, licence, tuple(files), tuple(_notes(folder, manifest, report, files)))


def complete(release: Release, card: str) -> tuple[ReleaseFile, ...]:
    """All files of the release: with the card and SHA256SUMS over everything else."""
    files = (_made(CARD, card), *release.files)
    sums = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda f: f.path))
    return (*files, _made(SUMS, sums))


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


def _report(folder: Path) -> Report | None:
    path = folder / REPORT
    return Report.from_json(_text(path)) if path.is_file() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file} is not UTF-8 text: {error}") from error


def _read(folder: Path, path: str, remedy: str) -> ReleaseFile:
    file = folder / path
    if not file.is_file():
        raise PublishError(f"{file} is missing; {remedy}")
    return ReleaseFile(path, file.stat().st_size, sha256_of(file), file)


def _made(path: str, text: str) -> ReleaseFile:
    content = text.encode()
    return ReleaseFile(path, len(content), hashlib.sha256(content).hexdigest(), content)


def _checked(folder: Path, path: str, size: int | None, sha256: str, on_file: OnFile | None) -> ReleaseFile:
    file = folder / path
    if not file.is_file():
        raise PublishError(f"{file} is missing; quantize again, or restore the file")
    found = file.stat().st_size
    if size is not None and found != size:
        raise PublishError(f"{file} has {found:,} bytes, its manifest says {size:,}; quantize again")
    if on_file:
        on_file(path, found)
    digest = sha256_of(file)
    if digest != sha256:
        raise PublishError(f"{file} has sha256 {digest[:12]}..., expected {sha256[:12]}...; it changed since it was written")
    return ReleaseFile(path, found, sha256, file)


def _licence_files(folder: Path, manifest: Manifest, licence: Licence) -> list[ReleaseFile]:
    """The licence's text and, for Ideogram's, the Notice. The folder's own copy wins over the source's."""
    name = licence.copy_file
    places = [folder] + ([PROJECT] if licence == APACHE else [Path(manifest.source.location)])
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        raise PublishError(f"{licence.title} asks for a copy of its text: put {name} into {folder}")
    copy = ReleaseFile(name, found.stat().st_size, sha256_of(found), found)
    if licence == APACHE:
        return [copy]
    modification = modification_notice(manifest.variant, manifest.tool_version)
    return [copy, _made(NOTICE_FILE, notice_text(_text(found), modification))]


def _notes(folder: Path, manifest: Manifest, report: Report | None, files: Iterable[ReleaseFile]) -> Iterable[str]:
    if report is None:
        yield f"no {REPORT} in {folder}: every figure of the card reads 'not measured'"
    elif report.variant(manifest.variant) is None:
        yield f"{REPORT} has no variant {manifest.variant!r}: every figure of this build reads 'not measured'"
    if Path(manifest.source.location).is_absolute():
        yield f"{MANIFEST} names the local folder {manifest.source.location}; it will be public"
    known = {file.path for file in files} | {CARD, SUMS, NOTICE_FILE}
    others = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    left_out = [path for path in others if path not in known]
    if left_out:
        yield f"not part of the release, left out: {', '.join(left_out)}"
