"""The explorer in a real browser: its front end by itself, and inside JupyterLab."""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

import htlib as ht
from htlib.explorer import widget as widgets
from htlib.explorer.trainer import KernelEngine
from tests.browser.conftest import PATIENCE
from tests.browser.reading import CHARTS, choose, enter, more, pictures, readout, settle

FINAL = {"done", "cancelled", "diverged", "error"}
SETTINGS = ("optimizer", "lr", "steps", "teacher", "labels", "noise_std", "feature_scale", "seed")
# layers that two lines of a notebook can make
LAYERS = "{name: np.random.default_rng(len(name)).standard_normal((60, 40)) for name in ('w', 'of')}"
SIZES = {"n": 200, "d": 60, "h": 90, "n_test": 300}

# A model as anywidget hands it to render(), whose kernel is the function `ask` of the test.
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/explorer.css"><body><main></main><script type="module">
import explorer from "/explorer.js";
const callbacks = [], options = await window.options();
window.model = {
  get: (name) => ({ options })[name],
  on: (name, callback) => callbacks.push(callback),
  off: (name, callback) => callbacks.splice(callbacks.indexOf(callback), 1),
  send: async (message) => {
    if (window.silent) return window.sent.push(message);
    for (const answer of await window.ask(message)) hear(answer);
  },
};
window.sent = [];
window.hear = (answer) => callbacks.forEach((callback) => callback(answer, []));
window.leave = explorer.render({ model: window.model, el: document.querySelector("main") });
</script></body></html>"""


class Kernel:
    """Answers the page with messages of a real engine."""

    def __init__(self, config: ht.ExperimentConfig) -> None:
        self.options = widgets.Explorer(config).options
        self.engine = KernelEngine(config)
        self.asked: list[dict[str, Any]] = []

    def ask(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked.append(message)
        if message["type"] == "cancel":
            return []
        answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.engine.request(message["settings"], answers.put, id=message["id"])
        received = [answers.get(timeout=PATIENCE)]
        while received[-1]["type"] not in FINAL:
            received.append(answers.get(timeout=PATIENCE))
        return json.loads(json.dumps(received))


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    folder = Path(widgets.__file__).parent / "static"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[tuple[Page, Kernel]]:
    """The explorer on a page of its own; the parameter holds fields of the configuration."""
    kernel = Kernel(ht.ExperimentConfig(**{**SIZES, **getattr(request, "param", {})}))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((address, "data:")) else problems.append(r.url))
    page.expose_function("ask", kernel.ask)
    page.expose_function("options", lambda: kernel.options)
    page.goto(address)
    yield page, kernel
    page.close()
    kernel.engine.close(60)
    assert problems == []


def assert_shows(page: Page, config: ht.ExperimentConfig) -> None:
    """The readout is the last row of a training run, to the digits that are printed."""
    expected = ht.train(config).metrics.iloc[-1]
    for name, value in readout(page).items():
        assert value == pytest.approx(expected[name], rel=6e-3 if abs(value) >= 1e5 else 6e-4), name


@pytest.mark.parametrize("width", [1280, 360])
def test_every_part_is_there_and_fits(opened: tuple[Page, Kernel], width: int, tmp_path: Path) -> None:
    page, kernel = opened
    settle(page)
    page.set_viewport_size({"width": width, "height": 900})
    settle(page)
    page.wait_for_function("() => document.querySelector('.picture > svg').clientWidth < innerWidth")
    page.screenshot(path=tmp_path / f"explorer-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    large = page.locator(".picture > svg").bounding_box()
    small = [page.locator(f".thumb.{name}").bounding_box() for name in CHARTS]
    assert large is not None
    assert large["width"] > (300 if width == 360 else 600)
    # beside the large picture, or in one row below it
    for box in small:
        assert box is not None
        assert (
            box["y"] > large["y"] + large["height"]
            if width == 360
            else box["x"] > large["x"] + large["width"]
        )
        assert box["width"] >= 44
        assert box["height"] >= 44
    # Nothing drawn leaves its chart, so no label is cut off; each picture can be the large one.
    for name in CHARTS:
        page.locator(f".thumb.{name}").click()
        page.wait_for_function("name => document.querySelector('.stage').dataset.panel === name", arg=name)
        overflow = page.eval_on_selector_all(
            ".picture > svg, .zones",
            """(charts) => charts.flatMap((svg) => {
                const outer = svg.getBoundingClientRect();
                return [...svg.querySelectorAll("text, rect, path")].filter((e) => {
                    const b = e.getBoundingClientRect();
                    const beside = b.left < outer.left - 1 || b.right > outer.right + 1;
                    return beside || b.bottom > outer.bottom + 1;
                }).map((e) => e.outerHTML);
            })""",
        )
        assert overflow == []
    assert_shows(page, kernel.engine.config)


def test_each_control_changes_request_numbers_and_pictures(opened: tuple[Page, Kernel]) -> None:
    page, kernel = opened
    settle(page)
    config = kernel.engine.config

    def moves(change: Any, expected: set[str], **fields: Any) -> None:
        nonlocal config
        before = pictures(page)
        change()
        settle(page)
        config = config.replace(**fields)
        assert kernel.asked[-1]["settings"] == {name: getattr(config, name) for name in SETTINGS}
        after = pictures(page)
        assert {name for name in after if after[name] != before[name]} == expected
        assert_shows(page, config)

    everything = set(CHARTS)
    slider = page.get_by_role("slider", name="Learning rate")
    typed = page.get_by_label("learning rate, typed")
    steps = page.get_by_role("slider", name="Steps")
    seed = page.get_by_role("spinbutton", name="Seed")
    more(page)
    moves(lambda: slider.press("ArrowRight"), everything, lr=1.1)
    moves(lambda: slider.fill("-1"), everything, lr=0.1)
    moves(lambda: enter(typed, "2.5e0"), everything, lr=2.5)
    moves(lambda: steps.press("ArrowLeft"), everything, steps=9)
    moves(lambda: choose(page, "optimizer", "gd"), everything, optimizer="gd")
    moves(lambda: enter(typed, "200"), everything, lr=200.0)
    moves(lambda: choose(page, "teacher", "hermite3"), everything, teacher="hermite3")
    moves(lambda: choose(page, "noise_std", "1"), everything, noise_std=1.0)
    moves(lambda: enter(seed, "12"), everything, seed=12)
    moves(lambda: choose(page, "labels", "noise"), everything, labels="noise")
    # The features are those of the refit: its losses and its kernel's alignment move, nothing else.
    scaled = {"losses", "alignment"}
    moves(lambda: choose(page, "feature_scale", "released-code"), scaled, feature_scale="released-code")


@pytest.mark.parametrize("opened", [{"optimizer": "gd", "lr": 1e9, "activation": "relu"}], indirect=True)
def test_a_diverged_run_shows_what_it_has(opened: tuple[Page, Kernel]) -> None:
    page, kernel = opened
    run = ht.train(kernel.engine.config)
    assert settle(page) == "diverged"
    assert f"Diverged: at step {run.diverged_at} " in page.locator(".status").inner_text()
    page.get_by_role("button", name="Losses").click()
    expect(page.locator(".picture text", has_text="diverged")).to_have_count(2)
    assert_shows(page, kernel.engine.config)
    assert page.get_by_label("learning rate, typed").input_value() == "1e9"
    assert page.get_by_role("button", name="Stop").is_disabled()


@pytest.mark.parametrize("opened", [{"lr": 1000.0}], indirect=True)
def test_a_saturated_run_has_a_notice(opened: tuple[Page, Kernel]) -> None:
    page, _ = opened
    settle(page)
    assert page.locator(".notice").inner_text().startswith("Saturated: 9")
    enter(page.get_by_label("learning rate, typed"), "0.01")
    settle(page)
    assert not page.locator(".notice").is_visible()


def test_an_error_is_shown_and_dims_the_old_picture(opened: tuple[Page, Kernel]) -> None:
    page, kernel = opened
    settle(page)
    typed = page.get_by_label("learning rate, typed")
    enter(typed, "-1")
    assert settle(page) == "error"
    assert "lr must be finite and not negative; got -1" in page.locator(".status").inner_text()
    assert page.locator(".charts.stale").count() == 1
    asked = len(kernel.asked)
    enter(typed, "")
    page.get_by_text("the learning rate must be a number").wait_for()
    assert len(kernel.asked) == asked
    enter(typed, "2")
    assert settle(page) == "done"
    assert page.locator(".charts.stale").count() == 0


def test_linear_and_logarithmic_counts(opened: tuple[Page, Kernel]) -> None:
    page, kernel = opened
    settle(page)
    log = page.locator(".picture > svg").inner_html()
    more(page)
    page.get_by_label("log counts").uncheck()
    page.wait_for_function("(log) => document.querySelector('.picture > svg').innerHTML !== log", arg=log)
    heights = page.eval_on_selector_all(
        ".picture > svg > rect", "(bars) => bars.map((bar) => Number(bar.getAttribute('height')))"
    )
    # On a linear axis heights are proportional to counts, which are whole and add up to all of them.
    eigenvalues = ht.train(kernel.engine.config).eigenvalues[-1]
    counts = np.array(heights) * len(eigenvalues) / sum(heights)
    np.testing.assert_allclose(counts, np.maximum(1, np.rint(counts)), atol=1e-6)


@pytest.fixture
def silent(browser: Browser, address: str) -> Iterator[tuple[Page, Kernel]]:
    """A page whose kernel sends only the messages of the test."""
    kernel = Kernel(ht.ExperimentConfig(**SIZES))
    page = browser.new_page()
    page.add_init_script("window.silent = true")
    page.expose_function("options", lambda: kernel.options)
    page.goto(address)
    page.wait_for_function("() => window.sent?.length === 1")
    yield page, kernel
    page.close()
    kernel.engine.close(60)


def say(page: Page, messages: list[dict[str, Any]], id: int) -> None:
    page.evaluate("([messages, id]) => messages.forEach((m) => hear({ ...m, id }))", [messages, id])


def test_a_page_without_a_kernel_says_so(silent: tuple[Page, Kernel]) -> None:
    page, _ = silent
    page.get_by_text("No answer from the kernel yet").wait_for()


def test_progress_stop_and_going_on(silent: tuple[Page, Kernel]) -> None:
    page, kernel = silent
    answer = kernel.ask({"type": "request", "id": 0, "settings": {"steps": 4}})
    request = page.evaluate("sent[0]")
    settings = {name: getattr(kernel.engine.config, name) for name in SETTINGS}
    assert request == {"type": "request", "id": request["id"], "settings": settings}
    say(page, [{"type": "progress", "phase": "start", "step": 0, "steps": 10}], request["id"])
    page.get_by_text("Waiting for the kernel").wait_for(state="detached")
    bar = page.get_by_role("progressbar")
    assert bar.get_attribute("value") is None
    say(page, [m for m in answer if m["type"] in ("start", "snapshots")], request["id"])
    page.get_by_text("Training at n = 200, d = 60, h = 90: 10 steps.").wait_for()
    page.locator("tbody tr").last.locator("th", has_text="4").wait_for()
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("4", "10")
    assert page.locator(".htlib-explorer").get_attribute("aria-busy") == "true"
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("sent[1]") == {"type": "cancel", "id": request["id"]}
    say(page, [{"type": "cancelled", "step": 4, "message": None}], request["id"])
    page.get_by_text("Stopped after step 4 of 10").wait_for()
    page.get_by_role("button", name="Run").click()
    again = page.evaluate("sent[2]")
    assert (again["type"], again["settings"]) == ("request", request["settings"])
    assert again["id"] != request["id"]


def test_dragging_asks_for_the_first_and_the_last_position(silent: tuple[Page, Kernel]) -> None:
    page, kernel = silent
    answer = kernel.ask({"type": "request", "id": 0, "settings": {}})
    say(page, answer, page.evaluate("sent[0].id"))
    settle(page)
    before = pictures(page)
    page.evaluate(
        """() => {
            const slider = document.querySelector("input[name=lr]");
            for (const x of [0.5, 1, 1.5, 2]) {
                slider.value = x;
                slider.dispatchEvent(new Event("input"));
            }
        }"""
    )
    page.wait_for_function("() => sent.length === 3")
    sent = page.evaluate("sent")
    assert [message["settings"]["lr"] for message in sent[1:]] == [3.2, 100]
    # The answer to the position that was passed over is not drawn.
    say(page, kernel.ask({"type": "request", "id": 0, "settings": {"lr": 3.2}}), sent[1]["id"])
    assert page.locator("[data-settled]").count() == 0
    assert pictures(page) == before
    say(page, kernel.ask({"type": "request", "id": 0, "settings": {"lr": 100.0}}), sent[2]["id"])
    settle(page)
    assert_shows(page, kernel.engine.config.replace(lr=100.0))


def test_leaving_the_page_stops_the_run(silent: tuple[Page, Kernel]) -> None:
    page, _ = silent
    first = page.evaluate("(leave(), sent)")
    assert first[1] == {"type": "cancel", "id": first[0]["id"]}
    say(page, [{"type": "done", "step": 0, "message": None}], first[0]["id"])
    assert page.locator("[data-settled]").count() == 0


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab on this machine with a notebook for each of our widgets; its address."""
    root = tmp_path_factory.mktemp("lab")
    codes = {
        "explorer": f"ht.explorer.Explorer(ht.ExperimentConfig(**{SIZES}))",
        "layers": f"import numpy as np\nht.explorer.layers({LAYERS})",
    }
    for name, code in codes.items():
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        cells = [nbformat.v4.new_code_cell(f"import htlib as ht\n{code}")]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, root / f"{name}.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    lab_folders = ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {name: str(root / f".{name.lower()}") for name in folders + lab_folders}
    # Threads of torch that spin for work on a busy machine slow a run down seventyfold.
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
    command += ["--IdentityProvider.token=explorer", "--LabApp.extension_manager=readonly"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with (root / "log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (root / "log").read_text()
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(30)


def run_first_cell(page: Page) -> None:
    """Shift+Enter until the cell takes it: a JupyterLab that is still loading throws the key away."""
    cell = page.locator(".jp-CodeCell").first
    taken = re.compile(r"\[[*1]\]")
    for _ in range(30):
        cell.locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        try:
            expect(cell.locator(".jp-InputPrompt")).to_have_text(taken, timeout=3_000)
        except AssertionError:
            continue
        return
    pytest.fail("JupyterLab did not run the cell")


@pytest.fixture
def lab(browser: Browser) -> Iterator[Page]:
    """A page that must not ask any other host."""
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    outside: list[str] = []

    def guard(route: Route) -> None:
        if route.request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    page.route("**/*", guard)
    yield page
    context.close()
    assert outside == []


@pytest.mark.long
def test_the_layers_of_a_model_live_in_jupyterlab(lab: Page, jupyter: str, tmp_path: Path) -> None:
    lab.goto(f"{jupyter}lab/workspaces/layers/tree/layers.ipynb?token=explorer")
    run_first_cell(lab)
    lab.get_by_role("img", name="Density of the 40 eigenvalues of w ").wait_for()
    expected = ht.analyze(eval(LAYERS, {"np": np}), progress=False)
    shown = lab.locator(".htlib-layers tbody tr > :nth-child(2)").all_inner_texts()
    assert [float(text) for text in shown] == [float(f"{alpha:.4g}") for alpha in expected.alpha_hill]
    # Keys choose a layer and leave the cells of the notebook alone.
    lab.get_by_role("button", name="of", exact=True).press("Enter")
    lab.get_by_role("img", name="Density of the 40 eigenvalues of of ").wait_for()
    lab.keyboard.press("d")
    lab.keyboard.press("d")
    lab.keyboard.press("b")
    assert lab.locator(".htlib-layers").count() == 1
    assert lab.locator(".jp-CodeCell").count() <= 2
    lab.screenshot(path=tmp_path / "jupyterlab.png")


@pytest.mark.long
def test_the_explorer_lives_in_jupyterlab(lab: Page, jupyter: str, tmp_path: Path) -> None:
    config, page = ht.ExperimentConfig(**SIZES), lab
    page.goto(f"{jupyter}lab/workspaces/explorer/tree/explorer.ipynb?token=explorer")
    run_first_cell(page)
    page.locator(".htlib-explorer[data-settled=done]").wait_for()
    assert_shows(page, config)
    slider = page.get_by_role("slider", name="Learning rate")
    slider.fill("-1")
    assert settle(page) == "done"
    assert_shows(page, config.replace(lr=0.1))
    # Keys move the slider and not the notebook's cells.
    slider.press("ArrowUp")
    slider.press("ArrowUp")
    assert slider.input_value() == "-0.9"
    assert settle(page) == "done"
    assert_shows(page, config.replace(lr=0.13))
    page.get_by_role("slider", name="Steps").fill("25")
    assert settle(page) == "done"
    assert_shows(page, config.replace(lr=0.13, steps=25))
    page.screenshot(path=tmp_path / "jupyterlab.png")
    assert page.locator(".jp-CodeCell").count() <= 2
