"""The Caption tab in a real browser: boxes drawn and moved, text and form in step, the linter."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browsing import WAIT, choose, keep, open_tab, visit
from tests.ui.conftest import Server

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
    drag((0.05, 0.8), (0.95, 0.95))  # on bare ground: a new box, the others stay
    until(page, "c => c.compositional_deconstruction.elements[1].bbox.map((v) => Math.round(v / 10))", [80, 5, 95, 95])
    until(page, "c => c.compositional_deconstruction.elements[0].bbox.map((v) => Math.round(v / 10))", [15, 25, 65, 75])
    page.locator("#q8-canvas .q8b-list button").first.click()
    expect(page.locator("#q8-element-text")).to_be_visible(timeout=WAIT)  # the fields are those of the text again
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


BOXES = "c => c.compositional_deconstruction.elements.map((e) => e.bbox || null)"
TWO = """{"compositional_deconstruction": {"background": "plain teal", "elements": [
  {"type": "text", "bbox": [100, 100, 300, 900], "text": "OPEN", "desc": "white letters"},
  {"type": "obj", "bbox": [500, 300, 800, 700], "desc": "a red house"}]}}"""


def open_caption(page: Page, text: str) -> None:
    page.locator("#q8-caption textarea").fill(text)
    page.locator("#q8-caption textarea").blur()
    open_tab(page, "Caption")


def drawn(page: Page) -> list[list[int] | None]:
    """Where the boxes are seen, in thousandths of the canvas, as captions have them; None for a hidden one."""
    found: list[list[int] | None] = page.locator("#q8-canvas .q8b-box").evaluate_all(
        """all => all.map((box) => {
            if (!box.offsetParent) return null;
            const canvas = box.parentElement.getBoundingClientRect(), seen = box.getBoundingClientRect();
            const y = (v) => Math.round((v - canvas.top - 1) * 1000 / (canvas.height - 2));
            const x = (v) => Math.round((v - canvas.left - 1) * 1000 / (canvas.width - 2));
            return [y(seen.top), x(seen.left), y(seen.bottom), x(seen.right)];
        })"""
    )
    return found


def assert_drawn(page: Page, boxes: list[list[int] | None]) -> None:
    until(page, BOXES, boxes)
    seen = drawn(page)
    assert len(seen) == len(boxes)
    for found, wanted in zip(seen, boxes, strict=True):
        assert (found is None) == (wanted is None)
        assert found is None or wanted is None or all(abs(a - b) <= 3 for a, b in zip(found, wanted, strict=True)), seen


def test_keys_move_what_is_drawn(page: Page) -> None:
    open_caption(page, TWO)
    boxes = page.locator("#q8-canvas .q8b-box")
    expect(boxes).to_have_count(2, timeout=WAIT)
    boxes.nth(1).focus()
    page.keyboard.press("ArrowLeft")
    assert_drawn(page, [[100, 100, 300, 900], [500, 290, 800, 690]])
    page.keyboard.press("ArrowDown")  # the box keeps the focus
    page.keyboard.press("Shift+ArrowRight")
    assert_drawn(page, [[100, 100, 300, 900], [510, 290, 810, 700]])
    page.keyboard.press("Delete")
    assert_drawn(page, [[100, 100, 300, 900], None])
    page.keyboard.press("ArrowLeft")  # and what has no box cannot be moved
    boxes.first.focus()
    page.keyboard.press("ArrowDown")
    assert_drawn(page, [[110, 100, 310, 900], None])
    listed = page.locator("#q8-canvas .q8b-list button")
    expect(listed).to_have_text(["1 · OPEN", "2 · a red house · no box"], timeout=WAIT)
    listed.nth(1).click()
    expect(page.locator("#q8-element-desc textarea")).to_have_value("a red house", timeout=WAIT)
    draw(page, (0.2, 0.5), (0.6, 0.9))  # what has no box, and is selected, gets it
    assert_drawn(page, [[110, 100, 310, 900], [500, 200, 900, 600]])


def draw(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drags over the canvas; places as shares of its width and height."""
    canvas = page.locator("#q8-canvas .q8b-canvas").bounding_box()
    assert canvas is not None
    page.mouse.move(canvas["x"] + start[0] * canvas["width"], canvas["y"] + start[1] * canvas["height"])
    page.mouse.down()
    page.mouse.move(canvas["x"] + end[0] * canvas["width"], canvas["y"] + end[1] * canvas["height"])
    page.mouse.up()


