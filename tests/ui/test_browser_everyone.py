"""The page for everyone: light and dark, telephone to wide screen, by keys alone, and what a screen reader gets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browsing import TABS, WAIT, choose, generate, keep, open_tab, paint_small, visit
from tests.ui.conftest import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core (MPL-2.0)."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None and found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(("theme", "width"), [("light", 1920), ("dark", 1920), ("light", 390), ("dark", 390)])
def test_every_tab_suits_everyone(browser: Browser, server: Server, axe: str, theme: str, width: int) -> None:
    """As it is after work: no serious violation, nothing cut off at the side. Their screenshots are what CI keeps."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = visit(context, server, theme)
    page.evaluate(axe)
    paint_small(page)
    for name in TABS:
        open_tab(page, name)
        _work(page, name)
        page.wait_for_function(
            "() => !document.getAnimations().some((each) => each instanceof CSSTransition)"
        )  # nothing half faded
        found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        serious = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found if each["impact"] in _SERIOUS]
        assert serious == [], name
        keep(page, f"{name.lower().replace(' ', '-')}-{theme}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} scrolls sideways"
    context.close()


_SERIOUS = ("serious", "critical")


def _work(page: Page, tab: str) -> None:
    """Fills a tab."""
    if tab == "Generate":
        generate(page, 5, "FP8")
    elif tab == "Caption":
        expect(page.locator("#q8-canvas .q8b-box")).to_have_count(2, timeout=WAIT)
    elif tab == "Compare":
        choose(page, "q8-compared", "Q4_K_S")  # leaves FP8
        choose(page, "q8-compared", "INT8")
        page.click("#q8-compare")
        expect(page.locator("#q8-compare-status")).to_contain_text("Compared", timeout=WAIT)
        expect(page.locator("#q8-sheet")).to_be_enabled(timeout=WAIT)
    elif tab == "History":
        page.locator("#q8-gallery button img").first.click()
        expect(page.locator("#q8-details")).to_contain_text("Made", timeout=WAIT)
    elif tab == "Machine":
        expect(page.locator("#q8-memory")).to_contain_text("Denoising", timeout=WAIT)


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.locator("#q8-caption textarea").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id^=q8-], [role=tab]')?.id || document.activeElement.role"))
    assert {"q8-preset", "q8-seed", "q8-roll", "q8-variant", "q8-generate", "tab"} <= reached
