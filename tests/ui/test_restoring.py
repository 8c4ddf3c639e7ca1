"""Settings taken from a picture: what made it is picked again, or said where it is not offered."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, cast

import gradio as gr
import pytest
import torch

from ideogram_q8.ui.engine.studio import Studio
from ideogram_q8.ui.parts.form import RequestForm
from ideogram_q8.ui.tabs import history_tab
from tests.synthetic import float_tensors, write_source

METADATA = {"caption": "a star", "seed": 3, "preset": "turbo-12", "width": 128, "height": 128}
FORM = cast(RequestForm, types.SimpleNamespace(filled=lambda request: [request.seed]))


@pytest.mark.parametrize(
    ("variant", "offered"), [("q8_0", True), ("q8_0, int8 compute", False), ("fp8, int8 attention", False)]
)
def test_a_variant_that_is_not_offered_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, offered: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(history_tab.gr, "Warning", said.append)
    studio = Studio("pocket", tmp_path / "outputs", tmp_path / "cache")
    seed, picked, _ = history_tab._filled(studio, FORM, cast(dict[str, Any], METADATA), variant)
    assert seed == 3
    if offered:
        assert picked == variant and not said
    else:
        assert picked == gr.skip()
        assert said == [f"It was made with {variant}, which is not offered here; another variant paints another picture"]


def test_a_source_is_picked_again_whatever_it_is_stored_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pictures say bf16, the page calls it by the name that every source has."""
    monkeypatch.setattr(history_tab.gr, "Warning", lambda message: pytest.fail(message))
    folder = write_source(tmp_path / "source", convert=lambda tensors: float_tensors(tensors, torch.bfloat16))
    studio = Studio(str(folder), tmp_path / "outputs", tmp_path / "cache")
    metadata = METADATA | {"width": 64, "height": 64}
    assert next(found.title for found in studio.variants()) == "BF16"
    assert history_tab._filled(studio, FORM, cast(dict[str, Any], metadata), "bf16")[1] == "fp8"
