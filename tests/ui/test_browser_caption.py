"""The Caption tab in a real browser: boxes drawn and moved, text and form in step, the linter."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browsing import WAIT, choose, keep, open_tab

pytestmark = pytest.mark.browser

FIRST = '{"compositional_deconstruction": {"background": "plain teal", "elements": []}}'


def caption_of(page: Page) -> dict:
    return json.loads(page.locator("#q8-caption textarea").input_value())


def elements_of(page: Page) -> list[dict]:
    return caption_of(page)["compositional_deconstruction"]["elements"]


def until(page: Page, condition: str, value: object) -> None:
    """Waits until a JavaScript function of the caption gives a value."""
    page.wait_for_function(
        "([f, value]) => { try { const c = JSON.parse(document.querySelector('#q8-caption textarea').value);"
        " return JSON.stringify(eval(f)(c)) === JSON.stringify(value) } catch { return false } }",
        arg=[condition, value],
    )


def test_the_caption_editor(page: Page) -> None:
    page.locator("#q8-caption textarea").fill(FIRST)
    open_tab(page, "Caption")
    expect(page.locator("#q8-lint")).to_contain_text("A sound caption", timeout=WAIT)
    page.click("#q8-add-text")
    until(page, "c => c.compositional_deconstruction.elements.length", 1)
    box = page.locator("#q8-canvas .q8b-box").first
    canvas = page.locator("#q8-canvas .q8b-canvas").bounding_box()
    assert canvas is not None

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        for move, (x, y) in ((page.mouse.move, start), (None, (0, 0)), (page.mouse.move, end)):
            if move is None:
                page.mouse.down()
            else:
                move(canvas["x"] + x * canvas["width"], canvas["y"] + y * canvas["height"])
        page.mouse.up()

    assert elements_of(page)[0]["bbox"] == [350, 350, 650, 650]
    drag((0.5, 0.5), (0.4, 0.3))  # moves it
    until(page, "c => c.compositional_deconstruction.elements[0].bbox.map((v) => Math.round(v / 10))", [15, 25, 45, 55])
    drag((0.55, 0.45), (0.75, 0.65))  # its corner
    until(page, "c => c.compositional_deconstruction.elements[0].bbox.map((v) => Math.round(v / 10))", [15, 25, 65, 75])
    drag((0.05, 0.8), (0.95, 0.95))  # on bare ground: drawn anew
    until(page, "c => c.compositional_deconstruction.elements[0].bbox.map((v) => Math.round(v / 10))", [80, 5, 95, 95])
    before = elements_of(page)[0]["bbox"]
    box.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    moved = [before[0] - 10, before[1], before[2] - 10, before[3] - 10]
    until(page, "c => c.compositional_deconstruction.elements[0].bbox", moved)
    page.locator("#q8-element-text textarea, #q8-element-text input").first.fill("HELLO <b>")
    until(page, "c => c.compositional_deconstruction.elements[0].text", "HELLO <b>")
    expect(box).to_have_text("HELLO <b>")
    choose(page, "q8-style", "art")
    until(page, "c => 'art_style' in c.style_description", True)
    page.locator("#q8-palette .q8p-add").click()
    until(page, "c => c.style_description.color_palette", ["#808080"])
    keep(page, "caption")


def test_the_linter_names_faults_and_editing_mends_them(page: Page) -> None:
    open_tab(page, "Caption")
    text = page.locator("#q8-caption textarea")
    text.fill('{"compositional_deconstruction":{"elements":[{"desc":"x","bbox":[900,0,100,50]}]}}')
    text.blur()
    expect(page.locator("#q8-lint")).to_contain_text("the key background is missing", timeout=WAIT)
    expect(page.locator("#q8-lint")).to_contain_text("the box is [100, 0, 900, 50]")
    page.locator("#q8-background textarea").fill("white")
    until(page, "c => c.compositional_deconstruction.elements[0].bbox", [100, 0, 900, 50])
    expect(page.locator("#q8-lint")).to_contain_text("A sound caption", timeout=WAIT)
    text.fill("{oops")
    text.blur()
    expect(page.locator("#q8-lint")).to_contain_text("cannot be edited as a form", timeout=WAIT)


def test_expanding_is_off_where_its_weights_are_not_there(page: Page) -> None:
    open_tab(page, "Caption")
    button, reason = page.locator("#q8-expand"), "the checkpoint has no prompt_enhancer_head"
    expect(button).to_be_disabled()
    expect(button).to_have_attribute("title", re.compile(reason))
    expect(button).to_have_attribute("aria-describedby", "q8-expand-status")
    expect(page.locator("#q8-expand-status")).to_contain_text(reason)
    expect(page.locator("#q8-expand-cancel")).to_be_disabled()


def test_a_template(page: Page) -> None:
    open_tab(page, "Caption")
    page.locator("#q8-template input").click()
    page.get_by_role("option", name="Shop sign").click()
    until(page, "c => c.compositional_deconstruction.elements.length", 2)
    until(page, "c => c.style_description.photo", "35 mm, straight on")
    expect(page.locator("#q8-canvas .q8b-box")).to_have_count(2)
