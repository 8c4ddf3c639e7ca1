"""Which files this project consists of, for what is made from a checkout of it: tracked ones, and no links.

An installed package is no checkout: its licence's text lies with the distribution's metadata, and app.py, the requirements and git's
knowledge of the files are missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.folder import has, regular_file, shown

PACKAGE = "ideogram_q8"
PROJECT = Path(__file__).resolve().parents[2]
"""The checkout, or the folder that the package is installed in."""
LICENCE_FILE = "LICENSE"
_OF_A_CHECKOUT = ("app.py", LICENCE_FILE, "requirements.txt")
PACKAGE_DATA = (
    *("pocket/weights/**", "ui/static/*", "captions/suites/*/*.txt", "measure/pages/*.j2"),
    *("publishing/cards/*.j2", "publishing/space/space_app/*"),
)
"""What the package holds beside its modules, as in pyproject.toml: for a copy of the project without git."""


def check_checkout(root: Path, verb: str) -> None:
    """Raises PublishError: `root` is no checkout, which the publishing command's `verb` needs."""
    missing = [name for name in _OF_A_CHECKOUT if not has(root, name)]
    if missing:
        raise PublishError(
            f"`{verb}` needs a checkout of this project, whose {', '.join(_OF_A_CHECKOUT)} it publishes; {shown(root)} lacks "
            f"{', '.join(missing)}; clone the project and call `python publish/push.py {verb}` there"
        )


def licence_folder(root: Path) -> Path:
    """The folder with the text of the project's own licence: the checkout `root` or, of an installed package, its metadata's.

    Raises:
        PublishError: there is neither.
    """
    if all(has(root, name) for name in _OF_A_CHECKOUT):
        return root
    for found in metadata.distributions(name="ideogram-q8", path=[str(root)]):
        for file in found.files or ():
            if file.name == LICENCE_FILE and file.parts[0].endswith(".dist-info"):
                return Path(str(found.locate_file(file))).parent
    raise PublishError(f"{shown(root / LICENCE_FILE)} is missing, and no installed package has it; install the project again")


def package_files(root: Path) -> list[str]:
    """Paths under ``root`` of the package's files: those that git tracks or, in a copy without git, modules and package data.

    Raises:
        PublishError: git refuses; a file is missing, special or behind a link.
    """
    paths = _tracked(root) if (root / ".git").exists() else None
    if paths is None:
        package = root / PACKAGE
        patterns = ["**/*.py", *(f"{pattern}/*" if pattern.endswith("**") else pattern for pattern in PACKAGE_DATA)]
        found = {file for pattern in patterns for file in package.glob(pattern) if not file.is_dir()}
        paths = sorted(file.relative_to(root).as_posix() for file in found)
    own_files(root, paths)
    return paths


def own_files(root: Path, paths: Sequence[str]) -> list[Path]:
    """The files of these paths. Raises PublishError: one is missing, special or reached through a link."""
    files = [regular_file(root, path, "restore it, as with `git checkout`") for path in paths]
    for path, file in zip(paths, files, strict=True):
        if os.path.realpath(file) != os.path.join(os.path.realpath(root), *path.split("/")):
            raise PublishError(f"{shown(file)} is reached through a link; put a copy of the file in its place")
    return files


def _tracked(root: Path) -> list[str] | None:
    """What git tracks of the package; None where there is no git on this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "ls-files", "-z", "--", PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        return None
    if done.returncode:
        raise PublishError(
            f"git does not say which files belong to {shown(root)}: {' '.join(done.stderr.decode(errors='replace').split())}"
        )
    return [os.fsdecode(path) for path in done.stdout.split(b"\0") if path]
