"""What a run measures: Ideogram 4 at its real size on a card, or the embedded model's size on a CPU, to rehearse the same code."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ideogram_q8.model.architecture import IDEOGRAM4, MAX_TEXT_TOKENS, TransformerConfig

if TYPE_CHECKING:
    import torch

    from ideogram_q8.bench.results import DenoiseSettings

Size = tuple[int, int]
DENOISE_FILE, LINEAR_FILE = "denoise.json", "linear.json"
"""In the folder of a run, what `bench denoise --out` and `bench linear --out` would have written of the same measurements."""


@dataclass(frozen=True)
class Sizes:
    """Pixels (width, height), tokens, rows of activations, counts, and seconds for each way to compute a product."""

    size: Size
    large: Size
    text_tokens: int
    padded_tokens: int
    steps: int
    switches: int
    rows: tuple[int, ...]
    tune_rows: tuple[int, ...]
    tune_seconds: float


ON_A_CARD = Sizes((1024, 1024), (2048, 2048), 512, MAX_TEXT_TOKENS, 3, 50, (4608,), (4096, 4608), 0.05)
REHEARSED = Sizes((128, 128), (128, 256), 32, 48, 1, 4, (64,), (64,), 0.001)


@dataclass(frozen=True)
class CardSetting:
    """Where a run's files go, and whether it is a rehearsal."""

    folder: Path
    rehearse: bool

    @property
    def sizes(self) -> Sizes:
        return REHEARSED if self.rehearse else ON_A_CARD

    @property
    def device(self) -> torch.device:
        """The first CUDA device; the CPU of a rehearsal."""
        import torch

        return torch.device("cpu") if self.rehearse else torch.device("cuda", 0)

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float32 if self.rehearse else torch.bfloat16

    @functools.cached_property
    def config(self) -> TransformerConfig:
        """Ideogram 4's dimensions, or the embedded model's."""
        if not self.rehearse:
            return IDEOGRAM4
        from ideogram_q8.sources import open_source

        return open_source("pocket").config

    def denoising(self, variants: tuple[str, ...], size: Size | None = None, steps: int | None = None) -> DenoiseSettings:
        """Settings for `bench denoise`: one round in which each variant has as long as it needs, and all of the card's memory."""
        from ideogram_q8.bench.results import DenoiseSettings

        width, height = size or self.sizes.size
        return DenoiseSettings(
            layers=self.config.num_layers,
            width=width,
            height=height,
            text_tokens=self.sizes.text_tokens,
            padded_tokens=self.sizes.padded_tokens,
            dtype=str(self.dtype).removeprefix("torch."),
            rounds=1,
            steps=steps or self.sizes.steps,
            patience=1e6,
            memory_cap=None,
            seed=0,
            variants=variants,
        )
