"""`bench denoise` on a narrow model: every variant and peer is a row, computes the same model, and takes its turn."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from dataclasses import replace

import pytest
import torch

from ideogram_q8.bench.picture import denoise
from ideogram_q8.bench.picture.scene import BenchVariant, Built
from ideogram_q8.bench.results import DenoiseSettings, from_json, to_json
from ideogram_q8.errors import RequestError
from ideogram_q8.runtime.kernels.choosing import scratch
from ideogram_q8.runtime.kernels.linear import ggml, int8, tiles, weight_only
from tests.bench import example
from tests.synthetic import TINY

CPU = torch.device("cpu")
SETTINGS = DenoiseSettings(1, 128, 64, 8, 12, "float32", 1, 1, 100.0, None, 0, tuple(denoise.VARIANTS))
ERRORS = {"unquantized": 0, "fp8": 1e-6, "nf4": 0.15, "int8": 0.02, "int8-rotated": 0.02, "q8_0": 0.01, "q8_0-int8": 0.02}
ERRORS |= {"int8-overlap": 0.02, "int8-attention": 0.02, "int8-rotated-attention": 0.02}
ERRORS |= {"q4_k_s": 0.1, "q4_k_s-int8": 0.1, "diffusers": 1e-5, "torchao": 0.02, "sdnq": 0.02, "comfy": 0.02}


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        from ideogram_q8.bench import machine, timing
        from ideogram_q8.bench.linear import random_weights

        patch.setattr(timing, "LEAST", 0.0)
        patch.setattr(machine, "_SIDE", {"cpu": 64})
        patch.setattr(machine, "_COPY_BYTES", {"cpu": 1 << 16})
        patch.setattr(random_weights, "_VALUES", 1 << 15)
        patch.setattr(denoise.gc, "collect", lambda: None)
        # what it takes to try a back end, which some processors have and some do not, is nothing beside a step at full size
        patch.setattr(int8, "_tried", lambda *_: None)
        int8.choose.cache_clear()
        patch.setattr(shutil, "which", lambda _: None)  # to compile takes half a minute
        # pieces of a weight, as small beside it as at full size
        for module, name in (
            (ggml, "PIECE"),
            (weight_only, "NF4_PIECE"),
            (scratch, "PIECE"),
            (scratch, "NF4_PIECE"),
            (tiles, "TILE"),
        ):
            patch.setattr(module, name, 1 << 13)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield denoise.measure(SETTINGS, CPU, TINY)
        torch.set_num_threads(threads)
    int8.choose.cache_clear()


def test_every_variant_is_a_row_that_was_measured_or_says_why_not(result):
    assert [row.variant for row in result.rows] == list(denoise.VARIANTS)
    for row in result.rows:
        if row.peer and row.timing is None:
            assert row.note.startswith(
                ("not compiled: no C++ compiler (g++) is here; ", "torchao is", "sdnq is", "accelerate")
            ), row
        elif row.variant == "int8-overlap":
            assert row.timing is None and row.note == "two streams need CUDA"
        else:
            assert row.timing is not None and row.timing.median > 0, row
    assert not result.interrupted


def test_all_compute_the_same_model(result):
    """Other people's programs too: their errors are those of the format, not of another model."""
    for row in result.rows:
        if row.timing is not None:
            assert row.error is not None and row.error <= ERRORS[row.variant], row
            assert row.error > 0 or row.variant in ("unquantized", "fp8"), row


def test_parts_are_told_apart_and_fit_the_arithmetic(result):
    rows = {row.variant: row for row in result.rows}
    for row in result.rows:
        assert bool(row.parts) == (not row.peer and row.timing is not None)
    for name, arithmetic in (
        ("unquantized", "float"),
        ("fp8", "float"),
        ("nf4", "float"),
        ("int8", "int8"),
        ("int8-rotated-attention", "int8"),
        ("q4_k_s", "float"),
        ("q4_k_s-int8", "int8"),
    ):
        found = {part.kind: part for part in rows[name].parts}
        assert {found[kind].arithmetic for kind in found if kind != "attention"} == {arithmetic}
        assert found["attention"].arithmetic == ("int8 scores" if "-attention" in name else "float")
        assert {kind: part.operations for kind, part in found.items()} | {
            "outside": result.operations["outside"]
        } == result.operations


