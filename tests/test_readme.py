"""The figures of the README and of docs/ are those of the measurements, and the files that they name exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ideogram_q8.bench import results, tables
from ideogram_q8.bench.results import DenoiseResult, LinearResult
from ideogram_q8.bench.timing import Timing
from ideogram_q8.formats.report import Figure, Measured, Report
from ideogram_q8.measure.pages import table
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.studies.ablation import Ablation, Row

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def with_interval(figure: Figure, digits: int) -> str:
    if not isinstance(figure, Measured) or figure.interval is None:
        return "–"
    return f"{figure.value:.{digits}f} ({figure.interval[0]:.{digits}f} to {figure.interval[1]:.{digits}f})"


def test_the_table_is_the_report() -> None:
    report = Report.from_json((ROOT / "model_cards" / "pocket-report.json").read_text(encoding="utf-8"))
    assert table.markdown(report) in PAGES["evaluation"]
    assert f"{report.suite.captions} held-out captions, preset {report.settings.preset}," in PAGES["evaluation"]


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
        assert ablation_row(plain, planted, name) in PAGES["recipes"]


def test_the_gguf_table_is_the_measured_one() -> None:
    rows = {row.name: row for row in ablation("pocket-gguf").rows}
    stated = re.findall(r"^\| ((?:q\d|measured, as)[^|]*) \|.* MB \|", PAGES["gguf"], re.MULTILINE)
    assert len(stated) == 9
    for name in stated:
        row = rows[name]
        size, noise = f"{row.size / 1e6:.2f} MB", f"{row.noise.mean:.1f}"
        assert f"| {name} | {size} | {noise} | {with_interval(row.psnr, 1)} |" in PAGES["gguf"]


def test_the_full_size_runs_are_the_measured_ones() -> None:
    for path in sorted((ROOT / "model_cards").glob("full-size-quantize*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        cells = (
            f"{run['seconds']:.0f} s",
            f"{run['quantize_rate']:.2f} GB/s",
            f"{run['copy_rate']:.2f} GB/s",
            f"{100 * run['share_of_copy']:.0f} %",
            f"{run['peak_bytes'] / 1e9:.2f} GB",
            f"{run['written_bytes']:,}",
        )
        assert f"(../model_cards/{path.name}) | {' | '.join(cells)} |" in PAGES["real"], path.name


def test_the_speed_table_is_the_measured_one() -> None:
    measured = results.read(ROOT / "model_cards" / "bench-cpu-denoise.json")
    assert isinstance(measured, DenoiseResult) and tables.denoise_rows(measured).strip() in PAGES["speed"]


def test_the_aims_say_what_is_known() -> None:
    aims = PAGES["speed"].partition("## What was aimed at")[2].partition("## ")[0]
    for variant, side in (("int8", 1024), ("int8", 2048), ("q4_k_s", 1024)):
        found = budget.footprint(inventory.of_ideogram4(variant), budget.plan_named("encoder", "cuda"), (side, side), 512)
        assert f"predicted {found.peak / 1e9:.1f} GB" in aims
    painted = results.read(ROOT / "model_cards" / "bench-cpu-denoise.json")
    assert isinstance(painted, DenoiseResult)
    rows = {row.variant: row for row in painted.rows}
    errors = [
        row.predicted_bytes / row.peak_bytes - 1
        for row in rows.values()
        if row.predicted_bytes and row.peak_bytes and not row.peer
    ]
    assert len(errors) == 11 and max(map(abs, errors)) < 0.02 and "within 2 %" in aims
    q8, q4 = (f"{ratio(rows[name].timing, rows['int8'].timing):.1f}" for name in ("q8_0-int8", "q4_k_s-int8"))
    assert f"{q8} (Q8_0) and {q4} (Q4_K) times on this CPU" in aims
    linear = results.read(ROOT / "model_cards" / "bench-cpu-linear-bf16.json")
    assert isinstance(linear, LinearResult)
    times = {(row.kind, row.path): row.timing for row in linear.rows}
    faster = [
        f"{ratio(times[kind, 'not quantized'], times[kind, 'INT8, exact float32 chunks']):.1f}"
        for kind in linear.settings.kinds
    ]
    assert f"without VNNI {' and '.join(faster)} times" in aims


def test_w8a8_without_vnni_is_as_slow_as_measured() -> None:
    linear = results.read(ROOT / "model_cards" / "bench-cpu-linear-rows.json")
    assert isinstance(linear, LinearResult)
    times = {(row.kind, row.rows, row.path): row.timing for row in linear.rows}
    asked = [(kind, rows) for kind in linear.settings.kinds for rows in linear.settings.rows]
    found = [ratio(times[(*each, "INT8, exact float32 chunks")], times[(*each, "INT8, weight only")]) for each in asked]
    assert f"[it takes {min(found):.2f} to {max(found):.2f}](../model_cards/bench-cpu-linear-rows.json)" in PAGES["speed"]


def ratio(took: Timing | None, other: Timing | None) -> float:
    assert took is not None and other is not None
    return took.median / other.median


HOW = {
    "resident": ("R", "nothing"),
    "freed": ("E", "nothing"),
    "encoder": ("E", "the text encoder"),
    "unconditional": ("U", "the unconditional transformer, the text encoder"),
    "both": ("B", "both transformers, the text encoder"),
}
NAMES = {"INT8": "int8", "Q8_0": "q8_0", "Q4_K_M": "q4_k_m", "Q4_K_S": "q4_k_s"}


def fitting(name: str, card: int, side: int) -> budget.Footprint:
    """What `doctor` says of a build of Ideogram 4, a card that nothing else uses, and a square picture with a caption of 512 tokens."""
    found = budget.first_that_fits(inventory.of_ideogram4(NAMES[name]), (side, side), usage.room_of(card), 512)
    assert found is not None
    return found


def test_the_readme_says_what_fits_each_card() -> None:
    report = Report.from_json((ROOT / "model_cards" / "pocket-report.json").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| (\d+) GB \| (\w+) \| ([\d.]+) GB \| (.*) \|$", README, re.MULTILINE)
    assert {int(card) for card, *_ in rows} == set(usage.CARDS)
    for card, name, _, rest in rows:
        found, measured = fitting(name, int(card), 1024), report.variant(NAMES[name])
        assert measured is not None and isinstance(psnr := measured.figures["psnr"], Measured)
        waits = HOW[found.plan.key][1] + (f": {found.host / 1e9:.1f} GB" if found.host else "")
        assert rest == f"{found.peak / 1e9:.1f} GB | {waits} | {psnr.value:.1f} dB"
    written = {
        "INT8": json.loads((ROOT / "model_cards" / "full-size-quantize.json").read_text(encoding="utf-8"))["written_bytes"]
    }
    written["Q4_K_S"] = json.loads((ROOT / "model_cards" / "full-size-memory-q4_k_s.json").read_text(encoding="utf-8"))[
        "written_bytes"
    ]
    assert all(size == f"{written[name] / 1e9:.1f}" for _, name, size, _ in rows)


def test_the_page_on_memory_says_what_fits_each_card() -> None:
    for name in NAMES:
        places = [(card, 1024) for card in usage.CARDS] + [(24, 2048)]
        cells = [f"{HOW[(found := fitting(name, *place)).plan.key][0]}, {found.peak / 1e9:.1f} GB" for place in places]
        assert f"| {name} | {' | '.join(cells)} |" in PAGES["speed"]


def test_the_map_names_what_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"```\n(app\.py .*?)```", text, re.DOTALL)
    assert tree is not None
    folder = ROOT
    for line in tree[1].splitlines():
        folder = folder if line.startswith(" ") else ROOT
        assert (folder / line.split()[0]).exists(), line
        folder = ROOT / "ideogram_q8" if line.startswith("ideogram_q8/") else folder
    named = set(re.findall(r"[\w.]+", tree[1]))
    for path in (ROOT / "ideogram_q8").iterdir():
        assert path.name.startswith("__") or path.name in named, f"{path.name} is not on the map"


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{name}.md" for name in sorted(PAGES))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)[^):]*\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) <= 150
    assert {f"docs/{name}.md" for name in PAGES} <= set(re.findall(r"docs/\w+\.md", README))
