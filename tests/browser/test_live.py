"""Experiments inside the pages; oracles: htlib.train and the file of stored runs, from the same settings."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import onnx
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

import htlib as ht
from htlib.explorer.messages import unstable_lr
from htlib.student.probes import METRICS
from tests.browser.chromium import bundled_harness
from tests.browser.conftest import HTML, Visit
from tests.browser.reading import (
    CHARTS,
    DEFAULT,
    LIVE,
    SIZES,
    assert_stored,
    assert_trained,
    choose,
    description,
    enter,
    more,
    open_page,
    parse,
    pictures,
    press,
    readout,
    settle,
    status,
)
from tests.rounding import loss_error, rounding

CHAPTERS = ["02-one-step", "03-rates", "04-many-steps", "05-singular-vectors", "06-generalization"]
PAGES = ["book/index", *(f"book/{name}" for name in CHAPTERS), "book/what-makes-the-tail"]

# A worker on a page without an explorer: all its messages to one request.
ASK = """([folder, settings]) => new Promise((resolve) => {
    const worker = new Worker(new URL(`${folder}/worker.js`, document.baseURI), { type: "module" });
    const messages = [];
    worker.onmessage = ({ data }) => {
        messages.push(data);
        if (!["progress", "start", "snapshots"].includes(data.type)) worker.terminate(), resolve(messages);
    };
    worker.postMessage({ type: "request", id: 1, settings });
})"""
RUN = "async ([folder, settings, change]) => (await import(`${folder}/harness.js`)).run(settings, change)"


@pytest.fixture
def engine(visit: Visit, book: str) -> Callable[..., list[dict[str, Any]]]:
    visit.page.goto(f"{book}search.html")
    return lambda **settings: visit.page.evaluate(ASK, [LIVE, DEFAULT | settings])


@pytest.fixture(scope="module")
def harness() -> str:
    return bundled_harness()


@pytest.fixture
def alone(visit: Visit, book: str, harness: str) -> Callable[..., dict[str, Any]]:
    """One run by the engine's modules, from a problem that the test has changed."""
    answer = {"body": harness, "content_type": "text/javascript"}
    visit.page.route(f"**/{LIVE}/harness.js", lambda route: route.fulfill(**answer))
    visit.page.goto(f"{book}search.html")
    return lambda change, **s: visit.page.evaluate(RUN, [f"{book}{LIVE}", DEFAULT | s, change])


def errors_against(run: ht.Trajectory, snapshots: list[dict[str, Any]]) -> dict[str, float]:
    """Largest difference of each measure, as a share of what rounding explains."""
    config, table = run.config, run.metrics
    problem = ht.make_problem(config)
    names = snapshots[0]["metrics"]  # those that the page computes
    assert set(names) <= set(METRICS)
    mine = {name: np.array([s["metrics"][name] for s in snapshots], dtype=float) for name in names}
    theirs = {name: table[name].to_numpy() for name in names}
    unit = np.array([rounding(config, step) for step in table.index])
    found = {}
    for name in ("train_loss", "ridge_train_loss", "test_loss"):
        allowed = [loss_error(config, problem, loss, step) for step, loss in table[name].items()]
        found[name] = float(np.max(np.abs(mine[name] - theirs[name]) / allowed))
    # A square errs by twice its root; kernel alignment and stable rank are ratios of squares, one of sums in
    # double precision.  The tail's smaller eigenvalues err by the rounding of the largest.
    for name, factor in (("spectral_norm", 1), ("kta", 2), ("stable_rank", 4), ("alpha_hill", 4)):
        found[name] = float(np.max(np.abs(mine[name] / theirs[name] - 1) / (factor * unit)))
    # a singular vector turns by the rounding over the gap to the next singular value
    gap = 1 - np.sqrt(run.eigenvalues[:, -2] / run.eigenvalues[:, -1])
    found["alignment"] = float(np.max(np.abs(mine["alignment"] - theirs["alignment"]) * gap / unit))
    found["eigenvalues"] = max(
        np.abs(np.array(s["eigenvalues"]) - run.eigenvalues[s["step"]]).max()
        / (2 * rounding(config, s["step"]) * run.eigenvalues[s["step"]][-1])
        for s in snapshots
        if s["eigenvalues"]
    )
    return found


