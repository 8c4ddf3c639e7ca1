"""Which files this project consists of, for what is made from a checkout of it: tracked ones, and no links."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ideogram_q8.errors import PublishError
from ideogram_q8.publishing.folder import regular_file, shown

PACKAGE = "ideogram_q8"
PACKAGE_DATA = (
    *("pocket/weights/**", "ui/static/*", "captions/suites/*/*.txt", "measure/pages/*.j2"),
    *("publishing/cards/*.j2", "publishing/space/space_app/*"),
)
"""What the package holds beside its modules, as in pyproject.toml: for a copy of the project without git."""


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
