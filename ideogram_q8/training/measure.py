"""Measures what the pocket can draw, on held-out captions: colours, shapes, words, and the autoencoder's fidelity.

    python -m ideogram_q8.training.measure [ARTIFACT] [--count 128] [--preset default-20] [--out measured.json]

A shape is recognised by comparing its box with the 24 silhouettes, a word by PP-OCR (rapidocr) on the band it stands in; the same
readers are run on perfect pictures, and their scores there are reported as the ceiling.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from ideogram_q8.measure.words import ocr
from ideogram_q8.pocket import data
from ideogram_q8.pocket.tokenizer import caption_text
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.loading.model import Model, load


@dataclass(frozen=True)
class PocketReading:
    """What was found in one picture, against what its caption asks for."""

    background: bool
    shape_colour: bool
    shape: bool
    word: bool
    word_read: str


def nearest_colour(rgb: np.ndarray) -> str:
    """Name of the palette colour nearest to a float [3] colour."""
    return min(data.COLOURS, key=lambda name: float(np.linalg.norm(np.array(data.COLOURS[name]) - rgb)))


def background_colour(picture: np.ndarray, scene: data.Scene) -> str:
    """Nearest colour to the median of all pixels outside the boxes; `picture` is uint8 [H, W, 3]."""
    outside = np.ones(picture.shape[:2], dtype=bool)
    for item in (scene.shape, scene.word):
        if item is not None:
            top, left, bottom, right = data.pixel_box(item.bbox, picture.shape[0])
            outside[top:bottom, left:right] = False
    return nearest_colour(np.median(picture[outside], axis=0))


def shape_crop(picture: np.ndarray, shape: data.Shape) -> np.ndarray:
    """float64 [h, w, 3]: the pixels of the shape's box."""
    top, left, bottom, right = data.pixel_box(shape.bbox, picture.shape[0])
    return picture[top:bottom, left:right].astype(np.float64)


def mask_of(noun: str, crop: np.ndarray) -> np.ndarray:
    """float64 [h, w] in 0..1."""
    return np.asarray(data.shape_mask(noun, crop.shape[0], crop.shape[1]), dtype=np.float64) / 255


def recognise_shape(crop: np.ndarray) -> str:
    """The noun whose silhouette, with the best two colours inside and outside, explains the crop with the least squared error."""

    def residual(noun: str) -> float:
        mask = mask_of(noun, crop).reshape(-1)
        basis = np.stack([mask, 1 - mask], axis=1)
        pixels = crop.reshape(-1, 3)
        colours = np.linalg.lstsq(basis, pixels, rcond=None)[0]
        return float(np.square(pixels - basis @ colours).sum())

    return min(data.NOUNS, key=residual)


def read_picture(picture: Image.Image, scene: data.Scene, reader: ocr.Reader) -> PocketReading:
    """Judges one picture of a scene that has a shape and a word."""
    assert scene.shape is not None and scene.word is not None
    pixels = data.to_array(picture)
    crop = shape_crop(pixels, scene.shape)
    inside = mask_of(scene.shape.noun, crop) > 0.9
    top, _, bottom, _ = scene.word.bbox
    text = ocr.joined(reader(ocr.band(picture, top, bottom)))
    return PocketReading(
        background=background_colour(pixels, scene) == scene.background,
        shape_colour=nearest_colour(np.median(crop[inside], axis=0)) == scene.shape.colour,
        shape=recognise_shape(crop) == scene.shape.noun,
        word=text == scene.word.text,
        word_read=text,
    )


def share(readings: Sequence[PocketReading], name: str) -> float:
    """Share of readings in which `name` is right."""
    return sum(bool(getattr(reading, name)) for reading in readings) / len(readings)


SCORES = ("background", "shape_colour", "shape", "word")


