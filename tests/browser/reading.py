"""Read off the page what an explorer shows."""

from __future__ import annotations

import time
import unicodedata
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

import htlib as ht
from tests.browser.conftest import PATIENCE, Visit

LIVE = "_static/live"
SIZES = {"n": 600, "d": 300, "h": 450, "n_test": 2000}
DEFAULT = {"optimizer": "adam", "lr": 1.0, "steps": 10, "teacher": "softplus", "labels": "real"}
DEFAULT |= {"noise_std": 0.3, "feature_scale": "paper", "seed": 0}
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


def until(page: Page, expression: str) -> None:
    """Wait until an expression holds; `wait_for_function` fails where a content policy forbids eval."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(50)


def open_page(visit: Visit, address: str) -> None:
    visit.page.goto(address)
    settle(visit.page)


def status(visit: Visit) -> str:
    return visit.page.locator(".status").inner_text()


def assert_trained(visit: Visit, **settings: Any) -> None:
    """The readout is the last row of htlib's training, to the digits that are printed."""
    # After ten steps rounding is 3e-5 of a number at the most, even beyond the stability limit.
    expected = ht.train(ht.ExperimentConfig(**SIZES, **(DEFAULT | settings)), progress=False).metrics.iloc[-1]
    for name, value in readout(visit.page).items():
        assert value == pytest.approx(expected[name], rel=2e-3), name


def assert_stored(visit: Visit, stored: list[dict[str, Any]], **settings: Any) -> None:
    """The readout is that of the stored run nearest in rate."""
    wanted, shared = DEFAULT | settings, ("optimizer", "labels", "seed")
    same = [run for run in stored if all(run[name] == wanted[name] for name in shared)]
    run = min(same, key=lambda run: abs(np.log10(run["lr"] / wanted["lr"])))
    row = {name: values[wanted["steps"]] for name, values in run["metrics"].items()}
    for name, value in readout(visit.page).items():
        assert value == pytest.approx(row[name], rel=1e-3), name
    assert f"rate {run['lr']:g}," in status(visit)
    assert f"; {row['n_outliers']} lie beyond" in description(visit.page, "esd")
