"""A picture painted in another process is the same, what it took is that process's own, and nothing is painted twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.measure import painting
from ideogram_q8.measure.painting import Item, OtherPrograms, PaintingOrder, paint, picture_path
from ideogram_q8.measure.places import open_places
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.loading.model import load

pytestmark = pytest.mark.slow

REQUESTS = tuple(Request("a red star on a blue background", seed, "turbo-12", 64, 80) for seed in (1, 2))


def order(folder: Path, **changes: object) -> PaintingOrder:
    items = tuple(Item(f"star--{r.seed}", r, str(folder / f"{r.seed}.safetensors")) for r in REQUESTS)
    (place,) = open_places("pocket", [])
    plain = PaintingOrder(
        "pocket", place.artifact_sha256, "cpu", "float32", "sdpa", "bf16", str(folder / "pictures"), None, items
    )
    return dataclasses.replace(plain, **changes)


def test_another_process_paints_the_same_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = paint(order(tmp_path))
    model = load("pocket")
    for item, record in zip(order(tmp_path).items, records, strict=True):
        path = picture_path(tmp_path / "pictures", item)
        with Image.open(path) as image:
            assert ImageChops.difference(generate(model, item.request).image, image).getbbox() is None
        assert read_metadata(path)["seed"] == item.request.seed
        assert len(record.step_seconds) == 12 and all(second > 0 for second in record.step_seconds)
        assert sum(record.step_seconds) < record.seconds
        assert all(50e6 < peak < 4e9 for peak in (record.peak_bytes, *dataclasses.astuple(record.started)[1:]))
        assert record.started.load_seconds > 0 and record.joules is None and record.errors is None
    again = dataclasses.replace(order(tmp_path), folder=str(tmp_path / "again"), reference="0" * 64)
    for record in paint(again):  # the same variant goes the same way
        assert record.reference == "0" * 64 and record.errors is not None
        assert record.errors.latent_mse == (1e-14,) * 12 and record.errors.velocity_snr == (140.0,) * 12
    monkeypatch.setattr(painting.sys, "executable", "/bin/false")
    assert paint(order(tmp_path)) == records
    with pytest.raises(RequestError, match="painting with pocket ended with exit code 1"):
        paint(dataclasses.replace(again, reference="1" * 64))  # compared with another reference
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(RequestError, match="ended with exit code 1"):
        paint(order(tmp_path))


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [({"location": "nowhere"}, "nowhere"), ({"artifact_sha256": "1" * 64}, "pocket has sha256 .*expected 1111")],
)
def test_a_refusal_crosses_over(tmp_path: Path, changes: dict, refusal: str) -> None:
    (tmp_path / painting.ORDER).write_text(json.dumps(dataclasses.asdict(order(tmp_path, **changes))), encoding="utf-8")
    assert painting.main([str(tmp_path)]) == 2
    with pytest.raises(RequestError, match=refusal):
        raise RequestError((tmp_path / painting.REFUSAL).read_text(encoding="utf-8"))
    assert not (tmp_path / "pictures").exists()


def test_a_model_is_placed_for_the_largest_picture_of_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(*_: object, size: tuple[int, int], **__: object) -> None:
        asked.append(size)
        raise RequestError("enough")

    items = tuple(
        Item(str(i), dataclasses.replace(REQUESTS[0], width=w, height=h), None)
        for i, (w, h) in enumerate([(64, 80), (128, 96)])
    )
    (tmp_path / painting.ORDER).write_text(json.dumps(dataclasses.asdict(order(tmp_path, items=items))), encoding="utf-8")
    monkeypatch.setattr(painting, "load", load)
    with pytest.raises(RequestError, match="enough"):
        painting.work(tmp_path)
    assert asked == [(128, 96)]


def test_an_order_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / painting.ORDER).write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"order\.json: key 'location' is missing"):
        painting.work(tmp_path)


@pytest.mark.parametrize(("busy", "own", "wall", "mean"), [(30, 10, 10, 2), (10, 10, 10, 0), (9.9, 10, 10, 0)])
def test_other_programs_are_what_is_busy_less_what_is_ours(
    monkeypatch: pytest.MonkeyPatch, busy: float, own: float, wall: float, mean: float
) -> None:
    clocks = iter([(100.0, 5.0, 50.0), (100 + busy, 5 + own, 50 + wall)])
    monkeypatch.setattr(painting, "_clocks", lambda: next(clocks))
    assert OtherPrograms().mean_cpus() == pytest.approx(mean)


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "_clocks", lambda: None)
    assert OtherPrograms().mean_cpus() is None
