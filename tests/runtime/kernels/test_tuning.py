"""What was measured decides which back end runs, as far as it is true of this device; nothing else in the cache is believed."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.bench.picture import overlapping
from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.runtime.generation import denoising
from ideogram_q8.runtime.kernels import BACKENDS, Backend, Problem, block_products, choose
from ideogram_q8.runtime.kernels.choosing import table, tuning
from ideogram_q8.runtime.kernels.linear import int8
from ideogram_q8.runtime.kernels.linear.triton_int8 import AMPERE
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.runtime.memory import inventory
from tests.synthetic import TINY

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
EXACT = BACKENDS[-1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing remembered of another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table.forget()
    choose.cache_clear()
    yield tmp_path / "ideogram-q8" / "kernels"
    table.forget()
    choose.cache_clear()


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> tuple[Backend, ...]:
    """Two that run on a CPU, and one that refuses."""
    refusing = Backend("refusing", EXACT.linear, lambda _: "never")
    slow = Backend("slow", EXACT.linear, lambda _: None)
    fast = Backend("fast", EXACT.linear, lambda _: None)
    found = (refusing, slow, fast, EXACT)
    monkeypatch.setattr(int8, "BACKENDS", found)
    return found


def problem(rows: int = 40, step: str = "") -> Problem:
    return Problem("cpu", None, torch.float32, rows, 64, 32, step)


def measured(seconds: dict[str, float], asked: Problem | None = None) -> table.TimedEntry:
    return table.TimedEntry((asked or problem()).shape, seconds, None)


def test_without_measurements_the_first_runs(backends: tuple[Backend, ...]) -> None:
    assert choose(problem()).backend.name == "slow"
    assert "not measured here" in table.note(CPU)


def test_the_fastest_runs_and_the_others_say_why_not(backends: tuple[Backend, ...]) -> None:
    table.write(CPU, (measured({"slow": 300e-6, "fast": 200e-6}),))
    choose.cache_clear()
    choice = choose(problem())
    assert choice.backend.name == "fast"
    assert choice.refused == (("refusing", "never"), ("slow", "took 300 us here, fast 200 us"))
    assert "1 products measured on" in table.note(CPU)


def test_each_product_is_kept_as_it_is_measured(backends: tuple[Backend, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the program after it."""

    def measure(asked: Problem, *_: object) -> table.TimedEntry:
        if asked.step:
            raise KeyboardInterrupt
        return measured({"slow": 3.0, "fast": 2.0}, asked)

    monkeypatch.setattr(tuning, "measure", measure)
    assert choose(problem()).backend.name == "slow"
    with pytest.raises(KeyboardInterrupt):
        tuning.tune([problem(), problem(step="swiglu")])
    assert choose(problem()).backend.name == "fast" and choose(problem(step="swiglu")).backend.name == "slow"


def test_a_measurement_is_for_its_rows_shape_and_prologue(backends: tuple[Backend, ...]) -> None:
    table.write(CPU, (measured({"slow": 3.0, "fast": 2.0}),))
    choose.cache_clear()
    assert choose(problem(rows=512)).backend.name == "fast"
    for other in (problem(rows=513), problem(step="swiglu"), replace(problem(), inputs=128), problem(rows=31)):
        assert choose(other).backend.name == "slow"


@pytest.mark.parametrize("seconds", [{"refusing": 1.0, "fast": 2.0}, {"no longer there": 1.0}, {}])
def test_a_fastest_that_cannot_run_is_passed_over(seconds: dict[str, float], backends: tuple[Backend, ...]) -> None:
    table.write(CPU, (measured(seconds),))
    choose.cache_clear()
    assert choose(problem()).backend.name == "slow"


def test_a_back_end_that_fails_its_self_test_does_not_run_however_fast(backends: tuple[Backend, ...]) -> None:
    table.write(CPU, (measured({"slow": 2.0, "fast": 1.0}),))
    choose.cache_clear()
    choice = choose(problem(), lambda backend, _: "wrong sums" if backend.name == "fast" else None)
    assert choice.backend.name == "slow"


def test_measuring_keeps_what_it_found(backends: tuple[Backend, ...], cache: Path) -> None:
    seen: list[Problem] = []
    asked = [problem(), problem(600, "rms_norm"), problem(40, "swiglu")]
    entries = tuning.tune(asked, 0.001, lambda each, _: seen.append(each), backends)
    assert seen == asked
    for entry, each in zip(entries, asked, strict=True):
        assert entry.shape == each.shape and set(entry.seconds) == {"slow", "fast", EXACT.name}
        assert table.find(CPU, each.shape) == entry
        assert choose(each).backend.name == entry.fastest
    (path,) = cache.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    more = tuning.tune([problem(2000)], 0.001, backends=backends)
    assert len(table._entries("cpu")) == 4 and table.find(CPU, problem(2000).shape) == more[0]
    tuning.tune([problem()], 0.001, backends=backends)
    assert len(table._entries("cpu")) == 4


