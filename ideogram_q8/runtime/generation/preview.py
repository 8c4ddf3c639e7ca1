"""What a picture will be like, at every step: a tiny autoencoder's decoder where there is one, else a linear imitation of the VAE.

TAEF2 (huggingface.co/madebyollin/taef2, MIT) is the tiny autoencoder of FLUX.2's latents, which are Ideogram 4's too. Its file has no
config.json and diffusers' names (`decoder.layers.3.conv.0.weight`); its first three blocks have a branch that diffusers' DecoderTiny
0.42.1 lacks (`pool`: 1x1, GroupNorm of 4 groups, ReLU, 1x1, added to the block's input; taesd.py at 5cccb12, `use_midblock_gn`). Other
tiny autoencoders are read from diffusers' AutoencoderTiny folders.

They decode what FLUX.2's transformer puts out, which is normalised by the statistics of its VAE: TAEF2 fed with the VAE's own latents
gives dark and garish pictures (measured in github.com/IonDen/mlx-taef, pull request 41: SSIM 0.59 instead of 0.92 to the VAE).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, AutoencoderTiny
from diffusers.models.autoencoders.vae import DecoderTiny
from PIL import Image
from torch import nn
from torch.nn import functional

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.stored import StoredTensor, read_header
from ideogram_q8.formats.text import read_json
from ideogram_q8.hub import client as hub
from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.model.architecture import PATCH, SIDE_MULTIPLE
from ideogram_q8.runtime.generation.decoding import Denormalization, Grid, copy_on_cpu, of_vae, run_decoder, to_image, unpack

REPOSITORY, FILE = "madebyollin/taef2", "taef2.safetensors"
_FOLDER_FILE = "diffusion_pytorch_model.safetensors"
_DECODER = "decoder."
_POOL_GROUPS, _POOL_WIDENING = 4, 4
_MOST_POSITIONS = 128 * 128
"""Latent positions that a tiny decoder sees, those of a picture of 1024x1024; larger pictures are shown from averaged latents. There it
takes 0.6 TFLOP, less than a hundredth of a step of Ideogram 4, and 64 channels of the picture's size at a time."""
_LARGEST = 1024
"""Of a number in an AutoencoderTiny's config.json, other than of blocks."""
_MOST_BLOCKS = 16
_log = logging.getLogger(__name__)


# ---- the linear imitation ----


@dataclass(frozen=True)
class LinearDecoder:
    """Each latent position gives its own block of pixels by one matrix: the least-squares fit to what the VAE does.

    `weight` float32 [C + 1, 3 * side * side], its last row the offset, `side` in pixels.
    """

    norm: Denormalization
    weight: torch.Tensor
    side: int

    @classmethod
    @torch.no_grad()
    def fit(cls, vae: AutoencoderKLFlux2, norm: Denormalization, pictures: int = 12, grid: Grid = (4, 4)) -> LinearDecoder:
        """Decodes `pictures` random latents, smooth ones and rough ones, and fits their pixels (fixed seed).

        On the CPU in float32: a card is full of a model by then, and would need cuSOLVER and its workspace for this alone.
        """
        here, norm_here = copy_on_cpu(vae), Denormalization(norm.scale.cpu(), norm.shift.cpu())
        generator = torch.Generator("cpu").manual_seed(0)
        channels = vae.config.latent_channels * PATCH**2
        coarse = torch.randn((pictures, channels, 2, 2), generator=generator)
        smooth = functional.interpolate(coarse, grid, mode="bilinear", align_corners=False)
        rough = torch.randn(smooth.shape, generator=generator) * torch.linspace(0.1, 0.8, pictures).reshape(-1, 1, 1, 1)
        values = unpack(norm_here, (smooth + rough).flatten(2).transpose(1, 2), grid)
        pixels = run_decoder(here, values)
        side = pixels.shape[-1] // values.shape[-1]
        blocks = functional.pixel_unshuffle(pixels, side)
        weight = torch.linalg.lstsq(_with_one(_rows(values)), _rows(blocks)).solution
        return cls(norm, weight.to(norm.scale.device), side)

    def __call__(self, latents: torch.Tensor, grid: Grid) -> Image.Image:
        """The preview of tokens float32 [1, rows * columns, 4 C], at the picture's full size."""
        blocks = _with_one(_rows(unpack(self.norm, latents, grid))) @ self.weight
        planes = blocks.t().reshape(1, -1, grid[0] * PATCH, grid[1] * PATCH)
        return to_image(functional.pixel_shuffle(planes, self.side)[0])


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B * H * W, C]."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _with_one(rows: torch.Tensor) -> torch.Tensor:
    return functional.pad(rows, (0, 1), value=1.0)


# ---- tiny autoencoders ----


