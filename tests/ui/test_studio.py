"""The engine behind the page, on the embedded model."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image

from ideogram_q8.caption import to_caption
from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.generation import sampling
from ideogram_q8.generation.sampling import Request
from ideogram_q8.memory import budget
from ideogram_q8.png import read_metadata
from ideogram_q8.ui.events import Building, Loading, Painting, Picture
from ideogram_q8.ui.fitting import fit
from ideogram_q8.ui.studio import Studio

pytestmark = pytest.mark.slow

REQUEST = Request(to_caption("a red heart on a white background"), 3, "turbo-12", 64, 80)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("studio")
    return Studio("pocket", folder / "outputs", folder / "cache")


def test_everything_is_reported_in_order(studio: Studio) -> None:
    events = list(studio.paint("int8", REQUEST))
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=[Building, Loading, Painting, Picture].index)
    assert kinds.count(Painting) == 12 and kinds[-1] is Picture and kinds.count(Building) > 1
    steps = [event for event in events if isinstance(event, Painting)]
    assert [step.index for step in steps] == list(range(1, 13))
    assert steps[0].seconds_left > 0 and steps[-1].seconds_left == 0
    assert steps[0].preview.size == (64, 80)
    picture = events[-1]
    assert isinstance(picture, Picture) and not picture.reused
    assert picture.path.parent == studio.outputs and picture.peak_bytes > 0
    with Image.open(picture.path) as image:
        assert image.size == (64, 80)
    assert read_metadata(picture.path) == picture.metadata
    assert picture.metadata["variant"] == "int8" and picture.metadata["seed"] == 3
    assert studio.loaded_variant == "int8"


def test_a_picture_is_painted_once_when_it_may_be_reused(studio: Studio) -> None:
    (first,) = [event for event in studio.paint("int8", REQUEST) if isinstance(event, Picture)]
    (again,) = list(studio.paint("int8", REQUEST, reuse=True))
    assert isinstance(again, Picture) and again.reused and again.path == first.path
    first.path.unlink()
    assert len(list(studio.paint("int8", REQUEST, reuse=True))) > 12


def test_closing_stops_and_the_next_picture_is_not_harmed(studio: Studio) -> None:
    before = set(studio.outputs.iterdir())
    events = studio.paint("int8", REQUEST)
    while not isinstance(next(events), Painting):
        pass
    events.close()
    pictures = [event for event in studio.paint("int8", REQUEST) if isinstance(event, Picture)]
    assert {picture.path for picture in pictures} == set(studio.outputs.iterdir()) - before


def test_a_bad_request_is_refused_before_anything_is_built(studio: Studio) -> None:
    with pytest.raises(RequestError, match="multiples of 16: use 96"):
        next(studio.paint("q4_k_s", Request("{}", 0, "turbo-12", 100, 64)))
    assert next(v for v in studio.variants() if v.name == "q4_k_s").location is None


def test_an_unknown_variant_is_refused(studio: Studio) -> None:
    with pytest.raises(RequestError, match="unknown variant 'bf16'"):
        list(studio.paint("bf16", REQUEST))


def test_an_artifact_made_elsewhere_is_painted_with(studio: Studio, tmp_path: Path) -> None:
    list(studio.paint("int8", REQUEST, reuse=True))  # so that it is built
    build = next(Path(str(v.location)) for v in studio.variants() if v.name == "int8")
    elsewhere = shutil.copytree(build, tmp_path / "mine")
    other = Studio("pocket", tmp_path / "outputs", tmp_path / "cache", artifacts=[elsewhere])
    assert [v.name for v in other.variants()] == ["fp8", "int8", "q8_0", "q4_k_s", "int8-mine"]
    *_, picture = other.paint("int8-mine", REQUEST)
    assert isinstance(picture, Picture) and picture.variant == "int8-mine" and not (tmp_path / "cache").exists()
    *_, same = studio.paint("int8", REQUEST, reuse=True)
    assert isinstance(same, Picture) and picture.metadata == same.metadata


def test_the_dtype_is_that_of_the_model(tmp_path: Path) -> None:
    studio = Studio("pocket", tmp_path / "outputs", tmp_path / "cache", dtype="bfloat16")
    *_, picture = studio.paint("fp8", REQUEST)
    assert isinstance(picture, Picture)
    assert studio._model is not None and studio._model.dtype == torch.bfloat16


def test_outputs_folder_is_made(tmp_path: Path) -> None:
    Studio("pocket", tmp_path / "new" / "outputs")
    assert (tmp_path / "new" / "outputs").is_dir()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_is_explained_and_the_next_picture_is_painted(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    models: list[weakref.ref[object]] = []
    left: list[object] = []

    def fails(model: object, *arguments: object, **named: object) -> None:
        models.append(weakref.ref(model))
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "generate", fails)
        patch.setattr(studio, "available", lambda: left.append(models[0]()) or 1_000_000)
        with pytest.raises(ResourceError) as caught:
            list(studio.paint("int8", REQUEST))
    assert left and set(left) == {None}  # what is free was asked for when the model was gone
    message = str(caught.value)
    assert "int8 at 64x80 needs about 0.0 GB" in message and "are free" in message and "a smaller picture" in message
    assert studio.loaded_variant is None
    *_, picture = studio.paint("int8", REQUEST)
    assert isinstance(picture, Picture) and picture.path.is_file()


def test_what_fits_is_known_before_anything_is_built(studio: Studio) -> None:
    known = {variant.name: variant for variant in studio.variants()}
    small, large, original = (
        studio.fit(known[name], size) for name, size in (("q4_k_s", (64, 64)), ("q4_k_s", (1024, 1024)), ("fp8", (64, 64)))
    )
    assert small and large and original
    assert str(small) == "fits" and not small.offloads and 1e6 < small.needed < large.needed < small.available
    assert small.needed < original.needed
    assert next(v for v in studio.variants() if v.name == "q4_k_s").location is None


def test_what_does_not_fit_is_said(studio: Studio) -> None:
    found = fit(studio._base(), "int8", None, (256, 256), 1_000_000, "cpu")
    assert found.plan is None and str(found) == "does not fit: 0.0 GB free" and found.needed > 1_000_000
    least = budget.least(dataclasses.replace(studio._base()), (256, 256), device="cuda").peak
    assert "fits with offload" in str(fit(studio._base(), "fp8", None, (256, 256), least, "cuda"))


def test_a_picture_says_what_each_stage_took(studio: Studio) -> None:
    *_, picture = studio.paint("int8", REQUEST)
    assert isinstance(picture, Picture) and studio.last == picture
    assert set(picture.stages) >= {"Denoising", "Decoding"} and max(picture.stages.values()) == picture.peak_bytes


def test_nothing_is_deleted_while_a_picture_is_painted(studio: Studio) -> None:
    events = studio.paint("int8", REQUEST)
    while not isinstance(next(events), Painting):
        pass
    with pytest.raises(RequestError, match="being painted"), studio.idle():
        pass
    events.close()
