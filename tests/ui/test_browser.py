"""The page in a real browser, on the real server: painting, comparing and voting."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ideogram_q8.formats.png import read_metadata
from tests.ui.browsing import WAIT, choose, fill, generate, keep, natural_size, open_tab, visit
from tests.ui.conftest import Server

pytestmark = pytest.mark.browser


def test_generate(page: Page, tmp_path: Path) -> None:
    generate(page, 11, count=2)
    status = page.locator("#q8-generate-status")
    for fact in (r"Total time\s*[\d.]+ s", r"Peak memory\s*[\d.]+ (MB|GB)", r"Seed\s*12"):
        expect(status).to_contain_text(re.compile(fact))
    assert natural_size(page, "#q8-picture img") == [64, 64]
    expect(page.locator("#q8-strip img")).to_have_count(2)
    with page.expect_download() as download:
        page.locator("#q8-download").click()
    target = tmp_path / "picture.png"
    download.value.save_as(target)
    assert read_metadata(target)["seed"] == 12
    for tab, cards in (("Generate", "q8-variant"), ("Compare", "q8-compared"), ("Blind vote", "q8-blind-variants")):
        open_tab(page, tab)
        expect(page.locator(f"#{cards} label", has_text="INT8")).not_to_contain_text("not built", timeout=WAIT)


def cancel_at_a_step(page: Page, tab: str, end: str) -> None:
    """Starts the tab's work, cancels it while it paints, and waits until it can be started again."""
    status, go, cancel = (page.locator(f"#q8-{tab}{part}") for part in ("-status", "", "-cancel"))
    go.click()
    expect(status).to_contain_text(re.compile(r"step \d+ of 200"), timeout=WAIT)
    expect(cancel).to_be_enabled()
    cancel.click()
    expect(status).to_contain_text(re.compile(rf"Cancelled at step \d+ of 200{end}"), timeout=WAIT)
    expect(go).to_be_enabled(timeout=WAIT)
    expect(cancel).to_be_disabled(timeout=WAIT)


def test_cancelling_a_picture_and_a_comparison_leaves_nothing(page: Page, server: Server) -> None:
    before = set(server.outputs.iterdir())
    fill(page, "#q8-steps input[type=number]", 200)
    choose(page, "q8-variant", "INT8")
    fill(page, "#q8-seed input", 99)
    cancel_at_a_step(page, "generate", "")
    open_tab(page, "Compare")
    cancel_at_a_step(page, "compare", " of FP8")
    assert set(server.outputs.iterdir()) == before


def test_what_went_wrong_stays_in_the_tab(page: Page) -> None:
    page.locator("#q8-caption textarea").fill('{"broken": <b>')
    page.click("#q8-generate")
    status = page.locator("#q8-generate-status")
    expect(status).to_contain_text("That did not work", timeout=WAIT)
    expect(status).to_contain_text("caption is not valid JSON")
    expect(page.locator("#q8-generate")).to_be_enabled(timeout=WAIT)


def test_who_waits_is_told_how_long_the_line_is(browser: Browser, page: Page, server: Server) -> None:
    other = browser.new_context()
    second = visit(other, server)  # both are there before either paints: to load a page may take longer than a small picture
    fill(page, "#q8-steps input[type=number]", 200)
    for side in ("Width", "Height"):
        fill(page, f"input[type=number][aria-label*='{side}']", 512)  # minutes, of which closing the page spares all but a step
    page.click("#q8-generate")
    expect(page.locator("#q8-generate-status")).to_contain_text("of 200", timeout=WAIT)
    second.click("#q8-generate")
    expect(second.locator("#q8-generate-status")).to_contain_text("Waiting: 1 before you", timeout=WAIT)
    second.click("#q8-generate-cancel")
    page.close()  # which cancels its picture, and lets the other go on
    expect(second.locator("#q8-generate-status")).to_contain_text("Cancelled before it started", timeout=WAIT)
    other.close()


