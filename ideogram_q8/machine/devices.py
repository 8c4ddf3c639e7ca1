"""Where a model can run and in which precision, by the names that people type. Imports torch only when CUDA is asked for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
from dataclasses import dataclass

from ideogram_q8.errors import RequestError
from ideogram_q8.machine import platforms as machine

_log = logging.getLogger(__name__)
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

DRIVER_FOR_CUDA_13 = 580
"""The oldest driver that CUDA 13 runs on (docs.nvidia.com/cuda/cuda-toolkit-release-notes)."""
_AMD = "torch is a build for AMD (ROCm): fast paths are for NVIDIA cards only, AMD's are not tried, and what runs is plain torch, if at all"
_APPLE = "Apple's GPUs are not used: everything runs on the processor, in float32"
_NO_FLASH = "torch has no flash attention on Windows, so a picture takes longer than on Linux; --attention int8 does without it"
_NO_TRITON = (
    "Triton is missing: pip install triton-windows makes norms, GGUF and unrotated INT8 faster (it brings its own compiler)"
)
_WHOSE_BUILD = {True: "as PyPI's are on Windows", False: "from the index for CPUs"}

PLANS = ("resident", "freed", "encoder", "unconditional", "both")
"""Placement plans (`budget.PLANS`), fastest first: what is freed after use, or streamed from the computer's memory."""


def check_device(name: str) -> str:
    """The device to use; `auto` is CUDA where there is one.

    Raises:
        RequestError: CUDA is asked for and not there.
    """
    if name == "cpu":
        return "cpu"
    if name == AUTO and _is_cpu_build():
        if machine.here.nvidia_driver() != machine.UNKNOWN:
            _log.warning("%s", TorchBuild(importlib.metadata.version("torch"), None, None).advice())
        return "cpu"
    import torch

    found = torch.cuda.is_available()
    build = TorchBuild(torch.__version__, torch.version.cuda, torch.version.hip)
    if name == "cuda" and not found:
        raise RequestError(
            f"--device cuda, but torch {build.version} finds no CUDA device: {build.advice()}; or use --device cpu"
        )
    if build.hip is not None:
        _log.warning("%s", _AMD)
    elif not found and machine.here.name == "macOS":
        _log.warning("%s", _APPLE)
    return "cuda" if found else "cpu"


def _is_cpu_build() -> bool:
    """Whether the installed torch was built without CUDA and says so in its version, as those of pytorch.org do."""
    return importlib.metadata.version("torch").endswith("+cpu")


@dataclass(frozen=True)
class TorchBuild:
    """A build of torch: its version, and the versions of CUDA and of ROCm that it was built for, if any."""

    version: str
    cuda: str | None
    hip: str | None

    def advice(self) -> str:
        """What to do where it finds no CUDA device, by what the system has."""
        if self.hip is not None:
            return _AMD
        if machine.here.name == "macOS":
            return _APPLE
        driver = machine.here.nvidia_driver()
        if self.cuda is None:
            there = "this computer has an NVIDIA driver, but " if driver != machine.UNKNOWN else ""
            return f"{there}this torch is built for processors only ({_WHOSE_BUILD[machine.here.name == 'Windows']}): {self.install()}"
        if driver == machine.UNKNOWN:
            return "there is no NVIDIA driver, or `nvidia-smi` is not found: install the driver of the card"
        number = re.search(r"\b(\d{3,})\.\d", driver)
        if self.cuda.startswith("13.") and number is not None and int(number[1]) < DRIVER_FOR_CUDA_13:
            return (
                f"the driver {number[1]} is too old for CUDA {self.cuda}, which needs {DRIVER_FOR_CUDA_13} or newer: update it, or "
                f"{self.install('cu126')}"
            )
        return "the driver is there; `nvidia-smi` says which cards it sees, and CUDA_VISIBLE_DEVICES may hide them"

    def install(self, index: str = "cu130") -> str:
        """The command that installs this version of torch for CUDA."""
        plain = self.version.partition("+")[0]
        return f"pip install --force-reinstall torch=={plain} --index-url https://download.pytorch.org/whl/{index}"


def notes(build: TorchBuild) -> list[str]:
    """What a user of this system should know of its builds of torch, whether there is a card or not."""
    if build.hip is not None:
        return [_AMD]
    if machine.here.name == "macOS":
        return [_APPLE]
    found = [] if machine.here.has_flash_attention or build.cuda is None else [_NO_FLASH]
    if machine.here.name == "Windows" and build.cuda is not None and importlib.util.find_spec("triton") is None:
        found.append(_NO_TRITON)
    return found


def default_dtype(device: str) -> str:
    """float32 on the CPU, bfloat16 on CUDA."""
    return "bfloat16" if device == "cuda" else "float32"
