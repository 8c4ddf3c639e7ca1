"""The card: complete metadata, and no figure that the report does not hold."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from ideogram_q8.errors import PublishError
from ideogram_q8.manifest import Manifest
from ideogram_q8.report import METRICS, NotMeasured, Report
from publish.card import byte_text, figure_text, kept_rows, render
from publish.licence import licence_of
from publish.release import measured_variant
from tests.publish.example import REPORT, manifest

REPO = "someone/pocket-int8"
FOLDER = "/home/person/ideogram-4-fp8"


def card_of(build: Manifest, report: Report | None = None) -> str:
    return render(build, report, measured_variant(build, report), licence_of(build), REPO)


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


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
    assert found == {"psnr": 45.2, "ssim": 0.9951, "ocr_exact_match": 0.625, "seconds_per_step": 0.0512, "peak_memory": 800e6}


def test_figures_come_with_interval_and_count() -> None:
    card = card_of(manifest(), REPORT)
    assert "PSNR **45.20 dB** (95 % interval 44.80 to 45.60)" in card
    assert "| not measured (the reference itself) | 45.20 dB (44.80 to 45.60, n = 64) |" in card
    assert "| 900.00 MB (n = 64) | 800.00 MB (n = 64) |" in card
    assert "an example processor, 2 threads" in card and "torch 2.13.0" in card
    assert "0.55 times the size" in card  # 6,600 bytes of weights beside the reference's 12,000


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
    assert card.count("not measured (no card at hand)") == 2 * len(METRICS)
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
@pytest.mark.parametrize("scheme", ["int8", "q8_0", "q4_k"])
@pytest.mark.parametrize("report", [None, without_figures(REPORT)], ids=["no report", "no figures"])
def test_no_placeholder_and_no_local_path(build: Manifest, scheme: str, report: Report | None) -> None:
    build = dataclasses.replace(build, variant=scheme, scheme=scheme)
    if report:
        int8 = dataclasses.replace(report.variants[1], name=scheme)
        report = dataclasses.replace(report, variants=(report.variants[0], int8))
    card = card_of(build, report)
    assert not re.search(r"\bnan\b|\binf\b|None|TODO|\{\{|\}\}|\{%|Undefined|/home", card, re.IGNORECASE)
    assert "\n\n\n" not in card
    assert render(build, report, measured_variant(build, report), licence_of(build), REPO) == card


def test_ideogram_card_has_licence_duties() -> None:
    card = card_of(manifest(FOLDER))
    assert "> **Modified files.** These files were modified" in card
    assert "not endorsed by Ideogram, Inc." in card
    assert "[`LICENSE.md`](LICENSE.md) and [`Notice`](Notice)" in card


def test_tools_that_were_not_tried_are_not_promised() -> None:
    card = card_of(manifest(), REPORT)
    for tool in ("diffusers", "ComfyUI", "stable-diffusion.cpp"):
        assert f"| {tool} | not tested |" in card


def test_commands_name_the_repository_and_the_size() -> None:
    card = card_of(manifest())
    assert "hf download someone/pocket-int8 --local-dir pocket-int8" in card
    assert re.search(r"python -m ideogram_q8 generate pocket-int8 .* --size 128x128 --out picture\.png", card)
    assert "python -m ideogram_q8 quantize pocket --scheme int8 --out pocket-int8" in card


def test_tables_have_as_many_cells_as_headings() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", card_of(manifest(), REPORT), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_kept_linears_are_grouped() -> None:
    rows = [(row.kind, row.linears) for row in kept_rows(manifest())]
    assert rows == [("input_proj", 2), ("layers.*.adaln_modulation", 10)]


def test_a_recipe_of_another_form_is_refused() -> None:
    with pytest.raises(PublishError, match="recipe is not understood"):
        kept_rows(dataclasses.replace(manifest(), recipe={"scheme": "int8"}))


def test_a_scheme_without_a_card_is_refused() -> None:
    with pytest.raises(PublishError, match="of scheme 'q2_k', a card is known for int8, q8_0, q4_k"):
        card_of(dataclasses.replace(manifest(), scheme="q2_k"))


def test_bits_per_weight_count_the_whole_file() -> None:
    size = manifest().files[0].size
    assert f"| {8 * size / 1600:.2f} |" in card_of(manifest())  # 16 x 100 weights; scales are cost, not weights


def test_number_formats() -> None:
    assert [byte_text(n) for n in (5, 1500, 2e6, 10.44e9)] == ["5 bytes", "1.50 kB", "2.00 MB", "10.44 GB"]
    assert figure_text(NotMeasured("a | b\nc")) == "not measured (a \\| b c)"
