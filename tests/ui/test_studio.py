"""The engine behind the page, on the embedded model."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image

from ideogram_q8.captions import to_caption
from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.runtime.generation import sampling
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.runtime.loading import model as model_module
from ideogram_q8.runtime.loading import planning
from ideogram_q8.runtime.loading.model import Model
from ideogram_q8.runtime.memory import budget, usage
from ideogram_q8.ui.engine.events import Building, Loading, Painting, Picture
from ideogram_q8.ui.engine.fitting import fit
from ideogram_q8.ui.engine.studio import Studio

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


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes."),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: f"{type(error).__name__} {error}"[:60])
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


def test_what_lacks_no_memory_is_a_defect(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampling, "generate", fails)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(studio.paint("int8", REQUEST))


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: f"{type(error).__name__} {error}"[:60])
def test_a_turn_explains_it_too(studio: Studio, error: Exception) -> None:
    with pytest.raises(ResourceError, match="cpu ran out of memory"), studio.turn(lambda _: None):
        raise error


@pytest.fixture
def card(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A card with room for pictures of 64x80 with everything resident, for larger ones only with both branches streamed.

    Gives the sizes that models are loaded for; they run on the CPU.
    """
    loaded: list[tuple[int, int]] = []
    plain_load, plain_placement = model_module.load, Model.placement

    def load(opened: object, *, size: tuple[int, int], device: str, **how: object) -> Model:
        loaded.append(size)
        model = plain_load(opened, size=size, **how)
        model.plan = planning.find_plan("auto", opened, size, torch.device("cuda"), torch.float32)
        return model

    def find_plan(_key: str, _opened: object, size: tuple[int, int], *_: object, **__: object) -> budget.Plan | None:
        return {(64, 80): budget.PLANS[0], (128, 128): budget.PLANS[4], (256, 256): None}[size]

    def placement(model: Model, width: int, height: int) -> usage.Placement:
        if (width, height) != (64, 80) and (model.plan is not budget.PLANS[4] or (width, height) == (256, 256)):
            raise ResourceError(f"cuda has 1.0 GB free, a picture of {width}x{height} needs about 2.0 GB")
        return plain_placement(model, width, height)

    monkeypatch.setattr(model_module, "load", load)
    monkeypatch.setattr(planning, "find_plan", find_plan)
    monkeypatch.setattr(Model, "placement", placement)
    studio._drop()
    return loaded


def sized(width: int, height: int) -> Request:
    return dataclasses.replace(REQUEST, width=width, height=height, preset="custom-2-g3")


def test_a_model_is_placed_anew_where_a_larger_picture_needs_it(studio: Studio, card: list[tuple[int, int]]) -> None:
    """And stays so for smaller ones; where no plan has room, nothing is loaded to no end."""
    for size in ((64, 80), (64, 80), (128, 128), (64, 80)):
        *_, picture = studio.paint("int8", sized(*size))
        assert isinstance(picture, Picture)
    assert card == [(64, 80), (128, 128)]
    assert studio._model is not None and studio._model.plan is budget.PLANS[4]
    with pytest.raises(ResourceError, match="a picture of 256x256 needs"):
        list(studio.paint("int8", sized(256, 256)))
    assert card == [(64, 80), (128, 128)]
    studio._drop()


def test_the_first_picture_decides_where_a_model_is_placed(studio: Studio, card: list[tuple[int, int]]) -> None:
    *_, picture = studio.paint("int8", sized(128, 128))
    assert isinstance(picture, Picture) and card == [(128, 128)]
    studio._drop()


def test_what_is_streamed_is_not_given_back_to_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_module.load("pocket", plan=budget.plan_named("both", "cuda"))
    whole = model.device_bytes()
    assert whole == usage.module_bytes(*model.branches.values(), model.vae)
    model.vae.to("meta")  # any other device
    assert model.device_bytes() < whole


def test_a_plan_that_main_memory_is_too_small_for_is_named(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    base, size = studio._base(), (256, 256)
    streamed = budget.footprint(base, budget.PLANS[3], size)
    monkeypatch.setattr(usage, "pinnable_bytes", lambda: streamed.host - 1)
    found = fit(base, "fp8", None, size, streamed.peak, "cuda")
    assert found.plan is None
    assert str(found).startswith("does not fit: ") and "(unconditional branch and text encoder streamed pins 0.0 GB" in str(
        found
    )
    monkeypatch.setattr(usage, "pinnable_bytes", lambda: streamed.host)
    fitting = fit(base, "fp8", None, size, streamed.peak, "cuda")
    assert str(fitting) == "fits with offload: unconditional branch and text encoder streamed"


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
