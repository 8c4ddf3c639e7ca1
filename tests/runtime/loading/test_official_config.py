"""A checkpoint whose config.json has the official code's names is the same checkpoint, from reading to a picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_companions, open_source

PLAIN = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'
SMALL = Request(PLAIN, 1, "turbo-12", 64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket with emb_dim, num_heads and adanln_dim in place of diffusers' names."""
    found = Path(shutil.copytree(WEIGHTS, tmp_path_factory.mktemp("official") / "source"))
    for branch in BRANCHES:
        path = found / COMPONENT_FOLDERS[branch] / "config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        heads, width = values.pop("num_attention_heads"), values.pop("attention_head_dim")
        values |= {"num_heads": heads, "emb_dim": heads * width, "adanln_dim": values.pop("adaln_dim")}
        path.write_text(json.dumps(values), encoding="utf-8")
    return found


def test_it_paints_the_same_picture(folder):
    ours, theirs = (generate(load(place), SMALL).image for place in (folder, "pocket"))
    assert ours.tobytes() == theirs.tobytes()


def test_it_is_quantized_to_the_same_files(folder, tmp_path):
    pocket, source = open_source("pocket"), open_source(folder)
    assert source.config == pocket.config == open_companions(folder).config
    digests = []
    for name, each in (("ours", source), ("theirs", pocket)):
        digests.append(quantize(each, choose("int8", each.config), tmp_path / name).artifact_sha256)
    assert digests[0] == digests[1]
    assert load(tmp_path / "ours").variant == "int8"