class _Pooled(nn.Module):
    """A block of TAEF2's first stage: what its normalised branch says of the whole map is added to the block's input."""

    def __init__(self, block: nn.Module, width: int) -> None:
        super().__init__()
        wide = _POOL_WIDENING * width
        into, out = nn.Conv2d(width, wide, 1, bias=False), nn.Conv2d(wide, width, 1, bias=False)
        self.pool = nn.Sequential(into, nn.GroupNorm(_POOL_GROUPS, wide), nn.ReLU(), out)
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, width, H, W] -> the same."""
        return self.block(x + self.pool(x))


@dataclass(frozen=True)
class TinyDecoder:
    """A tiny autoencoder's decoder. `norm` makes what it reads of a transformer's tokens; `name` is for people."""

    decoder: DecoderTiny
    norm: Denormalization
    name: str

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, grid: Grid) -> Image.Image:
        """The preview of tokens float32 [1, rows * columns, 4 C], at the picture's full size."""
        maps = unpack(self.norm, latents, grid)
        height, width = maps.shape[-2:]
        if height * width > _MOST_POSITIONS:
            shrunk = (_MOST_POSITIONS / (height * width)) ** 0.5
            maps = functional.interpolate(maps, (int(height * shrunk), int(width * shrunk)), mode="area")
        image = to_image(self.decoder(maps.to(self.decoder.layers[0].weight.dtype))[0])
        return image.resize((grid[1] * SIDE_MULTIPLE, grid[0] * SIDE_MULTIPLE), Image.Resampling.BILINEAR)


def find(folder: Path) -> Path | None:
    """taef2.safetensors in a checkpoint's folder, or where `hf download madebyollin/taef2 taef2.safetensors` puts it."""
    if (folder / FILE).is_file():
        return folder / FILE
    cached = hub.cached(hub.Place(REPOSITORY))
    return cached / FILE if cached is not None and (cached / FILE).is_file() else None


def load_tiny(place: Path, vae: AutoencoderKLFlux2, norm: Denormalization, *, normalised: bool) -> TinyDecoder:
    """The decoder in TAEF2's file, or in a folder of diffusers' AutoencoderTiny, on the VAE's device and in its dtype.

    Args:
        norm: what makes the VAE's latents of the transformer's tokens.
        normalised: the tokens are normalised by the VAE's statistics already.

    Raises:
        SourceError: no such file, not what it claims to be, or made for other latents than this VAE's.
    """
    if place.is_dir():
        file, decoder = place / _FOLDER_FILE, _of_config(place / "config.json")
    else:
        file, decoder = place, _taef2()
    _check_geometry(decoder, vae, place)
    state = _read(file, {_stored_name(name): (name, tuple(value.shape)) for name, value in decoder.state_dict().items()})
    decoder.load_state_dict({name: value.to(vae.device, vae.dtype) for name, value in state.items()}, assign=True)
    inside = _identity(norm) if normalised else _between(norm, of_vae(vae))
    return TinyDecoder(decoder.eval().requires_grad_(False), inside, place.name)


def _taef2() -> DecoderTiny:
    with torch.device("meta"):
        decoder = DecoderTiny(32, 3, (3, 3, 3, 1), (64, 64, 64, 64), 2, "relu", "nearest")
        for i in (2, 3, 4):
            decoder.layers[i] = _Pooled(decoder.layers[i], 64)
    return decoder


def _of_config(path: Path) -> DecoderTiny:
    values = read_json(path)
    if not isinstance(values, dict) or values.get("_class_name") != "AutoencoderTiny":
        got = values.get("_class_name") if isinstance(values, dict) else values
        raise SourceError(
            f"{path}: _class_name is {str(got)[:60]!r}, expected 'AutoencoderTiny'; name such a folder, or {FILE}"
        )
    for name, value in values.items():
        numbers, limit = value if isinstance(value, list) else [value], _MOST_BLOCKS if "num_" in name else _LARGEST
        if len(numbers) > _MOST_BLOCKS or any(type(number) is int and not 0 <= number <= limit for number in numbers):
            raise SourceError(f"{path}: {name} is {str(value)[:60]}, expected numbers up to {limit}; download it again")
    try:
        with torch.device("meta"):
            return AutoencoderTiny.from_config(values).decoder
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise SourceError(f"{path} cannot be used ({' '.join(str(error).split())[:200]}); download the folder again") from error


def _check_geometry(decoder: DecoderTiny, vae: AutoencoderKLFlux2, place: Path) -> None:
    """Raises SourceError: it is for latents of another width, or makes other pixels of them than the VAE."""
    channels = decoder.layers[0].in_channels
    if channels != vae.config.latent_channels:
        raise SourceError(f"{place} decodes latents of {channels} channels; this model's have {vae.config.latent_channels}")
    side = round(torch.tensor([layer.scale_factor for layer in decoder.layers if isinstance(layer, nn.Upsample)]).prod().item())
    expected = 2 ** (len(vae.config.block_out_channels) - 1)
    if side != expected or decoder.layers[-1].out_channels != 3:
        got = f"{side}x{side} pixels of {decoder.layers[-1].out_channels} colours"
        raise SourceError(f"{place} makes {got} of a latent; expected {expected}x{expected} pixels of 3 colours")