def test_memory_is_what_was_predicted(result):
    """Counted in tensors: the process is larger by its libraries and what the allocator keeps."""
    assert result.meter.startswith("tensors alive")
    for row in result.rows:
        if not row.peer and row.timing is not None:
            assert abs(row.predicted_bytes / row.peak_bytes - 1) < 0.05, row
        assert (row.peak_bytes is None) == (row.timing is None)


@pytest.mark.parametrize("name", ["q4_k_s-int8", "q8_0", "int8"])
@pytest.mark.parametrize("side", [64, 128])
def test_a_row_says_int8_where_both_branches_were_quantized(name, side, monkeypatch, quick):
    """Of 16 tokens no product in ggml's blocks is quantized, though those of picture and caption together are."""
    seen, choose = set(), int8.choose
    monkeypatch.setattr(int8, "choose", lambda problem: seen.add(problem.rows) or choose(problem))
    settings = replace(SETTINGS, variants=(name,), width=side, height=side, text_tokens=32)
    (row,) = denoise.measure(settings, CPU, TINY).rows
    tokens = (side // 16) ** 2
    assert (row.arithmetic == "int8") == (seen >= {tokens, tokens + 32})
    assert {part.arithmetic for part in row.parts if part.kind != "attention"} == {row.arithmetic}


def test_a_result_is_json(result):
    assert from_json(to_json(result)) == result
    assert result.settings.layers == 1 and result.machine.device == "cpu" and result.peaks.floating.rate > 0


@pytest.mark.parametrize(("module", "name"), [("torchao", "torchao"), ("sdnq", "sdnq")])
def test_a_peer_that_is_not_installed_says_so(module, name, monkeypatch, quick):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *rest: None if each == module else found(each, *rest))
    monkeypatch.setitem(sys.modules, module, None)
    (row,) = denoise.measure(replace(SETTINGS, variants=(name,)), CPU, TINY).rows
    assert row.timing is None and row.note.endswith("is not installed")


def a_variant(name, step, **options):
    return BenchVariant(name, name, "float", lambda scene: Built(step), **options)


def test_variants_take_turns(monkeypatch, quick):
    order = []

    def build(name):
        def step(index):
            order.append((name, index))
            return torch.zeros(1)

        return a_variant(name, step)

    monkeypatch.setattr(denoise, "VARIANTS", {name: build(name) for name in "ab"})
    settings = replace(SETTINGS, variants=("a", "b"), rounds=2, steps=2)
    progress = []
    found = denoise.measure(settings, CPU, TINY, progress.append)
    assert order == [(name, index) for name in "abab" for index in range(3)]
    assert [len(row.timing.samples) for row in found.rows] == [4, 4]
    assert [(p.done, p.total) for p in progress] == [(i, 4) for i in range(5)]


def test_clocks_are_read_while_the_last_step_runs(monkeypatch, quick):
    """Not after it, when the card is idle and at its full clock."""
    order = []
    monkeypatch.setattr(denoise.timing, "synchronize", lambda _: order.append("wait"))
    monkeypatch.setattr(denoise.machine, "clocks", lambda _: order.append("clocks") or example.CLOCKS[0])
    step = a_variant("a", lambda index: order.append(index) or torch.zeros(1))
    monkeypatch.setattr(denoise, "VARIANTS", {"a": step})
    monkeypatch.setattr(denoise.machine, "peaks", lambda *_: example.PEAKS)
    found = denoise.measure(replace(SETTINGS, variants=("a",), steps=2), CPU, TINY)
    assert order == ["wait", 0, "wait", "wait", 1, "wait", "wait", 2, "clocks", "wait"]
    assert found.clocks == example.CLOCKS[:1]


def test_what_fails_is_a_row_and_is_not_tried_again(monkeypatch, quick):
    calls = []

    def broken(index):
        calls.append(index)
        raise ValueError("a kernel\nis missing")

    monkeypatch.setattr(denoise, "VARIANTS", {"a": a_variant("a", broken), "b": a_variant("b", lambda _: torch.zeros(1))})
    rows = denoise.measure(replace(SETTINGS, variants=("a", "b"), rounds=3), CPU, TINY).rows
    assert rows[0].timing is None and rows[0].note == "failed: ValueError: a kernel is missing" and calls == [0]
    assert len(rows[1].timing.samples) == 3


def test_what_takes_too_long_in_all_is_left_out_of_later_rounds(monkeypatch, quick):
    """A step of 30 ms and one that does not count are more than 50."""
    monkeypatch.setattr(denoise, "VARIANTS", {"a": a_variant("a", lambda _: time.sleep(0.03) or torch.zeros(1))})
    (row,) = denoise.measure(replace(SETTINGS, variants=("a",), rounds=3, patience=0.05), CPU, TINY).rows
    assert len(row.timing.samples) == 1 and row.note == ""


