"""Read off the page what an explorer shows."""

from __future__ import annotations

import unicodedata

from playwright.sync_api import Locator, Page

CHARTS = ("esd", "alignment", "alphas", "losses", "rates", "overlaps")


def enter(field: Locator, value: str) -> None:
    field.fill(value)
    field.press("Enter")


def press(page: Page, name: str, exact: bool = False) -> str:
    """Press a button and wait; returns how the run ended."""
    page.get_by_role("button", name=name, exact=exact).click()
    return settle(page)


def settle(page: Page) -> str:
    """Wait until the newest settings were answered and drawn; returns how their run ended."""
    explorer = page.locator(".htlib-explorer[data-settled]")
    explorer.wait_for()
    return explorer.get_attribute("data-settled") or ""


def more(page: Page) -> None:
    """Open what holds the rare controls, if it is closed."""
    page.locator("details.more:not([open]) > summary").evaluate_all("all => all.forEach((e) => e.click())")


def choose(page: Page, name: str, value: str) -> None:
    """Choose one of a row of buttons or of a menu, by its value."""
    field = page.locator(f".htlib-explorer [name={name}]")
    if field.count() > 1:
        field.and_(page.locator(f"[value={value}]")).check()
    else:
        more(page)
        field.select_option(value)


def pictures(page: Page) -> dict[str, str]:
    """Return the small pictures, with what they say."""
    small = page.locator(".htlib-explorer .thumb").all()
    return {
        name: picture.inner_html() + description(page, name)
        for name, picture in zip(CHARTS, small, strict=True)
    }


def description(page: Page, chart: str) -> str:
    return page.locator(f".htlib-explorer .thumb.{chart}").get_attribute("aria-description") or ""


def readout(page: Page) -> dict[str, float]:
    cells = page.locator("tbody tr:has([data-metric])").last.locator("td")
    return {cell.get_attribute("data-metric") or "": parse(cell.inner_text()) for cell in cells.all()}


def parse(text: str) -> float:
    """A number as the page writes it: 1.84 \N{MULTIPLICATION SIGN} 10 with a raised 5, or plain."""
    plain = unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-")
    return float(plain.replace(" \N{MULTIPLICATION SIGN} 10", "e"))