def _stored_name(name: str) -> str:
    return _DECODER + name.replace(".block.", ".")


def _read(file: Path, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, torch.Tensor]:
    """The decoder's tensors by the module's names; `expected` has name and shape of each by its name in the file."""
    stored = {name: tensor for name, tensor in read_header(file).tensors.items() if name.startswith(_DECODER)}
    wrong = [_fault(stored.get(name), name, shape) for name, (_, shape) in expected.items()]
    problems = [each for each in wrong if each] + [f"{name} is unknown" for name in stored if name not in expected]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SourceError(
            f"{file} is not the tiny autoencoder that it should be: {problems[0]}{more}; download it again", problems
        )
    return {own: stored[name].read().view(shape) for name, (own, shape) in expected.items()}


def _fault(tensor: StoredTensor | None, name: str, shape: tuple[int, ...]) -> str | None:
    if tensor is None:
        return f"{name} is missing"
    if tensor.shape != shape or tensor.dtype not in ("F32", "F16", "BF16"):
        return f"{name} is {tensor.dtype} {list(tensor.shape)}, expected F32, F16 or BF16 {list(shape)}"
    return None


def _identity(norm: Denormalization) -> Denormalization:
    return Denormalization(torch.ones_like(norm.scale), torch.zeros_like(norm.shift))


def _between(norm: Denormalization, statistics: Denormalization) -> Denormalization:
    """Tokens -> the VAE's latents -> normalised by the VAE's statistics.

    FLUX.2 packs a token as (latent channel, row, column) (diffusers' pipeline_flux2.py, `_patchify_latents`), and its VAE's statistics
    lie in that order; Ideogram 4's tokens are (row, column, latent channel).
    """
    scale, shift = (part.view(-1, PATCH**2).t().flatten() for part in (statistics.scale, statistics.shift))
    return Denormalization(norm.scale / scale, (norm.shift - shift) / scale)


# ---- which one ----


class Preview:
    """What shows a model's steps: a tiny decoder if one fits, else the linear imitation. `said` says which, and why not the other.

    Args:
        vae, norm: of the model; a linear decoder is fitted to them when first needed.
        tiny: a tiny decoder to use.
        said: for people.
    """

    def __init__(self, vae: AutoencoderKLFlux2, norm: Denormalization, tiny: TinyDecoder | None, said: str) -> None:
        self.vae, self.norm, self.tiny, self.said = vae, norm, tiny, said
        self._linear: LinearDecoder | None = None
        self._failed = False

    def __call__(self, latents: torch.Tensor, grid: Grid) -> Image.Image | None:
        """The preview of tokens float32 [1, rows * columns, 4 C], at the picture's full size.

        A preview never costs the picture: where the tiny decoder fails, the linear one shows the steps, and where that fails, nothing.
        """
        if (tiny := self.tiny) is not None:
            try:
                return tiny(latents, grid)
            except Exception as error:  # noqa: BLE001 (whatever it is, the picture does not need it)
                self.tiny = None
                self._say(f"linear: {_why(error, f'{tiny.name} beside the model')}")
        if self._failed:
            return None
        try:
            if self._linear is None:
                self._linear = LinearDecoder.fit(self.vae, self.norm)
            return self._linear(latents, grid)
        except Exception as error:  # noqa: BLE001 (the same)
            self._failed = True
            self._say(f"not shown: {_why(error, 'them')}")
            return None

    def _say(self, said: str) -> None:
        self.said = said
        _log.warning("previews are %s", said)


def _why(error: Exception, what: str) -> str:
    if lacks_memory(error):
        return f"no memory for {what}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def choose_preview(
    vae: AutoencoderKLFlux2, norm: Denormalization, *, normalised: bool, folder: Path, named: Path | None = None
) -> Preview:
    """The tiny decoder that was named, or else found (`find`), where it fits the model; which one runs is said in the log.

    Args:
        normalised: as `load_tiny`.
        folder: of the checkpoint.
        named: a file or folder to take the decoder from.
    """
    place = named or find(folder)
    if place is None:
        return _said(Preview(vae, norm, None, f"linear: the checkpoint has no {FILE}, nor has the Hub's cache {REPOSITORY}"))
    try:
        tiny = load_tiny(place, vae, norm, normalised=normalised)
    except SourceError as error:
        _log.warning("no tiny decoder for previews: %s", error)
        return _said(Preview(vae, norm, None, f"linear: {error}"))
    return _said(Preview(vae, norm, tiny, f"the tiny decoder {tiny.name}"))


def _said(preview: Preview) -> Preview:
    _log.info("previews are %s", preview.said)
    return preview
