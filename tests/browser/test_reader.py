"""What a reader does with the explorer of a page: back, compare, drag, take along, take the tour.

Oracles: the stored runs, htlib.train and htlib's predictions, from the same settings.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Route, expect

import htlib as ht
from htlib.explorer.messages import unstable_lr
from tests.browser.conftest import Visit
from tests.browser.reading import (
    assert_trained,
    choose,
    description,
    open_page,
    parse,
    pictures,
    press,
    readout,
    settle,
    status,
)

# at once, however busy the machine is
DRAG = """(slider, places) => places.forEach((place) => {
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
})"""


def test_stop_ends_a_load(first_visit: Visit, book: str) -> None:
    """The engine's files do not come; then they do."""
    visit, page = first_visit, first_visit.page
    held: list[Route] = []
    page.route("**/*.wasm", lambda route: held.append(route))
    open_page(visit, f"{book}book/03-rates.html?steps=1")
    page.get_by_role("button", name="Train here").click()
    page.get_by_text("Loading the engine").wait_for()
    stop = page.get_by_role("button", name="Stop")
    stop.focus()
    page.keyboard.press("Enter")
    assert settle(page) == "cancelled"
    assert "Stopped before the first step" in status(visit)
    assert page.evaluate("document.activeElement.textContent") == "Run"
    page.unroute("**/*.wasm")
    page.keyboard.press("Enter")
    assert settle(page) == "done"
    assert_trained(visit, steps=1)
    # the button cannot be used now, and has kept the focus
    assert page.evaluate("document.activeElement.ariaDisabled") == "true"


def test_stop_ends_the_load_of_stored_runs(first_visit: Visit, book: str) -> None:
    visit, page = first_visit, first_visit.page
    held: list[Route] = []
    page.route("**/stored-runs.json.gz", lambda route: held.append(route))
    page.goto(f"{book}book/03-rates.html?steps=1")
    page.get_by_role("button", name="Stop").click()
    assert settle(page) == "cancelled"
    page.unroute("**/stored-runs.json.gz")
    assert press(page, "Run", exact=True) == "done"
    assert status(visit).startswith("A stored run")


