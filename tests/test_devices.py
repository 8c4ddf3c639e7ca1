"""Which torch to install, said where it is missing: by the build that is here, the driver and the system."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.errors import RequestError
from ideogram_q8.machine import devices
from ideogram_q8.machine import platforms as machine
from ideogram_q8.machine.devices import TorchBuild, check_device, notes
from ideogram_q8.machine.platforms import Linux, MacOS, System, Windows

CPU, CUDA, ROCM = (
    TorchBuild("2.13.0+cpu", None, None),
    TorchBuild("2.13.0+cu130", "13.0", None),
    TorchBuild("2.13.0+rocm7.2", None, "7.2"),
)
INSTALL = "pip install --force-reinstall torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"
NEW = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch):
    """Puts a system here, with an NVIDIA driver or without."""

    def put(system: type[System], driver: str = machine.UNKNOWN) -> None:
        found = system()
        monkeypatch.setattr(found, "nvidia_driver", lambda: driver)
        monkeypatch.setattr(machine, "here", found)

    return put


@pytest.mark.parametrize(
    ("system", "driver", "build", "advice"),
    [
        (
            Windows,
            "581.29",
            CPU,
            f"has an NVIDIA driver, but this torch is built for processors only (as PyPI's are on Windows): {INSTALL}",
        ),
        (Windows, machine.UNKNOWN, CPU, f"this torch is built for processors only (as PyPI's are on Windows): {INSTALL}"),
        (Linux, NEW, CPU, f"but this torch is built for processors only (from the index for CPUs): {INSTALL}"),
        (
            Windows,
            "566.36",
            CUDA,
            "the driver 566 is too old for CUDA 13.0, which needs 580 or newer: update it, or pip install",
        ),
        (Linux, NEW.replace("580.65.06", "550.54.14"), CUDA, "the driver 550 is too old for CUDA 13.0"),
        (Linux, NEW, CUDA, "CUDA_VISIBLE_DEVICES may hide them"),
        (Linux, "550.1", TorchBuild("2.13.0+cu126", "12.6", None), "CUDA_VISIBLE_DEVICES may hide them"),
        (Linux, machine.UNKNOWN, CUDA, "there is no NVIDIA driver"),
        (Linux, machine.UNKNOWN, ROCM, "AMD (ROCm)"),
        (MacOS, machine.UNKNOWN, TorchBuild("2.13.0", None, None), "Apple's GPUs are not used"),
    ],
)
def test_where_there_is_no_cuda_device_it_says_what_to_do(
    on, system: type[System], driver: str, build: TorchBuild, advice: str
) -> None:
    on(system, driver)
    assert advice in build.advice()


def test_old_drivers_get_the_builds_that_run_on_them(on) -> None:
    on(Linux, "550.1")
    assert CUDA.advice().endswith("torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126")


def test_cuda_that_is_not_there_is_refused_with_the_advice(on, monkeypatch: pytest.MonkeyPatch) -> None:
    on(Windows, "581.29")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(
        RequestError, match=r"--device cuda, but torch .* finds no CUDA device: .*whl/cu130; or use --device cpu"
    ):
        check_device("cuda")


def test_systems_that_are_not_used_are_told_at_the_start(
    on, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, "_is_cpu_build", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on(MacOS)
    assert check_device("auto") == "cpu" and "Apple's GPUs are not used" in caplog.text
    on(Linux)
    caplog.clear()
    assert check_device("auto") == "cpu" and not caplog.text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", "7.2")
    assert check_device("auto") == "cuda" and "AMD's are not tried" in caplog.text


def test_what_windows_lacks_is_told(on, monkeypatch: pytest.MonkeyPatch) -> None:
    on(Windows, "581.29")
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda _: None)
    assert [note.split(",")[0] for note in notes(CUDA)] == [
        "torch has no flash attention on Windows",
        notes(CUDA)[1].split(",")[0],
    ]
    assert "triton-windows" in notes(CUDA)[1] and notes(CPU) == []
    on(Linux)
    assert notes(CUDA) == []


def test_a_card_that_this_torch_cannot_use_is_told_at_the_start(
    on, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, "_is_cpu_build", lambda: True)
    on(Windows, "581.29")
    assert check_device("auto") == "cpu" and "--index-url https://download.pytorch.org/whl/cu130" in caplog.text
    caplog.clear()
    on(Windows)
    assert check_device("auto") == "cpu" and not caplog.text
    on(Windows, "581.29")
    assert check_device("cpu") == "cpu" and not caplog.text
