"""Tiny decoders for previews: the published layout, diffusers' own arithmetic, what is refused, and what is shown instead."""

from __future__ import annotations

import copy
import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, AutoencoderTiny, Flux2Pipeline
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ideogram_q8.errors import SourceError
from ideogram_q8.model.architecture import IDEOGRAM4, IDEOGRAM4_TRAITS, linears
from ideogram_q8.runtime.generation import preview
from ideogram_q8.runtime.generation.decoding import Denormalization, denormalization, of_vae, to_image, unpack
from ideogram_q8.runtime.generation.preview import LinearDecoder, choose_preview, find, load_tiny
from ideogram_q8.runtime.loading.model import load
from tests.runtime.generation.example import tiny_vae
from tests.second_device import second_device
from tests.synthetic import Tensors

GRID = (3, 4)
TOKENS = torch.randn(1, 12, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLFlux2:
    """Of FLUX.2's width and factor."""
    vae = tiny_vae(32)
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 4.0)
    return vae.eval().requires_grad_(False)


def published(convert: Callable[[Tensors], Tensors] = lambda tensors: tensors) -> Tensors:
    """Random weights under the names and shapes of madebyollin/taef2."""
    shapes: dict[str, tuple[int, ...]] = {
        "0.weight": (64, 32, 3, 3),
        "0.bias": (64,),
        "18.weight": (3, 64, 3, 3),
        "18.bias": (3,),
    }
    shapes |= {f"{i}.weight": (64, 64, 3, 3) for i in (6, 11, 16)}
    for i in (2, 3, 4, 7, 8, 9, 12, 13, 14, 17):
        shapes |= {f"{i}.conv.{j}.weight": (64, 64, 3, 3) for j in (0, 2, 4)} | {f"{i}.conv.{j}.bias": (64,) for j in (0, 2, 4)}
    for i in (2, 3, 4):
        shapes |= {f"{i}.pool.0.weight": (256, 64, 1, 1), f"{i}.pool.3.weight": (64, 256, 1, 1)}
        shapes |= {f"{i}.pool.1.weight": (256,), f"{i}.pool.1.bias": (256,)}
    generator = torch.Generator().manual_seed(1)
    tensors = {f"decoder.layers.{name}": 0.06 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return convert(tensors | {"encoder.layers.0.weight": torch.zeros(64, 3, 3, 3)})


def written(folder: Path, tensors: Tensors) -> Path:
    save_file(tensors, folder / "taef2.safetensors")
    return folder / "taef2.safetensors"


def stock(tensors: Tensors) -> AutoencoderTiny:
    """diffusers' tiny autoencoder, told what it lacks of TAEF2: the branch, written out."""
    tiny = AutoencoderTiny(latent_channels=32).eval().requires_grad_(False)
    plain = {name.removeprefix("decoder."): value for name, value in tensors.items() if ".pool." not in name}
    tiny.decoder.load_state_dict({name: value for name, value in plain.items() if not name.startswith("encoder.")})

    def branch(prefix: str, x: torch.Tensor) -> torch.Tensor:
        wide = functional.conv2d(x, tensors[f"{prefix}.0.weight"])
        wide = functional.group_norm(wide, 4, tensors[f"{prefix}.1.weight"], tensors[f"{prefix}.1.bias"])
        return x + functional.conv2d(wide.relu(), tensors[f"{prefix}.3.weight"])

    for i in (2, 3, 4):
        add = functools.partial(branch, f"decoder.layers.{i}.pool")
        tiny.decoder.layers[i].register_forward_pre_hook(lambda _, inputs, add=add: (add(inputs[0]),))
    return tiny


def silent(tensors: Tensors) -> Tensors:
    return {name: value * (0 if ".pool.3." in name else 1) for name, value in tensors.items()}


@pytest.mark.parametrize("convert", [lambda tensors: tensors, silent], ids=["with the branch", "as AutoencoderTiny is"])
def test_the_published_layout_decodes_as_diffusers_does(vae: AutoencoderKLFlux2, tmp_path: Path, convert) -> None:
    tensors = published(convert)
    ours = load_tiny(written(tmp_path, tensors), vae, of_vae(vae), normalised=True)
    maps = torch.randn(2, 32, 6, 8, generator=torch.Generator().manual_seed(2))
    expected = stock(tensors).decode(maps, return_dict=False)[0]
    assert torch.equal(ours.decoder(maps), expected) and expected.shape == (2, 3, 48, 64)
    assert expected.std() > 0.05


def test_a_preview_is_the_decoded_latent(vae: AutoencoderKLFlux2, tmp_path: Path) -> None:
    """Tokens that are normalised already are only put in place."""
    tensors = published()
    ours = load_tiny(written(tmp_path, tensors), vae, of_vae(vae), normalised=True)
    maps = TOKENS.view(1, *GRID, 2, 2, 32).permute(0, 5, 1, 3, 2, 4).reshape(1, 32, 6, 8)
    expected = to_image(stock(tensors).decode(maps, return_dict=False)[0][0])
    shown = ours(TOKENS, GRID)
    assert shown.size == (64, 48) and np.array_equal(np.asarray(shown), np.asarray(expected))


def test_ideogram4s_latents_are_normalised_as_flux2_does(vae: AutoencoderKLFlux2, tmp_path: Path) -> None:
    """From the official constants through the VAE's latents to what FLUX.2's transformer would put out."""
    norm = denormalization(vae, IDEOGRAM4_TRAITS, IDEOGRAM4)
    ours = load_tiny(written(tmp_path, published()), vae, norm, normalised=False)
    packed = Flux2Pipeline._patchify_latents(unpack(norm, TOKENS, GRID))
    mean, variance = vae.bn.running_mean.view(1, -1, 1, 1), vae.bn.running_var.view(1, -1, 1, 1)
    expected = Flux2Pipeline._unpatchify_latents((packed - mean) / torch.sqrt(variance + vae.config.batch_norm_eps))
    assert torch.allclose(unpack(ours.norm, TOKENS, GRID), expected, atol=1e-5)


def test_a_folder_of_diffusers_is_read(vae: AutoencoderKLFlux2, tmp_path: Path) -> None:
    torch.manual_seed(3)
    tiny = AutoencoderTiny(latent_channels=32, decoder_block_out_channels=(8, 8, 8, 8), num_decoder_blocks=(1, 1, 1, 1))
    tiny.eval().requires_grad_(False).save_pretrained(tmp_path)
    maps = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(4))
    ours = load_tiny(tmp_path, vae, of_vae(vae), normalised=True)
    assert torch.equal(ours.decoder(maps), tiny.decode(maps, return_dict=False)[0])


