"""Statistics: merging commutes and associates, files come back whole, and hostile ones meet our own error."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ideogram_q8.errors import ArtifactError, ResourceError
from ideogram_q8.formats.manifest import SourceRecord
from ideogram_q8.model.architecture import BRANCHES, linears
from ideogram_q8.recipes import statistics
from ideogram_q8.recipes.statistics import Calibration, LinearStatistics, Statistics, merge, read, write
from tests.synthetic import TINY

FIELDS = [field.name for field in dataclasses.fields(LinearStatistics)]
SUMS = {"square_sum", "step_peak_sum"}


def calibration(*captions: str, **changes: object) -> Calibration:
    source = SourceRecord("pocket", None, {"a.safetensors": "00"})
    plain = Calibration(1, source, tuple(sorted(captions)), "turbo-12", 64, 64, 0, 3, 5)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def entry(seed: int, width: int = 8, tokens: int = 4, steps: int = 3, rows: int = 5) -> LinearStatistics:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps * tokens, width, generator=generator) ** 3
    peaks = (x.abs().amax(1) / x.abs().mean(1)).reshape(steps, tokens)
    keys, order = torch.randint(2**63 - 1, (len(x),), generator=generator).sort()
    return LinearStatistics(
        amax=x.abs().amax(0),
        square_sum=x.double().square().sum(0),
        count=torch.tensor([len(x)]),
        step_peak_sum=peaks.double().sum(1),
        step_peak_max=peaks.amax(1),
        step_count=torch.full((steps,), tokens),
        sample=x[order[:rows]],
        sample_key=keys[:rows],
    )


def stats(seed: int, linear: str = "layers.0.feed_forward.w1") -> Statistics:
    return Statistics(calibration(f"{seed:064x}"), {(branch, linear): entry(2 * seed + i) for i, branch in enumerate(BRANCHES)})


def assert_equal(a: Statistics, b: Statistics, exact: bool = True) -> None:
    assert a.calibration == b.calibration
    assert list(a.entries) == list(b.entries)
    for key, left in a.entries.items():
        for name in FIELDS:
            x, y = getattr(left, name), getattr(b.entries[key], name)
            assert x.dtype == y.dtype
            assert torch.equal(x, y) if exact or name not in SUMS else torch.allclose(x, y, rtol=1e-14, atol=0), name


def test_merging_commutes_and_associates_but_for_the_rounding_of_sums():
    a, b, c = stats(1), stats(2), stats(3)
    assert_equal(merge([a, b]), merge([b, a]))
    assert_equal(merge([merge([a, b]), c]), merge([a, merge([b, c])]), exact=False)
    assert_equal(merge([c, a, b]), merge([a, b, c]), exact=False)
    assert merge([a]) is a


def test_merging_counts_sums_and_keeps_the_smallest_keys():
    a, b = stats(1), stats(2)
    both = merge([a, b])
    assert both.calibration.captions == (f"{1:064x}", f"{2:064x}")
    key = ("conditional", "layers.0.feed_forward.w1")
    one, two, got = a.entries[key], b.entries[key], both.entries[key]
    assert int(got.count) == 24 and got.step_count.tolist() == [8, 8, 8]
    assert torch.equal(got.amax, torch.maximum(one.amax, two.amax))
    assert torch.equal(got.mean_square, (one.square_sum + two.square_sum) / 24)
    assert got.sample_key.tolist() == sorted([*one.sample_key.tolist(), *two.sample_key.tolist()])[:5]
    rows = {int(k): row for e in (one, two) for k, row in zip(e.sample_key, e.sample, strict=True)}
    assert all(torch.equal(rows[int(k)], row) for k, row in zip(got.sample_key, got.sample, strict=True))


def test_a_linear_that_only_one_part_saw_is_kept():
    both = merge([stats(1), stats(2, "llm_cond_proj")])
    assert {linear for _, linear in both.entries} == {"layers.0.feed_forward.w1", "llm_cond_proj"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "default-20"}, "differ in preset: turbo-12 and default-20"),
        ({"seed": 1}, "differ in seed"),
        ({"sample_rows": 6}, "differ in sample_rows"),
        ({"source": SourceRecord("x", None, {"a.safetensors": "01"})}, "of different weights"),
        ({"captions": ("1".rjust(64, "0"),)}, "1 captions are in both"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, message):
    other = Statistics(calibration(f"{2:064x}", **changes), stats(2).entries)
    with pytest.raises(ArtifactError, match=message):
        merge([stats(1), other])


def test_different_widths_are_refused():
    other = Statistics(calibration("2"), {("conditional", "layers.0.feed_forward.w1"): entry(1, width=9)})
    with pytest.raises(ArtifactError, match="8 and 9 inputs"):
        merge([stats(1), other])


def test_w3_sees_what_w1_sees_and_others_are_unknown():
    found = stats(1)
    assert found.get("conditional", "layers.0.feed_forward.w3") is found.get("conditional", "layers.0.feed_forward.w1")
    assert found.get("conditional", "layers.0.feed_forward.w2") is None


def test_a_model_can_be_checked():
    whole = {
        (branch, statistics.shared_input(linear.name)): entry(0, linear.in_features)
        for branch in BRANCHES
        for linear in linears(TINY)
    }
    Statistics(calibration("1"), whole).check(TINY)
    lacking = {key: value for key, value in whole.items() if key != ("unconditional", "layers.1.attention.o")}
    with pytest.raises(ArtifactError, match=r"unconditional layers\.1\.attention\.o is missing"):
        Statistics(calibration("1"), lacking).check(TINY)
    with pytest.raises(ArtifactError, match="has 8 inputs, the model has 256 inputs"):
        stats(1).check(TINY)


def test_files_come_back_whole_and_twice_the_same(tmp_path: Path):
    written = merge([stats(1), stats(2)])
    write(tmp_path / "a.safetensors", written)
    write(tmp_path / "b.safetensors", written)
    assert_equal(read(tmp_path / "a.safetensors"), written)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_the_predicted_size_is_an_upper_bound(tmp_path: Path):
    names = {statistics.shared_input(linear.name): linear.in_features for linear in linears(TINY)}
    whole = {(branch, name): entry(0, width) for branch in BRANCHES for name, width in names.items()}
    write(tmp_path / "a.safetensors", Statistics(calibration("1"), whole))
    tensors = load_file(tmp_path / "a.safetensors")
    assert sum(tensor.nbytes for tensor in tensors.values()) == statistics.predicted_bytes(TINY, steps=3, sample_rows=5)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path):
    with pytest.raises(ResourceError, match="cannot write .*make room or name another place"):
        write(tmp_path / "none" / "a.safetensors", stats(1))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="cannot write"):
        write(tmp_path / "folder", stats(1))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# ---- hostile files ----

PREFIX = "conditional/layers.0.feed_forward.w1/"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "a.safetensors", stats(1))
    return tmp_path / "a.safetensors"


def rewrite(path: Path, tensors: dict[str, torch.Tensor | None], metadata: str | None = None) -> None:
    """Replaces tensors (None removes) and, if given, the metadata's text."""
    with safe_open(path, framework="pt") as file:
        text = file.metadata()[statistics.METADATA_KEY]
    new = {key: value for key, value in (load_file(path) | tensors).items() if value is not None}
    save_file(new, path, metadata={statistics.METADATA_KEY: text if metadata is None else metadata})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("amax", None, "conditional/layers.0.feed_forward.w1 lacks amax"),
        ("amax", torch.zeros(8, dtype=torch.float64), "amax is F64, expected F32"),
        ("amax", torch.zeros(8), "sample exceeds amax"),
        ("amax", torch.full((8,), float("nan")), "amax is not finite"),
        ("amax", torch.zeros(7), "shape"),
        ("amax", torch.zeros(0), "shape"),
        ("square_sum", torch.full((8,), -1.0, dtype=torch.float64), "square_sum is not finite and at least 0"),
        ("square_sum", torch.full((8,), float("inf"), dtype=torch.float64), "square_sum is not finite and at least 0"),
        ("count", torch.tensor([13]), "count is 13, step_count sums to 12"),
        ("count", torch.tensor([0]), "shape"),
        ("count", torch.tensor([-4]), "shape"),
        ("count", torch.tensor(12), "count has shape"),
        ("step_count", torch.tensor([4, 9, -1]), "count is 12"),
        ("step_peak_max", torch.tensor([1.0, 2.0]), "step_peak_max has shape"),
        ("sample", torch.zeros(4, 8), "sample has shape"),
        ("sample", torch.full((5, 8), float("nan")), "sample exceeds amax or is not finite"),
        ("sample_key", torch.tensor([5, 4, 3, 2, 1]), "sample_key is not ascending"),
        ("sample_key", torch.tensor([-1, 1, 2, 3, 4]), "sample_key is not ascending"),
        ("more", torch.zeros(1), "is no part of a stats file"),
        ("../amax", torch.zeros(1), "lacks square_sum"),
    ],
)
def test_impossible_tensors_are_refused(path: Path, name: str, value: torch.Tensor | None, message: str):
    rewrite(path, {PREFIX + name: value})
    with pytest.raises(ArtifactError, match=message):
        read(path)


