"""`--compute`: the same GGUF build runs in the dtype of its activations, or in int8, which its pictures then say."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.gguf_build import open_transformers
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.builds.variants import Variant
from ideogram_q8.captions.suite import get
from ideogram_q8.formats.manifest import identity, variant_name
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.machine.devices import COMPUTES
from ideogram_q8.measure.measurement import EvaluationJob
from ideogram_q8.measure.places import open_places
from ideogram_q8.model.schemes import title
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import encode_caption
from ideogram_q8.runtime.kernels import row_scale
from ideogram_q8.runtime.layers.packed import GgmlLinear, Int8Linear
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.runtime.text.caption_cache import CaptionCache
from ideogram_q8.sources import open_source, open_text_encoder
from ideogram_q8.ui.engine.measured import figures, read_report
from tests.synthetic import TINY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Builds of the pocket, and of its text encoder."""
    folder, source, encoder = tmp_path_factory.mktemp("pocket"), open_source("pocket"), open_text_encoder("pocket")
    for scheme in ("q4_k_s", "int8"):
        quantize(source, choose(scheme, source.config), folder / scheme)
    quantize(encoder, choose("q8_0", encoder.config), folder / "encoder")
    return {name: folder / name for name in ("q4_k_s", "int8", "encoder")}


def packed(folder, compute):
    artifact = open_artifact(folder)
    transformer = build_transformer(artifact.branch("conditional"), TINY, CPU, torch.float32, compute)
    return [module for module in transformer.modules() if isinstance(module, GgmlLinear | Int8Linear)]


def test_int8_compute_finds_the_scales_when_it_loads(built):
    layers = packed(built["q8_0"], "int8")
    assert layers
    for layer in layers:
        assert torch.equal(layer.get_buffer("scale"), row_scale(layer.data, layer.block))
    assert not any("scale" in layer.packed_names for layer in packed(built["q8_0"], COMPUTES[0]))


def test_the_products_are_close(built):
    generator = torch.Generator().manual_seed(0)
    for plain, quantized in zip(packed(built["q8_0"], "bf16"), packed(built["q8_0"], "int8"), strict=True):
        x = torch.randn(40, plain.in_features, generator=generator)
        exact = plain(x)
        assert 0 < (quantized(x) - exact).norm() < 0.02 * exact.norm()


def test_other_builds_do_not_care(built):
    layers = packed(built["int8"], "int8")
    assert layers and all(isinstance(layer, Int8Linear) for layer in layers)


def test_the_command_line_knows_two(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["generate", "--help"])
    assert refused.value.code == 0
    assert "--compute {bf16,int8}" in capsys.readouterr().out


def test_a_picture_says_so(pocket: dict[str, Path], tmp_path: Path) -> None:
    asked = ["generate", str(pocket["q4_k_s"]), "--caption", "a star", "--preset", "custom-2-g3", "--out"]
    made = {}
    for name in COMPUTES:
        assert main([*asked, str(tmp_path / f"{name}.png"), "--compute", name]) == 0
        made[name] = read_metadata(tmp_path / f"{name}.png")
    assert made["bf16"]["variant"] == "q4_k_s" and made["int8"]["variant"] == "q4_k_s, int8 compute"
    assert made["bf16"]["artifact_sha256"] != made["int8"]["artifact_sha256"]
    first, second = (Image.open(tmp_path / f"{name}.png") for name in COMPUTES)
    assert ImageChops.difference(first, second).getbbox() is not None


def test_an_identity_has_the_word_among_the_digests() -> None:
    words = {what: hashlib.sha256(f"{what} int8".encode()).hexdigest() for what in ("attention", "compute")}
    files = ["a" * 64, "b" * 64]
    assert identity(files, compute="int8") == identity([*files, words["compute"]]) != identity(files)
    assert identity(files, "int8", "int8") == identity([*files, *words.values()])
    assert variant_name("q8_0", "int8", "int8") == "q8_0, int8 compute, int8 attention"
    assert variant_name("q8_0", "sdpa", "bf16") == "q8_0"