def test_larger_pictures_are_shown_from_fewer_latents(
    vae: AutoencoderKLFlux2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load_tiny(written(tmp_path, published()), vae, of_vae(vae), normalised=True)
    seen: list[torch.Size] = []
    ours.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    monkeypatch.setattr(preview, "_MOST_POSITIONS", 12)
    assert ours(TOKENS, GRID).size == (64, 48)
    assert seen == [torch.Size([3, 4])]


def test_it_costs_less_than_a_hundredth_of_a_step_of_ideogram4() -> None:
    side = 1024
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        preview._taef2()(torch.empty(1, 32, side // 8, side // 8))
    blocks = [linear for linear in linears(IDEOGRAM4) if linear.name.startswith("layers.") and "adaln" not in linear.name]
    each = sum(2 * linear.out_features * linear.in_features for linear in blocks)  # for each token, in each branch
    assert 0 < counted.get_total_flops() < 0.01 * 2 * each * (side // 16) ** 2


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Two fits may differ in their last bit."""
    return bool(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1)


# ---- what is refused, and what is shown then ----


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (without("decoder.layers.3.pool.1.bias"), r"decoder.layers.3.pool.1.bias is missing; download"),
        (lambda t: t | {"decoder.layers.0.bias": torch.zeros(32)}, r"0.bias is F32 \[32\], expected F32, F16 or BF16 \[64\]"),
        (lambda t: t | {"decoder.layers.0.bias": torch.zeros(64, dtype=torch.int32)}, r"0.bias is I32 \[64\], expected F32"),
        (lambda t: t | {"decoder.layers.19.weight": torch.zeros(1)}, "decoder.layers.19.weight is unknown"),
        (lambda t: {"encoder.layers.0.weight": torch.zeros(1)}, r"decoder.layers.0.weight is missing \(and 78 more\)"),
    ],
)
def test_other_files_are_refused(vae: AutoencoderKLFlux2, tmp_path: Path, convert, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_tiny(written(tmp_path, published(convert)), vae, of_vae(vae), normalised=True)


def test_what_is_no_decoder_at_all_is_refused(vae: AutoencoderKLFlux2, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors here", encoding="utf-8")
    with pytest.raises(SourceError, match="is not a whole safetensors file"):
        load_tiny(tmp_path / "text.safetensors", vae, of_vae(vae), normalised=True)
    with pytest.raises(SourceError, match="no file"):
        load_tiny(tmp_path / "nothing.safetensors", vae, of_vae(vae), normalised=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "_class_name is 'AutoencoderKL', expected 'AutoencoderTiny'"),
        ([], r"_class_name is '\[\]'"),
        (
            {"_class_name": "AutoencoderTiny", "latent_channels": 10**9},
            "latent_channels is 1000000000, expected numbers up to 1024",
        ),
        ({"_class_name": "AutoencoderTiny", "num_decoder_blocks": [1]}, "should have the same length"),
        ({"_class_name": "AutoencoderTiny", "latent_channels": 4}, "decodes latents of 4 channels; this model's have 32"),
        (
            {
                "_class_name": "AutoencoderTiny",
                "latent_channels": 32,
                "num_decoder_blocks": [1],
                "decoder_block_out_channels": [8],
            },
            "makes 1x1 pixels of 3 colours of a latent; expected 8x8 pixels of 3 colours",
        ),
    ],
)
def test_other_folders_are_refused(vae: AutoencoderKLFlux2, tmp_path: Path, values: object, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        load_tiny(tmp_path, vae, of_vae(vae), normalised=True)


def test_the_pocket_refuses_taef2_and_shows_its_linear_preview(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load("pocket")
    model.preview_decoder = written(tmp_path, published())
    tokens = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(5))
    with caplog.at_level(logging.INFO):
        shown = model.preview(tokens, GRID)
    reason = "taef2.safetensors decodes latents of 32 channels; this model's have 16"
    assert reason in model.preview.said and model.preview.said.startswith("linear") and reason in caplog.text
    assert alike(shown, LinearDecoder.fit(model.vae, model.denormalization)(tokens, GRID))


def test_without_memory_for_it_the_linear_preview_goes_on(vae: AutoencoderKLFlux2, tmp_path: Path) -> None:
    written(tmp_path, published())
    shown = choose_preview(vae, of_vae(vae), normalised=True, folder=tmp_path)
    assert shown.said == "the tiny decoder taef2.safetensors" and shown.tiny is not None

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    shown.tiny.decoder.register_forward_pre_hook(full)
    linear = choose_preview(vae, of_vae(vae), normalised=True, folder=tmp_path / "nowhere")
    assert linear.said == "linear: the checkpoint has no taef2.safetensors, nor has the Hub's cache madebyollin/taef2"
    assert alike(shown(TOKENS, GRID), linear(TOKENS, GRID))
    assert shown.said == "linear: no memory for taef2.safetensors beside the model"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
            "no memory for them",
        ),
        (RuntimeError("CUDA driver error: invalid argument"), "RuntimeError: CUDA driver error: invalid argument"),
    ],
)
def test_a_preview_that_fails_is_not_shown_and_not_tried_again(
    vae: AutoencoderKLFlux2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    tried = []

    def fails(*_: object) -> None:
        tried.append(1)
        raise error

    monkeypatch.setattr(torch.linalg, "lstsq", fails)
    shown = choose_preview(vae, of_vae(vae), normalised=True, folder=tmp_path / "nowhere")
    assert shown(TOKENS, GRID) is None and shown(TOKENS, GRID) is None
    assert len(tried) == 1 and shown.said == f"not shown: {said}"


def test_the_linear_preview_is_fitted_on_the_cpu_in_float32(vae: AutoencoderKLFlux2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the model is in: a card that is full of it is asked for nothing but the picture's own preview."""
    inner, seen = preview.run_decoder, []
    monkeypatch.setattr(preview, "run_decoder", lambda *given: seen.append(given) or inner(*given))
    expected = LinearDecoder.fit(vae, of_vae(vae))
    with second_device() as far:
        there = copy.deepcopy(vae).to(far)
        norm = of_vae(vae)
        found = LinearDecoder.fit(there, Denormalization(norm.scale.to(far), norm.shift.to(far)))
        assert found.weight.device.type == far.type
        torch.testing.assert_close(found.weight.cpu(), expected.weight, rtol=1e-3, atol=1e-4)
    for used, values in seen:
        assert (used.device.type, used.dtype, values.device.type, values.dtype) == ("cpu", torch.float32) * 2


def test_it_is_found_beside_the_checkpoint_or_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert find(tmp_path) is None
    snapshot = cache / "models--madebyollin--taef2" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40, encoding="ascii")
    cached = written(snapshot, published())
    assert find(tmp_path) == cached
    assert find(written(tmp_path, published()).parent) == tmp_path / "taef2.safetensors"
