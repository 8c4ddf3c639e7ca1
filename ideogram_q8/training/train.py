"""Trains the pocket from nothing and writes it in the official FP8 layout.

    python -m ideogram_q8.training.train --work-dir DIR [--out FOLDER] [--device cpu|cuda] [--seed N]

Three stages, each with progress, a checkpoint a minute and a resume that gives the same weights as an unbroken run:
`decoder` (of the autoencoder, whose encoder is computed), `dit` (the conditional transformer, by flow matching on cached
latents) and `uncond` (the unconditional one, started from the conditional one and trained without text). A step's
randomness is derived from (seed, stage, step) alone, so nothing random has to be saved.
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, Ideogram4Pipeline, Ideogram4Transformer2DModel
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3VLModel

from ideogram_q8.model.architecture import Branch
from ideogram_q8.pocket import data
from ideogram_q8.pocket.tokenizer import build_tokenizer, caption_text, encode_caption, number_ids
from ideogram_q8.training import model
from ideogram_q8.training.export import write_folder
from ideogram_q8.training.muon import Muon
from ideogram_q8.training.runner import Clock, cosine, run_stage, step_generator

STAGES = ("decoder", "dit", "uncond")


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on, and nothing else."""

    seed: int = 4
    device: str = "cpu"
    decoder_steps: int = 4200
    decoder_batch: int = 8
    decoder_rate: float = 2e-3
    dit_steps: int = 4400
    uncond_steps: int = 150
    batch: int = 32
    rate: float = 3e-3
    scenes: int = 24576


# ---- stage 1: the autoencoder ----