def test_a_step_that_takes_too_long_is_the_only_one(monkeypatch, quick):
    steps = []
    monkeypatch.setattr(denoise, "VARIANTS", {"a": a_variant("a", lambda index: steps.append(index) or torch.zeros(1))})
    (row,) = denoise.measure(replace(SETTINGS, variants=("a",), rounds=3, patience=0.0), CPU, TINY).rows
    assert steps == [0] and len(row.timing.samples) == 1 and row.note == "too slow for more than one step"


def test_every_turn_is_told_as_it_ends(monkeypatch, quick):
    """Each result so far is one that can be kept, and says that it is not finished."""
    variants = {name: a_variant(name, lambda _: torch.zeros(1)) for name in "ab"}
    monkeypatch.setattr(denoise, "VARIANTS", variants)
    told = []
    last = denoise.measure(replace(SETTINGS, variants=("a", "b"), rounds=2), CPU, TINY, keep=told.append)
    assert [[0 if row.timing is None else len(row.timing.samples) for row in each.rows] for each in told] == [
        [1, 0],
        [1, 1],
        [2, 1],
        [2, 2],
    ]
    assert all(each.interrupted for each in told) and replace(told[-1], interrupted=False) == last


def test_control_c_leaves_what_was_measured(monkeypatch, quick):
    def stop(index):
        raise KeyboardInterrupt

    monkeypatch.setattr(denoise, "VARIANTS", {"a": a_variant("a", lambda _: torch.zeros(1)), "b": a_variant("b", stop)})
    found = denoise.measure(replace(SETTINGS, variants=("a", "b")), CPU, TINY)
    assert found.interrupted and found.rows[0].timing is not None
    assert found.rows[1].timing is None and found.rows[1].note == "not reached"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": ("int9",)}, "unknown variant 'int9'; expected unquantized, fp8, nf4, int8"),
        ({"width": 100}, "a side is 100; expected multiples of 16 up to 4096"),
        ({"steps": 48}, "got 48 steps a round; expected 1 to 47"),
        ({"memory_cap": 24 * 10**9}, "a memory cap needs CUDA"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(change, message):
    with pytest.raises(RequestError, match=message):
        denoise.measure(replace(SETTINGS, **change), CPU, TINY)


def test_a_first_step_that_compiles_says_nothing_of_the_others(monkeypatch, quick):
    steps = []
    built = Built(lambda index: steps.append(index) or torch.zeros(1), compiles=True)
    monkeypatch.setattr(denoise, "VARIANTS", {"a": BenchVariant("a", "a", "float", lambda _: built)})
    (row,) = denoise.measure(replace(SETTINGS, variants=("a",), steps=2, patience=0.0), CPU, TINY).rows
    assert steps == [0, 1, 2] and len(row.timing.samples) == 2 and row.note == "" and row.peak_bytes > 0


def test_each_turn_is_kept_before_the_next_one(monkeypatch, quick):
    """What ends the program later, as SIGTERM or a driver's fault, costs nothing that was measured."""
    kept = []

    def step(index):
        order.append(len(kept))
        return torch.zeros(1)

    order: list[int] = []
    monkeypatch.setattr(denoise, "VARIANTS", {name: a_variant(name, step) for name in "ab"})
    settings = replace(SETTINGS, variants=("a", "b"), rounds=2)
    found = denoise.measure(settings, CPU, TINY, keep=kept.append)
    assert [[len(row.timing.samples) if row.timing else 0 for row in each.rows] for each in kept] == [
        [1, 0],
        [1, 1],
        [2, 1],
        [2, 2],
    ]
    assert all(each.interrupted for each in kept) and not found.interrupted
    assert order == [0, 0, 1, 1, 2, 2, 3, 3] and from_json(to_json(kept[0])) == kept[0]


def test_a_library_that_is_missing_is_named(monkeypatch, quick):
    def step(index):
        import a_library_that_nobody_has  # noqa: F401

    monkeypatch.setattr(denoise, "VARIANTS", {"a": a_variant("a", step)})
    (row,) = denoise.measure(replace(SETTINGS, variants=("a",)), CPU, TINY).rows
    assert row.timing is None and row.note == "a_library_that_nobody_has is not installed"
