"""A Hub on this machine, and a measured build of the pocket to push to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.scene import connected
from tests.hub.server import Hub
from tests.publishing.example import REPORT, manifest, write_build


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with connected(tmp_path / "loopback") as hub:
        yield hub


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write_build(tmp_path / "build", manifest(), REPORT)
