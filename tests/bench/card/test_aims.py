"""What lines say about each aim: it holds, it does not, or it stays open with the reason."""

from __future__ import annotations

import pytest

from ideogram_q8.bench.card import summary
from ideogram_q8.bench.card.aims import AIMS, Facts, judged
from ideogram_q8.bench.card.lines import FORMAT_VERSION, CardLine
from ideogram_q8.bench.card.phases import PHASES
from ideogram_q8.bench.cards import CARDS

H100, RTX_3090 = CARDS["h100"].device, CARDS["rtx-3090"].device
GB = 10**9


def line(phase: str, name: str, found: dict | None = None, state: str = "done", reason: str = "") -> CardLine:
    return CardLine(FORMAT_VERSION, "run", "at", "torch 1", phase, name, state, 1.0, reason, found or {})


def machine(name: str, capability: str) -> CardLine:
    return line("hardware", "machine", {"machine": {"device": "cuda", "name": name, "capability": capability}})


def step(variant: str, seconds: float, peak: int = 20 * GB, predicted: int = 20 * GB) -> CardLine:
    return line("denoise", variant, {"timing": {"median": seconds}, "peak_bytes": peak, "predicted_bytes": predicted})


def stage(name: str, peak: float) -> CardLine:
    return line("stages", name, {"peak_bytes": int(peak * GB), "predicted_bytes": int(peak * GB)})


def verdict(aim: str, *lines: CardLine, card: CardLine | None = None) -> tuple[str, str]:
    (chosen,) = [each for each in AIMS if aim in each.text]
    return judged(chosen, Facts.of([card or machine(H100, "9.0"), *lines]))


def test_a_3090_settles_its_own_picture():
    card = machine(RTX_3090, "8.6")
    assert verdict("55 s", step("int8-attention", 1.09), card=card)[0] == "holds"
    assert verdict("55 s", step("int8-attention", 1.10), card=card)[0] == "does not hold"
    assert verdict("55 s", step("int8-attention", 1.10), step("int8-rotated-attention", 1.0), card=card)[0] == "holds"


def test_another_card_only_projects_it():
    rows = [{"name": "INT8, plain or smoothed, int8 attention", "projected": 1.0}, {"name": "FP8", "projected": 0.1}]
    found = verdict("55 s", step("int8-attention", 0.2), line("project", "rtx-3090", {"rows": rows}))
    assert found == ("not settled", f"projected from {H100}: 50 s")
    refused = line("project", "rtx-3090", state="refused", reason="no peak")
    assert verdict("55 s", step("int8-attention", 0.2), refused)[1].endswith("rtx-3090: no peak")


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([step("diffusers-compiled", 0.26)], "holds"),
        ([step("diffusers-compiled", 0.25)], "does not hold"),
        ([step("diffusers-compiled", 0.26), step("comfy", 0.19)], "does not hold"),
        ([step("diffusers-compiled", 0.26), step("comfy", 0.19), step("int8-attention", 0.18)], "holds"),
        ([], "not settled"),
    ],
)
def test_hopper_is_held_against_all_that_runs_beside_it(others, expected):
    assert verdict("on Hopper", step("int8", 0.2), *others)[0] == expected
    assert verdict("on Hopper", step("int8", 0.2), *others, card=machine(RTX_3090, "8.6"))[0] == "not settled"


def test_what_is_missing_leaves_an_aim_open_and_is_named():
    missing = line("denoise", "diffusers-compiled", state="missing", reason="diffusers is not installed")
    found = verdict("on Hopper", step("int8", 0.2), missing)
    assert found == ("not settled", "diffusers-compiled: diffusers is not installed")
    assert verdict("on Hopper") == ("not settled", "int8: not measured")


@pytest.mark.parametrize(("q4", "expected"), [(1.25, "holds"), (1.26, "does not hold")])
def test_gguf_is_held_against_int8(q4, expected):
    lines = [step("int8", 1.0), step("q8_0-int8", 1.1), step("q4_k_s-int8", q4)]
    assert verdict("GGUF", *lines)[0] == expected


@pytest.mark.parametrize(("decoding", "expected"), [(22.9, "holds"), (23.1, "does not hold")])
def test_a_picture_takes_what_its_largest_stage_takes(decoding, expected):
    stages = {"int8, encoding": 20.0, "int8, a step at 1024x1024": 21.0, "int8, decoding at 1024x1024": decoding}
    lines = [stage(name, peak) for name, peak in stages.items()]
    assert verdict("INT8 at 1024x1024", *lines) == (expected, f"{decoding:.2f} GB of tensors")
    assert verdict("INT8 at 1024x1024", *lines[:2])[0] == "not settled"
    short = line("stages", "int8, decoding at 1024x1024", state="failed", reason="OutOfMemoryError: CUDA out of memory.")
    assert verdict("INT8 at 1024x1024", *lines[:2], short)[0] == "does not hold"


@pytest.mark.parametrize(
    ("predicted", "expected"), [(19 * GB + 1, "holds"), (18 * GB, "does not hold"), (22 * GB, "does not hold")]
)
def test_a_prediction_may_be_off_by_five_percent_either_way(predicted, expected):
    assert verdict("predictions", step("int8", 1.0), step("fp8", 1.0, predicted=predicted))[0] == expected


@pytest.mark.parametrize(("both", "expected"), [(1.05, "holds"), (1.06, "does not hold")])
def test_streaming_is_held_against_a_resident_step(both, expected):
    plans = {"resident": 1.0, "unconditional": 1.0, "both": both}
    lines = [line("streaming", name, {"timing": {"median": seconds}}) for name, seconds in plans.items()]
    assert verdict("streamed", *lines)[0] == expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [((0, 100, 9 * GB, 0), "holds"), ((50 * 10**6, 100, 9 * GB, 0), "does not hold"), ((0, 100, 8 * GB, 0), "does not hold")],
)
def test_changes_are_held_against_the_first_ones(last, expected):
    held = [[0, 50, 10 * GB, 0], *([[0, 100, 9 * GB, 0]] * 3), list(last)]
    found = {"settled_after": 2, "allocated, reserved, free, host": held}
    assert verdict("fifty", line("pocket", "changes of variant", found))[0] == expected


def test_a_rehearsal_settles_nothing():
    cpu = line("hardware", "machine", {"machine": {"device": "cpu", "name": "A processor", "capability": None}})
    lines = [cpu, step("int8", 1.0), step("diffusers-compiled", 2.0), step("q8_0-int8", 1.0), step("q4_k_s-int8", 1.0)]
    assert {judged(aim, Facts.of(lines))[0] for aim in AIMS} == {"not settled"}


def test_the_newest_line_of_a_name_counts():
    facts = Facts.of([step("int8", 1.0), step("int8", 2.0), line("denoise", "int8", state="kept")])
    assert facts.step("int8") == 2.0
    assert Facts.of([step("int8", 1.0), line("denoise", "int8", state="failed", reason="x")]).step("int8") is None


def test_a_summary_has_every_phase_and_aim_and_all_that_was_not_measured():
    lines = [machine(H100, "9.0"), line("hardware", ""), line("trials", "a", state="refused", reason="needs | CUDA")]
    lines += [line("trials", name, state="refused", reason="needs | CUDA") for name in "bcdef"]
    text = summary.text([*lines, line("denoise", "", state="late", reason="stopped")])
    for name in (*(phase.name for phase in PHASES), *(aim.text for aim in AIMS)):
        assert f"| {name} " in text
    assert "| trials: a; b; c; and 3 more | refused | needs / CUDA |" in text and text.startswith(H100)
    assert "not run" in text and "| late " in text and summary.text([])