def assert_parity(run: ht.Trajectory, snapshots: list[dict[str, Any]]) -> None:
    found = errors_against(run, snapshots)
    assert {name: value for name, value in found.items() if not value <= 1} == {}


@pytest.mark.parametrize("steps", [5, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.05), ("gd", 200.0)])
def test_the_steps_from_a_seed_are_those_of_htlib(engine: Any, optimizer: str, lr: float, steps: int) -> None:
    """The whole chain: random numbers, problem, teacher, updates, measures, spectra."""
    # At these rates training contracts: twenty steps hand on their roundings and do not amplify them.  Every
    # eigenvalue is further from the edge, by 4e-4 of it or more, than rounding moves it.
    settings = {"optimizer": optimizer, "lr": lr, "steps": steps, "seed": 3}
    messages = engine(**settings)
    assert messages[-1] == {"id": 1, "type": "done", "step": steps, "message": None}
    snapshots = [s for m in messages if m["type"] == "snapshots" for s in m["snapshots"]]
    assert [s["step"] for s in snapshots] == list(range(steps + 1))
    run = ht.train(ht.ExperimentConfig(**SIZES, **settings), progress=False, keep_weights=True)
    assert_parity(run, snapshots)
    np.testing.assert_array_equal([s["metrics"]["n_outliers"] for s in snapshots], run.metrics["n_outliers"])
    last, before = run.weights[steps], run.weights[steps - 1]
    expected = ht.singular_vector_overlaps(last, last - before, 20).right
    # The last update is 5e-4 of the weights or more, and their rounding 1e-4 of it or less.  Its vectors turn
    # by that over the gaps of its singular values, which are a tenth.
    np.testing.assert_allclose(snapshots[-1]["overlaps"], expected, atol=2e-3)


def with_a_dead_unit(alone: Any, **settings: Any) -> tuple[ht.Trajectory, dict[str, Any]]:
    """The run of htlib and the page's answer; the readout weight of one unit is 0."""
    config = ht.ExperimentConfig(**SIZES, **settings)
    problem = ht.make_problem(config)
    problem.readout_weights[7] = 0
    return ht.train(config, problem, progress=False), alone("dead unit", **settings)


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.05), ("gd", 200.0)])
def test_a_dead_unit_stays_as_it_is(alone: Any, optimizer: str, lr: float) -> None:
    """Adam divides 0 by 0 there unless its eps has survived the export."""
    run, answer = with_a_dead_unit(alone, optimizer=optimizer, lr=lr, steps=2)
    assert answer["divergedAt"] is None
    assert_parity(run, answer["snapshots"])


def test_overflow_is_reported_at_the_step_of_htlib(alone: Any) -> None:
    settings = {"optimizer": "gd", "lr": 1e36, "steps": 3}
    config = ht.ExperimentConfig(**SIZES, **settings)
    problem = ht.make_problem(config)
    problem.train.targets[:] = problem.train.targets.astype(np.float32) * np.float32(1e30)
    run = ht.train(config, problem, progress=False)
    answer = alone("huge targets", **settings)
    assert run.diverged_at is not None
    assert answer["divergedAt"] == run.diverged_at
    assert len(answer["snapshots"]) == len(run.metrics)


def mutated(old: float, new: float) -> bytes:
    """Adam's graph with a constant of another value."""
    model = onnx.load(HTML / LIVE / "step-adam.onnx")
    changed = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                value = onnx.numpy_helper.to_array(attribute.t)
                if value.size == 1 and np.isclose(value.item(), old, rtol=1e-6):
                    attribute.t.CopyFrom(onnx.numpy_helper.from_array(np.full_like(value, new)))
                    changed += 1
    assert changed
    return model.SerializeToString()


