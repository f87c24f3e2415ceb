"""Read off the page what an explorer shows."""

from __future__ import annotations

import time
import unicodedata

from playwright.sync_api import Locator, Page


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


def readout(page: Page) -> dict[str, float]:
    cells = page.locator("tbody tr:has([data-metric])").last.locator("td")
    return {cell.get_attribute("data-metric") or "": parse(cell.inner_text()) for cell in cells.all()}


def parse(text: str) -> float:
    """A number as the page writes it: 1.84 \N{MULTIPLICATION SIGN} 10 with a raised 5, or plain."""
    plain = unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-")
    return float(plain.replace(" \N{MULTIPLICATION SIGN} 10", "e"))


def until(page: Page, expression: str, seconds: float = 30) -> None:
    """Wait until an expression holds; `wait_for_function` fails where a content policy forbids eval."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(50)