def test_back_restores_controls_and_picture(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html")
    seen = []

    def look() -> tuple[str, str, dict[str, str]]:
        settle(page)
        pressed = page.locator(".thumb[aria-pressed=true]").get_attribute("title") or ""
        return page.get_by_label("learning rate, typed").input_value(), pressed, pictures(page)

    slider = page.get_by_role("slider", name="Learning rate")
    for act in (
        lambda: None,
        lambda: slider.evaluate(DRAG, [-0.5, -1, -1.5]),  # one entry
        lambda: choose(page, "labels", "shuffled"),
        lambda: page.get_by_role("button", name="Losses").click(),
        lambda: press(page, "Pin as A"),
        lambda: press(page, "bulk", exact=True),
    ):
        before = page.url
        act()
        if seen:
            page.wait_for_function("url => location.href !== url", arg=before)
        seen.append(look())
    assert len({entry[:2] for entry in seen}) == 4
    assert page.locator("tr.difference").count() == 1
    for expected in seen[-2::-1]:
        page.go_back()
        page.wait_for_function(
            "rate => document.querySelector('[name=lr-value]').value === rate", arg=expected[0]
        )
        assert look() == expected
    assert page.locator("tr.difference").count() == 0
    page.go_forward()
    page.wait_for_function("() => document.querySelector('[name=lr-value]').value === '0.032'")
    assert look() == seen[1]


def test_a_pinned_run_is_compared(visit: Visit, book: str, stored: list[dict[str, Any]]) -> None:
    """Oracle: the two stored runs, and the spectrum that was in the picture before."""
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html")
    runs = {
        run["labels"]: run["metrics"]
        for run in stored
        if (run["optimizer"], run["lr"], run["seed"]) == ("adam", 1, 0)
    }
    assert page.locator("path.pinned").count() == 0
    press(page, "Pin as A")
    choose(page, "labels", "shuffled")
    settle(page)

    def assert_compared() -> None:
        names = list(readout(page))
        for row, expected in (
            ("pinned", {name: runs["real"][name][10] for name in names}),
            ("difference", {name: runs["shuffled"][name][10] - runs["real"][name][10] for name in names}),
        ):
            for name, value in expected.items():
                text = page.locator(f"td[data-{row}={name}]").inner_text()
                assert parse(text) == pytest.approx(value, rel=6e-3, abs=1e-9), (row, name)
        assert page.locator("tr.pinned th").inner_text() == "A: labels real"
        assert page.locator(".picture path.pinned").count() == 1
        assert page.locator(".key span", has_text="A").last.inner_text() == "A"

    assert_compared()
    page.wait_for_url("**pinned=adam*1*10*softplus*real*0.3*paper*0*")
    open_page(visit, page.url)
    assert_compared()
    press(page, "Remove A")
    assert page.locator("tr.pinned, path.pinned").count() == 0


def test_dragging_the_picture_moves_rate_and_steps(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html#explorer")
    page.locator(".thumbs").scroll_into_view_if_needed()
    box = page.locator(".picture > svg").bounding_box()
    rail = page.locator("input[name=lr]").bounding_box()
    assert box is not None
    assert rail is not None
    decade = (rail["width"] - 20) / 6

    def drag(x: float, to: float) -> None:
        page.mouse.move(box["x"] + x, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + to, box["y"] + 150, steps=4)
        page.mouse.up()
        settle(page)

    drag(400, 400 - decade)
    assert page.get_by_label("learning rate, typed").input_value() == "0.1"
    page.get_by_role("button", name="Losses").click()
    page.wait_for_function("() => document.querySelector('.stage').dataset.panel === 'losses'")
    drag(400, 64)  # the first step, left of which there is nothing
    assert page.locator(".htlib-explorer output").inner_text() == "0"
    drag(70, box["width"] - 20)
    assert page.locator(".htlib-explorer output").inner_text() == "10"


def test_the_exports_are_the_run(
    visit: Visit, book: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """The table and the picture hold its numbers, and the lines of Python repeat it."""
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_page(
        visit,
        f"{book}book/03-rates.html?train=1&steps=3&lr=0.5&teacher=relu&feature_scale=released-code&seed=4",
    )
    page.locator("details.export > summary").click()

    def export(name: str) -> str:
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        return file.read_text(encoding="utf-8")

    table = pd.read_csv(io.StringIO(export("Measures")), index_col="step")
    eigenvalues = pd.read_csv(io.StringIO(export("Eigenvalues")))["eigenvalue"]
    picture = ElementTree.fromstring(export("Picture"))
    words = "".join(picture.itertext())
    assert "Spectrum after step 3" in words
    assert "Adam, rate 0.5, step 3, real labels, seed 4" in words
    assert not any("var(" in value for part in picture.iter() for value in part.attrib.values())
    page.get_by_role("button", name="Python").click()
    page.get_by_text("Python copied.").wait_for()
    code = page.evaluate("navigator.clipboard.readText()")
    assert code == page.locator("pre.code").inner_text()
    assert len(code.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    run = names["run"]
    assert "alpha_hill" in capsys.readouterr().out
    assert (tmp_path / "run.png").stat().st_size > 10_000
    for name, values in run.metrics.items():
        if name in table:  # the page measures some
            np.testing.assert_allclose(table[name], values, rtol=2e-3, err_msg=str(name))
    np.testing.assert_allclose(eigenvalues, run.eigenvalues[-1], rtol=2e-3, atol=1e-2)
    assert set(readout(page)) <= set(table)
    page.get_by_role("button", name="Link", exact=True).click()
    page.get_by_text("Link copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_legends_list_what_is_drawn(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/02-one-step.html?lr=0.01&steps=0")

    def names() -> set[str]:
        return set(page.locator(".key span").all_inner_texts())

    bulk = {"eigenvalues", "Marchenko\N{EN DASH}Pastur law", "noise edge"}
    assert names() == bulk
    press(page, "bulk + spike")
    assert names() == bulk | {"beyond it", "predicted spike", "predicted bulk"}
    page.locator(".thumb.rates").click()
    page.wait_for_function("() => document.querySelector('.stage').dataset.panel === 'rates'")
    assert "your runs" not in names()
    assert {"you", "stored runs, all seeds", "critical rate of the spike", "unstable above"} <= names()
    choose(page, "labels", "noise")  # without stored runs, and without a law
    page.get_by_role("button", name="Train here").click()
    settle(page)
    assert names() == {"you", "your runs", "noise edge"}


def test_a_stored_run_says_that_it_is_saturated_and_has_overlaps(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html")
    kept = ht.load_experiment("single-run").runs()
    run = next(r for r in kept if (r.config.lr, r.config.labels, r.config.seed) == (1, "real", 0))
    found = re.search(r"the first two overlap by (\S+)\.$", description(page, "overlaps"))
    assert found is not None
    assert parse(found[1]) == pytest.approx(run.overlaps[10].after.right[0, 0], abs=0.01)
    assert not page.locator(".notice").is_visible()
    press(page, "saturates")
    assert re.match(r"Saturated: by the size of the weights about 99 %", page.locator(".notice").inner_text())
    assert description(page, "overlaps") == "Not stored for this run: train here."


@pytest.mark.parametrize("begun", ["button", "address"])
def test_the_tour(visit: Visit, book: str, begun: str) -> None:
    """Each sentence holds the numbers of its run; oracle: the preset of the stored runs, and predictions."""
    page = visit.page
    page.emulate_media(reduced_motion="reduce")
    open_page(visit, f"{book}book/03-rates.html?lr=0.1{'#tour' if begun == 'address' else ''}")
    text = page.locator(".tour p")
    assert text.get_attribute("aria-live") == "polite"
    if begun == "button":
        assert not text.is_visible()
        page.get_by_role("button", name="Take the two-minute tour").focus()
        page.keyboard.press("Enter")
    runs = {
        (r.config.lr, r.config.labels): r
        for r in ht.load_experiment("atlas").runs()
        if r.config.optimizer == "adam" and r.config.seed == 0
    }
    config = runs[1.0, "real"].config
    sizes = {name: getattr(config, name) for name in ("n", "d", "h")}
    law = ht.one_step_law(**sizes)
    size = min(config.d, config.h)
    total = f"of the {size} eigenvalues"

    def numbers() -> list[float]:
        expect(text).to_have_text(re.compile(r"[.?] .+\.$"))
        settle(page)
        return [parse(word.rstrip(".,;:")) for word in text.inner_text().split() if re.match(r"\d", word)]

    def step(count: int, words: str) -> list[float]:
        expect(page.locator(".tour .count")).to_have_text(f"{count} of 7")
        expect(text).to_contain_text(words)
        found = numbers()
        assert page.evaluate("document.activeElement.textContent") in ("Next", "Finish")
        if count < 7:
            page.keyboard.press("Enter")
        return found

    def near(found: list[float], *expected: float) -> None:
        """To the two or three digits that are written."""
        for mine, value in zip(found, expected, strict=True):
            assert mine in (float(f"{value:.2g}"), pytest.approx(value, rel=6e-3))

    start = runs[0.01, "real"].metrics
    assert start.n_outliers[0] == start.n_outliers[1] == 0
    near(step(1, f"none {total} lies beyond"), size)
    near(
        step(2, f"none {total} lies beyond"),
        0.01,
        0.01 / law.critical_lr,
        size,
        *start.alpha_hill[:2],
    )
    spike = runs[0.316, "real"]
    assert 0.01 < law.critical_lr < 0.316
    near(
        step(3, "A closed form, the green line"),
        0.316,
        0.316 / law.critical_lr,
        spike.metrics.n_outliers[1],
        size,
        spike.eigenvalues[1][-1],
        law(0.316).spectral_norm ** 2,
    )
    assert spike.eigenvalues[1][-1] == pytest.approx(law(0.316).spectral_norm ** 2, rel=0.05)
    tail = runs[1.0, "real"].metrics
    found = step(4, "at which the first step overshoots: the training loss rises")
    near(found[:1] + found[2:], 1, *tail.train_loss[:2])
    assert found[1] == pytest.approx(1 / unstable_lr(config.replace(seed=0)), rel=0.02)
    near(
        step(5, "and the Hill exponent falls"),
        tail.n_outliers[10],
        size,
        *tail.alpha_hill[[0, 10]],
    )
    found = step(6, "the test loss of the refit rises")
    assert found[:2] == pytest.approx(tail.alignment[[1, 10]], abs=0.006)
    near(found[2:], *tail.test_loss[[0, 10]])
    shuffled = runs[1.0, "shuffled"].metrics
    found = step(7, "with real labels")
    near(found, shuffled.alpha_hill[10], tail.alpha_hill[10], shuffled.n_outliers[10], size)
    # the same tail: closer to each other than a tenth of the way from noise
    assert abs(shuffled.alpha_hill[10] - tail.alpha_hill[10]) < 0.1 * (
        tail.alpha_hill[0] - tail.alpha_hill[10]
    )
    assert page.locator(".picture path.pinned").count() == 1
    page.get_by_role("button", name="Back").click()
    expect(page.locator(".tour .count")).to_have_text("6 of 7")
    expect(page.locator("path.pinned")).to_have_count(0)
    page.wait_for_timeout(500)
    assert "?lr=0.1" in page.url  # the whole tour is one entry of the history
    page.keyboard.press("Escape")
    expect(text).not_to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == "Take the two-minute tour"
    page.wait_for_url("**panel=alignment*")
    page.go_back()
    page.wait_for_function("() => document.querySelector('[name=lr-value]').value === '0.1'")
    settle(page)
    assert page.locator(".thumb.esd").get_attribute("aria-pressed") == "true"