def test_what_is_wrong_is_not_measured() -> None:
    wrong = Backend("wrong", lambda x, codes, *_: x.new_zeros(len(x), len(codes)), lambda _: None)
    assert set(tuning.measure(problem(), 0.001, (wrong, EXACT)).seconds) == {EXACT.name}


def test_what_raises_is_dropped_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def broken(x: torch.Tensor, codes: torch.Tensor, *others: object) -> torch.Tensor:
        if len(x) == 512:
            raise RuntimeError("misaligned address")
        return EXACT.linear(x, codes, *others)

    found = tuning.measure(problem(), 0.001, (Backend("broken", broken, lambda _: None), EXACT))
    assert set(found.seconds) == {EXACT.name}
    (record,) = caplog.records
    assert record.getMessage() == "broken is not measured for 512 x 64 -> 32: RuntimeError: misaligned address"


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        ([], "problems on 0 devices"),
        ([problem(), replace(problem(), device="cuda:0")], "problems on 2 devices"),
        ([problem(31)], "got 31 rows; expected at least 32"),
    ],
)
def test_what_cannot_be_measured_is_refused(problems: list[Problem], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tuning.tune(problems)


def damage(value: dict[str, object], how: str) -> str:
    if how == "another device":
        value["machine"] = {"device": "NVIDIA GeForce RTX 3090", "versions": {}}
    elif how == "an older version":
        value["format_version"] = 1
    elif how == "an unknown key":
        value["command"] = "run me"
    elif how == "times below zero":
        value["entries"][0]["seconds"]["fast"] = -1.0  # type: ignore[index]
    elif how == "not a number":
        return json.dumps(value).replace("0.2", "NaN")
    return json.dumps(value)[: -40 if how == "cut off" else None]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("another device", "measured on NVIDIA GeForce RTX 3090"),
        ("an older version", "format_version is 1, expected 2"),
        ("an unknown key", "unknown key 'command'"),
        ("times below zero", "seconds of fast are -1.0"),
        ("not a number", "NaN is not JSON"),
        ("cut off", "not valid JSON"),
    ],
)
def test_a_file_that_is_damaged_or_foreign_is_ignored_with_a_message(
    how: str, said: str, backends: tuple[Backend, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path = table.write(CPU, (measured({"slow": 0.3, "fast": 0.2}),))
    path.write_text(damage(json.loads(path.read_text()), how))
    table.forget()
    choose.cache_clear()
    with caplog.at_level(logging.WARNING, "ideogram_q8"):
        assert choose(problem()).backend.name == "slow"
    assert said in table.note(CPU) and "ignored" in table.note(CPU)
    assert [said in record.getMessage() for record in caplog.records] == [True]
    table.write(CPU, (measured({"slow": 0.3, "fast": 0.2}),))
    choose.cache_clear()
    assert choose(problem()).backend.name == "fast"


def both(apart: float, overlapped: float, rows: int = 512) -> table.Overlap:
    return table.Overlap(table.Pair(rows, 64, 128, "w8a8", "bf16", "sdpa", "bfloat16"), apart, overlapped)


def test_what_was_measured_of_both_branches_is_kept_beside_the_products(backends: tuple[Backend, ...]) -> None:
    table.write(CPU, (measured({"slow": 0.3, "fast": 0.2}),))
    table.write(CPU, (), (both(3e-3, 2e-3), both(2e-3, 3e-3, 1024)))
    table.write(CPU, (measured({"slow": 0.1, "fast": 0.2}, problem(600)),))
    assert len(table._entries("cpu")) == 2
    first, second = (table.find_overlap(CPU, each.pair) for each in (both(1, 1), both(1, 1, 1024)))
    assert first == both(3e-3, 2e-3) and first.faster
    assert second == both(2e-3, 3e-3, 1024) and not second.faster
    assert table.find_overlap(CPU, both(1, 1, 2048).pair) is None
    with pytest.raises(ResourceError, match="seconds of overlapped are -1, expected a positive number"):
        both(1, -1)


def test_how_both_branches_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda")
    monkeypatch.setattr(table, "machine", lambda _: table.TimedMachine("a card", {}))
    assert table.branches_note(CPU, both(1, 1).pair) == "back to back: cpu has no streams"
    assert table.branches_note(card, both(1, 1).pair).startswith("back to back: not measured here")
    table.write(card, (), (both(3e-3, 2e-3), both(2e-3, 3e-3, 1024)))
    assert table.branches_note(card, both(1, 1).pair) == "overlapped: some blocks took 2.0 ms here, back to back 3.0 ms"
    assert table.branches_note(card, both(1, 1, 1024).pair) == "back to back: some blocks took 2.0 ms here, overlapped 3.0 ms"


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    table.write(CPU, (measured({"slow": 0.3, "fast": 0.2}),))
    monkeypatch.setattr(table, "_LARGEST_FILE", 100)
    table.forget()
    assert "larger than 100 characters" in table.note(CPU)


def test_other_libraries_and_drivers_have_files_of_their_own() -> None:
    here = table.machine(CPU)
    assert "torch" in here.versions
    others = [replace(here, device="another"), replace(here, versions={**here.versions, "torch": "3.0"})]
    assert len({machine.digest for machine in (here, *others)}) == 3


def test_a_folder_that_cannot_be_written_is_an_error(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where a folder should be")
    with pytest.raises(ResourceError, match="cannot be kept"):
        table.write(CPU, (measured({"slow": 1.0}),))


def test_the_tiles_of_triton_are_kept_by_their_label() -> None:
    label = AMPERE[1].label
    table.write(CPU, (table.TimedEntry(problem().shape, {"Triton": 1.0}, label),))
    assert table.tiles(CPU, 64, 32, 40) == table.tiles(CPU, 64, 32, 512) == label
    assert table.tiles(CPU, 64, 32, 513) is None and table.tiles(CPU, 32, 64, 40) is None
    assert len({tiles.label for tiles in AMPERE}) == len(AMPERE)


def test_a_block_has_four_products() -> None:
    hidden, ffn = TINY.hidden_size, TINY.intermediate_size
    found = block_products(TINY, 100, "cpu", torch.float32)
    shapes = [(each.problem.inputs, each.problem.outputs, each.problem.step) for each in found]
    assert shapes == [
        (hidden, 3 * hidden, "rms_norm"),
        (hidden, hidden, ""),
        (hidden, 2 * ffn, "rms_norm"),
        (ffn, hidden, "swiglu"),
    ]
    assert all(each.choose().backend in BACKENDS for each in found)


def test_bench_tune_measures_the_products_of_a_model_and_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "tune", "pocket", "--size", "128x128", "--text-tokens", "40", "--seconds", "0.001"]) == 0
    *lines, note, last = capsys.readouterr().out.splitlines()
    assert [each.split(":")[0].split()[0] for each in lines[:4]] == [
        "attention.qkv",
        "attention.o",
        "feed_forward.w1,",
        "feed_forward.w2",
    ]
    assert len(lines) == 8 and ", rotated: " in lines[-1] and " us" in lines[0]
    assert note.startswith("8 products measured on")
    assert len(json.loads(last)["entries"]) == 8 and not json.loads(last)["overlaps"]  # a CPU has no streams


@pytest.mark.parametrize("gain", [0.5, -0.5])
def test_bench_tune_measures_both_branches_where_they_can_overlap(
    gain: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a clock by which a branch takes 1 s, and another beside it so much less."""
    clock = SimpleNamespace(now=0.0)

    class Side:
        def start(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
            return work()

        def join(self, found: torch.Tensor) -> None:
            clock.now -= gain

    def velocity(self: denoising.Denoiser, latents: torch.Tensor, step: int) -> torch.Tensor:
        clock.now += 1.0
        return run(self, latents, step)

    def tick() -> float:
        clock.now += 1e-6
        return clock.now

    run = denoising.Denoiser.velocity
    monkeypatch.setattr(denoising.Denoiser, "velocity", velocity)
    monkeypatch.setattr(denoising, "side_of", lambda _: Side())
    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=tick))
    monkeypatch.setattr(tuning, "_MOST_CALLS", 1)  # by this clock products take no time
    assert main(["bench", "tune", "pocket", "--size", "64x64", "--text-tokens", "8", "--seconds", "0.001"]) == 0
    *lines, _, last = capsys.readouterr().out.splitlines()
    shown = [each for each in lines if each.startswith("4 blocks of both branches, ")]
    assert len(shown) == len(overlapping.WAYS)
    assert all(each.endswith(f"back to back 2,000.00 ms, overlapped {2000 - 1000 * gain:,.2f} ms") for each in shown)
    assert len(json.loads(last)["overlaps"]) == len(shown)
    model = load("pocket")
    found = table.find_overlap(CPU, inventory.pair(model._networks(0), (64, 64)))
    assert found is not None and found.faster is (gain > 0)


@pytest.mark.parametrize("option", [("--text-tokens", "0"), ("--seconds", "0"), ("--size", "9x9"), ("--seconds", "nan")])
def test_bench_tune_refuses_what_makes_no_sense(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "tune", *option]) == 2
    assert (option[0] if option[0] != "--size" else "9") in capsys.readouterr().err
