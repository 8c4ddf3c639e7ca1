"""`--attention int8`: opt-in, and whatever is made with it says so by name and by identity."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.builds.variants import Variant
from ideogram_q8.captions.suite import get
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import identity
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.machine.devices import ATTENTIONS
from ideogram_q8.measure.measurement import EvaluationJob
from ideogram_q8.measure.places import open_places
from ideogram_q8.model.schemes import title
from ideogram_q8.runtime.generation import denoising
from ideogram_q8.runtime.generation.sampling import Request, steps
from ideogram_q8.runtime.kernels import int8_attention
from ideogram_q8.runtime.kernels.attention import paths as kernel
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.ui.engine.measured import figures, read_report

ROOT = Path(__file__).resolve().parents[1]
REQUEST = Request("a red star on a blue background", 3, "custom-2-g3", 64, 64)


def test_nothing_asks_for_it_unasked() -> None:
    assert ATTENTIONS[0] == "sdpa"
    assert denoising.attention_named(ATTENTIONS[0]) is torch.nn.functional.scaled_dot_product_attention
    assert denoising.attention_named("int8") is int8_attention


@torch.no_grad()
def test_a_step_is_another_one_and_close(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load("pocket")
    kernel.choose.cache_clear()
    with caplog.at_level(logging.INFO, kernel.__name__):
        other = load("pocket", attention="int8")
    assert "int8 attention on cpu: plain torch; comfy-kitchen refused: needs CUDA" in caplog.text
    first, second = (next(steps(model, REQUEST)).velocity for model in (plain, other))
    assert 0 < (first - second).norm() < 0.02 * first.norm()
    monkeypatch.setitem(denoising.attention_named.__globals__, "int8_attention", None)
    with pytest.raises(TypeError):
        next(steps(other, REQUEST))  # every block asks the operator
    next(steps(plain, REQUEST))


def test_a_picture_says_so(tmp_path: Path) -> None:
    asked = ["generate", "pocket", "--caption", "a star", "--size", "64x64", "--preset", "custom-2-g3", "--out"]
    made = {}
    for name in ATTENTIONS:
        assert main([*asked, str(tmp_path / f"{name}.png"), "--attention", name]) == 0
        made[name] = read_metadata(tmp_path / f"{name}.png")
    assert made["sdpa"]["variant"] == "fp8" and made["int8"]["variant"] == "fp8, int8 attention"
    assert made["sdpa"]["artifact_sha256"] != made["int8"]["artifact_sha256"]
    assert (tmp_path / "sdpa.png").read_bytes() != (tmp_path / "int8.png").read_bytes()


def test_the_command_line_knows_two(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["generate", "pocket", "--caption", "a star", "--out", "a.png", "--attention", "int4"]
    assert main(asked) == 2
    assert "invalid choice: 'int4'" in capsys.readouterr().err


def test_an_identity_has_the_word_among_the_digests() -> None:
    word = hashlib.sha256(b"attention int8").hexdigest()
    files = ["a" * 64, "b" * 64]
    assert identity(files, "int8") == identity([*files, word]) != identity(files)
    assert load("pocket", attention="int8").artifact_sha256 != load("pocket").artifact_sha256


def test_a_candidate_is_another_variant_of_the_same_files(tmp_path: Path) -> None:
    first, second, named = open_places("pocket", [], ["pocket", "mine=pocket"])
    assert (first.name, second.name, named.name) == ("fp8", "fp8-int8-attention", "mine")
    assert first.files == second.files and first.artifact_sha256 != second.artifact_sha256 == named.artifact_sha256
    job = EvaluationJob([first, second], get("pocket").first(1), "turbo-12", (128, 128), "cpu", "float32", tmp_path)
    assert [job.order(i).attention for i in (0, 1)] == ["sdpa", "int8"]
    assert job.order(1).artifact_sha256 == load("pocket", attention="int8").artifact_sha256
    assert job.key(first).removeprefix("fp8") != job.key(second).removeprefix("fp8-int8-attention")
    assert title("fp8-int8-attention") == "FP8 (the original), int8 attention"


def test_something_must_be_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["evaluate", "--reference", "pocket", "--out", str(tmp_path)]) == 2
    assert "--candidate is missing" in capsys.readouterr().err
    with pytest.raises(RequestError, match="two variants are called 'fp8-int8-attention'"):
        open_places("pocket", [], ["pocket", "pocket"])


def test_its_figures_are_not_shown_for_the_default() -> None:
    """The app finds figures by the files' digests, which are the same."""
    report = read_report(ROOT / "model_cards" / "pocket-report.json")
    measured = next(each for each in report.variants if each.name == "fp8")
    changed = replace(measured, artifact_sha256=identity((file.sha256 for file in measured.files), "int8"))
    here = Variant("fp8", "FP8", "the original", str(ROOT / "no manifest"), measured.size)
    assert figures([here], report)
    assert not figures([here], replace(report, variants=tuple(changed if v is measured else v for v in report.variants)))
