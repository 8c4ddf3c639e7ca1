"""The README's figures are those of the measurements, and the files it names exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ideogram_q8.evaluation.ablation import Ablation, Row
from ideogram_q8.report import Figure, Measured, Report

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TITLES = {"fp8": "FP8 (the original)", "int8": "INT8 W8A8", "q8_0": "GGUF Q8_0", "q4_k_s": "GGUF Q4_K_S"}


def with_interval(figure: Figure, digits: int) -> str:
    if not isinstance(figure, Measured) or figure.interval is None:
        return "–"
    return f"{figure.value:.{digits}f} ({figure.interval[0]:.{digits}f} to {figure.interval[1]:.{digits}f})"


def rows(report: Report) -> list[str]:
    """The README's table as it must stand."""
    lines = []
    for variant in report.variants:
        words, seconds = variant.figures["ocr_exact_match"], variant.figures["seconds_per_step"]
        assert isinstance(words, Measured) and isinstance(seconds, Measured)
        cells = [
            TITLES[variant.name],
            f"{sum(file.size for file in variant.files) / 1e6:.2f} MB",
            with_interval(variant.figures["psnr"], 1),
            with_interval(variant.figures["ssim"], 4),
            f"{100 * words.value:.1f} %",
            f"{1000 * seconds.value:.0f} ms",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def test_the_table_is_the_report() -> None:
    report = Report.from_json((ROOT / "model_cards" / "pocket-report.json").read_text(encoding="utf-8"))
    for row in rows(report):
        assert row in README
    assert f"{report.suite.captions} held-out captions" in README
    assert report.settings.preset in README


ABLATED = ("naive", "smoothed", "paper-2", "paper-17", "convrot", "auto", "auto-paper-17")


def ablation(name: str) -> Ablation:
    return Ablation.from_json((ROOT / "model_cards" / "ablation" / f"{name}.json").read_text(encoding="utf-8"))


def ablation_row(rows: dict[str, Row], planted: dict[str, Row], name: str) -> str:
    """A recipe's line of the README: size, then worst output SNR and PSNR of the pocket and of the planted one."""
    cells = [f"`{name}`", f"{rows[name].size / 1e6:.2f} MB"]
    for row in (rows[name], planted[name]):
        assert row.noise.worst is not None
        cells += [f"{row.noise.worst:.1f}", with_interval(row.psnr, 1)]
    return f"| {' | '.join(cells)} |"


def test_the_ablation_is_the_measured_one() -> None:
    plain, planted = ({row.name: row for row in ablation(name).rows} for name in ("pocket", "planted"))
    for name in ABLATED:
        assert ablation_row(plain, planted, name) in README


def test_the_full_size_run_is_the_measured_one() -> None:
    run = json.loads((ROOT / "model_cards" / "full-size-quantize.json").read_text(encoding="utf-8"))
    for text in (
        f"{run['quantize_rate']:.2f} GB/s",
        f"{run['copy_rate']:.2f} GB/s",
        f"{100 * run['share_of_copy']:.0f} %",
        f"{run['peak_bytes'] / 1e9:.2f} GB",
        f"{run['seconds']:.0f} s",
        f"{run['written_bytes']:,} bytes",
    ):
        assert text in README, text


def test_the_tree_and_the_links_name_what_exists() -> None:
    tree = re.search(r"```\n(app\.py .*?)```", README, re.DOTALL)
    assert tree is not None
    folder = ROOT
    for line in tree[1].splitlines():
        folder = folder if line.startswith(" ") else ROOT
        for name in re.split(r"\s{2,}", line.strip())[:-1]:  # the last column says what it is
            assert (folder / name).exists(), line
        folder = ROOT / "ideogram_q8" if line.startswith("ideogram_q8/") else folder
    named = set(re.findall(r"[\w.]+", tree[1]))
    for path in (ROOT / "ideogram_q8").iterdir():
        assert path.name.startswith("__") or path.name in named, f"{path.name} is not in the tree"
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
