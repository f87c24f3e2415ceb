"""The view of a model's layers from a kernel; the oracle of what it shows is `htlib.analyze`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, expect

import htlib as ht
from htlib.explorer.model import Layers
from tests.browser.test_access import AXE
from tests.browser.test_checkpoint import assert_same, table_of
from tests.browser.test_pages import SIDEWAYS

# A model as anywidget hands it to render(), whose kernel is the function `ask` of the test.  Its element
# comes into the page only afterwards, as in JupyterLab.
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Layers</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>{css}
body[data-jp-theme-light="false"] {{ background: #111; }}</style>
<body data-jp-theme-light="{light}"><main></main></body></html>"""
MOUNT = """async ([source, content]) => {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const { default: widget } = await import(address);
    const callbacks = [], el = document.createElement("div");
    const model = {
        get: (name) => ({ content })[name],
        on: (name, callback) => callbacks.push(callback),
        off: (name, callback) => callbacks.splice(callbacks.indexOf(callback), 1),
        send: async (message) => {
            const [answer, buffers] = await window.ask(message);
            // as in Jupyter, the bytes begin anywhere in a larger buffer
            const views = buffers.map((bytes) => new DataView(Uint8Array.from([0, ...bytes]).buffer, 1));
            callbacks.forEach((callback) => callback(answer, views));
        },
    };
    window.leave = widget.render({ model, el });
    window.listeners = callbacks;
    document.querySelector("main").append(el);
}"""
DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", " \N{MULTIPLICATION SIGN} "


class Shown:
    """A widget on a page of its own, and what the page asked its kernel."""

    def __init__(self, page: Page, widget: Layers, light: bool = True) -> None:
        self.page, self.asked, self.problems = page, list[dict[str, Any]](), list[str]()
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        sent: list[Any] = []
        widget.send = lambda content, buffers=None: sent.append([content, [list(b) for b in buffers or []]])

        def ask(message: dict[str, Any]) -> Any:
            self.asked.append(message)
            widget._receive(widget, message, [])
            return sent.pop()

        page.expose_function("ask", ask)
        page.set_content(PAGE.format(css=widget._css, light=str(light).lower()))
        page.evaluate(MOUNT, [widget._esm, json.loads(json.dumps(widget.content, allow_nan=False))])
        widget.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Shown]]:
    """Show a widget; at the end there must not be an error in the page."""
    shown: list[Shown] = []

    def show(widget: Layers, width: int = 1280, **looks: Any) -> Shown:
        page = browser.new_page(viewport={"width": width, "height": 900})
        shown.append(Shown(page, widget, **looks))
        return shown[-1]

    yield show
    for one in shown:
        one.page.close()
        assert one.problems == []


