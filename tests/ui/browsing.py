"""What the tests in a browser share: a visitor's page, and what a visitor does. Q8_SCREENSHOTS names a folder for pictures of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.ui.conftest import Server

WAIT = 120_000
"""Milliseconds for anything that computes; the machine may be busy."""
TABS = ("Generate", "Caption", "Compare", "Blind vote", "History", "Machine")
STEPS = 3


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


def paint_small(page: Page, steps: int = STEPS) -> None:
    """64x64 in a few steps from now on."""
    choose(page, "q8-preset", "Custom")
    fill(page, "#q8-steps input[type=number]", steps)
    for side in ("Width", "Height"):
        fill(page, f"input[type=number][aria-label*='{side}']", 64)


def choose(page: Page, group: str, name: str) -> None:
    page.locator(f"#{group} label", has_text=name).click()


def fill(page: Page, selector: str, value: object) -> None:
    page.locator(selector).first.fill(str(value))
    page.locator(selector).first.press("Tab")


def open_tab(page: Page, name: str) -> None:
    """Where there is no room for all tabs, some are in a menu."""
    tab = page.get_by_role("tab", name=name, exact=True).first
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def generate(page: Page, seed: int, variant: str = "INT8", count: int = 1) -> None:
    """Waits for the last picture of a batch: of those before it the page shows only as much as it has time for."""
    choose(page, "q8-variant", variant)
    fill(page, "#q8-count input[type=number]", count)
    fill(page, "#q8-seed input", seed)
    page.click("#q8-generate")
    painted = re.compile(rf"Painted with {variant}[\s\S]*Seed\s*{seed + count - 1}\b")  # and not what was painted before
    expect(page.locator("#q8-generate-status")).to_contain_text(painted, timeout=WAIT)
    expect(page.locator("#q8-generate")).to_be_enabled(timeout=WAIT)


def natural_size(page: Page, selector: str) -> list[int]:
    """Width and height of a picture once it is loaded."""
    page.wait_for_function(
        "s => { const i = document.querySelector(s); return i && i.complete && i.naturalWidth > 0 }", arg=selector
    )
    size: list[int] = page.eval_on_selector(selector, "i => [i.naturalWidth, i.naturalHeight]")
    return size


def keep(page: Page, name: str) -> None:
    """Leaves a screenshot where they are wanted."""
    folder = os.environ.get("Q8_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
