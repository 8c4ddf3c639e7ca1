"""A Space put together as a folder: the package, the app or ZeroGPU's page, requirements, metadata, licences. No network here.

    README.md         metadata and what the Space is
    start.py/zero.py  what the Space runs (of ideogram_q8/publishing/space/space_app/), app.py and ideogram_q8/ beside it
    space.json        the builds it offers, the device, and for how long a GPU is asked for
    requirements.txt  the project's, without Gradio, which the Space's metadata name; torch in a version that the hardware takes
    LICENSE           and, for builds of Ideogram 4, LICENSE.md and Notice

Hosting is distribution to the Agreement, so the licence files travel as with weights. Hardware, Python and torch as in the Hub's
documentation of Spaces (https://huggingface.co/docs/hub/spaces-config-reference, .../spaces-zerogpu).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import TOOL_VERSION, Manifest, sha256_of
from ideogram_q8.formats.report import Measured, Report, VariantReport
from ideogram_q8.formats.strict_json import parse_json
from ideogram_q8.model.architecture import PRESETS
from ideogram_q8.model.schemes import title
from ideogram_q8.publishing.cards.card import fill, yaml_text
from ideogram_q8.publishing.cards.escaping import Markdown
from ideogram_q8.publishing.cards.licence import APACHE, IDEOGRAM_REPO, NOTICE_FILE, Licence, licence_of, modification_notice
from ideogram_q8.publishing.folder import shown
from ideogram_q8.publishing.project import PROJECT, own_files, package_files
from ideogram_q8.publishing.pushing.plan import ReleaseFile

PYTHON = "3.12"
SETTINGS = "space.json"
_OWN_FILES = Path(__file__).with_name("space_app")
_SETTINGS_KEYS = {"device", "variants", "seconds", "visitors_accept", "about"}
_LONGEST_SETTINGS = 1 << 20
_CPU_TORCH = "--extra-index-url https://download.pytorch.org/whl/cpu\ntorch==2.13.0+cpu"
_ZERO_TORCH = "spaces>=0.51,<1\ntorch==2.11.0  # the newest that ZeroGPU takes"
_OAUTH = {"hf_oauth": True, "hf_oauth_scopes": ["gated-repos"]}
UNMEASURED_SECONDS = 120
START_SECONDS = 10
"""Asked for beside twice the measured time of all steps."""


@dataclass(frozen=True)
class SpaceHardware:
    """What a Space runs on: `entry` is the file it runs, `torch` its lines in the requirements, None for the project's own."""

    device: Literal["cpu", "cuda"]
    entry: str
    torch: str | None


_CARD = SpaceHardware("cuda", "start.py", None)
HARDWARE: Mapping[str, SpaceHardware] = {
    "cpu-basic": SpaceHardware("cpu", "start.py", _CPU_TORCH),
    "cpu-upgrade": SpaceHardware("cpu", "start.py", _CPU_TORCH),
    "zero-a10g": SpaceHardware("cuda", "zero.py", _ZERO_TORCH),
    "l4x1": _CARD,
    "a10g-large": _CARD,
    "l40sx1": _CARD,
}
"""By the Hub's names. a10g-small is left out: its 15 GB of memory cannot stage the weights."""


@dataclass(frozen=True)
class SpaceBuild:
    """A published build that the Space offers, at a commit; `texts` are its repository's licence files by their names."""

    repo: str
    revision: str
    manifest: Manifest
    report: Report | None
    texts: Mapping[str, str]