@pytest.mark.parametrize("broken", [TWO.replace('"a red house"', "a red house"), '{"title": "SALE", ' + TWO[1:], "[1, 2, 3]"])
def test_a_text_that_cannot_be_read_is_never_overwritten(page: Page, broken: str) -> None:
    open_caption(page, TWO)
    expect(page.locator("#q8-canvas .q8b-box")).to_have_count(2, timeout=WAIT)
    text = page.locator("#q8-caption textarea")
    text.fill(broken)
    draw(page, (0.5, 0.6), (0.6, 0.7))  # at once: the page does not know yet
    expect(page.locator("#q8-lint")).to_contain_text("cannot be edited as a form", timeout=WAIT)
    expect(page.locator(".q8-editing[inert]")).to_have_count(2)
    draw(page, (0.5, 0.6), (0.6, 0.7))
    page.locator("#q8-background textarea").fill("white", force=True)
    page.wait_for_timeout(800)
    assert text.input_value() == broken
    text.fill(TWO)
    text.blur()
    expect(page.locator(".q8-editing[inert]")).to_have_count(0, timeout=WAIT)
    page.locator("#q8-background textarea").fill("black")
    until(page, "c => c.compositional_deconstruction.background", "black")


def test_whatever_changed_the_caption_can_be_undone_and_redone(page: Page) -> None:
    text = page.locator("#q8-caption textarea")
    open_caption(page, TWO)
    boxes = page.locator("#q8-canvas .q8b-box")
    expect(boxes).to_have_count(2, timeout=WAIT)
    draw(page, (0.02, 0.35), (0.3, 0.45))
    expect(boxes).to_have_count(3, timeout=WAIT)
    until(page, "c => c.compositional_deconstruction.elements.length", 3)
    drawn_text = text.input_value()
    page.locator("#q8-template input").click()
    page.get_by_role("option", name="Shop sign").click()
    until(page, "c => c.compositional_deconstruction.background", "a brick wall in the morning")
    page.wait_for_timeout(500)  # the page hears of it
    page.click("#q8-caption-undo")
    expect(text).to_have_value(drawn_text, timeout=WAIT)
    expect(boxes).to_have_count(3, timeout=WAIT)
    boxes.first.focus()
    page.keyboard.press("Control+z")
    expect(text).to_have_value(TWO, timeout=WAIT)
    expect(boxes).to_have_count(2, timeout=WAIT)
    page.click("#q8-caption-redo")
    expect(text).to_have_value(drawn_text, timeout=WAIT)
    expect(boxes).to_have_count(3, timeout=WAIT)
    page.click("#q8-element-remove")
    until(page, "c => c.compositional_deconstruction.elements.length", 2)
    text.focus()
    page.keyboard.press("Control+z")
    expect(text).to_have_value(drawn_text, timeout=WAIT)


def test_a_finger_scrolls_over_the_canvas_and_draws_nothing(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = visit(context, server)
    open_caption(page, TWO)
    canvas = page.locator("#q8-canvas .q8b-canvas")
    expect(page.locator("#q8-canvas .q8b-box")).to_have_count(2, timeout=WAIT)
    canvas.scroll_into_view_if_needed()
    expect(canvas).to_have_css("touch-action", "auto")
    before = page.locator("#q8-caption textarea").input_value()
    canvas.evaluate(
        """canvas => { const {left, top, width, height} = canvas.getBoundingClientRect();
            for (const [type, y] of [["pointerdown", 0.95], ["pointermove", 0.4], ["pointerup", 0.4]])
                canvas.dispatchEvent(new PointerEvent(type, {pointerType: "touch", pointerId: 1, bubbles: true, cancelable: true,
                    clientX: left + 0.02 * width, clientY: top + y * height})); }"""
    )
    page.wait_for_timeout(500)
    assert page.locator("#q8-caption textarea").input_value() == before
    context.close()


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
