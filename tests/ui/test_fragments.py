"""The HTML pieces: foreign text is escaped, numbers read well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ideogram_q8.builds.variants import Variant
from ideogram_q8.measure.preference import Ballot, standings
from ideogram_q8.runtime.generation.sampling import Request
from ideogram_q8.ui.engine.comparison import Cell, Column
from ideogram_q8.ui.engine.events import Building, Picture
from ideogram_q8.ui.engine.fitting import Fit
from ideogram_q8.ui.engine.judge import Scores, Words
from ideogram_q8.ui.engine.library import Entry
from ideogram_q8.ui.engine.measured import VariantFigures, figures, read_report
from ideogram_q8.ui.parts import fragments

ROOT = Path(__file__).resolve().parents[2]
FP8 = Variant("fp8", "FP8", "the original", "pocket", 5_600_000)
Q4_K = Variant("q4_k_s", "Q4_K", "GGUF", None, 3_400_000)


def picture(**changes: object) -> Picture:
    values: dict[str, object] = {
        "variant": "fp8",
        "request": Request("{}", 7, "turbo-12", 128, 96),
        "path": Path("x.png"),
        "metadata": {},
        "seconds_per_step": 0.123,
        "total_seconds": 61.5,
        "peak_bytes": 812_000_000,
        "entry": 1,
    }
    return Picture(**(values | changes))  # type: ignore[arg-type]


def test_foreign_text_is_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    pieces = [
        fragments.panel("failed", hostile, hostile, notes=[hostile]),
        fragments.progress(Building("int8", 0.5), hostile),
        fragments.finished(picture(), hostile),
        fragments.listed("failed", hostile, [hostile]),
        fragments.comparison([column(hostile), column(hostile, scores=scores(30.0, 0.9, None))], {hostile: hostile}),
        fragments.standings({hostile: standings([Ballot(hostile, "b", "left")])}, {}),
        fragments.made(
            Entry(1, "x.png", 0.0, False, hostile, {"seed": 1, "preset": hostile, "width": 1, "height": 1, "caption": hostile})
        ),
        fragments.cancelled(hostile),
    ]
    assert all("<img" not in piece and "&lt;img" in piece for piece in pieces)


def test_a_card_says_whether_the_variant_is_built() -> None:
    assert fragments.card(FP8) == "FP8\nthe original\n5.6 MB\ndoes it fit? …"
    assert fragments.card(Q4_K) == "Q4_K\nGGUF\n≈ 3.4 MB · not built yet\ndoes it fit? …"


def test_a_card_says_what_is_known_of_fit_and_figures() -> None:
    figures = VariantFigures("a card", "fp8", 0.078, 56.01)
    assert fragments.card(FP8, Fit(9_000_000, 10_000_000, "all resident", offloads=False), figures).splitlines()[3:] == [
        "needs 9.0 MB · fits",
        "56.0 dB to fp8",
        "0.08 s per step on a card",
    ]
    assert fragments.card(FP8, Fit(9_000_000, 1_000_000_000, None, offloads=True)).endswith("does not fit: 1.0 GB free")


def test_figures_are_those_of_the_very_files() -> None:
    report = read_report(ROOT / "model_cards" / "pocket-report.json")
    same = Variant(
        "fp8", "FP8", "the original", str(ROOT / "no manifest"), next(v.size for v in report.variants if v.name == "fp8")
    )
    found = figures([same, replace(same, name="int8"), Q4_K], report)
    assert set(found) == {"fp8"} and found["fp8"].psnr is None and found["fp8"].seconds_per_step


def scores(psnr: float, ssim: float, lpips: float | None) -> Scores:
    return {"psnr": psnr, "ssim": ssim, "lpips": lpips}


def column(title: str, scores: Scores | None = None, **changes: object) -> Column:
    words = (Words("OPEN", "OPEN"), Words("<b>", "nothing like it"))
    return Column("v", title, 5_600_000, (Cell(picture(**changes), scores, words),))


def test_identical_pictures_have_infinite_psnr() -> None:
    table = fragments.comparison([column("FP8"), column("INT8", scores(float("inf"), 1.0, 0.0))], {})
    assert "∞ (identical)" in table and "1.0000" in table and "<td>reference</td>" in table


def test_the_table_names_all_variants_and_what_was_read() -> None:
    columns = [column("FP8"), column("Q4_K", scores(29.318, 0.59, 0.0312), seconds_per_step=0.5)]
    table = fragments.comparison(columns, {"words": "pip install rapidocr"})
    assert "<th>FP8</th><th>Q4_K</th>" in table
    assert "<td>0.12 s</td><td>0.50 s</td>" in table and "29.32 dB" in table and "0.5900" in table and "0.0312" in table
    assert "<td>1 of 2</td><td>1 of 2</td>" in table and "✓ OPEN" in table
    assert "words: not measured (pip install rapidocr)" in table


def test_means_are_over_seeds() -> None:
    cells = tuple(Cell(picture(), scores(psnr, 0.5, None), ()) for psnr in (30.0, 40.0))
    assert Column("v", "V", 1, cells).mean("psnr") == 35.0
    assert Column("v", "V", 1, cells).mean("lpips") is None
