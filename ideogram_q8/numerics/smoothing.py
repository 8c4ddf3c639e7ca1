"""SmoothQuant scales as powers of two: they move magnitude from activations into weights without changing a bit of the product.

SmoothQuant (Xiao et al., arXiv 2211.10438) divides input channel j of the activations by s_j = amax_x_j^alpha / amax_w_j^(1-alpha)
and multiplies column j of the weight by it. Rounded to 2^e_j, both are exact in every floating format as long as nothing leaves its
range, so each product and each partial sum is the one that it was. An exponent is a signed byte of at most EXPONENT_MAX; recipes
keep them as text (`encode`, `decode`).
"""

from __future__ import annotations

import base64
import binascii
import zlib

import torch

from ideogram_q8.errors import ArtifactError

EXPONENT_MAX = 15


def exponents(activation_amax: torch.Tensor, weight_amax: torch.Tensor, alpha: float) -> torch.Tensor:
    """The exponents e int8 [K] of s = 2^e, round(log2 s) to the nearest even, at most EXPONENT_MAX either way.

    A channel that is zero in the activations or in the weight has nothing to move: its exponent is 0.

    Args:
        activation_amax: largest |x| of each input channel, float [K].
        weight_amax: largest |w| of each column, float [K].
        alpha: share of the difficulty that goes into the weight, 0 to 1.

    Raises:
        ValueError: alpha is out of range, the shapes differ, or a maximum is negative or not finite.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; expected 0 to 1")
    if activation_amax.shape != weight_amax.shape or activation_amax.dim() != 1:
        raise ValueError(f"maxima have shapes {list(activation_amax.shape)} and {list(weight_amax.shape)}; expected [K] twice")
    x, w = activation_amax.double(), weight_amax.double().to(activation_amax.device)
    for name, amax in (("activation", x), ("weight", w)):
        if not (torch.isfinite(amax) & (amax >= 0)).all():
            raise ValueError(f"{name} maxima are not all finite and at least 0")
    used = (x > 0) & (w > 0)
    one = torch.ones_like(x)
    log = alpha * torch.where(used, x, one).log2() - (1.0 - alpha) * torch.where(used, w, one).log2()
    return log.round().clamp(-EXPONENT_MAX, EXPONENT_MAX).to(torch.int8)


def scale_columns(weight: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Floating [..., K] with column k times 2^exponents[k] (int8 [K]), in the dtype of `weight`; exact within its range."""
    return weight * _powers(exponents, weight)


def scale_rows(weight: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Floating [N] or [N, K] with row n times 2^exponents[n] (int8 [N]), in the dtype of `weight`; exact within its range."""
    return weight * _powers(exponents, weight).reshape(-1, *[1] * (weight.dim() - 1))


def _powers(exponents: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """2^exponents from a table: `exp2` need not be exact."""
    if exponents.dtype != torch.int8 or _largest(exponents) > EXPONENT_MAX:
        raise ValueError(f"exponents are {exponents.dtype}; expected int8 from -{EXPONENT_MAX} to {EXPONENT_MAX}")
    table = torch.tensor([2.0**e for e in range(-EXPONENT_MAX, EXPONENT_MAX + 1)], dtype=like.dtype, device=like.device)
    return table[exponents.to(like.device).long() + EXPONENT_MAX]


def _largest(exponents: torch.Tensor) -> int:
    return int(exponents.short().abs().max()) if exponents.numel() else 0  # int8 has no +128


def encode(exponents: torch.Tensor) -> str:
    """int8 [K] as text: base64 of the zlib-compressed bytes."""
    if exponents.dtype != torch.int8:
        raise ValueError(f"exponents are {exponents.dtype}; expected int8")
    return base64.b64encode(zlib.compress(exponents.cpu().contiguous().numpy().tobytes(), 9)).decode("ascii")


def decode(text: str, length: int) -> torch.Tensor:
    """What `encode` wrote, int8 [length]. Never unpacks more than `length` bytes, whatever the text claims.

    Raises:
        ArtifactError: not such a text, not exactly `length` exponents, or one out of range.
    """
    if length < 1:
        raise ValueError(f"length is {length}; expected at least 1")
    values = torch.frombuffer(bytearray(_unpack(text, length)), dtype=torch.int8)
    largest = _largest(values)
    if largest > EXPONENT_MAX:
        raise ArtifactError(f"smoothing exponents reach {largest}; expected at most {EXPONENT_MAX}: make the recipe again")
    return values


def _unpack(text: str, length: int) -> bytes:
    try:
        packed = base64.b64decode(text, validate=True)
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, length)
        rest = unpacker.decompress(unpacker.unconsumed_tail, 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ArtifactError(f"smoothing exponents cannot be unpacked ({error}); make the recipe again") from None
    if len(data) != length or rest or not unpacker.eof or unpacker.unused_data:
        got = f"{len(data)}" if len(data) < length else "more"
        raise ArtifactError(f"smoothing exponents: got {got}, expected {length} and no more; make the recipe again")
    return data
