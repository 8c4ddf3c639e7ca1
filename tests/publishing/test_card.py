"""The card: complete metadata, and no figure that the report does not hold."""

from __future__ import annotations

import dataclasses
import re

import pytest
from huggingface_hub import ModelCard

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.formats.report import Comparison, Measured, NotMeasured, Report, Verdict
from ideogram_q8.model.schemes import title
from ideogram_q8.publishing.cards.card_text import figure_text, number
from tests.publishing.example import CONTENTS, FOLDER, REPORT, card_of, manifest, metadata


def without_figures(report: Report) -> Report:
    figures = dict.fromkeys(METRICS, NotMeasured("no card at hand"))
    return dataclasses.replace(report, variants=tuple(dataclasses.replace(v, figures=figures) for v in report.variants))


def test_metadata_of_the_pocket() -> None:
    values = metadata(card_of(manifest(), REPORT))
    assert values["license"] == "apache-2.0"
    assert values["pipeline_tag"] == "text-to-image"
    assert values["library_name"] == "ideogram-q8"
    assert values["quantized_by"] == "someone"
    assert values["inference"] is False
    assert values["language"] == ["en"]
    assert {"text-to-image", "quantized", "int8", "w8a8"} <= set(values["tags"])
    assert values["widget"] == [{"text": "a red star: on a blue background", "output": {"url": "samples/star.png"}}]
    assert "base_model" not in values


def test_metadata_of_ideogram() -> None:
    values = metadata(card_of(manifest(FOLDER)))
    assert values["license"] == "other"
    assert values["license_name"] == "ideogram-4-non-commercial"
    assert values["license_link"] == "LICENSE.md"
    assert values["base_model"] == "ideogram-ai/ideogram-4-fp8"
    assert values["base_model_relation"] == "quantized"
    assert values["extra_gated_prompt"]
    assert "model-index" not in values and "widget" not in values


def test_the_hub_client_reads_the_results_back() -> None:
    results = ModelCard(card_of(manifest(), REPORT)).data.eval_results
    assert results is not None
    found = {result.metric_type: result.metric_value for result in results}
    assert found == {"psnr": 45.2, "ssim": 0.9951, "ocr_exact_match": 0.625}  # what it costs depends on the machine


def test_figures_come_with_interval_and_count() -> None:
    card = card_of(manifest(), REPORT)
    assert "PSNR **45.20 dB** (95 % interval 44.80 to 45.60)" in card
    assert "| the reference itself | 45.20 dB (44.80 to 45.60, n = 64) | – | – |" in card
    assert "| 900.00 MB (n = 64) | 800.00 MB (n = 64) |" in card
    assert "| **INT8 W8A8** | 9.47 | 3.79 kB | 45.20 (44.80 to 45.60) | – | 62.5 % (50.0 to 73.4) | – |" in card
    assert "an example processor, 2 threads" in card and "torch 2.13.0" in card
    assert f"{sum(map(len, CONTENTS.values())) / 12000:.2f} times the size" in card  # beside the reference's 12,000 bytes


def test_times_come_with_quartiles_and_with_what_else_ran() -> None:
    assert "| 0.0512 s (quartiles 0.0498 to 0.0533, n = 1,280) |" in card_of(manifest(), REPORT)
    quiet, busy, unknown = (_card_beside(*loads) for loads in ((0.01, 0.02), (0.0, 0.9), (None, 0.0)))
    assert "they kept 0.01, 0.02 CPUs busy" in quiet and "while other programs ran" not in quiet
    assert "they kept 0.0, 0.9 CPUs busy" in busy and "**measured while other programs ran**" in busy
    assert "not recorded" in unknown and "CPUs busy" not in unknown


def _card_beside(*other_cpus: float | None) -> str:
    variants = tuple(dataclasses.replace(v, other_cpus=n) for v, n in zip(REPORT.variants, other_cpus, strict=True))
    return card_of(manifest(), dataclasses.replace(REPORT, variants=variants))


def test_without_report_nothing_is_claimed() -> None:
    card = card_of(manifest())
    assert "**not been measured**" in card
    assert not re.search(r"\d(\.\d+)? (dB|GB|s) \(", card)
    assert "model-index" not in metadata(card)
    assert "report.json" not in card


def test_a_report_without_figures_gives_reasons_instead() -> None:
    card = card_of(manifest(), without_figures(REPORT))
    assert "**not been measured**: no card at hand" in card
    assert "**Not measured:** PSNR to the reference, mean over pictures; SSIM" in card and ": no card at hand." in card
    assert "model-index" not in metadata(card)


def test_a_report_of_other_variants_says_nothing_about_this_one() -> None:
    only_reference = dataclasses.replace(REPORT, variants=REPORT.variants[:1])
    card = card_of(manifest(), only_reference)
    assert "**not been measured**" in card
    assert "model-index" not in metadata(card)


def test_a_report_of_other_files_is_refused() -> None:
    other = dataclasses.replace(REPORT.variants[1], artifact_sha256="0" * 64)
    with pytest.raises(PublishError, match=r"report\.json measured a int8 build with sha256 0000"):
        card_of(manifest(), dataclasses.replace(REPORT, variants=(REPORT.variants[0], other)))


