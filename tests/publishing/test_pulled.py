"""What is downloaded paints what was built: the pocket as GGUF, pushed, pulled, and the same picture bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import snapshot_download
from PIL import Image

from ideogram_q8.__main__ import main as ideogram_q8
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.hub.scene import REPO, command
from tests.hub.server import Hub
from tests.publishing.example import report_of


@pytest.mark.filterwarnings("ignore:Use 'content=")
def test_a_pulled_gguf_paints_the_same_picture(hub: Hub, tmp_path: Path) -> None:
    source = open_source("pocket")
    manifest = quantize(source, choose("q8_0", source.config), tmp_path / "built")
    (tmp_path / "built" / "report.json").write_text(report_of(manifest).to_json(), encoding="utf-8")
    result = command("push", tmp_path / "built", "--repo", REPO, "--private")
    assert result.code == 0, result.err
    pulled = snapshot_download(REPO, local_dir=tmp_path / "pulled", token=hub.token)
    pictures = [_paint(Path(folder), tmp_path) for folder in (tmp_path / "built", pulled)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    assert len(set(pictures[0].tobytes())) > 10


def _paint(folder: Path, place: Path) -> Image.Image:
    picture = place / f"{folder.name}.png"
    caption = ["--caption", "a red star on a blue background", "--seed", "4", "--preset", "turbo-12"]
    assert ideogram_q8(["generate", str(folder), *caption, "--out", str(picture)]) == 0
    return Image.open(picture).convert("RGB")
