"""A made-up build and report for the tests; the figures mean nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from pathlib import Path

import yaml

from ideogram_q8.formats.manifest import FORMAT_VERSION as MANIFEST_VERSION
from ideogram_q8.formats.manifest import FileRecord, Manifest, SourceRecord, TensorRecord
from ideogram_q8.formats.report import (
    FORMAT_VERSION,
    Figure,
    Hardware,
    Measured,
    NotMeasured,
    Report,
    Sample,
    Settings,
    Suite,
    VariantFile,
    VariantReport,
)
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4_TRAITS, Traits
from ideogram_q8.publishing.cards.card import Figures, render
from ideogram_q8.publishing.cards.licence import licence_of
from ideogram_q8.publishing.release import measured_variant

SAMPLE = b"not really a picture"
AGREEMENT = (
    'Ideogram Non-Commercial Model Agreement\n3. [...] the following attribution notice within a "Notice" text file: “Ideogram 4 is\n'
    "provided under and subject to the Ideogram Non-Commercial Model Agreement available at https://example.org/terms. All\n"
    "rights reserved. Copyright © Ideogram, Inc.” [...]\n"
)
"""Not the Agreement: only the parts that are looked for, wrapped as a licence file may be."""
NAMES = {"conditional": "ideogram4-int8.safetensors", "unconditional": "ideogram4-unconditional-int8.safetensors"}
TENSORS = (TensorRecord("x.weight", (16, 100), "I8", "w8a8"), TensorRecord("x.weight_scale", (16, 1), "F32", "w8a8"))


def weights(name: str, fill: bytes = b"\1") -> bytes:
    """A safetensors file of TENSORS, with `name` in its metadata."""
    offsets = {"x.weight": [0, 1600], "x.weight_scale": [1600, 1664]}
    header = {t.name: {"dtype": t.dtype, "shape": t.shape, "data_offsets": offsets[t.name]} for t in TENSORS}
    text = json.dumps({"__metadata__": {"file": name}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + fill * 1664


CONTENTS = {name: weights(name) for name in NAMES.values()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def layer(linear: str, scheme: str, reason: str, rotation: int = 0, weighted: bool = False) -> dict[str, object]:
    """A Linear of a recipe."""
    return {"linear": linear, "scheme": scheme, "rotation": rotation, "reason": reason, "weighted": weighted}


def recipe(
    layers: list[dict[str, object]], policy: str = "naive", stats: str | None = None, smoothed: int = 0
) -> dict[str, object]:
    """The JSON value of a recipe whose branches are alike."""
    smoothing = [{"fold": f"layers.{i}.ffn_norm1", "exponents": "0"} for i in range(smoothed)]
    part = {"layers": layers, "smoothing": smoothing}
    return {
        "format_version": 2,
        "scheme": "int8",
        "policy": policy,
        "stats_sha256": stats,
        "parts": dict.fromkeys(BRANCHES, part),
    }


def manifest(location: str = "pocket", traits: Traits | None = None) -> Manifest:
    """An int8 build of `location`; Ideogram 4's traits unless it is the pocket or `traits` says otherwise."""
    pocket = Traits("Pocket", 64, 256, (128, 128), (3.0, 2.0))
    layers = [layer("input_proj", "bf16", "outside the blocks")]
    layers += [layer(f"layers.{i}.adaln_modulation", "bf16", "one row | picture") for i in range(5)]
    layers += [layer(f"layers.{i}.attention.qkv", "w8a8", "sees tokens") for i in range(5)]
    return Manifest(
        format_version=MANIFEST_VERSION,
        tool_version="0.1.0",
        variant="int8",
        scheme="int8",
        source=SourceRecord(location, None, {"transformer/diffusion_pytorch_model.safetensors": "a" * 64}),
        traits=traits or (pocket if location == "pocket" else IDEOGRAM4_TRAITS),
        transformer={"num_layers": 5},
        recipe=recipe(layers),
        files=tuple(FileRecord(NAMES[b], len(CONTENTS[NAMES[b]]), sha256(CONTENTS[NAMES[b]]), b) for b in BRANCHES),
        tensors=dict.fromkeys(NAMES.values(), TENSORS),
    )


