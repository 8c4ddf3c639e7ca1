"""Whether an error says that memory ran out, whichever library raised it."""

from __future__ import annotations

import torch

from ideogram_q8.errors import IdeogramQ8Error

_NO_MEMORY = ("out of memory", "alloc_failed", "memoryallocation", "allocate memory")
"""In lower case, of CUDA's, Triton's and the host allocator's messages; names of cuBLAS's, cuDNN's, cuSOLVER's and CUDA's error codes
(CUBLAS_STATUS_ALLOC_FAILED, cudaErrorMemoryAllocation); and torch's and the system's of main memory."""


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out, the device's or the computer's: torch says so by type, libraries beside it only in words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return not isinstance(error, IdeogramQ8Error) and any(words in text for words in _NO_MEMORY)
