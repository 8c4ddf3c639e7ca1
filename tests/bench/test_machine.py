"""What a measurement was taken on: peaks, and a card's clocks from an NVML that is made up."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from ideogram_q8.bench import machine, timing
from ideogram_q8.machine.platforms import here
from ideogram_q8.runtime.kernels.linear import cpu

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def nvml(monkeypatch):
    """A card at 1700 of 1980 MHz, held back by its power limit."""
    found = ModuleType("pynvml")
    found.NVMLError = type("NVMLError", (Exception,), {})
    found.NVML_CLOCK_SM, found.NVML_CLOCK_MEM = 1, 2
    for i, name in enumerate(("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "ApplicationsClocksSetting")):
        setattr(found, f"nvmlClocksThrottleReason{name}", 1 << i)
    answers = {
        "ClockInfo": lambda kind: {1: 1700, 2: 2619}[kind],
        "MaxClockInfo": lambda kind: {1: 1980, 2: 2619}[kind],
        "Temperature": lambda sensor: 66,
        "PowerUsage": lambda: 690_000,
        "EnforcedPowerLimit": lambda: 700_000,
        "CurrentClocksThrottleReasons": lambda: 1,
    }
    for name, answer in answers.items():
        setattr(found, f"nvmlDeviceGet{name}", lambda card, *rest, answer=answer: answer(*rest))
    found.nvmlInit = lambda: None
    found.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    found.nvmlSystemGetDriverVersion = lambda: "580.1"
    monkeypatch.setitem(sys.modules, "pynvml", found)
    properties = SimpleNamespace(uuid="1-2", name="A card", major=8, minor=6, total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return found


def test_a_cards_clocks_and_what_slows_it(nvml):
    assert machine.clocks(CARD) == machine.Clocks(1700, 1980, 2619, 66, 690.0, 700.0, "power cap")


def test_a_card_that_does_not_answer_has_none(nvml, monkeypatch):
    def refuse():
        raise nvml.NVMLError

    monkeypatch.setattr(nvml, "nvmlInit", refuse)
    assert machine.clocks(CARD) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.clocks(CARD) is None


def test_a_machine_is_its_card(nvml):
    found = machine.machine(CARD)
    assert (found.device, found.name, found.capability, found.memory_bytes) == ("cuda", "A card", "8.6", 24 * 2**30)
    assert found.versions["driver"] == "580.1" and found.versions["torch"] == torch.__version__


def test_a_machine_is_its_processor():
    found = machine.machine(CPU)
    assert found.name == here.processor() and found.capability is None and found.threads == torch.get_num_threads()
    assert machine.clocks(CPU) is None


def test_peaks_name_what_reached_them(quick):
    found = machine.peaks(CPU, torch.float32)
    assert found.floating.rate > 0 and found.floating.by.startswith("torch.mm, 64x64") and found.bytes_rate > 0
    assert found.of("float") == found.floating.rate and found.of("int8") == found.int8.rate
    reason = cpu.refuses("cpu")
    assert (found.int8.rate is None) == (reason is not None)
    assert found.int8.by == (reason or "torch._int_mm, 64x64")


def test_the_fastest_product_is_the_peak_and_what_fails_is_told():
    def broken():
        raise RuntimeError("no kernel")

    assert machine._best({"broken": broken}, 4, CPU) == machine.Peak(None, "broken: RuntimeError: no kernel")
    found = machine._best({"broken": broken, "works": lambda: None}, 4, CPU)
    assert found.by == "works" and found.rate > 0


def test_short_calls_share_a_sample(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.0)
    assert timing.calls_for(lambda: None, CPU) == 1
    monkeypatch.setattr(timing, "LEAST", 1.0)
    assert timing.calls_for(lambda: None, CPU) == 1000
    calls = []
    assert timing.seconds(lambda: calls.append(1), CPU, 7) >= 0 and len(calls) == 7


def test_what_is_asked_meanwhile_is_asked_before_the_device_is_waited_for(monkeypatch):
    order = []
    monkeypatch.setattr(timing, "synchronize", lambda _: order.append("wait"))
    timing.seconds(lambda: order.append("work"), CPU, 2, meanwhile=lambda: order.append("ask"))
    assert order == ["wait", "work", "work", "ask", "wait"]
