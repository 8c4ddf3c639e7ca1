"""The README's figures are the report's, and the files it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from ideogram_q8.report import Figure, Measured, Report

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TITLES = {"fp8": "FP8 (the original)", "int8": "INT8 W8A8", "q8_0": "GGUF Q8_0", "q4_k": "GGUF Q4_K"}


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


def test_the_tree_and_the_links_name_what_exists() -> None:
    tree = re.search(r"```\n(app\.py .*?)```", README, re.DOTALL)
    assert tree is not None
    folder = ROOT
    for line in tree[1].splitlines():
        folder = folder if line.startswith(" ") else ROOT
        for name in re.split(r"\s{2,}", line.strip())[:-1]:  # the last column says what it is
            assert (folder / name).exists(), line
        folder = ROOT / "ideogram_q8" if line.startswith("ideogram_q8/") else folder
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
