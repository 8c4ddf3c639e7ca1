"""The History and Machine tabs in a real browser."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ideogram_q8.formats.png import read_metadata
from ideogram_q8.ui.tabs.history_tab import PAGE
from tests.ui.browsing import WAIT, choose, generate, keep, open_tab, visit
from tests.ui.conftest import Server

pytestmark = pytest.mark.browser


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
    page.click("#q8-remove")
    expect(pictures).to_have_count(0, timeout=WAIT)
    page.click("#q8-undo")
    expect(pictures).to_have_count(1, timeout=WAIT)
    expect(page.locator("#q8-undo")).to_be_hidden(timeout=WAIT)
    pictures.first.click()
    expect(page.locator("#q8-details")).to_contain_text("★", timeout=WAIT)
    page.click("#q8-use")
    expect(page.locator("#q8-seed input")).to_have_value("4242", timeout=WAIT)
    expect(page.locator("#q8-picture")).to_be_visible()  # the Generate tab is open again
    assert_nothing_of_it_for_others(browser, server)


def fill_search(page: Page, words: str) -> None:
    page.locator("#q8-search input, #q8-search textarea").first.fill(words)
    page.wait_for_timeout(
        200
    )  # Gradio hears of what was typed a moment later, and Enter would look for what stood there before
    page.keyboard.press("Enter")


def assert_nothing_of_it_for_others(browser: Browser, server: Server) -> None:
    other = browser.new_context()
    page = visit(other, server)
    open_tab(page, "History")
    page.wait_for_timeout(1500)
    assert page.locator("#q8-gallery img").count() == 0
    other.close()


def add_again(server: Server, words: str) -> None:
    """Enters the newest picture again, to be found by `words`. Whose it is, the file does not say: it has the owner's sha256."""
    columns = "owner, file, created, variant, metadata"
    with closing(sqlite3.connect(server.outputs.with_name("outputs.sqlite"))) as database, database:
        newest = "id = (SELECT max(id) FROM pictures)"
        database.execute(f"INSERT INTO pictures ({columns}, words) SELECT {columns}, ? FROM pictures WHERE {newest}", (words,))


def test_older_pictures(page: Page, server: Server) -> None:
    generate(page, 31)
    for _ in range(PAGE):
        add_again(server, "one of many")
    open_tab(page, "History")
    fill_search(page, "many")
    pictures = page.locator("#q8-gallery .grid-wrap button img, #q8-gallery .thumbnail-item img")
    expect(pictures).to_have_count(PAGE, timeout=WAIT)
    expect(page.locator("#q8-older")).to_be_hidden()
    add_again(server, "one too many")
    fill_search(page, "many")
    expect(page.locator("#q8-older")).to_be_visible(timeout=WAIT)
    page.click("#q8-older")
    expect(pictures).to_have_count(PAGE + 1, timeout=WAIT)
    expect(page.locator("#q8-older")).to_be_hidden(timeout=WAIT)


def test_again_with_another_variant(page: Page) -> None:
    generate(page, 31)
    open_tab(page, "History")
    page.locator("#q8-gallery button img").first.click()
    expect(page.locator("#q8-again")).to_be_enabled(timeout=WAIT)
    page.click("#q8-again")  # with FP8, the first
    expect(page.locator("#q8-generate-status")).to_contain_text("Painted with FP8", timeout=WAIT)
    expect(page.locator("#q8-generate-status")).to_contain_text("31")


def a_picture(page: Page, server: Server) -> Path:
    """One that was made here."""
    if not any(server.outputs.glob("*-seed??-*.png")):
        generate(page, 31)
    return next(path for path in server.outputs.glob("*-seed??-*.png") if "compared" not in path.name)


def test_a_dropped_png_restores_its_settings(page: Page, server: Server) -> None:
    made = a_picture(page, server)
    seed = read_metadata(made)["seed"]
    page.locator("#q8-seed input").fill("1")
    open_tab(page, "History")
    page.locator("#q8-restore input[type=file]").set_input_files(str(made))
    expect(page.locator("#q8-seed input")).to_have_value(str(seed), timeout=WAIT)


def test_a_hostile_png_restores_nothing(page: Page, server: Server, tmp_path: Path) -> None:
    made = a_picture(page, server)
    hostile = tmp_path / "hostile.png"
    hostile.write_bytes(made.read_bytes().replace(b'"seed"', b'"sEEd"'))
    open_tab(page, "History")
    page.locator("#q8-restore input[type=file]").set_input_files(str(hostile))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("That did not work", timeout=WAIT)
    expect(alert).to_contain_text("hostile.png: the ideogram_q8 chunk is damaged")
    expect(alert).not_to_contain_text("/")  # not where the server keeps it
    alert.get_by_role("button", name="Close").click()
    expect(alert).to_be_empty()


def test_the_machine_tab(page: Page) -> None:
    open_tab(page, "Machine")
    expect(page.locator("#q8-facts")).to_contain_text("Processor", timeout=WAIT)
    expect(page.locator("#q8-facts")).to_contain_text("linear: the checkpoint has no taef2.safetensors")
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
