"""The pocket as a diffusers folder, pushed to a Hub on this machine and pulled again, opens in stock diffusers and computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import snapshot_download

from ideogram_q8.builds.conversion import convert
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.hub.scene import REPO, command, connected
from tests.hub.server import Hub
from tests.publishing.example import report_of

pytest.importorskip("torchao", reason="pip install --no-deps torchao==0.18.0 accelerate==1.15.0")
pytest.importorskip("accelerate", reason="diffusers loads quantized models with it")
diffusers = pytest.importorskip("diffusers", minversion="0.42", reason="older releases do not read torchao's safetensors")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with connected(tmp_path / "loopback") as hub:
        yield hub


@pytest.mark.filterwarnings("ignore:Use 'content=")
def test_stock_diffusers_opens_what_was_pulled(hub: Hub, tmp_path: Path) -> None:
    source = open_source("pocket")
    quantize(source, choose("int8", source.config), tmp_path / "single")
    manifest = convert(tmp_path / "single", "diffusers", tmp_path / "built")
    (tmp_path / "built" / "report.json").write_text(report_of(manifest).to_json(), encoding="utf-8")
    result = command("push", tmp_path / "built", "--repo", REPO)
    assert result.code == 0, result.err
    pulled = Path(snapshot_download(REPO, local_dir=tmp_path / "pulled"))
    for branch in BRANCHES:
        folder = COMPONENT_FOLDERS[branch]
        models = [_open(place / folder) for place in (tmp_path / "built", pulled)]
        built, opened = (dict(model.named_parameters()) for model in models)
        assert type(opened["layers.0.feed_forward.w1.weight"]).__name__ == "Int8Tensor"
        assert built.keys() == opened.keys()
        for name, parameter in built.items():
            assert torch.equal(_plain(parameter), _plain(opened[name])), name
        rows = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
        outputs = [model.layers[0].feed_forward.w1(rows) for model in models]
        assert torch.isfinite(outputs[0]).all() and torch.equal(*outputs)


def _open(folder: Path) -> torch.nn.Module:
    return diffusers.Ideogram4Transformer2DModel.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)


def _plain(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.dequantize() if type(parameter).__name__ == "Int8Tensor" else parameter
