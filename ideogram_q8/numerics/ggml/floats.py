"""F32, F16 and BF16 as bytes: rounded to nearest, ties to even, as ggml converts. Importance means nothing here."""

from __future__ import annotations

import torch


def encode_f32(rows: torch.Tensor, _importance: torch.Tensor | None) -> torch.Tensor:
    """float32 [R, K] -> uint8 [R, 4 K]."""
    return rows.contiguous().view(torch.uint8)


def encode_f16(rows: torch.Tensor, _importance: torch.Tensor | None) -> torch.Tensor:
    """float32 [R, K] -> uint8 [R, 2 K]; beyond 65504 becomes infinite."""
    return rows.half().contiguous().view(torch.uint8)


def encode_bf16(rows: torch.Tensor, _importance: torch.Tensor | None) -> torch.Tensor:
    """float32 [R, K] -> uint8 [R, 2 K]."""
    return rows.bfloat16().contiguous().view(torch.uint8)


def decode_f32(data: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 4] -> float32 [n, 1]."""
    return data.contiguous().view(torch.float32)


def decode_f16(data: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 2] -> float32 [n, 1]."""
    return data.contiguous().view(torch.float16).float()


def decode_bf16(data: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 2] -> float32 [n, 1]."""
    return data.contiguous().view(torch.bfloat16).float()