@pytest.mark.long
@pytest.mark.parametrize(
    ("old", "new"), [(0.999, 0.99), (300**-0.5, 301**-0.5), (1e-8, 0.0)], ids=["beta2", "scale", "eps"]
)
def test_a_mutated_engine_is_found(visit: Visit, alone: Any, old: float, new: float) -> None:
    body = mutated(old, new)
    visit.page.route(f"**/{LIVE}/step-adam.onnx", lambda route: route.fulfill(body=body))
    run, answer = with_a_dead_unit(alone, lr=0.05, steps=2)
    if answer["divergedAt"] is None:
        with pytest.raises(AssertionError):
            assert_parity(run, answer["snapshots"])


# Other pages have the same explorer; that each has one is tested below.
@pytest.mark.parametrize(
    "name", [*PAGES[:2], *(pytest.param(name, marks=pytest.mark.long) for name in PAGES[2:])]
)
def test_every_page_answers_and_trains_alone(visit: Visit, book_in_folder: str, name: str) -> None:
    """In a folder of a server, as project pages are; no other host, nothing in the console."""
    page = visit.page
    page.emulate_media(reduced_motion="reduce")
    open_page(visit, f"{book_in_folder}{name}.html")
    assert status(visit).startswith("A stored run")
    page.get_by_role("slider", name="Steps", exact=True).fill("1")
    settle(page)
    assert press(page, "Train here") == "done"
    assert "(n = 600, d = 300, h = 450)" in status(visit)
    assert page.locator(".htlib-explorer").count() == 1
    assert page.locator(".explorer-still").count() == 0
    assert visit.outside == []
    assert visit.errors == []


