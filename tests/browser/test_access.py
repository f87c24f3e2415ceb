"""The pages with a keyboard, a screen reader, a theme or a phone.  Oracle: the rules of axe-core."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from tests.browser.conftest import Visit
from tests.browser.reading import until
from tests.browser.test_pages import KINDS, PAGES, look

AXE = Path(__file__).parents[2] / "live" / "node_modules" / "axe-core" / "axe.min.js"
# Screen readers skip the glyphs of a formula and read its MathML, which axe does not count as text.
# By default axe leaves out the size of targets, which came with WCAG 2.2.
OPTIONS = "{ resultTypes: ['violations'], rules: { 'target-size': { enabled: true } } }"
RUN = f"axe.run({{ exclude: [['mjx-container'], ['th:has(math)']] }}, {OPTIONS})"
Theme = Literal["light", "dark"]


def barriers(visit: Visit) -> list[str]:
    violations: list[Any] = visit.page.evaluate(RUN)["violations"]
    return [f"{v['id']}: {node['target']} {node['html'][:200]}" for v in violations for node in v["nodes"]]


def open_with_axe(visit: Visit, address: str) -> None:
    look(visit, address)
    if visit.page.locator("[data-explorer], .htlib-explorer").count():
        visit.page.locator(".htlib-explorer[data-settled]").wait_for()
    visit.page.evaluate(AXE.read_text(encoding="utf-8"))


def assert_no_barriers(visit: Visit, looks: list[tuple[int, Theme]]) -> None:
    """In each theme and width; 320 is a phone, or a screen at a zoom of 400 %."""
    page = visit.page
    for width, theme in looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        until(page, f"document.documentElement.dataset.theme === '{theme}'")
        page.wait_for_timeout(500)  # the theme finds what scrolls a moment after a change of size
        assert barriers(visit) == [], (width, theme)


@pytest.mark.parametrize("name", KINDS)
def test_no_barriers(visit: Visit, book: str, name: str) -> None:
    """On a light screen and a dark phone."""
    open_with_axe(visit, f"{book}{name}.html")
    assert_no_barriers(visit, [(1280, "light"), (320, "dark")])


@pytest.mark.long
@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_no_barriers_on_any_page(visit: Visit, book: str, name: str) -> None:
    open_with_axe(visit, f"{book}{name}.html")
    assert_no_barriers(visit, [(width, theme) for width in (1280, 320) for theme in ("light", "dark")])


@pytest.mark.long
def test_no_barriers_with_all_of_the_explorer_open(visit: Visit, book: str) -> None:
    """The tour, both menus, and a run that is compared with another."""
    page = visit.page
    page.emulate_media(reduced_motion="reduce")
    pinned = "adam*1*10*softplus*real*0.3*paper*0"
    open_with_axe(visit, f"{book}{KINDS[1]}.html?labels=shuffled&pinned={pinned}")
    for menu in page.locator(".htlib-explorer summary").all():
        menu.click()
    page.get_by_role("button", name="Python").click()
    assert_no_barriers(visit, [(1280, "dark"), (320, "light")])
    page.get_by_role("button", name="Take the two-minute tour").press("Enter")  # a mouse would stay on a link
    page.get_by_text("Before training the weights").wait_for()
    assert_no_barriers(visit, [(1280, "light"), (320, "dark")])


def test_barriers_are_seen(visit: Visit, book: str) -> None:
    open_with_axe(visit, f"{book}search.html")
    faults = '<img src="a.png"><p style="color: #999; background: #fff">pale</p><button></button>'
    faults += 2 * '<button style="all: unset; display: block; font-size: 8px">small</button>'
    visit.page.evaluate(
        "html => document.querySelector('main').insertAdjacentHTML('beforeend', html)", faults
    )
    found = {barrier.split(":")[0] for barrier in barriers(visit)}
    assert found >= {"image-alt", "color-contrast", "button-name", "target-size"}


@pytest.mark.parametrize(("theme", "other"), [("light", "dark"), ("dark", "light")])
def test_pictures_have_the_theme_of_the_page(visit: Visit, book: str, theme: Theme, other: Theme) -> None:
    """And not that of the system: the corner of a figure has the colour of the page around it."""
    page = visit.page
    page.emulate_media(color_scheme=other)
    page.add_init_script(f"localStorage.setItem('mode', '{theme}')")
    look(visit, f"{book}{PAGES[1]}.html")
    figure = page.locator("article picture img").first
    figure.scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    corner = Image.open(io.BytesIO(figure.screenshot())).convert("RGB").getpixel((2, 2))
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == f"rgb{corner}"


def test_solutions_have_names(visit: Visit, book: str) -> None:
    look(visit, f"{book}{PAGES[1]}.html")
    button = visit.page.get_by_role("button", name="Show or hide: Solution to Exercise 1.1")
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"


def test_the_keyboard_reaches_text_and_controls(visit: Visit, book: str) -> None:
    """The first stop leads past the menus; no stop is a trap; the controls of the explorer are stops."""
    page = visit.page
    open_with_axe(visit, f"{book}{PAGES[0]}.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    page.keyboard.press("Enter")
    where = "e => e.closest('.htlib-explorer') ? 'explorer' : e.outerHTML.slice(0, 120)"
    stops = []
    for _ in range(80):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(f"({where})(document.activeElement)"))
    assert "explorer" in stops
    assert len(set(stops)) > 20
