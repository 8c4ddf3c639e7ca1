"""The page in a real browser, on the real server: every tab by pointer and keys, in light and dark; what a screen reader gets.

With Q8_SCREENSHOTS set to a folder, pictures of the tabs are left there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from ideogram_q8.png import read_metadata
from tests.conftest import CHROMIUM
from tests.ui.conftest import Server

pytestmark = pytest.mark.browser
WAIT = 120_000
"""Milliseconds for anything that computes; the machine may be busy."""
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run"]
TABS = ("Generate", "Caption", "Compare", "Blind vote", "History", "Machine")
STEPS = 3
FIRST = '{"compositional_deconstruction": {"background": "plain teal", "elements": []}}'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES, timeout=WAIT)
        yield browser
        browser.close()


def visit(context: BrowserContext, server: Server, theme: str = "light") -> Page:
    """A page of a visitor; anything that it asks of another host, and any error in it, fails the test."""
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("request", lambda request: _assert_own(request.url, server))
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(f"{server.address}?__theme={theme}")
    page.wait_for_selector("#q8-generate")
    expect(page.locator("#q8-variant")).to_contain_text("· fits", timeout=WAIT)
    return page


def _assert_own(url: str, server: Server) -> None:
    assert url.startswith((server.address, "data:", "blob:")), f"the page asks {url}"


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, server: Server) -> Iterator[Page]:
    """A freshly loaded page that paints 64x64 in a few steps."""
    page = visit(context, server)
    choose(page, "q8-preset", "Custom")
    fill(page, "#q8-steps input[type=number]", STEPS)
    for side in ("Width, px", "Height, px"):
        fill(page, f"input[type=number][aria-label*='{side}']", 64)
    yield page
    page.close()


def choose(page: Page, group: str, name: str) -> None:
    page.locator(f"#{group} label", has_text=name).click()


def fill(page: Page, selector: str, value: object) -> None:
    page.locator(selector).first.fill(str(value))
    page.locator(selector).first.press("Tab")


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def keep(page: Page, name: str) -> None:
    """Leaves a screenshot where they are wanted."""
    folder = os.environ.get("Q8_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def natural_size(page: Page, selector: str) -> list[int]:
    """Width and height of a picture once it is loaded."""
    page.wait_for_function(
        "s => { const i = document.querySelector(s); return i && i.complete && i.naturalWidth > 0 }", arg=selector
    )
    size: list[int] = page.eval_on_selector(selector, "i => [i.naturalWidth, i.naturalHeight]")
    return size


def generate(page: Page, seed: int, variant: str = "INT8") -> None:
    choose(page, "q8-variant", variant)
    fill(page, "#q8-seed input", seed)
    page.click("#q8-generate")
    expect(page.locator("#q8-generate-status")).to_contain_text(f"Painted with {variant}", timeout=WAIT)
    expect(page.locator("#q8-generate")).to_be_enabled(timeout=WAIT)


# ---- Generate ----


def test_generate(page: Page, tmp_path: Path) -> None:
    fill(page, "#q8-count input[type=number]", 2)
    generate(page, 11)
    status = page.locator("#q8-generate-status")
    for fact in (r"Total time\s*[\d.]+ s", r"Peak memory\s*\d+ MB", r"Seed\s*12"):
        expect(status).to_contain_text(re.compile(fact))
    assert natural_size(page, "#q8-picture img") == [64, 64]
    expect(page.locator("#q8-strip img")).to_have_count(2)
    with page.expect_download() as download:
        page.locator("#q8-download").click()
    target = tmp_path / "picture.png"
    download.value.save_as(target)
    assert read_metadata(target)["seed"] == 12
    expect(page.locator("#q8-variant label", has_text="INT8")).not_to_contain_text("not built")
    keep(page, "generate")


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


def test_who_waits_is_told_how_long_the_line_is(browser: Browser, page: Page, server: Server) -> None:
    fill(page, "#q8-steps input[type=number]", 200)
    page.click("#q8-generate")
    expect(page.locator("#q8-generate-status")).to_contain_text("of 200", timeout=WAIT)
    other = browser.new_context()
    second = visit(other, server)
    second.click("#q8-generate")
    expect(second.locator("#q8-generate-status")).to_contain_text("Waiting: 1 before you", timeout=WAIT)
    second.click("#q8-generate-cancel")
    page.close()  # which cancels its picture, and lets the other go on
    expect(second.locator("#q8-generate-status")).to_contain_text("Cancelled before it started", timeout=WAIT)
    other.close()


# ---- Caption ----


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


def test_a_template(page: Page) -> None:
    open_tab(page, "Caption")
    page.locator("#q8-template input").click()
    page.get_by_role("option", name="Shop sign").click()
    until(page, "c => c.compositional_deconstruction.elements.length", 2)
    until(page, "c => c.style_description.photo", "35 mm, straight on")
    expect(page.locator("#q8-canvas .q8b-box")).to_have_count(2)


# ---- Compare ----


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


# ---- Blind vote ----


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
    keep(page, "vote")


# ---- History ----


def test_history(page: Page, browser: Browser, server: Server, tmp_path: Path) -> None:
    generate(page, 4242)
    generate(page, 77)
    open_tab(page, "History")
    pictures = page.locator("#q8-gallery .grid-wrap button img, #q8-gallery .thumbnail-item img")
    expect(pictures.first).to_be_visible(timeout=WAIT)
    fill_search(page, "4242")
    expect(pictures).to_have_count(1, timeout=WAIT)
    pictures.first.click()
    expect(page.locator("#q8-details")).to_contain_text("4242", timeout=WAIT)
    keep(page, "history")
    page.click("#q8-favourite")
    expect(page.locator("#q8-details")).to_contain_text("★", timeout=WAIT)
    fill_search(page, "nothing like it")
    expect(page.locator("#q8-details")).to_contain_text("Nothing chosen", timeout=WAIT)
    fill_search(page, "")
    expect(pictures.nth(1)).to_be_visible(timeout=WAIT)
    page.locator("#q8-favourites input").check()
    expect(pictures).to_have_count(1, timeout=WAIT)
    pictures.first.click()
    expect(page.locator("#q8-details")).to_contain_text("★", timeout=WAIT)
    page.click("#q8-use")
    expect(page.locator("#q8-seed input")).to_have_value("4242", timeout=WAIT)
    expect(page.locator("#q8-picture")).to_be_visible()  # the Generate tab is open again
    assert_nothing_of_it_for_others(browser, server)


def fill_search(page: Page, words: str) -> None:
    page.locator("#q8-search input, #q8-search textarea").first.fill(words)
    page.keyboard.press("Enter")


def assert_nothing_of_it_for_others(browser: Browser, server: Server) -> None:
    other = browser.new_context()
    page = visit(other, server)
    open_tab(page, "History")
    page.wait_for_timeout(1500)
    assert page.locator("#q8-gallery img").count() == 0
    other.close()


def test_again_with_another_variant(page: Page) -> None:
    generate(page, 31)
    open_tab(page, "History")
    page.locator("#q8-gallery button img").first.click()
    expect(page.locator("#q8-again")).to_be_enabled(timeout=WAIT)
    page.click("#q8-again")  # with FP8, the first
    expect(page.locator("#q8-generate-status")).to_contain_text("Painted with FP8", timeout=WAIT)
    expect(page.locator("#q8-generate-status")).to_contain_text("31")


def test_a_dropped_png_restores_its_settings(page: Page, server: Server) -> None:
    made = next(path for path in server.outputs.glob("*seed*.png") if "compared" not in path.name)
    seed = read_metadata(made)["seed"]
    page.locator("#q8-seed input").fill("1")
    open_tab(page, "History")
    page.locator("#q8-restore input[type=file]").set_input_files(str(made))
    expect(page.locator("#q8-seed input")).to_have_value(str(seed), timeout=WAIT)


def test_a_hostile_png_restores_nothing(page: Page, server: Server, tmp_path: Path) -> None:
    made = next(path for path in server.outputs.glob("*seed*.png") if "compared" not in path.name)
    hostile = tmp_path / "hostile.png"
    hostile.write_bytes(made.read_bytes().replace(b'"seed"', b'"sEEd"'))
    open_tab(page, "History")
    page.locator("#q8-restore input[type=file]").set_input_files(str(hostile))
    expect(page.get_by_text("chunk is damaged").first).to_be_visible(timeout=WAIT)


# ---- Machine ----


def test_the_machine_tab(page: Page) -> None:
    open_tab(page, "Machine")
    expect(page.locator("#q8-facts")).to_contain_text("Processor", timeout=WAIT)
    expect(page.locator("#q8-kernels")).to_contain_text("needs CUDA", timeout=WAIT)
    expect(page.locator("#q8-memory")).to_contain_text("Denoising", timeout=WAIT)
    first = page.locator("#q8-memory").inner_text()
    page.wait_for_function("t => document.querySelector('#q8-memory').innerText !== t", arg=first)  # it is live
    choose(page, "q8-stores", "Your pictures")
    page.click("#q8-clean")
    expect(page.locator("#q8-asked")).to_contain_text("Delete: Your pictures?", timeout=WAIT)
    keep(page, "machine")
    page.click("#q8-clean-keep")
    expect(page.locator("#q8-asked")).to_be_hidden(timeout=WAIT)
    expect(page.locator("#q8-stores")).not_to_contain_text("0 files, 0.0 MB")


# ---- for everyone ----


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core (MPL-2.0)."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None and found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("dark", 390)])
def test_no_serious_accessibility_violation(browser: Browser, server: Server, axe: str, theme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = visit(context, server, theme)
    page.evaluate(axe)
    for name in TABS:
        if width < 700 and not page.get_by_role("tab", name=name, exact=True).is_visible():
            continue  # in the menu of tabs that do not fit
        open_tab(page, name)
        page.wait_for_timeout(700)
        found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        serious = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found if each["impact"] in _SERIOUS]
        assert serious == [], name
        keep(page, f"{name.lower().replace(' ', '-')}-{theme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    context.close()


_SERIOUS = ("serious", "critical")


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.locator("#q8-caption textarea").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id^=q8-], [role=tab]')?.id || document.activeElement.role"))
    assert {"q8-preset", "q8-seed", "q8-roll", "q8-variant", "q8-generate", "tab"} <= reached
