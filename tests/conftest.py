"""What all tests share: no network, no traces outside temporary folders, and the browser where there is one.

Fixtures import what they need themselves, so that tests of light modules do not wait for torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ideogram_q8.sources import Source

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side on as many cores: threads of their own would only wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

CHROMIUM = Path("/usr/bin/chromium")

# The same examples in every run, however slow the machine is.
settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Built variants go to a temporary user cache folder, here and in child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A tiny random checkpoint, opened; not to be changed."""
    from ideogram_q8.sources import open_source
    from tests.synthetic import write_source

    return open_source(write_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="session")
def built(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An artifact folder of `source` for each scheme; not to be changed."""
    from ideogram_q8.builds.quantization import quantize
    from ideogram_q8.model.schemes import NAMED_SCHEMES
    from ideogram_q8.recipes import choose

    folder = tmp_path_factory.mktemp("built")
    for scheme in NAMED_SCHEMES:
        quantize(source, choose(scheme, source.config), folder / scheme)
    return {scheme: folder / scheme for scheme in NAMED_SCHEMES}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        in_a_browser = item.get_closest_marker("browser") is not None
        if not in_a_browser and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.fast)
        if in_a_browser and not CHROMIUM.exists():
            item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} does not exist: apt-get install chromium"))