def assemble(folder: Path, hardware: str, builds: Sequence[SpaceBuild], visitors_log_in: bool = False) -> None:
    """Writes the Space into `folder`, in place of an older one.

    Args:
        visitors_log_in: only those get a picture who have accepted the terms of the gated weights themselves.

    Raises:
        PublishError: the folder holds something else; the hardware needs builds and there are none; builds under different licences; a
            build's licence is not known, or its files are missing; visitors cannot log in there, or have no reason to.
    """
    licence = _check(folder, hardware, builds)
    if visitors_log_in and (HARDWARE[hardware].entry != "zero.py" or licence == APACHE):
        raise PublishError("visitors log in on ZeroGPU, to builds of gated weights; leave out --visitors-log-in")
    entry = (_OWN_FILES / HARDWARE[hardware].entry).relative_to(PROJECT).as_posix()
    places = {path: path for path in package_files(PROJECT)} | {
        path: path.rpartition("/")[2] for path in ("app.py", "LICENSE", entry)
    }
    files = own_files(PROJECT, list(places))
    shutil.rmtree(folder, ignore_errors=True)
    for file, place in zip(files, places.values(), strict=True):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / place)
    texts = {name: text for build in builds for name, text in build.texts.items() if licence != APACHE}
    texts |= {
        "requirements.txt": requirements(hardware),
        SETTINGS: json.dumps(_settings(hardware, builds, visitors_log_in), indent=2, ensure_ascii=False) + "\n",
        "README.md": _readme(hardware, builds, licence, visitors_log_in),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _check(folder: Path, hardware: str, builds: Sequence[SpaceBuild]) -> Licence:
    if folder.is_symlink() or (folder.exists() and not _is_replaceable(folder)):
        raise PublishError(f"{folder} holds something else than a Space; name a new folder with --out")
    if HARDWARE[hardware].device == "cuda" and not builds:
        raise PublishError(
            f"{hardware} has a GPU, for which the pocket is too small; name builds with --variant NAME/REPO, or use cpu-basic"
        )
    licences = {licence_of(build.manifest).kind: licence_of(build.manifest) for build in builds} or {APACHE.kind: APACHE}
    if len(licences) > 1:
        raise PublishError("the builds are of the pocket and of Ideogram 4, under different licences; make a Space for each")
    (licence,) = licences.values()
    for build in builds if licence != APACHE else ():
        for name in (licence.copy_file, NOTICE_FILE):
            if name not in build.texts:
                raise PublishError(f"{build.repo} has no {name}, which {licence.title} asks for; publish it again with `push`")
    return licence


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty, or holds a Space that was put together here: its settings are of this form, and it is no clone."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    file = folder / SETTINGS
    if not names or SETTINGS not in names or ".git" in names or file.is_symlink() or not file.is_file():
        return not names
    try:
        with file.open("rb") as opened:
            settings = parse_json(opened.read(_LONGEST_SETTINGS).decode(), SETTINGS, PublishError)
    except (PublishError, UnicodeDecodeError):
        return False
    return isinstance(settings, dict) and set(settings) == _SETTINGS_KEYS and "README.md" in names


def requirements(hardware: str) -> str:
    """The Space's requirements.txt."""
    torch = HARDWARE[hardware].torch
    lines = []
    for line in (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if torch and line.startswith("torch>="):
            lines.append(torch)
        elif line and not line.startswith(("#", "gradio")):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _settings(hardware: str, builds: Sequence[SpaceBuild], visitors_log_in: bool) -> dict[str, object]:
    variants = [{"repo": b.repo, "revision": b.revision, "name": b.manifest.variant} for b in builds]
    seconds = {
        name: max([lending(preset.steps, build) for build in builds], default=UNMEASURED_SECONDS)
        for name, preset in PRESETS.items()
    }
    return {
        "device": HARDWARE[hardware].device,
        "variants": variants,
        "seconds": seconds,
        "visitors_accept": IDEOGRAM_REPO if visitors_log_in else None,
        "about": _about(builds),
    }


def lending(steps: int, build: SpaceBuild) -> int:
    """For how many seconds a GPU is asked for: from the build's step time, where that was measured on a GPU."""
    found: VariantReport | None = build.report.variant(build.manifest.variant) if build.report else None
    figure = found.figures.get("seconds_per_step") if found else None
    if build.report is None or build.report.hardware.accelerator is None or not isinstance(figure, Measured):
        return UNMEASURED_SECONDS
    return math.ceil(2 * steps * figure.value) + START_SECONDS


def _about(builds: Sequence[SpaceBuild]) -> Markdown:
    if all(build.manifest.source.location == "pocket" for build in builds):
        return Markdown(
            "Paints flat posters with **pocket**, a small text-to-image model that was trained from nothing to try every stage of "
            "Ideogram Q8 without a GPU. It is not Ideogram 4."
        )
    return Markdown(
        "Paints with quantized builds of Ideogram 4, for non-commercial use under the Ideogram Non-Commercial Model Agreement. Modified "
        "files, not an official release, not endorsed by Ideogram, Inc."
    )


def _readme(hardware: str, builds: Sequence[SpaceBuild], licence: Licence, visitors_log_in: bool) -> str:
    variants = [{"repo": b.repo, "name": b.manifest.variant, "revision": b.revision} for b in builds]
    names = " and ".join(b.manifest.variant for b in builds)
    return fill(
        _OWN_FILES / "README.md.j2",
        front_matter=yaml_text(front_matter(hardware, builds, licence) | (_OAUTH if visitors_log_in else {})),
        about=_about(builds),
        variants=variants,
        version=TOOL_VERSION,
        hardware=hardware,
        needs_token=licence != APACHE,
        visitors_log_in=visitors_log_in,
        base=IDEOGRAM_REPO,
        licence=licence,
        modification=modification_notice(names, TOOL_VERSION) if builds else "",
    )


def front_matter(hardware: str, builds: Sequence[SpaceBuild], licence: Licence) -> dict[str, object]:
    """The Space's metadata under the Hub's keys."""
    own = {key: value for key, value in licence.front_matter.items() if key.startswith("license")}
    named = title(builds[0].manifest.variant) if builds else "pocket"
    return {
        "title": "Ideogram Q8",
        "emoji": "🖼️",
        "colorFrom": "indigo",
        "colorTo": "yellow",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": PYTHON,
        "app_file": HARDWARE[hardware].entry,
        "suggested_hardware": hardware,
        "startup_duration_timeout": "1h" if builds else "30m",
        "short_description": f"Text to image in eight bits: {named}"[:60],
        "models": [build.repo for build in builds],
        "tags": ["text-to-image", "quantized", "ideogram"],
        "pinned": False,
        **own,
    }


def files_of(folder: Path) -> Iterator[ReleaseFile]:
    """All files of an assembled Space; what a start of it has left beside them is none of it. Raises PublishError: a link is there."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if "__pycache__" in parts or parts[0].startswith("."):
            continue
        if path.is_symlink():
            raise PublishError(f"{shown(path)} is a link, and what it leads to is none of the Space; remove it")
        if path.is_file():
            yield ReleaseFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path), path)