def busy_crop(rng: random.Random, scene: data.Scene) -> tuple[int, int]:
    """(top, left) in tiles of a 4x4-tile crop that touches the word or the shape, where there is something to learn."""
    boxes = [item.bbox for item in (scene.word, scene.shape) if item is not None]
    top, left, bottom, right = (v // data.TILE for v in rng.choice(boxes))
    row, column = rng.randint(top, bottom - 1), rng.randint(left, right - 1)
    return min(4, max(0, row - rng.randint(0, 3))), min(4, max(0, column - rng.randint(0, 3)))


def picture_batch(rng: random.Random, count: int, whole: bool) -> torch.Tensor:
    """float32 [count, 3, 64, 64] of crops, or [count / 4, 3, 128, 128] of whole pictures, in [-1, 1]."""
    pictures = []
    for _ in range(count // 4 if whole else count):
        scene = data.sample_scene(rng)
        picture = torch.from_numpy(data.to_array(data.render(scene)).copy())
        if not whole:
            row, column = busy_crop(rng, scene)
            picture = picture[row * 16 : row * 16 + 64, column * 16 : column * 16 + 64]
        pictures.append(picture)
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def fit_basis(settings: TrainingSettings) -> model.PatchBasis:
    """The linear code of 2,000 pictures of their own."""
    rng, _ = step_generator(settings.seed, "basis", 0)
    pictures = [torch.from_numpy(data.to_array(data.render(data.sample_scene(rng))).copy()) for _ in range(2000)]
    return model.PatchBasis.fit(torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0)


def train_decoder(settings: TrainingSettings, folder: Path) -> AutoencoderKLFlux2:
    """The autoencoder: an encoder in closed form, a decoder trained with noise on its latents.

    The noise makes the decoder forgive the transformer's small errors.
    """
    torch.manual_seed(settings.seed)
    vae = model.build_vae()
    basis = fit_basis(settings)
    model.install_encoder(vae, basis)
    vae.to(settings.device)
    parts = nn.ModuleList([vae.decoder, vae.post_quant_conv])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=settings.decoder_rate, betas=(0.9, 0.98), weight_decay=1e-4)

    def train_step(step: int) -> str:
        rng, generator = step_generator(settings.seed, "decoder", step)
        pictures = picture_batch(rng, settings.decoder_batch, whole=step % 4 == 3)
        latents = basis.encode(pictures)
        latents = latents + 0.05 * torch.randn(latents.shape, generator=generator)
        pictures, latents = pictures.to(settings.device), latents.to(settings.device)
        difference = vae.decode(latents).sample - pictures
        squared = difference.square().mean()
        for group in optimizer.param_groups:
            group["lr"] = settings.decoder_rate * cosine(step, settings.decoder_steps)
        optimizer.zero_grad(set_to_none=True)
        (squared + 0.25 * difference.abs().mean()).backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        return f"PSNR {10 * math.log10(4 / squared.item()):.2f} dB"

    run_stage(folder / "decoder.pt", settings.decoder_steps, {"parts": parts}, [optimizer], train_step)
    return vae.eval()


# ---- stages 2 and 3: the transformers ----


@dataclass(frozen=True)
class Cache:
    """What the transformers train on: latents float32 [N, 64 tokens, 64] and their `weights` [N, 64] in the loss, text features
    float16 [N, T, features] right-aligned, their `lengths` [N]; `shift` and `scale` undo the latents' normalisation.
    """

    latents: torch.Tensor
    text: torch.Tensor
    lengths: torch.Tensor
    weights: torch.Tensor
    shift: torch.Tensor
    scale: float


def to_tokens(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, H/2 * W/2, 4 C], values ordered (row, column, channel) as diffusers' pipeline unpacks them."""
    batch, channels, height, width = latents.shape
    grid = latents.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1)
    return grid.reshape(batch, height * width // 4, 4 * channels)


def text_features(encoder: Qwen3VLModel, rows: list[list[int]], width: int) -> torch.Tensor:
    """float16 [B, width, features], left-padded with zeros: the pipeline's own function on the captions' token ids."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, positions = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
        positions[i, width - len(row) :] = torch.arange(len(row))
    with torch.no_grad():
        taps = Ideogram4Pipeline._get_text_encoder_hidden_states(encoder, ids, mask, positions)
    features = torch.stack(taps).permute(1, 2, 3, 0).reshape(len(rows), width, -1)
    return (features * mask.unsqueeze(-1)).half()


def build_text_side(settings: TrainingSettings) -> tuple[PreTrainedTokenizerFast, Qwen3VLModel]:
    """The tokenizer and the frozen text encoder."""
    tokenizer = build_tokenizer()
    torch.manual_seed(settings.seed)
    return tokenizer, model.build_text_encoder(len(tokenizer), number_ids(tokenizer))


def build_cache(settings: TrainingSettings, basis: model.PatchBasis) -> Cache:
    """Latents and text features of `settings.scenes` scenes."""
    rng, _ = step_generator(settings.seed, "scenes", 0)
    tokenizer, encoder = build_text_side(settings)
    scenes = [data.sample_scene(rng) for _ in range(settings.scenes)]
    rows = [encode_caption(tokenizer, caption_text(scene)) for scene in scenes]
    width = max(map(len, rows))
    clock = Clock("cache", 0, settings.scenes)
    latents, text = [], []
    for first in range(0, settings.scenes, 128):
        part = [torch.from_numpy(data.to_array(data.render(scene)).copy()) for scene in scenes[first : first + 128]]
        latents.append(to_tokens(basis.encode(torch.stack(part).permute(0, 3, 1, 2).float() / 127.5 - 1.0)))
        text.append(text_features(encoder, rows[first : first + 128], width))
        clock.tick(min(first + 127, settings.scenes - 1), "scenes")
    tokens = torch.cat(latents)
    shift = tokens.mean((0, 1))
    scale = (tokens - shift).square().mean().sqrt().item()
    lengths = torch.tensor([len(row) for row in rows])
    weights = torch.stack([token_weights(scene) for scene in scenes])
    return Cache((tokens - shift) / scale, torch.cat(text), lengths, weights, shift, scale)


def token_weights(scene: data.Scene) -> torch.Tensor:
    """float32 [64]: how much each token counts. A shape's tokens count threefold, for shapes are learned last."""
    weights = torch.ones(8, 8)
    if scene.shape is not None:
        top, left, bottom, right = (value // data.TILE for value in scene.shape.bbox)
        weights[top:bottom, left:right] = 3.0
    return weights.reshape(-1)


def velocity_loss(
    transformer: Ideogram4Transformer2DModel, cache: Cache, settings: TrainingSettings, stage: str, step: int, with_text: bool
) -> torch.Tensor:
    """Flow-matching loss of one batch: |v(x_t, t) - (clean - noise)|^2 with x_t = t clean + (1 - t) noise."""
    _, generator = step_generator(settings.seed, stage, step)
    pick = torch.randint(settings.scenes, (settings.batch,), generator=generator)
    clean = cache.latents[pick]
    noise = torch.randn(clean.shape, generator=generator)
    t = torch.sigmoid(1.3 * torch.randn(settings.batch, generator=generator) - 0.5)
    noisy = t[:, None, None] * clean + (1 - t[:, None, None]) * noise
    text, lengths = cache.text[pick].float(), cache.lengths[pick].tolist()
    if not with_text:
        text, lengths = text[:, :0], [0] * settings.batch
    width = text.shape[1]
    positions, segments, indicator = Ideogram4Pipeline._prepare_ids(lengths, 8, 8, width, torch.device(settings.device))
    padding = torch.zeros(settings.batch, width, clean.shape[-1])
    inputs = torch.cat([padding, noisy], 1), torch.cat([text, torch.zeros(settings.batch, 64, text.shape[-1])], 1)
    hidden, text = (part.to(settings.device) for part in inputs)
    output = transformer(hidden, t.to(settings.device), text, positions, segments, indicator, return_dict=False)[0]
    error = (output[:, width:] - (clean - noise).to(settings.device)).square().mean(-1)
    weights = cache.weights[pick].to(settings.device)
    return (error * weights).sum() / weights.sum()


def train_transformer(
    settings: TrainingSettings, folder: Path, cache: Cache, stage: str, start: dict[str, torch.Tensor] | None
) -> Ideogram4Transformer2DModel:
    """Stage "dit" with text from nothing, or stage "uncond" without text from the weights `start`."""
    torch.manual_seed(settings.seed)
    transformer = model.build_transformer()
    if start is not None:
        transformer.load_state_dict(start)
    transformer.to(settings.device)
    steps, rate = (settings.dit_steps, settings.rate) if start is None else (settings.uncond_steps, settings.rate / 3)
    matrices = [p for n, p in transformer.named_parameters() if n.startswith("layers.") and p.ndim == 2 and "adaln" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in transformer.parameters() if id(p) not in chosen]
    optimizers = [Muon(matrices, rate), torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]
    losses: list[float] = []

    def train_step(step: int) -> str:
        loss = velocity_loss(transformer, cache, settings, stage, step, with_text=start is None)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * cosine(step, steps)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        recent = losses[-50:]
        return f"loss {sum(recent) / len(recent):.4f}"

    run_stage(folder / f"{stage}.pt", steps, {"transformer": transformer}, optimizers, train_step)
    return transformer.eval()


def export(settings: TrainingSettings, folder: Path, out: Path, cache: Cache) -> None:
    """Writes the three stages' checkpoints as a folder in the official FP8 layout."""
    vae = train_decoder(settings, folder)
    with torch.no_grad():
        vae.bn.running_mean.copy_(cache.shift)
        vae.bn.running_var.fill_(cache.scale**2 - vae.config.batch_norm_eps)
    branches: dict[Branch, Ideogram4Transformer2DModel] = {}
    sources: dict[Branch, str] = {"conditional": "dit", "unconditional": "uncond"}
    for branch, stage in sources.items():
        branches[branch] = model.build_transformer()
        branches[branch].load_state_dict(torch.load(folder / f"{stage}.pt", weights_only=True)["transformer"])
    tokenizer, encoder = build_text_side(settings)
    write_folder(out, branches, vae, encoder, tokenizer, model.TRAITS)
    print(f"wrote {out}")


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Train the pocket model from nothing.")
    parser.add_argument("--work-dir", type=Path, required=True, help="checkpoints; a second run with the same folder resumes")
    parser.add_argument("--out", type=Path, help="write the trained model here, in the official FP8 layout")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=TrainingSettings.seed)
    parser.add_argument("--stage", choices=STAGES, help="run this stage only; decoder and dit may run side by side")
    arguments = parser.parse_args()
    folder = arguments.work_dir
    folder.mkdir(parents=True, exist_ok=True)
    settings = replace(TrainingSettings(), seed=arguments.seed, device=arguments.device)
    stages = (arguments.stage,) if arguments.stage else STAGES
    if "decoder" in stages:
        train_decoder(settings, folder)
    if stages == ("decoder",):
        return
    cache = build_cache(settings, fit_basis(settings))
    if "dit" in stages:
        train_transformer(settings, folder, cache, "dit", None)
    if "uncond" in stages:
        start = torch.load(folder / "dit.pt", weights_only=True)["transformer"]
        train_transformer(settings, folder, cache, "uncond", start)
    if arguments.out is not None:
        export(settings, folder, arguments.out, cache)


if __name__ == "__main__":
    main()