def weights(scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    spiked = torch.randn(60, 40, generator=generator)
    spiked[0] += 6 * scale
    dead = torch.randn(90, 30, generator=generator)
    dead[10:40] = 0
    return {
        "a.weight": spiked,
        "conv.weight": torch.randn(24, 16, 3, 3, generator=generator),
        "b.weight": dead,
        "norm.weight": torch.ones(30),
    }


def written(value: float) -> str:
    """A number of everyday size, as the page writes it."""
    return f"{float(f'{value:.4g}'):g}".replace("-", MINUS)


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_the_table_and_the_chosen_layer_are_those_of_analyze(show, tmp_path: Path) -> None:
    expected = ht.analyze(weights(), progress=False)
    shown = show(ht.explorer.layers(weights(), progress=False))
    page = shown.page
    page.locator("tr.chosen").wait_for()
    assert column(page, 1) == expected.name.tolist()
    for place, name in ((2, "alpha_hill"), (3, "alpha_hill_null"), (4, "alpha_hill_z"), (6, "alpha_ks")):
        assert column(page, place) == [written(value) for value in expected[name]], name
    assert column(page, 5) == expected.verdict.tolist()
    status = page.get_by_role("status").inner_text()
    assert status.startswith("3 analysed, 1 left out. By PL_Alpha_Hill, of 3 spectra: ")
    assert_same(table_of(page, tmp_path).assign(file=""), expected)
    # the keyboard chooses a layer, whose eigenvalues come from the kernel
    page.get_by_role("button", name="conv.weight").press("Enter")
    page.get_by_role("heading", name="conv.weight").wait_for()
    assert f"9{TIMES}24{TIMES}16" in page.locator(".layer").inner_text()
    page.get_by_role("img", name="Density of the 144 eigenvalues of conv.weight").wait_for()
    assert shown.asked == [{"type": "spectrum", "index": 0}, {"type": "spectrum", "index": 1}]
    # a click in the picture of all layers chooses too, and a known spectrum is not asked for again
    page.locator(".model .target").click(position={"x": 5, "y": 60})
    page.get_by_role("img", name="Density of the 40 eigenvalues of a.weight").wait_for()
    assert len(shown.asked) == 2
    page.evaluate("leave()")
    assert page.evaluate("listeners.length") == 0


def test_the_bars_are_a_histogram_of_the_eigenvalues(show) -> None:
    """Oracle: NumPy's histogram, from a little below the smallest value to a little above the largest."""
    page = show(ht.explorer.layers({"w": weights()["conv.weight"]}, progress=False)).page
    page.get_by_role("img", name="Density of the 144 eigenvalues").wait_for()
    row = ht.analyze({"w": weights()["conv.weight"]}, keep_eigenvalues=True, progress=False).iloc[0]
    (h, d), values = row["shape"], row["eigenvalues"]
    noise = ht.MarchenkoPastur.of_gaussian_esd(h, d, row["frobenius_norm"] ** 2 / (9 * h * d))
    ends = np.log10([values[0] / 1.2, 1.25 * max(values[-1], noise.support[1])])
    expected, _ = np.histogram(np.log10(values), 24, tuple(ends))
    heights = page.eval_on_selector_all(
        "rect.bar", "(bars) => bars.map((bar) => Number(bar.getAttribute('height')))"
    )
    np.testing.assert_allclose(144 * np.array(heights) / sum(heights), expected[expected > 0], rtol=1e-9)


def test_two_models_are_compared(show, tmp_path: Path) -> None:
    page = show(ht.explorer.layers(weights(), against=weights(2.0), progress=False)).page
    page.get_by_role("heading", name="What changed").wait_for()
    expected = ht.compare_models(weights(), weights(2.0), progress=False)
    assert page.get_by_text("3 compared, 1 left out").count() == 1
    assert page.get_by_role("img", name="PL_Alpha_Hill of 3 layers before and after").count() == 1
    assert_same(table_of(page, tmp_path, 1), expected)


def test_a_model_without_weight_matrices_says_why(show) -> None:
    page = show(ht.explorer.layers({"bias": torch.ones(30)}, progress=False)).page
    assert "0 analysed, 1 left out. No weight matrix" in page.get_by_role("status").inner_text()
    assert "a vector (bias or normalisation): bias" in page.get_by_role("listitem").inner_text()
    assert page.get_by_role("table").count() == 0


def test_columns_and_words_follow_the_null(show) -> None:
    bare = show(ht.explorer.layers(weights(), null=None, progress=False)).page
    bare.get_by_role("heading", name="a.weight").wait_for()
    assert "noise" not in bare.locator(".model, dl").all_inner_texts()[0]
    assert bare.get_by_role("columnheader", name="verdict").count() == 0
    options: dict[str, Any] = {"null": "shuffle", "n_replicates": 3, "include": "a.*", "progress": False}
    shuffled = show(ht.explorer.layers(weights(), **options)).page
    shuffled.locator(".model").get_by_text("the same entries, shuffled").wait_for()


def test_what_is_unknown_is_a_dash(show) -> None:
    """Of a layer whose largest eigenvalues only are computed, there is no spectrum to draw."""
    page = show(ht.explorer.layers({"w": weights()["a.weight"]}, top=15, progress=False)).page
    page.get_by_text("Only its largest eigenvalues were computed").wait_for()
    assert column(page, 2) == column(page, 3) == [DASH]
    assert page.locator("svg text", has_text="NaN").count() == 0


def test_many_layers_scroll_and_can_be_sorted(show) -> None:
    generator = torch.Generator().manual_seed(0)
    model = {f"l{i}": torch.randn(14, 12, generator=generator) for i in range(300)}
    widget = ht.explorer.layers(model, null=None, progress=False)
    page = show(widget).page
    page.locator("tr.chosen").wait_for()
    expect(page.locator("tbody tr")).to_have_count(300)
    inside, all_of_it = page.locator(".scroll").evaluate("e => [e.clientHeight, e.scrollHeight]")
    assert inside < 500 < 300 * 20 < all_of_it
    page.get_by_role("button", name="Hill").click()
    order = widget.table.sort_values("alpha_hill", ascending=False)["name"].tolist()
    assert page.locator("tbody th").all_text_contents() == order
    # a line has its numbers when it comes near
    assert page.locator("tbody tr").last.locator("td").count() == 0
    page.locator(".scroll").evaluate("e => e.scrollTo(0, e.scrollHeight)")
    last = widget.table.set_index("name").loc[order[-1]]
    expect(page.locator("tbody tr").last.locator("td").first).to_have_text(written(last.alpha_hill))
    page.get_by_role("button", name=order[-1], exact=True).press("Enter")
    page.get_by_role("img", name=f"Density of the 12 eigenvalues of {order[-1]} ").wait_for()


@pytest.mark.parametrize(("width", "light"), [(1280, True), (390, False)])
def test_there_are_no_barriers_and_it_fits(show, width: int, light: bool, tmp_path: Path) -> None:
    page = show(ht.explorer.layers(weights(), against=weights(2.0), progress=False), width, light=light).page
    page.get_by_role("img", name="Share of the eigenvalues of a.weight").wait_for()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run('main', { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate(SIDEWAYS) <= 0
    page.screenshot(path=tmp_path / f"layers-{width}.png", full_page=True)
