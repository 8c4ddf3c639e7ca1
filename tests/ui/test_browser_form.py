"""What a visitor sees first, and finds again: the demo's chip, pictures at their size, the form after a reload."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browsing import WAIT, choose, fill, open_tab
from tests.ui.conftest import Server

pytestmark = pytest.mark.browser

PATTERN = """([side, target]) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    const image = document.createElement("img");
    image.src = canvas.toDataURL();
    document.querySelector(target).append(image);
    return new Promise((done) => { image.onload = () => setTimeout(() => done(getComputedStyle(image).imageRendering), 300); });
}"""


@pytest.mark.parametrize(("side", "shown"), [(64, "pixelated"), (1024, "auto")])
def test_only_enlarged_pictures_are_drawn_by_pixels(page: Page, side: int, shown: str) -> None:
    assert page.evaluate(PATTERN, [side, "#q8-picture"]) == shown


def test_the_demo_says_what_it_is(page: Page) -> None:
    page.evaluate("scrollTo(0, 0)")  # a test before may have scrolled
    chip = page.locator("#q8-demo summary")
    expect(chip).to_have_text("demo model, not Ideogram 4")
    expect(chip).to_be_in_viewport()
    chip.click()
    expect(page.locator("#q8-demo p")).to_contain_text("--source ideogram-4-fp8")


def test_the_form_survives_a_reload(page: Page, server: Server) -> None:
    caption = "a green star and the word KEEP in black on a white background"
    page.locator("#q8-caption textarea").fill(caption)
    fill(page, "#q8-seed input", 4711)
    choose(page, "q8-variant", "Q8_0")
    open_tab(page, "Compare")
    choose(page, "q8-compared", "INT8")
    kept = "() => { const kept = localStorage.getItem('ideogram-q8-form'); return kept && kept.length > 20 }"
    page.wait_for_function(kept)
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator("#q8-caption textarea")).to_have_value(caption, timeout=WAIT)
    expect(page.locator("#q8-seed input")).to_have_value("4711", timeout=WAIT)
    expect(page.locator("#q8-preset label.selected")).to_have_text("Custom", timeout=WAIT)
    expect(page.locator("input[type=number][aria-label*='Width']")).to_have_value("64")
    expect(page.locator("#q8-variant label.selected")).to_contain_text("Q8_0")
    open_tab(page, "Compare")
    expect(page.locator("#q8-compared label.selected")).to_have_count(3, timeout=WAIT)


def test_ctrl_enter_in_the_caption_compares_it(page: Page) -> None:
    page.locator("#q8-caption textarea").fill("a red heart and the word LOVE in purple on a white background")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#q8-compare-status")).to_contain_text("Compared", timeout=WAIT)
    expect(page.locator("#q8-table .q8-verdict li").last).to_contain_text("a blind vote")
    expect(page.locator("#q8-caption textarea")).to_have_value("a red heart and the word LOVE in purple on a white background")