@pytest.mark.long
def test_each_control_changes_what_is_trained(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html?train=1&steps=2")
    settings: dict[str, Any] = {"steps": 2}

    def moves(change: Callable[[], object], expected: set[str], **fields: Any) -> None:
        before = pictures(page)
        change()
        assert settle(page) == "done"
        settings.update(fields)
        after = pictures(page)
        assert {name for name in after if after[name] != before[name]} == expected
        assert_trained(visit, **settings)

    everything = set(CHARTS)
    more(page)
    explorer = page.locator(".htlib-explorer")
    slider, steps = (explorer.get_by_role("slider", name=name) for name in ("Learning rate", "Steps"))
    seed = page.get_by_role("spinbutton", name="Seed")
    assert_trained(visit, **settings)
    moves(lambda: slider.fill("-1"), everything, lr=0.1)
    moves(lambda: slider.press("ArrowRight"), everything, lr=0.11)
    moves(lambda: steps.press("ArrowRight"), everything, steps=3)
    moves(lambda: choose(page, "noise_std", "1"), everything, noise_std=1.0)
    moves(lambda: enter(seed, "17"), everything, seed=17)
    moves(lambda: choose(page, "labels", "shuffled"), everything, labels="shuffled")
    moves(lambda: choose(page, "labels", "centred"), everything, labels="centred")
    moves(lambda: choose(page, "teacher", "hermite3"), everything, teacher="hermite3")
    moves(lambda: choose(page, "optimizer", "gd"), everything, optimizer="gd")
    moves(lambda: slider.fill("2.5"), everything, lr=320.0)
    scaled = {"losses", "alignment"}
    moves(lambda: choose(page, "feature_scale", "released-code"), scaled, feature_scale="released-code")


def test_stored_runs_answer_at_once(visit: Visit, book: str, stored: list[dict[str, Any]]) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html")
    assert_stored(visit, stored)
    page.get_by_role("slider", name="Learning rate").fill("-0.9")
    settle(page)
    assert_stored(visit, stored, lr=0.13)
    page.get_by_role("slider", name="Steps", exact=True).fill("4")
    settle(page)
    assert_stored(visit, stored, lr=0.13, steps=4)
    choose(page, "labels", "shuffled")
    settle(page)
    assert_stored(visit, stored, lr=0.13, steps=4, labels="shuffled")
    more(page)
    enter(page.get_by_role("spinbutton", name="Seed"), "1")
    settle(page)
    assert_stored(visit, stored, lr=0.13, steps=4, labels="shuffled", seed=1)
    # the map of rates is of the same runs
    assert "after step 4." in description(page, "rates")
    choose(page, "teacher", "relu")
    assert settle(page) == "absent"
    assert "No stored run has the teacher relu." in status(visit)
    assert page.locator(".charts.stale").count() == 1
    assert press(page, "Train here") == "done"
    assert_trained(visit, lr=0.13, steps=4, labels="shuffled", seed=1, teacher="relu")
    assert press(page, "Stored runs") == "absent"


def test_the_prediction_is_that_of_htlib(visit: Visit, book: str) -> None:
    open_page(visit, f"{book}book/02-one-step.html?train=1&steps=1&lr=0.316")
    law = ht.predict_one_step(n=600, d=300, h=450, lr=0.316)
    for chart, words, expected in (
        ("esd", r"predicted at ([^.]+(?:\.\d+)?)", law.spectral_norm**2),
        ("alignment", r"Predicted after one step: (\S+?)\.?$", law.alignment),
        ("rates", r"from rate (\S+) on", law.critical_lr),
    ):
        label = description(visit.page, chart)
        found = re.search(words, label)
        assert found is not None, label
        assert parse(found[1]) == pytest.approx(expected, rel=1e-3)


def test_the_bulk_is_predicted_after_one_step_only(visit: Visit, book: str) -> None:
    page = visit.page
    legend = page.locator(".key span", has_text="predicted bulk")
    shared = json.loads(gzip.decompress((HTML / LIVE / "stored-runs.json.gz").read_bytes()))["config"]
    for optimizer, lr, train, sizes in (("gd", 3160.0, 1, SIZES), ("adam", 0.316, 0, shared)):
        open_page(visit, f"{book}book/02-one-step.html?optimizer={optimizer}&lr={lr:g}&steps=1&train={train}")
        config = ht.ExperimentConfig(**{name: sizes[name] for name in SIZES}, optimizer=optimizer)
        law = ht.one_step_law(n=config.n, d=config.d, h=config.h, optimizer=optimizer)
        label = description(page, "esd")
        found = re.search(r"bulk is predicted to end at ([^.]+(?:\.\d+)?)", label)
        assert found is not None, label
        assert parse(found[1]) == pytest.approx(law.bulk(lr).edge, rel=1e-2)
        assert page.locator(".picture path.bulk").count() == 2
        assert legend.is_visible()
        marks = page.locator(".zones text", has_text=" from ").all_text_contents()
        found = sorted(parse(mark.rpartition(" ")[2]) for mark in marks)
        assert found == pytest.approx(sorted([law.critical_lr, unstable_lr(config)]), rel=0.05)
        rate = unstable_lr(config)
        words = re.fullmatch(
            r"(?:Unstable|The first step overshoots) above (\S+); now (\S+) times that\.",
            page.locator("small.unstable").inner_text(),
        )
        assert words is not None
        assert [parse(number) for number in words.groups()] == pytest.approx([rate, lr / rate], rel=0.05)
    assert press(page, "Step", exact=True) == "done"
    assert page.locator(".picture path.bulk").count() == 0
    assert legend.count() == 0
    assert page.locator(".thumb.rates line.unstable").count() == 1
    assert page.locator(".zones line.unstable").count() == 1
    # there is no law for other labels
    open_page(visit, f"{book}book/02-one-step.html?train=1&labels=noise&steps=1&lr=0.316")
    assert page.locator("path.bulk, line.unstable, line.critical").count() == 0
    assert page.locator("small.unstable").inner_text() == ""


def test_presets_step_reset_and_play(visit: Visit, book: str, stored: list[dict[str, Any]]) -> None:
    page = visit.page
    open_page(visit, f"{book}book/02-one-step.html")
    press(page, "shuffled labels: same tail")
    shuffled = page.get_by_role("button", name="shuffled labels: same tail")
    assert shuffled.get_attribute("aria-pressed") == "true"
    assert_stored(visit, stored, labels="shuffled")
    press(page, "bulk", exact=True)
    assert_stored(visit, stored, lr=0.01, steps=1)
    press(page, "Step", exact=True)
    assert_stored(visit, stored, lr=0.01, steps=2)
    more(page)
    press(page, "Reset")
    assert_stored(visit, stored, lr=0.0316, steps=1)
    press(page, "heavy tail", exact=True)
    page.evaluate(
        """() => {
            window.seen = [];
            const count = document.querySelector(".htlib-explorer output");
            const look = () => {
                window.seen.push(count.textContent);
                // within the step: a busy machine would be at the next one before Playwright clicks
                const pause = [...document.querySelectorAll("button")].find((b) => b.innerText === "Pause");
                if (count.textContent === window.pauseAt) pause.click();
            };
            new MutationObserver(look).observe(count, { childList: true });
        }"""
    )
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Play").wait_for()
    assert page.evaluate("window.seen") == [str(step) for step in range(11)]
    assert "steps=3" not in page.url  # playing is not the reader's doing
    assert_stored(visit, stored)
    page.evaluate("window.pauseAt = '3'")
    page.get_by_role("button", name="Play").click()
    page.wait_for_url("**steps=3*")  # where the reader has ended it
    page.wait_for_timeout(1000)
    assert page.evaluate("window.seen").count("4") == 1


def test_stop_ends_the_play_too(visit: Visit, book: str) -> None:
    page = visit.page
    page.goto(f"{book}book/04-many-steps.html?train=1&steps=50&lr=3")
    page.get_by_text("Training at n = 600").wait_for()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(
        """() => {
            const buttons = [...document.querySelectorAll(".htlib-explorer button")];
            const stop = buttons.find((button) => button.matches(".stop[aria-disabled=false]"));
            const training = stop && document.querySelector(".htlib-explorer output").value > 2;
            if (training) stop.click();
            return training;
        }"""
    )
    page.get_by_role("button", name="Play").wait_for()
    reached = page.locator(".htlib-explorer output").inner_text()
    page.wait_for_timeout(1500)
    assert page.locator(".htlib-explorer output").inner_text() == reached


def test_the_address_holds_the_settings(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html#try-it")
    page.get_by_role("slider", name="Learning rate").fill("1")
    choose(page, "labels", "shuffled")
    settle(page)
    page.wait_for_function("() => location.search.includes('labels')")
    address = urlsplit(page.url)
    assert parse_qs(address.query) == {"lr": ["10"], "labels": ["shuffled"]}
    assert address.fragment == "try-it"
    numbers = readout(page)
    open_page(visit, page.url)
    assert readout(page) == numbers
    open_page(visit, f"{book}book/03-rates.html?lr=oops&steps=4&labels=nonsense&other=1")
    assert page.get_by_label("learning rate, typed").input_value() == "1"
    assert page.get_by_role("radio", name="real").is_checked()
    assert page.locator(".htlib-explorer output").inner_text() == "4"
    assert visit.errors == []


def test_links_of_the_exercises_set_the_controls(visit: Visit, book: str) -> None:
    open_page(visit, f"{book}book/03-rates.html")
    visit.page.get_by_role("link", name="gradient descent at 1000", exact=True).click()
    visit.page.wait_for_url("**optimizer=gd**")
    settle(visit.page)
    assert visit.page.get_by_role("radio", name="GD", exact=True).is_checked()
    assert visit.page.get_by_label("learning rate, typed").input_value() == "1e3"


def test_the_link_of_the_first_page_leads_to_its_explorer(visit: Visit, book: str) -> None:
    page = visit.page
    page.goto(f"{book}book/index.html")
    page.get_by_role("link", name="rate 100", exact=True).click()
    page.wait_for_url("**lr=100**")
    settle(page)
    page.wait_for_timeout(300)
    assert 0 <= page.locator(".htlib-explorer").evaluate("e => e.getBoundingClientRect().top") < 200


def test_bad_values_are_refused_and_the_page_goes_on(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html?train=1&steps=1")
    more(page)
    typed, seed = page.get_by_label("learning rate, typed"), page.get_by_role("spinbutton", name="Seed")
    for field, value, words in (
        (seed, "-3", "seed must be an integer, at least 0; got -3"),
        (seed, "1.5", "the seed must be a whole number"),
        (typed, "-1", "lr must be finite and not negative; got -1"),
        (typed, "1e37", "lr must be at most 1e+36 in float32"),
        (typed, "", "the learning rate must be a number"),
    ):
        enter(field, value)
        assert settle(page) == "error"
        assert words in status(visit)
    enter(seed, "4")
    enter(typed, "2")
    assert settle(page) == "done"
    assert_trained(visit, lr=2.0, steps=1, seed=4)
    enter(typed, "1e36")
    assert settle(page) in ("done", "diverged")
    for value, words in (("-3", "an integer"), ("2.5", "an integer"), ("1000", "at most 50 here")):
        open_page(visit, f"{book}book/03-rates.html?steps={value}")
        assert f"steps must be {words}" in status(visit)
        assert f"got {value}" in status(visit)
    assert visit.errors == []


def test_a_newer_request_ends_an_older_one(visit: Visit, book: str) -> None:
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html?train=1&steps=0")
    more(page)
    page.get_by_role("slider", name="Steps", exact=True).fill("50")
    enter(page.get_by_role("spinbutton", name="Seed"), "5")
    page.get_by_text("Training at n = 600").wait_for()
    assert press(page, "Stop") == "cancelled"
    assert re.match(r"Stopped (after step \d+ of 50|before the first step)", status(visit))
    page.get_by_role("slider", name="Steps", exact=True).fill("2")
    assert settle(page) == "done"
    assert_trained(visit, seed=5, steps=2)


def test_offline_after_the_engine_has_loaded(first_visit: Visit, book: str) -> None:
    visit, page = first_visit, first_visit.page
    open_page(visit, f"{book}book/03-rates.html?train=1&steps=1")
    more(page)
    page.context.set_offline(True)
    enter(page.get_by_role("spinbutton", name="Seed"), "9")
    assert settle(page) == "done"
    assert_trained(visit, seed=9, steps=1)
    assert press(page, "Stored runs") in ("done", "error")


def test_offline_before_it_has_loaded_is_shown_and_tried_again(first_visit: Visit, book: str) -> None:
    visit, page = first_visit, first_visit.page
    open_page(visit, f"{book}book/03-rates.html?steps=1")
    page.context.set_offline(True)
    page.get_by_role("slider", name="Learning rate").fill("-1")
    assert settle(page) == "done"  # stored runs are here already
    assert press(page, "Train here") == "error"
    assert "the engine that trains cannot run" in status(visit)
    page.context.set_offline(False)
    assert press(page, "Run", exact=True) == "done"
    assert_trained(visit, lr=0.1, steps=1)


@pytest.mark.parametrize(("motion", "plays"), [("reduce", False), ("no-preference", True)])
def test_the_first_page_plays_unless_motion_is_unwanted(
    visit: Visit, book: str, motion: Any, plays: bool
) -> None:
    page = visit.page
    page.emulate_media(reduced_motion=motion)
    page.goto(f"{book}book/index.html")
    page.locator(".htlib-explorer .play").wait_for()
    assert (page.locator(".htlib-explorer .play").inner_text() == "Pause") == plays
    if plays:  # a change of anything but the steps is of the whole run
        page.wait_for_function("() => document.querySelector('.htlib-explorer output').value >= 2")
        more(page)
        seed = page.get_by_role("spinbutton", name="Seed")
        seed.fill("1")
        before = page.locator(".htlib-explorer output").inner_text()
        page.wait_for_function(
            "n => document.querySelector('.htlib-explorer output').value > n", arg=int(before)
        )
        seed.press("Enter")  # the play has gone on meanwhile, and has left alone what is typed
        assert page.locator(".htlib-explorer output").inner_text() == "10"
        assert page.locator(".htlib-explorer .play").inner_text() == "Play"
        assert seed.input_value() == "1"


def test_without_javascript_the_still_picture_says_so(browser: Browser, book: str) -> None:
    for name in PAGES:
        stills = BeautifulSoup((HTML / f"{name}.html").read_bytes(), "html.parser").select(".explorer-still")
        assert ["needs JavaScript and WebAssembly" in still.get_text() for still in stills] == [True], name
    with browser.new_page(java_script_enabled=False) as page:
        page.goto(f"{book}{PAGES[1]}.html")
        assert page.get_by_text("needs JavaScript and WebAssembly").is_visible()


def test_without_webassembly_the_still_picture_stays(visit: Visit, book: str) -> None:
    visit.page.add_init_script("delete globalThis.WebAssembly")
    visit.page.goto(f"{book}book/03-rates.html")
    visit.page.wait_for_load_state("networkidle")
    assert visit.page.locator(".explorer-still").is_visible()
    assert visit.page.locator(".htlib-explorer").count() == 0


@pytest.mark.parametrize("visit", [360], indirect=True)
def test_on_a_phone_everything_fits_and_can_be_touched(visit: Visit, book: str, tmp_path: Path) -> None:
    page = visit.page
    open_page(visit, f"{book}book/02-one-step.html?train=1&steps=1#explorer")
    page.screenshot(path=tmp_path / "phone.png")
    # the picture and both sliders are on the first screen
    for part in (".picture", "input[name=lr]", "input[name=steps]"):
        box = page.locator(f".htlib-explorer {part}").bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= 900 - box["height"]
    more(page)
    page.locator("details.export > summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    controls = page.locator(".htlib-explorer").locator(
        "button:visible, summary, select, input:not([type=checkbox])"
    )
    for control in controls.all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 28
        assert 0 <= box["x"] <= 360 - box["width"]


def test_keyboard_and_names(visit: Visit, book: str) -> None:
    """Tab reaches every control, each has a name, and what happens is announced."""
    page = visit.page
    open_page(visit, f"{book}book/03-rates.html?steps=2")
    more(page)
    page.locator("details.export > summary").click()
    # a row of buttons is one stop
    stops = "button:visible, summary, select, input:not([type=radio]), input:checked"
    expected = page.locator(".htlib-explorer").locator(stops).count()
    page.locator(".htlib-explorer .guide").focus()
    reached = set()
    for _ in range(expected):
        name = page.evaluate(
            """() => {
                const e = document.activeElement;
                const name = e.ariaLabel || e.labels?.[0]?.textContent || e.textContent;
                return e.closest(".htlib-explorer") && name;
            }"""
        )
        assert name
        reached.add(name)
        page.keyboard.press("Tab")
    assert len(reached) == expected
    assert page.locator(".status[aria-live=polite]").count() == 1
    chart = page.locator(".htlib-explorer .picture > svg")
    assert chart.get_attribute("role") == "img"
    assert chart.get_attribute("aria-label") == description(page, "esd")
    assert all(description(page, name) for name in CHARTS)
    heard = page.locator(".htlib-explorer .heard")
    assert heard.inner_text() == ""  # a page that only opens has nothing to announce
    page.get_by_role("button", name="Train here").focus()
    page.keyboard.press("Enter")
    assert settle(page) == "done"
    assert "2 steps done" in status(visit)
    assert heard.inner_text() == chart.get_attribute("aria-label")


def test_a_worker_that_fails_is_reported(visit: Visit, book: str) -> None:
    broken = {"body": "not a graph", "content_type": "application/octet-stream"}
    visit.page.route(f"**/{LIVE}/probe.onnx", lambda route: route.fulfill(**broken))
    open_page(visit, f"{book}book/03-rates.html?train=1&steps=1")
    assert visit.page.locator(".htlib-explorer").get_attribute("data-settled") == "error"
    assert status(visit).startswith("This does not run: the engine that trains cannot run")
