"""Every page of the built book in a real browser: it is whole and quiet, and loads only from its own host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import HTML, Visit
from tests.browser.reading import until

ROOT = Path(__file__).parents[2]
PAGES = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
# One page of each kind, for what is dear to see: the first, a chapter, the ledger, the reference, one written
# by hand, the list of sources, and one that only the theme makes.
KINDS = [
    f"book/{name}"
    for name in (
        "index",
        "02-one-step",
        "09-ledger",
        "your-checkpoint",
        "commands",
        "glossary",
        "bibliography",
    )
]
KINDS += ["search"]
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"
# The theme has a title for the screen, in the article, and one for paper, before it.
SHOWN = (
    "[...document.querySelectorAll('.bd-article-container h1, article :is(h2, figure, table)')]"
    ".filter(e => e.checkVisibility()).length"
)


@pytest.fixture(scope="module")
def tab(context: BrowserContext) -> Iterator[Visit]:
    """One tab, in which one page follows another."""
    with context.new_page() as page:
        yield Visit(page)


def look(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto("about:blank")  # ends what the page before still does
    visit.outside.clear()
    visit.errors.clear()
    page.goto(address, wait_until="load")
    page.evaluate("document.fonts.ready")
    page.wait_for_load_state("networkidle")
    assert visit.outside == []
    assert visit.errors == []


def load_pictures(page: Page) -> None:
    """Otherwise they load when they come near."""
    page.evaluate("[...document.images].forEach(i => { i.loading = 'eager' })")
    until(page, "[...document.images].every(i => i.complete)")
    assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []


def assert_whole(page: Page) -> None:
    unset = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length"
    assert page.evaluate(unset) == 0, "formulas that were not set"
    load_pictures(page)
    distorted = (
        "[...document.querySelectorAll('article img')].filter(i => Math.abs("
        "i.clientWidth / i.clientHeight * i.naturalHeight / i.naturalWidth - 1) > 0.02).map(i => i.alt)"
    )
    assert page.evaluate(distorted) == []
    small = (
        "[...document.querySelectorAll('article picture img')].filter(i => i.naturalWidth"
        " / (i.currentSrc.endsWith('.webp') ? 4 : 2) > i.getBoundingClientRect().width).map(i => i.alt)"
    )
    assert page.evaluate(small) == [], "figures below half their size, at which their labels cannot be read"
    assert page.evaluate(SIDEWAYS) <= 0, "the page scrolls sideways"


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_page(tab: Visit, book: str, book_in_folder: str, name: str) -> None:
    """At the top of a server and, on a phone, in a folder of one; large, and on paper."""
    page = tab.page
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1280, "height": 900})
    look(tab, f"{book}{name}.html")
    assert_whole(page)
    page.set_viewport_size({"width": 640, "height": 450})
    until(page, f"{SIDEWAYS} <= 0")  # at a zoom of 200 %; charts follow a moment later
    shown = page.evaluate(SHOWN)
    page.emulate_media(media="print")
    assert page.evaluate(SHOWN) >= shown, "paper shows all that the screen shows"
    if name in PAGES:
        assert page.locator("#pst-primary-sidebar").is_hidden()

    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 360, "height": 900})
    look(tab, f"{book_in_folder}{name}.html")
    assert_whole(page)
    page.set_viewport_size({"width": 320, "height": 900})
    until(page, f"{SIDEWAYS} <= 0")  # at a zoom of 400 %


@pytest.mark.parametrize(
    "name", [name if name in KINDS else pytest.param(name, marks=pytest.mark.long) for name in PAGES]
)
def test_page_from_a_file(visit: Visit, name: str) -> None:
    """Without a server: everything is there except the explorer, whose module a browser does not load."""
    page = visit.page
    page.goto((HTML / f"{name}.html").as_uri(), wait_until="load")
    load_pictures(page)
    assert [
        error for error in visit.errors if "live/page.js" not in error and "ERR_FAILED" not in error
    ] == []
    assert page.evaluate("document.styleSheets.length") >= 1
    assert (
        page.evaluate("getComputedStyle(document.querySelector('h1')).fontSize") != "32px"
    )  # a style applies


def test_the_address_of_the_book_leads_to_its_first_page(visit: Visit, book_in_folder: str) -> None:
    visit.page.goto(book_in_folder)
    visit.page.wait_for_url(f"{book_in_folder}{PAGES[0]}.html")


def test_a_link_to_a_claim_opens_it_and_a_print_has_all(visit: Visit, book: str) -> None:
    page, opened = visit.page, "[...document.querySelectorAll('.claim-card > details[open]')]"
    names = f"{opened}.map(e => e.parentElement.id).join()"
    look(visit, f"{book}book/09-ledger.html")
    assert page.evaluate(names) == ""
    page.locator(".ledger-overview a[href='#power-law']").click()
    until(page, f"{names} === 'power-law'")
    look(visit, f"{book}book/09-ledger.html#adam-rate")
    assert page.evaluate(names) == "adam-rate"
    page.pdf()
    assert page.evaluate(f"{opened}.length") == page.locator(".claim-card").count() > 1


def test_search_finds_a_word_of_the_book(visit: Visit, book: str) -> None:
    look(visit, f"{book}search.html?q=spectrum")
    visit.page.locator("#search-results li a").first.wait_for()


def test_the_guard_sees_requests_to_other_hosts(visit: Visit, book: str) -> None:
    visit.page.goto(f"{book}search.html")
    visit.page.evaluate("fetch('https://example.org/').catch(() => {})")
    visit.page.wait_for_timeout(100)
    assert visit.outside == ["https://example.org/"]
