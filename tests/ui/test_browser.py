"""The page in a real browser, on the real server: generate, compare, cancel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from ideogram_q8.png import read_metadata
from tests.conftest import CHROMIUM
from tests.ui.conftest import Server

pytestmark = pytest.mark.browser
WAIT = 300_000
"""Milliseconds for anything that computes; the machine may be busy."""
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run"]


@pytest.fixture(scope="module")
def browser_page(server: Server) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES, timeout=WAIT)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(WAIT)
        yield page
        browser.close()


@pytest.fixture
def page(browser_page: Page, server: Server) -> Page:
    """A freshly loaded page; anything it asks from another host is an error."""
    foreign: list[str] = []
    browser_page.on("request", lambda request: foreign.append(request.url) if _is_foreign(request.url, server) else None)
    browser_page.goto(server.address)
    browser_page.wait_for_selector("#q8-generate")
    assert foreign == []
    return browser_page


def _is_foreign(url: str, server: Server) -> bool:
    return not url.startswith((server.address, "data:", "blob:"))


def choose(page: Page, group: str, name: str) -> None:
    page.locator(f"#{group} label", has_text=name).click()


def natural_size(page: Page, selector: str) -> list[int]:
    """Width and height of a picture once it is loaded."""
    page.wait_for_function(
        "s => { const i = document.querySelector(s); return i && i.complete && i.naturalWidth > 0 }", arg=selector
    )
    size: list[int] = page.eval_on_selector(selector, "i => [i.naturalWidth, i.naturalHeight]")
    return size


def test_generate(page: Page, server: Server, tmp_path: Path) -> None:
    choose(page, "q8-variant", "INT8")
    choose(page, "q8-preset", "Turbo")
    page.locator("#q8-seed input").fill("11")
    page.click("#q8-generate")
    status = page.locator("#q8-generate-status")
    expect(status).to_contain_text(re.compile(r"step \d+ of 12"), timeout=WAIT)
    expect(status).to_contain_text("Painted with INT8", timeout=WAIT)
    expect(status).to_contain_text(re.compile(r"Total time\s*[\d.]+ s"))
    expect(status).to_contain_text(re.compile(r"Peak memory\s*\d+ MB"))
    assert natural_size(page, "#q8-picture img") == [128, 128]
    with page.expect_download() as download:
        page.locator("#q8-download").click()
    target = tmp_path / "picture.png"
    download.value.save_as(target)
    assert read_metadata(target)["seed"] == 11
    expect(page.locator("#q8-variant label", has_text="INT8")).not_to_contain_text("not built")


def test_compare(page: Page) -> None:
    choose(page, "q8-preset", "Turbo")
    page.locator("#q8-seed input").fill("12")
    page.get_by_role("tab", name="Compare").click()
    choose(page, "q8-first", "INT8")
    choose(page, "q8-second", "Q8_0")
    page.click("#q8-compare")
    table = page.locator("#q8-table")
    psnr = table.locator("[data-metric=psnr]")
    expect(psnr).to_have_text(re.compile(r"^\d+\.\d\d dB$"), timeout=WAIT)
    assert 0 < float(table.locator("[data-metric=ssim]").inner_text()) <= 1
    for row in ("Time per step", "Total time", "Peak memory", "Weights"):
        cells = table.locator("tr", has_text=row).locator("td").all_inner_texts()
        assert len(cells) == 2 and all(re.fullmatch(r"[\d.]+ (s|MB)", cell) for cell in cells), (row, cells)
    assert natural_size(page, "#q8-slider img") == [128, 128]
    assert page.locator("#q8-slider img").count() == 2
    choose(page, "q8-first", "Q8_0")
    choose(page, "q8-second", "INT8")
    page.click("#q8-compare")
    expect(page.locator("#q8-compare-status")).to_contain_text("A and B reused", timeout=WAIT)


def cancel_at_a_step(page: Page, tab: str, head: str, end: str) -> Locator:
    """Starts the tab's work, cancels it while it paints, and waits until it can be started again; returns the status."""
    status, go, cancel = (page.locator(f"#q8-{tab}{part}") for part in ("-status", "", "-cancel"))
    go.click()
    expect(status).to_contain_text(re.compile(rf"{head}.*step \d+ of 48"), timeout=WAIT)
    expect(cancel).to_be_enabled()
    cancel.click()
    expect(status).to_contain_text(re.compile(rf"Cancelled at step \d+ of 48{end}"), timeout=WAIT)
    expect(go).to_be_enabled(timeout=WAIT)
    expect(cancel).to_be_disabled(timeout=WAIT)
    return status


def test_cancel_a_comparison(page: Page, server: Server) -> None:
    before = set(server.outputs.iterdir())
    choose(page, "q8-preset", "Quality")
    page.locator("#q8-seed input").fill("13")
    page.get_by_role("tab", name="Compare").click()
    choose(page, "q8-first", "INT8")
    choose(page, "q8-second", "Q8_0")
    cancel_at_a_step(page, "compare", "A · INT8", " of A")
    assert page.locator("#q8-table").inner_text().strip() == ""
    assert set(server.outputs.iterdir()) == before
    choose(page, "q8-preset", "Turbo")
    page.click("#q8-compare")  # nothing of the cancelled work stands in the way
    expect(page.locator("#q8-table [data-metric=psnr]")).to_have_text(re.compile("dB$"), timeout=WAIT)
    assert len(set(server.outputs.iterdir()) - before) == 2


def test_cancel_a_picture(page: Page, server: Server) -> None:
    before = set(server.outputs.iterdir())
    choose(page, "q8-variant", "INT8")
    choose(page, "q8-preset", "Quality")
    status = cancel_at_a_step(page, "generate", "Painting with INT8", "")
    choose(page, "q8-preset", "Turbo")
    page.click("#q8-generate")
    expect(status).to_contain_text("Painted with INT8", timeout=WAIT)
    assert len(set(server.outputs.iterdir()) - before) == 1
