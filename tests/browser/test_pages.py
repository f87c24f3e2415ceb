"""Every page of the built book in a real browser: it is whole and quiet, and loads only from its own host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import HTML

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

ROOT = Path(__file__).parents[2]
PAGES = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())


def look(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(address, wait_until="load")
    page.evaluate("document.fonts.ready")
    page.wait_for_load_state("networkidle")
    assert visit.outside == []
    assert visit.errors == []


@pytest.mark.parametrize(("visit", "place"), [(1280, "book"), (360, "book_in_folder")], indirect=["visit"])
@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_page(visit: Visit, place: str, name: str, request: pytest.FixtureRequest) -> None:
    """At the top of a server and, on a phone, in a folder of one."""
    look(visit, f"{request.getfixturevalue(place)}{name}.html")
    page = visit.page
    unset = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length"
    assert page.evaluate(unset) == 0, "formulas that were not set"
    # pictures load when they come near
    page.evaluate("[...document.images].forEach(i => { i.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
    assert page.evaluate(broken) == []
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
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
        "the page scrolls sideways"
    )


@pytest.mark.parametrize("name", PAGES)
def test_page_from_a_file(visit: Visit, name: str) -> None:
    """Without a server: everything is there except the explorer, whose module a browser does not load."""
    page = visit.page
    page.unroute_all()
    page.goto((HTML / f"{name}.html").as_uri(), wait_until="load")
    page.evaluate("[...document.images].forEach(i => { i.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
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


def test_search_finds_a_word_of_the_book(visit: Visit, book: str) -> None:
    look(visit, f"{book}search.html?q=spectrum")
    visit.page.locator("#search-results li a").first.wait_for()


def test_the_guard_sees_requests_to_other_hosts(visit: Visit, book: str) -> None:
    visit.page.goto(f"{book}search.html")
    visit.page.evaluate("fetch('https://example.org/').catch(() => {})")
    visit.page.wait_for_timeout(100)
    assert visit.outside == ["https://example.org/"]
