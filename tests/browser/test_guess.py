"""The guess of a reader in a real browser, under a strict content policy; oracles are worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from htlib.chapters import ask

STATIC = Path(__file__).parents[2] / "book" / "static"
HEAD = '<!doctype html><html lang="en"><title>Guess</title><link rel="icon" href="data:,">'
HEAD += '<script src="/guess.js" type="module"></script><link rel="stylesheet" href="/guess.css">'
ASKED = ask("Which exponent has pure noise?", [2.4, 2.5, 2.6], low=1, high=5)
ASKED += ask("How many times?", 100.0, low=1, high=10_000, log=True, unit=" times")


@pytest.fixture(params=[True], ids=["script"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page with two questions; the parameter says whether scripts run."""

    def answer(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        policy = {"content-security-policy": "default-src 'self'; img-src data:"}
        if name:
            route.fulfill(path=STATIC / name, headers=policy)
        else:
            route.fulfill(body=HEAD + ASKED, content_type="text/html; charset=utf-8", headers=policy)

    page = browser.new_page(java_script_enabled=request.param)
    errors: list[str] = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/*", answer)
    page.goto("http://book.test/")
    yield page
    assert errors == []
    page.close()


def test_the_answer_comes_after_the_guess_and_with_the_keyboard(page: Page) -> None:
    slider = page.get_by_role("slider", name="Guess first. Which exponent has pure noise?")
    status = page.get_by_role("status").first
    expect(page.get_by_text("2.50 ± 0.10")).to_have_count(0)
    slider.focus()
    slider.press("Home")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "1.02")  # one of 200 steps from 1 to 5
    slider.press("Tab")
    page.keyboard.press("Enter")
    expect(status).to_have_text("You: 1.02. The run: 2.50 ± 0.10 (3 seeds). Your guess is 1.48 too low.")
    place = "e => parseFloat(e.style.left)"
    assert page.locator(".guess-mark.run").first.evaluate(place) == pytest.approx(37.5)


def test_within_two_standard_deviations_the_guess_is_right(page: Page) -> None:
    page.get_by_role("slider").first.fill("80")  # 2.6
    page.get_by_role("button", name="Compare with the run").first.click()
    expect(page.get_by_role("status").first).to_have_text(
        "You: 2.6. The run: 2.50 ± 0.10 (3 seeds). That is it."
    )
    page.get_by_role("slider").first.fill("90")  # 2.8, three of them
    page.get_by_role("button", name="Compare with the run").first.click()
    expect(page.get_by_role("status").first).to_contain_text("0.3 too high")


def test_a_logarithmic_guess_is_off_by_a_factor(page: Page) -> None:
    page.get_by_role("slider").nth(1).fill("50")  # a quarter of four decades
    page.get_by_role("button", name="Compare with the run").nth(1).click()
    expect(page.get_by_role("status").nth(1)).to_have_text(
        "You: 10 times. The run: 100 times. Your guess is a factor of 10 too low."
    )


@pytest.mark.parametrize("page", [False], indirect=True, ids=["no script"])
def test_without_a_script_the_answer_is_folded(page: Page) -> None:
    answer = page.get_by_text("2.50 ± 0.10 (3 seeds)")
    expect(answer).to_be_hidden()
    page.get_by_text("Show the answer").first.click()
    expect(answer).to_be_visible()
