"""What libraries say when they fail is understood: memory that ran out, and what Triton lacks to compile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from ideogram_q8.errors import ResourceError
from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.runtime.kernels.choosing import choice
from ideogram_q8.runtime.kernels.choosing.choice import trial


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("cudaMalloc failed: cudaErrorMemoryAllocation"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
        ),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:50],
)
def test_memory_that_ran_out_is_no_reason_against_a_back_end(error: Exception) -> None:
    def fails() -> None:
        raise error

    assert lacks_memory(error)
    with pytest.raises(type(error)):
        trial(fails)


def test_other_faults_are_not_taken_for_it() -> None:
    for error in (
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ResourceError("cuda ran out of memory"),
    ):
        assert not lacks_memory(error)


def test_a_missing_compiler_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the installed Triton itself finds none."""
    build = pytest.importorskip("triton.runtime.build")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    found = trial(lambda: build._build("launcher", "launcher.c", str(tmp_path), [], [], [], []))
    assert found == (
        "Triton needs a C compiler, and finds no gcc and no clang; install one with Python's headers: "
        "`apt install gcc python3-dev`, `dnf install gcc python3-devel`"
    )


@pytest.mark.parametrize("there", [False, True])
def test_missing_headers_are_named_with_their_remedy(there: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the installed Triton reports a compiler that fails; without Python.h, that is why."""
    build = pytest.importorskip("triton.runtime.build")
    compiler, header = tmp_path / "cc", tmp_path / "Python.h"
    compiler.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    compiler.chmod(0o755)
    if there:
        header.touch()
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(choice, "_PYTHON_H", header)
    found = str(trial(lambda: build._build("launcher", "launcher.c", str(tmp_path), [], [], [], [])))
    if there:
        assert found.startswith(f"Triton's C compiler failed, and what it printed says why: {compiler} launcher.c")
    else:
        assert f"({compiler}) finds no {header}; install one with Python's headers: `apt install gcc python3-dev`" in found


def test_other_processes_that_fail_are_told_as_they_are() -> None:
    def fails() -> None:
        raise subprocess.TimeoutExpired("ptxas", 3)

    assert str(trial(fails)).startswith("TimeoutExpired: ")
