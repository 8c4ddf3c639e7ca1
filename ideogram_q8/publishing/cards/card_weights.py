"""How many bits a stored weight takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ideogram_q8.formats.manifest import FileRecord, Manifest


def weights_in(manifest: Manifest, files: Sequence[FileRecord]) -> int:
    """Weights and biases that the files store."""
    stored = [tensor for file in files for tensor in manifest.tensors[file.path]]
    return sum(math.prod(t.shape) for t in stored if t.name.endswith((".weight", "._weight_qdata", ".bias")))


def bits_text(size: int, weights: int) -> str:
    """Bits of whole files of `size` bytes over their weights: scales and headers count as cost."""
    return f"{8 * size / weights:.2f}" if weights else "unknown"


def bits_per_weight(manifest: Manifest, files: Sequence[FileRecord]) -> str:
    """Bits per weight in some files of a build."""
    return bits_text(sum(file.size for file in files), weights_in(manifest, files))