def autoencoder_psnr(model: Model, scenes: Sequence[data.Scene]) -> float:
    """Mean PSNR in dB of encode-decode round trips of perfect pictures, 8-bit range, before rounding to 8 bits."""
    values = []
    with torch.no_grad():
        for scene in scenes:
            pixels = torch.from_numpy(data.to_array(data.render(scene)).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            pixels = pixels.to(model.vae.dtype)
            decoded = model.vae.decode(model.vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
            values.append(10 * math.log10(4 / (decoded - pixels).float().square().mean().item()))
    return sum(values) / len(values)


def paint(model: Model, scene: data.Scene, seed: int, preset: str) -> Image.Image:
    """The picture that a model paints of a scene."""
    request = Request(caption=caption_text(scene), seed=seed, preset=preset, width=data.CANVAS, height=data.CANVAS)
    return generate(model, request).image


def activation_spikes(model: Model, scenes: Sequence[data.Scene], preset: str) -> dict[str, dict[str, float]]:
    """How far the inputs of each kind of Linear spike, in the conditional branch, over captions and steps.

    `token_peak_to_mean`: mean over tokens of max |x| / mean |x| (3 to 5 for noise without outliers, at these widths).
    `channel_peak_to_median`: max over channels of the largest |x|, divided by the median channel's largest.
    """
    ratios: dict[str, list[float]] = {}
    largest: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            size = inputs[0].detach().abs().float().reshape(-1, inputs[0].shape[-1])
            ratios.setdefault(name, []).append((size.amax(1) / size.mean(1).clamp_min(1e-12)).mean().item())
            largest[name] = torch.maximum(largest.get(name, size.new_zeros(())), size.amax(0))

        return hook

    layers = model.branches["conditional"].layers
    suffixes = {"attention.to_q": "qkv", "attention.to_out.0": "o", "feed_forward.w1": "w1 and w3", "feed_forward.w2": "w2"}
    handles = []
    for i, block in enumerate(layers):
        for suffix, kind in suffixes.items():
            handles.append(block.get_submodule(suffix).register_forward_pre_hook(watch(f"{i} {kind}")))
    try:
        for seed, scene in enumerate(scenes):
            paint(model, scene, seed, preset)
    finally:
        for handle in handles:
            handle.remove()
    result = {}
    for kind in suffixes.values():
        names = [name for name in ratios if name.endswith(f" {kind}")]
        channel = [(largest[name].max() / largest[name].median()).item() for name in names]
        result[kind] = {
            "token_peak_to_mean": round(sum(sum(ratios[n]) / len(ratios[n]) for n in names) / len(names), 2),
            "channel_peak_to_median": round(max(channel), 2),
        }
    return result


def measure(model: Model, count: int, preset: str, reader: ocr.Reader, pictures: Path | None = None) -> dict[str, object]:
    """Scores of `count` held-out captions, the readers' ceiling on perfect pictures, and the autoencoder's PSNR."""
    scenes = data.held_out_scenes(count)
    readings, perfect = [], []
    for i, scene in enumerate(tqdm(scenes, desc="painting and reading")):
        picture = paint(model, scene, seed=i, preset=preset)
        readings.append(read_picture(picture, scene, reader))
        perfect.append(read_picture(data.render(scene), scene, reader))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            picture.save(pictures / f"{i:03d}.png")
    return {
        "captions": count,
        "preset": preset,
        "variant": model.variant,
        "artifact_sha256": model.artifact_sha256,
        "vae_round_trip_psnr_db": round(autoencoder_psnr(model, scenes), 2),
        "share_right": {name: round(share(readings, name), 4) for name in SCORES},
        "activation_spikes": activation_spikes(model, scenes[:8], preset),
        "ceiling_on_perfect_pictures": {name: round(share(perfect, name), 4) for name in SCORES},
        "words_read": [[s.word.text, r.word_read] for s, r in zip(scenes, readings, strict=True) if s.word],
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
    }


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Measure what the pocket can draw.")
    parser.add_argument("artifact", nargs="?", default="pocket")
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--preset", default="default-20")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    result = measure(load(arguments.artifact), arguments.count, arguments.preset, ocr.Reader(), arguments.pictures)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
