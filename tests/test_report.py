"""report.json: strict both ways, and no figure without its count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.formats.report import Figure, Measured, NotMeasured, Report
from tests.publishing.example import REPORT


def changed(change: Callable[[dict], object]) -> str:
    """The example's JSON after `change` was applied to its parsed form."""
    values = json.loads(REPORT.to_json())
    change(values)
    return json.dumps(values)


def test_object_json_object_is_byte_identical() -> None:
    text = REPORT.to_json()
    again = Report.from_json(text)
    assert again == REPORT
    assert again.to_json() == text


def test_order_of_keys_does_not_change_the_text() -> None:
    def reverse(value: object) -> object:
        if isinstance(value, dict):
            return {key: reverse(value[key]) for key in reversed(value)}
        return [reverse(item) for item in value] if isinstance(value, list) else value

    shuffled = json.dumps(reverse(json.loads(REPORT.to_json())))
    assert Report.from_json(shuffled).to_json() == REPORT.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(extra=1), r"report\.json: unknown key 'extra'"),
        (lambda v: v["hardware"].pop("threads"), r"report\.json: hardware: key 'threads' is missing"),
        (lambda v: v["settings"].update(width="128"), r"report\.json: settings: width is '128', expected an integer"),
        (lambda v: v["settings"].update(width=True), r"report\.json: settings: width is True, expected an integer"),
        (lambda v: v["settings"]["seeds"].append(1.5), r"settings: seeds\[1\] is 1\.5, expected an integer"),
        (lambda v: v["settings"].update(reference="bf16"), r"settings\.reference is 'bf16', expected a variant"),
        (lambda v: v.update(format_version=1), r"report\.json: format_version is 1, expected 3; measure again"),
        (lambda v: v.update(created="yesterday"), r"created is 'yesterday', expected UTC"),
        (lambda v: v["suite"].update(sha256="AB"), r"report\.json: suite: 'AB' is not a sha256"),
        (lambda v: v["variants"].append(v["variants"][0]), r"variants are fp8, int8, fp8, expected each once"),
        (lambda v: v["variants"][1]["figures"].pop("ssim"), r"variant 'int8' has other figures than 'fp8'"),
        (lambda v: v["variants"][1]["samples"][0].update(path="../x.png"), r"samples\[0\]: path is '\.\./x\.png'"),
        (lambda v: v["variants"][1]["samples"][0].update(path="/x.png"), r"samples\[0\]: path is '/x\.png'"),
        (lambda v: psnr(v).update(unit="decibel"), r"figures\.psnr is in 'decibel', expected 'dB'"),
        (lambda v: psnr(v).update(n=0), r"figures\['psnr'\]: n is 0"),
        (lambda v: psnr(v).update(interval=[9, 8]), r"interval is \[9, 8\], expected \[low, high\]"),
        (lambda v: psnr(v).update(interval=[9]), r"figures\['psnr'\]: interval has 1 values, expected 2"),
        (lambda v: psnr(v).update(quartiles=[9, 8]), r"quartiles is \[9, 8\], expected \[low, high\]"),
        (lambda v: psnr(v).pop("interval"), r"figures\['psnr'\]: key 'interval' is missing"),
        (
            lambda v: psnr(v).update(value=10**400),
            r"psnr: value is a number of 1329 bits, expected a number of at most 1\.8e\+308",
        ),
        (lambda v: psnr(v).update(not_measured="twice"), r"figures\['psnr'\]: unknown key 'not_measured'"),
        (lambda v: v["variants"][1]["figures"].update(beauty=psnr(v)), r"figures has 'beauty'"),
    ],
)
def test_faults_are_named(change: Callable[[dict], object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Report.from_json(changed(change))


def psnr(values: dict) -> dict:
    return values["variants"][1]["figures"]["psnr"]


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, '{"a": 1, "a": 2}', '{"value": NaN}', '{"value": -Infinity}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(
        ArtifactError, match=r"report\.json: (not valid JSON|key 'a' is given twice|-?(NaN|Infinity) is not JSON)"
    ):
        Report.from_json(text)


@pytest.mark.parametrize("value", ["1e999", "-1e999"])
def test_a_number_that_overflows_is_refused(value: str) -> None:
    text = REPORT.to_json().replace('"value": 45.2', f'"value": {value}')
    assert value in text
    with pytest.raises(ArtifactError, match="psnr: value is -?inf, expected a number"):
        Report.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_object_holds_nan_or_infinity(value: float) -> None:
    with pytest.raises(ArtifactError, match="not a finite number"):
        Measured(value, n=3, interval=None, unit="dB")
    with pytest.raises(ArtifactError, match="not a finite number"):
        Measured(1.0, n=3, interval=(0.5, value), unit="dB")


def test_not_measured_needs_a_reason() -> None:
    with pytest.raises(ArtifactError, match="expected the reason"):
        NotMeasured(" ")


@pytest.mark.parametrize("figure", [Measured(1, 1, None, "dB"), Measured(1.5, 2, (1.0, 2.0), "dB"), NotMeasured("no card")])
def test_every_kind_of_figure_survives(figure: Figure) -> None:
    variants = tuple(dataclasses.replace(v, figures={"psnr": figure}) for v in REPORT.variants)
    report = dataclasses.replace(REPORT, variants=variants)
    assert Report.from_json(report.to_json()) == report


def test_variant_is_found_by_name() -> None:
    assert REPORT.variant("int8") is REPORT.variants[1]
    assert REPORT.variant("q2_k") is None


@pytest.mark.parametrize(
    ("loads", "disturbed"), [((0.0, 0.1), False), ((0.0, 0.3), True), ((None, 0.0), None), ((None, 1.9), None)]
)
def test_a_timing_beside_other_programs_is_known_as_one(loads: tuple[float | None, ...], disturbed: bool | None) -> None:
    assert REPORT.hardware.threads == 2
    variants = tuple(dataclasses.replace(v, other_cpus=load) for v, load in zip(REPORT.variants, loads, strict=True))
    assert dataclasses.replace(REPORT, variants=variants).disturbed is disturbed


def test_metrics_have_distinct_titles() -> None:
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
