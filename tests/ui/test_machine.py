"""What is kept on disk, and what cleaning deletes: all of a store, and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filelock import FileLock

from ideogram_q8.builds import variants
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.platforms import Windows
from ideogram_q8.runtime.kernels.attention import sdpa
from ideogram_q8.runtime.text import caption_cache
from ideogram_q8.ui.engine import machine
from ideogram_q8.ui.engine.studio import Studio
from tests.synthetic import write_source

METADATA = {"variant": "int8", "caption": "{}", "seed": 1, "preset": "turbo-12"}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    studio = Studio(str(write_source(tmp_path / "source")), tmp_path / "outputs", tmp_path / "cache")
    variants.prepare("int8", studio.source, studio.cache)
    (tmp_path / "cache" / "notes.txt").write_text("somebody's", encoding="utf-8")
    return studio


def store(studio: Studio, key: str) -> machine.Store:
    return next(each for each in machine.stores(studio, ["mine.png"]) if each.key == key)


def add_picture(studio: Studio, owner: str, name: str) -> None:
    (studio.outputs / name).write_bytes(b"png")
    studio.library.add(owner, name, METADATA)


def test_built_variants_go_and_are_built_again(studio: Studio) -> None:
    assert store(studio, "variants").size_bytes > 1000
    machine.clean(studio, "variants", "me")
    assert store(studio, "variants").files == 1  # the note
    assert next(v for v in studio.variants() if v.name == "int8").location is None
    assert Path(variants.prepare("int8", studio.source, studio.cache)).is_dir()


def test_a_variant_that_is_being_built_stays(studio: Studio) -> None:
    location = Path(str(next(v for v in studio.variants() if v.name == "int8").location))
    with FileLock(location.with_suffix(".lock")):
        machine.clean(studio, "variants", "me")
    assert (location / "manifest.json").is_file()


def test_pictures_are_the_owners(studio: Studio) -> None:
    add_picture(studio, "me", "mine.png")
    add_picture(studio, "you", "yours.png")
    assert store(studio, "pictures").files == 1
    machine.clean(studio, "pictures", "me")
    assert [path.name for path in studio.outputs.iterdir()] == ["yours.png"]
    assert studio.library.pictures("me") == [] and len(studio.library.pictures("you")) == 1


def test_captions(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "captions"
    folder.mkdir()
    (folder / "one.safetensors").write_bytes(b"1")
    monkeypatch.setattr(caption_cache, "from_environment", lambda: caption_cache.CaptionCache(folder))
    assert store(studio, "captions").files == 1
    machine.clean(studio, "captions", "me")
    assert store(studio, "captions").files == 0


def test_what_is_no_store_is_refused(studio: Studio) -> None:
    with pytest.raises(RequestError, match="nothing is kept under the name '../outputs'"):
        machine.clean(studio, "../outputs", "me")


def test_nothing_goes_while_a_picture_is_painted(studio: Studio) -> None:
    with studio.idle(), pytest.raises(RequestError, match="being painted"):
        machine.clean(studio, "variants", "me")
    assert store(studio, "variants").files > 1


def test_no_kernel_is_tried_beside_a_painting_model(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(*_: object) -> None:
        raise AssertionError("tried beside a painting model")

    with monkeypatch.context() as patch, studio._busy:
        patch.setattr(machine, "block_products", tried)
        (row,) = machine.kernels_of(studio, (64, 64))
        assert "a picture is being painted" in row.runs
    assert len(machine.kernels_of(studio, (64, 64))) >= 3 and not studio._busy.locked()


def test_a_trial_without_room_beside_the_model_is_said(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(machine.BlockProduct, "choose", full)
    row = machine.kernels_of(studio, (64, 64))[0]
    assert row.what.startswith("INT8 of") and row.runs.startswith("not tried yet: no memory") and row.refused == ()


def test_the_attention_kernel_is_shown_with_what_it_costs(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = sdpa.chosen((8, 6), Windows(), False, torch.bfloat16, 256)
    monkeypatch.setattr(sdpa, "chosen_on", lambda *_: windows)
    (row,) = (each for each in machine.kernels_of(studio, (64, 64)) if "Attention" in each.what)
    assert row.runs == "memory-efficient attention"
    ((name, reason),) = row.refused
    assert name == "flash attention" and "for Windows" in reason and "`--attention int8`" in reason


def test_how_both_branches_run_is_shown(studio: Studio) -> None:
    (found,) = (each for each in machine.kernels(studio.config, (64, 64), "cpu", torch.float32) if "branches" in each.what)
    assert (found.what, found.runs) == ("Both branches of INT8 run", "back to back: cpu has no streams")
