"""A comparison of made-up variants: pictures of noise, painted in no time through the files that real painting leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ideogram_q8.captions.suite import CaptionSuite, Case, Text, seed_of
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.formats.report import VariantFile
from ideogram_q8.measure import painting
from ideogram_q8.measure.judging import Judges
from ideogram_q8.measure.latents import Errors
from ideogram_q8.measure.measurement import EvaluationJob, Shard
from ideogram_q8.measure.painting import Item, Painted, PaintingOrder, Started
from ideogram_q8.measure.places import MeasuredVariant
from ideogram_q8.model.architecture import Traits

STEPS = 3
NOISE: Mapping[str, int] = {"fp8": 0, "good": 2, "bad": 8}
"""How far colours are from the reference's, by variant."""
TRAITS = Traits("Example", 32, 64, (32, 32), (3.0, 2.0))


def suite(count: int = 24) -> CaptionSuite:
    cases = []
    for i in range(count):
        name, texts = f"{'words' if i % 2 else 'signs'}/{i:03}", (Text(f"WORD{i}", None),) if i % 3 else ()
        cases.append(Case(name, f'{{"high_level_description":"number {i}"}}', seed_of(name), name.split("/")[0], texts))
    return CaptionSuite("example", tuple(cases))


def place(name: str, size: int = 1000) -> MeasuredVariant:
    digest = f"{sum(name.encode()):064x}"
    return MeasuredVariant(name, f"somewhere/{name}", TRAITS, 4, (VariantFile(f"{name}.safetensors", size, digest),), None)


def job(out: Path, captions: CaptionSuite | None = None, shard: Shard | None = None) -> EvaluationJob:
    places = [place(name, 1000 - 100 * i) for i, name in enumerate(NOISE)]
    return EvaluationJob(places, captions or suite(), "turbo-12", (32, 32), "cpu", "float32", out, shard or Shard())


def pixels(item: Item, name: str) -> np.ndarray:
    base = np.random.default_rng(item.request.seed).integers(20, 230, (32, 32, 3))
    noise = np.random.default_rng(item.request.seed + 1).integers(-1, 2, base.shape) * NOISE[name]
    return (base + noise).astype(np.uint8)


def paint(order: PaintingOrder, painted: list[str] | None = None) -> list[Painted]:
    """What `painting.paint` does, without a model; names what it had to paint in `painted`."""
    name = order.location.rpartition("/")[2]
    Path(order.folder).mkdir(parents=True, exist_ok=True)
    for item in order.items:
        if painting.finished(order, item) is None:
            _paint(order, item, name)
            if painted is not None:
                painted.append(f"{name}: {item.name}")
    return [record for item in order.items if (record := painting.finished(order, item)) is not None]


def _paint(order: PaintingOrder, item: Item, name: str) -> None:
    picture = painting.picture_path(order.folder, item)
    Image.fromarray(pixels(item, name)).save(picture)
    level = NOISE[name] or 1
    errors = Errors(tuple(1e-6 * level * (i + 1) for i in range(STEPS)), tuple(40.0 - level - i for i in range(STEPS)))
    if order.reference is None and item.way is not None:
        Path(item.way).touch()
    started = Started(1.5, 100, 300, 200)
    record = Painted(
        item.request,
        sha256_of(picture),
        (0.1, 0.2, 0.3),
        0.9,
        500,
        None,
        0.01,
        started,
        order.reference,
        errors if order.reference and item.way else None,
    )
    painting._write(picture.with_suffix(".json"), record)


class Reading(Judges):
    """Judges that read what a variant's noise lets them, without an OCR: every text but, of `bad`, those of odd captions."""

    def values(self, picture, case, reference, errors):
        found = super().values(picture, case, reference, errors)
        spoilt = errors is not None and errors.velocity_snr[0] < 35 and case.category == "words"
        words = {"ocr_exact_match": float(not spoilt), "ocr_match_any_case": float(not spoilt), "ocr_ned": 0.5 * spoilt}
        return found | (words if case.texts else dict.fromkeys(words))


JUDGES = Reading(missing={"lpips": "not here", "clip_score": "not here", "pick_score": "not here", "hps_v2": "not here"})
