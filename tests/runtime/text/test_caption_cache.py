"""A known caption needs no text encoder, and whatever lies in the folder never changes a picture."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.numerics import fp8, int8
from ideogram_q8.runtime.generation.sampling import Request, encode_caption, steps
from ideogram_q8.runtime.layers.packed import from_packed
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.text import caption_cache, encoding
from ideogram_q8.runtime.text.caption_cache import CaptionCache, Key

CAPTION = "a red star"
KEY = Key("c", "e", "p", "cpu", "torch.float32", "bf16")
VALUE = torch.arange(12.0).reshape(3, 4)


@pytest.fixture
def cache(tmp_path: Path) -> CaptionCache:
    return CaptionCache(tmp_path / "captions")


@pytest.fixture(scope="module")
def shared_model() -> Model:
    return load("pocket")


@pytest.fixture
def model(shared_model: Model, cache: CaptionCache) -> Model:
    return dataclasses.replace(shared_model, captions=cache)


def forbid_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "text_features", lambda *_: pytest.fail("encoded again"))


def entry(cache: CaptionCache, key: Key = KEY) -> Path:
    return cache.folder / f"{key.digest}.safetensors"


def test_a_known_caption_loads_no_text_encoder(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = encode_caption(model, CAPTION)
    again = dataclasses.replace(load("pocket"), captions=model.captions)
    forbid_encoding(monkeypatch)
    assert torch.equal(encode_caption(again, CAPTION), before)
    next(steps(again, Request(CAPTION, 1, "turbo-12", 64, 64)))
    assert again._text_encoder is None


def test_without_a_cache_nothing_is_kept(model: Model, cache: CaptionCache, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_caption(dataclasses.replace(model, captions=None), CAPTION)
    assert not cache.folder.exists()
    monkeypatch.setenv(caption_cache.SWITCH, "off")
    assert load("pocket").captions is None
    monkeypatch.delenv(caption_cache.SWITCH)
    assert caption_cache.from_environment() is not None


def test_who_watches_the_projection_sees_it(model: Model) -> None:
    encode_caption(model, CAPTION)
    seen: list[int] = []
    hook = model.branches["conditional"].llm_cond_proj.register_forward_hook(lambda *_: seen.append(1))
    encode_caption(model, CAPTION)
    hook.remove()
    assert seen == [1]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Key)])
def test_whatever_the_numbers_come_from_is_in_the_name(cache: CaptionCache, field: str) -> None:
    cache.write(KEY, VALUE)
    assert torch.equal(cache.read(KEY, 4, torch.float32), VALUE)  # type: ignore[arg-type]
    assert cache.read(dataclasses.replace(KEY, **{field: "other"}), 4, torch.float32) is None


def test_another_projection_is_another_digest(shared_model: Model) -> None:
    conditional = load("pocket").branches["conditional"]
    same = encoding.projection_digest(shared_model.branches["conditional"], torch.float32)
    assert encoding.projection_digest(conditional, torch.float32) == same
    assert encoding.projection_digest(conditional, torch.bfloat16) != same
    conditional.llm_cond_proj.weight.view(torch.uint8)[-1, -1] ^= 1
    assert encoding.projection_digest(conditional, torch.float32) != same


def test_the_same_projection_in_another_format_is_the_same(shared_model: Model) -> None:
    """As in artifacts, which keep the projection as bfloat16."""
    conditional = load("pocket").branches["conditional"]
    packed = conditional.llm_cond_proj
    plain = torch.nn.Linear(packed.in_features, packed.out_features)
    plain.weight = torch.nn.Parameter(fp8.dequantize_per_row(packed.weight, packed.scale).float(), requires_grad=False)
    plain.bias = torch.nn.Parameter(packed.bias, requires_grad=False)
    conditional.llm_cond_proj = plain
    expected = encoding.projection_digest(shared_model.branches["conditional"], torch.float32)
    assert encoding.projection_digest(conditional, torch.float32) == expected


def test_a_changed_encoder_file_is_another_digest(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    os.utime(file, ns=(0, 0))
    first = caption_cache.files_digest([file])
    os.utime(file, ns=(0, 1))
    assert caption_cache.files_digest([file]) != first
    os.utime(file, ns=(0, 0))
    assert caption_cache.files_digest([file]) == first
    file.write_bytes(b"longer")
    os.utime(file, ns=(0, 0))
    assert caption_cache.files_digest([file]) != first


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


BAD = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-3],
    "cut header": lambda data: data[:20],
    "no header": lambda data: b"\xff" * 64,
    "deep": lambda data: (3000).to_bytes(8, "little") + b"[" * 3000,
    "a changed number": flipped,
    "too long": lambda data: data + bytes(1 << 20),
    "another tensor": lambda data: save({"projected": torch.zeros(3, 5)}, {"key": KEY.digest, "sha256": ""}),
    "another type": lambda data: save({"projected": VALUE.bfloat16()}, {"key": KEY.digest, "sha256": ""}),
    "another entry": lambda data: data.replace(KEY.digest.encode(), b"0" * 64),
    "no metadata": lambda data: save({"projected": VALUE}),
}


@pytest.mark.parametrize("how", BAD)
def test_a_damaged_entry_counts_as_absent_and_is_written_again(cache: CaptionCache, how: str) -> None:
    cache.write(KEY, VALUE)
    good = entry(cache).read_bytes()
    entry(cache).write_bytes(BAD[how](good))
    assert cache.read(KEY, 4, torch.float32) is None
    cache.write(KEY, VALUE)
    assert torch.equal(cache.read(KEY, 4, torch.float32), VALUE)  # type: ignore[arg-type]


def test_what_was_used_longest_ago_makes_room(cache: CaptionCache) -> None:
    keys = [dataclasses.replace(KEY, caption=str(i)) for i in range(4)]
    cache.write(KEY, VALUE)
    small = dataclasses.replace(cache, limit=3 * entry(cache).stat().st_size)
    entry(cache).unlink()
    for i, key in enumerate(keys[:3]):
        small.write(key, VALUE)
        os.utime(entry(cache, key), ns=(i, i))
    (cache.folder / ".0.partial").write_bytes(b"left by a killed process")
    os.utime(cache.folder / ".0.partial", ns=(0, 0))
    assert small.read(keys[0], 4, torch.float32) is not None
    small.write(keys[3], VALUE)
    assert [small.read(key, 4, torch.float32) is not None for key in keys] == [True, False, True, True]
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".safetensors"] * 3


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = CaptionCache(tmp_path / "file")
    cache.write(KEY, VALUE)
    assert cache.read(KEY, 4, torch.float32) is None
    assert "was not kept" in caplog.text


def test_nothing_half_written_is_left(cache: CaptionCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    cache.write(KEY, VALUE)
    assert list(cache.folder.iterdir()) == []


def test_packed_projections_have_a_digest() -> None:
    conditional = load("pocket").branches["conditional"]
    digests = set()
    for seed in (0, 1):
        weight = torch.randn(256, 832, generator=torch.Generator().manual_seed(seed))
        layer = from_packed(Int8Weight(*int8.quantize_per_channel(weight), weight_only=True), torch.zeros(256))
        conditional.llm_cond_proj = layer
        digests.add(encoding.projection_digest(conditional, torch.float32))
    assert len(digests) == 2