@pytest.mark.parametrize("name", ["middle/x/amax", "conditional/amax", "conditional/layers.0.feed_forward.w3/amax", "x"])
def test_unknown_names_are_refused(path: Path, name: str):
    rewrite(path, {name: torch.zeros(1)})
    with pytest.raises(ArtifactError, match="is no part of a stats file"):
        read(path)


def changed(**changes: object) -> str:
    return json.dumps(dataclasses.asdict(calibration("1")) | changes)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ("{}", "key 'format_version' is missing"),
        (changed(format_version=2), "format_version is 2, expected 1"),
        (changed(more=1), "unknown key 'more'"),
        (changed(steps="3"), "steps is '3', expected an integer"),
        (changed(captions=["2", "1"]), "captions are not sorted"),
        (changed(steps=0), "not positive"),
        (changed(steps=4), "shape"),
        (changed(sample_rows=-1), "not positive"),
    ],
)
def test_impossible_metadata_are_refused(path: Path, metadata: str, message: str):
    rewrite(path, {}, metadata)
    with pytest.raises(ArtifactError, match=message):
        read(path)


def test_other_files_are_refused(tmp_path: Path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ArtifactError, match="has no ideogram_q8.calibration"):
        read(tmp_path / "plain.safetensors")
    for place in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(ArtifactError, match="is not a whole safetensors file"):
            read(place)


@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    write(path, stats(1))
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[:8], "little") + 8
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), start + 200) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), start, start + 40, 5]))])
    with contextlib.suppress(ArtifactError):
        read(path)