@pytest.mark.parametrize("build", [manifest(), manifest(FOLDER)], ids=["pocket", "ideogram"])
@pytest.mark.parametrize("scheme", ["int8", "q8_0", "q4_k_s"])
@pytest.mark.parametrize("report", [None, without_figures(REPORT)], ids=["no report", "no figures"])
def test_no_placeholder_and_no_local_path(build: Manifest, scheme: str, report: Report | None) -> None:
    build = dataclasses.replace(build, variant=scheme, scheme=scheme)
    if report:
        int8 = dataclasses.replace(report.variants[1], name=scheme)
        report = dataclasses.replace(report, variants=(report.variants[0], int8))
    card = card_of(build, report)
    assert not re.search(r"\bnan\b|\binf\b|None|TODO|\{\{|\}\}|\{%|Undefined|/home", card, re.IGNORECASE)
    assert "\n\n\n" not in card
    assert card_of(build, report) == card


def test_ideogram_card_has_licence_duties() -> None:
    card = card_of(manifest(FOLDER))
    assert "> **Modified files.** These files were modified" in card
    assert "not endorsed by Ideogram, Inc." in card
    assert "[`LICENSE.md`](LICENSE.md) and [`Notice`](Notice)" in card


def found(verdict: Verdict, metric: str = "ocr_exact_match", difference: float = -0.0031) -> Report:
    """The report with one comparison of the build with the reference."""
    interval = (difference - 0.01, difference + 0.01)
    row = Comparison(metric, "int8", "fp8", 64, difference, interval, interval, 0.2, 0.4, 0.01, 0.02, 200, verdict)
    return dataclasses.replace(REPORT, comparisons=(row,))


@pytest.mark.parametrize(
    ("verdict", "sentence", "said"),
    [
        ("equal", "are read **as well as** in those of FP8 (the original), equal within 2 points", "equal within 0.02"),
        ("better", "are read **better than** in those of FP8", "better"),
        ("worse", "are read **worse than** in those of FP8", "worse"),
        ("undecided", "as well as in those of FP8 (the original) is **undecided**", "undecided"),
    ],
)
def test_equal_is_said_by_the_report_and_by_nothing_else(verdict: Verdict, sentence: str, said: str) -> None:
    card = card_of(manifest(), found(verdict))
    first = card.split("**How close it is:** ")[1].splitlines()[0]
    assert sentence in first and "-0.3 points (95 % interval -1.3 to +0.7, 64 captions)" in first
    assert f"| -0.003100 (-0.0131 to 0.006900) | {said} |" in card
    assert ("equal within" in first) == (verdict == "equal")


def test_without_a_comparison_nothing_is_said_of_reading() -> None:
    first = card_of(manifest(), REPORT).split("**How close it is:** ")[1].splitlines()[0]
    assert first.startswith("PSNR **45.20 dB**") and "read" not in first


def test_tables_have_as_many_cells_as_headings() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", card_of(manifest(), REPORT), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_builds_that_stand_out_are_named() -> None:
    card = card_of(manifest(), REPORT)
    assert "**Closest by PSNR:**" not in card  # of a single build
    other = dataclasses.replace(REPORT.variants[1], name="q8_0", files=REPORT.variants[1].files[:1], samples=())
    figures = {
        **other.figures,
        "psnr": Measured(47.5, 64, (47.0, 48.0), "dB"),
        "lpips": Measured(0.0012, 64, (0.001, 0.0014), "1"),
    }
    both = dataclasses.replace(REPORT, variants=(*REPORT.variants, dataclasses.replace(other, figures=figures)))
    card = card_of(manifest(), both)
    assert "- **Closest by PSNR:** GGUF Q8_0 (1.89 kB, 47.50 dB)\n" in card
    assert "tensor cores can:** INT8 W8A8 (3.79 kB, 45.20 dB)\n" in card
    assert "- **Smallest:** GGUF Q8_0 (1.89 kB, 47.50 dB)\n" in card
    assert "| 47.50 (47.00 to 48.00) | 1.200 (1.000 to 1.400) |" in card


def test_every_variant_has_a_title() -> None:
    names = ("fp8", "int8", "q4_k_m", "int8-auto", "mixed-rules-imatrix", "nf4")
    assert [title(name) for name in names] == [
        "FP8 (the original)",
        "INT8 W8A8",
        "GGUF Q4_K_M",
        "INT8 W8A8, recipe auto",
        "GGUF MIXED, recipe rules, importance-weighted",
        "nf4",
    ]


def test_bits_per_weight_count_the_whole_file() -> None:
    size = manifest().files[0].size
    assert f"| {8 * size / 1600:.2f} |" in card_of(manifest())  # 16 x 100 weights; scales are cost, not weights


def test_number_formats() -> None:
    assert [number(value, "1") for value in (0.0, 0.000042, 0.0123, 1.0)] == ["0.0000", "0.000042", "0.0123", "1.0000"]
    assert figure_text(NotMeasured("a | b\nc")) == "not measured (a \\| b c)"