def write_build(folder: Path, build: Manifest, report: Report | None = None) -> Path:
    """Writes weights, manifest.json, a sample and, if given, report.json into `folder`; returns it."""
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "star.png").write_bytes(SAMPLE)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(build.to_json(), encoding="utf-8")
    if report:
        (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    return folder


def refill(folder: Path, fill: bytes) -> Path:
    """Gives a measured build in `folder` other weights, its manifest and report with it; returns it."""
    contents = {name: weights(name, fill) for name in NAMES.values()}
    old = manifest()
    build = dataclasses.replace(old, files=tuple(dataclasses.replace(f, sha256=sha256(contents[f.path])) for f in old.files))
    own = dataclasses.replace(REPORT.variants[1], artifact_sha256=build.artifact_sha256)
    report = dataclasses.replace(REPORT, variants=(REPORT.variants[0], own))
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(build.to_json(), encoding="utf-8")
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    return folder


def _figures(psnr: Figure, ssim: Figure, peak: float) -> dict[str, Figure]:
    return {
        "psnr": psnr,
        "ssim": ssim,
        "lpips": NotMeasured("LPIPS needs weights that are not installed"),
        "ocr_exact_match": Measured(0.625, 64, (0.5, 0.734), "1"),
        "seconds_per_step": Measured(0.0512, 1280, None, "s", (0.0498, 0.0533)),
        "peak_memory": Measured(peak, 64, None, "bytes"),
    }


def report_of(build: Manifest) -> Report:
    """REPORT with its figures as those of `build`."""
    own = dataclasses.replace(REPORT.variants[1], name=build.variant, artifact_sha256=build.artifact_sha256, samples=())
    return dataclasses.replace(REPORT, variants=(REPORT.variants[0], own))


_ITSELF = NotMeasured("the reference itself")
REPORT = Report(
    format_version=FORMAT_VERSION,
    tool_version="0.1.0",
    created="2026-08-31T12:00:00Z",
    hardware=Hardware("cpu", "Linux 6.1", "an example processor", 2, 8 * 2**30, None, None),
    software={"torch": "2.13.0", "diffusers": "0.42.1"},
    suite=Suite("pocket-held-out", "5" * 64, 64),
    settings=Settings("turbo-12", 128, 128, (0,), "float32", "fp8", "95 % bootstrap over captions, 10,000 resamples"),
    variants=(
        VariantReport(
            name="fp8",
            artifact_sha256="1" * 64,
            files=(VariantFile("transformer/diffusion_pytorch_model.safetensors", 12000, "2" * 64),),
            samples=(),
            other_cpus=0.02,
            figures=_figures(_ITSELF, _ITSELF, 900e6),
        ),
        VariantReport(
            name="int8",
            artifact_sha256=manifest().artifact_sha256,
            files=tuple(VariantFile(name, len(content), sha256(content)) for name, content in CONTENTS.items()),
            samples=(Sample("samples/star.png", sha256(SAMPLE), "a red star: on a blue background", 7),),
            other_cpus=0.01,
            figures=_figures(Measured(45.2, 64, (44.8, 45.6), "dB"), Measured(0.9951, 64, (0.99, 0.998), "1"), 800e6),
        ),
    ),
)


REPO = "someone/pocket-int8"
FOLDER = "/home/person/ideogram-4-fp8"
"""Where a checkpoint may be on somebody's machine."""


def card_of(build: Manifest, report: Report | None = None) -> str:
    """Its README.md in REPO."""
    return render(build, Figures(report, measured_variant(build, report)), licence_of(build), REPO)


def metadata(card: str) -> dict:
    """What stands between its lines of ---."""
    return yaml.safe_load(card.split("---\n")[1])