@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_without_blocks_it_is_the_same_variant(pocket: dict[str, Path], name: str) -> None:
    usual, asked = (load(pocket.get(name, "pocket"), compute=compute) for compute in COMPUTES)
    assert (asked.variant, asked.artifact_sha256, asked.compute) == (usual.variant, usual.artifact_sha256, COMPUTES[0])


def test_files_without_a_manifest_have_blocks_too(built: dict[str, Path]) -> None:
    for scheme in ("q8_0", "q4_k_m"):
        path = next(path for path in sorted(built[scheme].glob("*.gguf")) if "uncond" not in path.name)
        assert open_transformers(path, config=TINY).has_blocks and open_artifact(built[scheme]).has_blocks
    assert not open_artifact(built["int8"]).has_blocks


def test_a_text_encoder_in_blocks_counts_and_keeps_its_captions_apart(pocket: dict[str, Path], tmp_path: Path) -> None:
    usual, asked = (load("pocket", text_encoder=pocket["encoder"], compute=compute) for compute in COMPUTES)
    assert (usual.variant, asked.variant) == ("fp8, text encoder q8_0", "fp8, text encoder q8_0, int8 compute")
    assert usual.artifact_sha256 != asked.artifact_sha256
    usual.captions = asked.captions = CaptionCache(tmp_path)
    caption = "a red star on a blue background " * 4  # fewer rows than `kernels.int8.FEWEST_ROWS` are not quantized
    assert not torch.equal(encode_caption(usual, caption), encode_caption(asked, caption))
    assert len(list(tmp_path.iterdir())) == len(COMPUTES)


def test_an_encoder_without_blocks_shares_its_captions(pocket: dict[str, Path], tmp_path: Path) -> None:
    for compute in COMPUTES:
        model = load(pocket["q4_k_s"], compute=compute)
        model.captions = CaptionCache(tmp_path)
        encode_caption(model, "a star")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_candidate_is_another_variant_of_the_same_files(pocket: dict[str, Path], tmp_path: Path) -> None:
    place = str(pocket["q4_k_s"])
    _, first, second, named = open_places("pocket", [place], [], [place, f"mine={place}"])
    assert (first.name, second.name, named.name) == ("q4_k_s", "q4_k_s-int8-compute", "mine")
    assert first.files == second.files and first.artifact_sha256 != second.artifact_sha256 == named.artifact_sha256
    job = EvaluationJob([first, second], get("pocket").first(1), "turbo-12", (128, 128), "cpu", "float32", tmp_path)
    assert [job.order(i).compute for i in (0, 1)] == list(COMPUTES)
    assert job.order(1).artifact_sha256 == load(place, compute="int8").artifact_sha256
    assert title("q4_k_s-int8-compute") == "GGUF Q4_K_S, int8 compute"


def test_a_candidate_must_have_blocks(pocket: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("pocket", str(pocket["int8"])):
        assert main(["evaluate", "--reference", "pocket", "--int8-compute", f"mine={place}", "--out", str(tmp_path)]) == 2
        assert "has no Linear in ggml's blocks, and computes in one way only; use --candidate" in capsys.readouterr().err


def test_its_figures_are_not_shown_for_the_default() -> None:
    """The app finds figures by the files' digests, which are the same."""
    report = read_report(ROOT / "model_cards" / "pocket-report.json")
    measured = next(each for each in report.variants if each.name == "q8_0")
    changed = replace(measured, artifact_sha256=identity((file.sha256 for file in measured.files), compute="int8"))
    here = Variant("q8_0", "Q8_0", "GGUF", str(ROOT / "no manifest"), measured.size)
    assert figures([here], report)
    assert not figures([here], replace(report, variants=tuple(changed if v is measured else v for v in report.variants)))
