"""A tensor's bytes as pages of its file.

What is mapped counts as memory of the process once it is touched, and leaves it with the tensor: so a tensor that goes to a GPU is not
held here too, and one that a CPU computes with is the file's own pages, which nobody copied.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ideogram_q8.errors import ArtifactError


def mapped(path: Path, file_bytes: int, offset: int, nbytes: int) -> torch.Tensor:
    """uint8 [nbytes] from `offset` on of a file that had `file_bytes` when it was opened. Copy on write: torch wants writable memory.

    Raises:
        ArtifactError: the file is gone, has changed since, or cannot be mapped.
    """
    if not nbytes:  # which cannot be mapped
        return torch.empty(0, dtype=torch.uint8)
    try:
        changed = path.stat().st_size != file_bytes
        data = None if changed else np.memmap(path, np.uint8, "c", offset, (nbytes,))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be mapped: {error}; check the disk and the memory") from None
    if data is None:
        raise ArtifactError(f"{path} has changed since it was opened; let nothing write to it and run again")
    return torch.from_numpy(data)