def test_compare(page: Page) -> None:
    open_tab(page, "Compare")
    choose(page, "q8-compared", "INT8")
    fill(page, "#q8-seed input", 12)
    page.click("#q8-compare")
    rows = page.locator("#q8-table tr[data-metric=psnr] td")
    expect(rows).to_have_text(["reference", re.compile(r"^\d+\.\d\d dB$"), re.compile(r"^\d+\.\d\d dB$")], timeout=WAIT)
    for metric in ("step", "total", "memory", "weights"):
        cells = page.locator(f"#q8-table tr[data-metric={metric}] td").all_inner_texts()
        assert len(cells) == 3 and all(re.fullmatch(r"[\d.]+ (s|MB|GB)", cell) for cell in cells), (metric, cells)
    verdict = page.locator("#q8-table .q8-verdict li")
    expect(verdict).to_have_text(
        [re.compile("^INT8: .*texts read|^INT8: .*words"), re.compile("^Q4_K_S: "), re.compile("blind vote")]
    )
    viewer = page.locator("#q8-viewer")
    expect(viewer.locator("img")).to_have_count(2)
    assert natural_size(page, "#q8-viewer img") == [64, 64]
    viewer.get_by_role("button", name="Side by side").click()
    expect(viewer.locator("img")).to_have_count(3)
    viewer.locator(".q8v-frame").first.focus()
    page.keyboard.press("+")
    expect(viewer.locator(".q8v-factor")).to_have_text("150 %")
    transforms = viewer.locator("img").evaluate_all("all => all.map((i) => i.style.transform)")
    assert len(set(transforms)) == 1 and "scale(1.5)" in transforms[0]
    viewer.get_by_role("button", name="Fade").click()
    expect(viewer.locator("[data-layer=b]")).to_have_css("opacity", "0.5")
    viewer.get_by_role("button", name="Difference").click()
    page.wait_for_function("() => (document.querySelector('#q8-viewer canvas')?.difference?.length ?? 0) === 64 * 64")
    assert viewer.locator("canvas").evaluate("c => Math.max(...c.difference)") > 0
    viewer.get_by_role("button", name="Whole picture").click()
    expect(viewer.locator(".q8v-factor")).to_have_text("100 %")
    expect(page.locator("#q8-sheet")).to_be_enabled(timeout=WAIT)
    for button, ending in (("#q8-sheet", ".png"), ("#q8-recipe", ".json")):
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename.endswith(ending)
    page.click("#q8-compare")
    expect(page.locator("#q8-compare-status")).to_contain_text("3 of 3 pictures reused", timeout=WAIT)
    viewer.get_by_role("button", name="Slider").click()
    keep(page, "compare")


def test_a_blind_vote(page: Page) -> None:
    open_tab(page, "Blind vote")
    for name in ("Q8_0", "Q4_K_S"):
        choose(page, "q8-blind-variants", name)  # leaves the other two
    expect(page.locator("#q8-vote-left")).to_be_disabled()
    page.click("#q8-blind")
    expect(page.locator("#q8-blind-status")).to_contain_text("Which is better?", timeout=WAIT)
    seen = page.locator("#q8-blind-viewer").inner_text() + page.locator("#q8-blind-status").inner_text()
    assert "FP8" not in seen and "INT8" not in seen
    page.click("#q8-vote-tie")
    expect(page.locator("#q8-blind-status")).to_contain_text(
        re.compile("Left was (FP8|INT8), right was (FP8|INT8)"), timeout=WAIT
    )
    expect(page.locator("#q8-standings")).to_contain_text("50 %", timeout=WAIT)
    expect(page.locator("#q8-votes-export")).to_be_enabled(timeout=WAIT)
    with page.expect_download(timeout=WAIT) as download:
        page.click("#q8-votes-export")
    assert json.loads(download.value.path().read_text(encoding="utf-8"))[-1]["choice"] == "tie"
    keep(page, "vote")
