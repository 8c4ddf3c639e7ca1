"""Where a model can run and in which precision, by the names that people type. Imports torch only when CUDA is asked for."""

from __future__ import annotations

import importlib.metadata

from ideogram_q8.errors import RequestError

DEVICES = ("cpu", "cuda")
AUTO = "auto"
DTYPES = ("float32", "bfloat16")
"""Of activations and of weights that are not quantized."""
COMPUTES = ("bf16", "int8")
"""What Linears in ggml's blocks compute in: the dtype of the activations (bfloat16 on CUDA), or W8A8 on int8 codes of the blocks, which
changes pictures.
"""
ATTENTIONS = ("sdpa", "int8")
"""How attention is computed: as torch does it, or with int8 scores (`kernels.int8_attention`), which changes pictures."""

PLANS = ("resident", "freed", "encoder", "unconditional", "both")
"""Placement plans (`budget.PLANS`), fastest first: what is freed after use, or streamed from the computer's memory."""


def check_device(name: str) -> str:
    """The device to use; `auto` is CUDA where there is one.

    Raises:
        RequestError: CUDA is asked for and not there.
    """
    if name == "cpu" or (name == AUTO and _is_cpu_build()):
        return "cpu"
    import torch

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise RequestError(f"--device cuda, but torch {torch.__version__} finds no CUDA device; use --device cpu")
    return "cuda" if found else "cpu"


def _is_cpu_build() -> bool:
    """Whether the installed torch was built without CUDA and says so in its version, as those of pytorch.org do."""
    return importlib.metadata.version("torch").endswith("+cpu")


def default_dtype(device: str) -> str:
    """float32 on the CPU, bfloat16 on CUDA."""
    return "bfloat16" if device == "cuda" else "float32"
