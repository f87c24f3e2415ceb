"""The explorer without a browser; the oracle of every number is `htlib.train` with the same configuration.

The engine calls `emit` in its own thread: a test that blocks there holds the engine between two steps.
"""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from queue import Queue
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag

import htlib as ht
from htlib.explorer import messages
from htlib.explorer import trainer as engine_module
from htlib.explorer import widget as widgets
from htlib.explorer.messages import Message
from htlib.explorer.model import Layers
from htlib.explorer.trainer import KernelEngine
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.student import start
from htlib.theory.one_step import law_of_config

CONFIG = ht.ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=4)
FINAL = {"done", "cancelled", "diverged", "error"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PATIENCE = 180  # seconds after which a test gives up; nothing here takes one


@pytest.fixture
def engine() -> Iterator[KernelEngine]:
    engine = KernelEngine(CONFIG, max_steps=12)
    yield engine
    engine.close(PATIENCE)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what the engine really computes: starts and snapshots."""
    counts: Counter[str] = Counter()
    prepare, iterate = start._prepare, engine_module.iterate

    def counted_prepare(*args: Any) -> Any:
        counts["starts"] += 1
        return prepare(*args)

    def counted_iterate(*args: Any, **kwargs: Any) -> Any:
        for snapshot in iterate(*args, **kwargs):
            counts["snapshots"] += 1
            yield snapshot

    monkeypatch.setattr(start, "_prepare", counted_prepare)
    # the overshoot, which is looked for once, makes a start of its own
    monkeypatch.setattr(messages, "_known", lambda config: (law_of_config(config), None))
    monkeypatch.setattr(engine_module, "iterate", counted_iterate)
    return counts


def until_final(messages: Queue[Message]) -> list[Message]:
    received = [messages.get(timeout=PATIENCE)]
    while received[-1]["type"] not in FINAL:
        received.append(messages.get(timeout=PATIENCE))
    return received


def ask(engine: KernelEngine, **settings: Any) -> list[Message]:
    messages: Queue[Message] = Queue()
    engine.request(settings, messages.put)
    return until_final(messages)


def snapshots(messages: list[Message]) -> list[Message]:
    return [s for m in messages if m["type"] == "snapshots" for s in m["snapshots"]]


def assert_same(answer: list[Message], run: ht.Trajectory) -> None:
    """The snapshots are exactly those of a training run, and so is every spectrum that was sent."""
    points = snapshots(answer)
    assert [p["step"] for p in points] == run.metrics.index.tolist()
    assert [p["metrics"] for p in points] == run.metrics.to_dict("records")
    assert points[-1]["eigenvalues"] is not None
    for point in points:
        if point["eigenvalues"] is not None:
            np.testing.assert_array_equal(point["eigenvalues"], run.esd(point["step"]))


class Gate:
    """An emit that holds the engine at the snapshot of one step until it is opened."""

    def __init__(self, step: int) -> None:
        self.step, self.messages = step, Queue[Message]()
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, message: Message) -> None:
        self.messages.put(message)
        if any(s["step"] == self.step for s in message.get("snapshots", [])):
            self.reached.set()
            assert self.opened.wait(PATIENCE)

    def wait(self) -> None:
        assert self.reached.wait(PATIENCE)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "gd", "lr": 50.0},
        {"lr": 0.1, "steps": 0},
        {"teacher": "hermite2", "labels": "noise", "feature_scale": "released-code"},
        {"update": "shuffled", "lr_decay": 0.5, "seed": 3},
    ],
)
def test_the_numbers_are_those_of_train(engine: KernelEngine, settings: dict[str, Any]) -> None:
    answer = ask(engine, **settings)
    assert answer[-1]["type"] == "done"
    assert_same(answer, ht.train(CONFIG.replace(**settings)))
    assert all(p["eigenvalues"] is not None for p in snapshots(answer))  # each step was news


def test_the_start_message_holds_the_law_of_the_start(engine: KernelEngine) -> None:
    start = next(m for m in ask(engine, lr=0.5) if m["type"] == "start")
    assert start["config"] == CONFIG.replace(lr=0.5).to_dict()
    law = ht.MarchenkoPastur.of_gaussian_esd(30, 20)
    np.testing.assert_allclose(start["noise"]["density"], law.pdf(start["noise"]["x"]))
    # The trapezoidal rule on 100 points is good to a few thousandths.
    assert np.trapezoid(start["noise"]["density"], start["noise"]["x"]) == pytest.approx(1, abs=5e-3)
    assert start["noise"]["edge"] == largest_eigenvalue_quantile(30, 20)


def test_the_start_message_holds_the_prediction(engine: KernelEngine) -> None:
    """Oracle: htlib.predict_one_step."""
    start = ask(engine, lr=0.7, noise_std=1.0, optimizer="adam")[0]
    sizes = {"n": CONFIG.n, "d": CONFIG.d, "h": CONFIG.h}
    law = ht.predict_one_step(**sizes, lr=0.7, noise_std=1.0)
    assert start["source"] == "train"
    prediction = start["prediction"]
    for name in ("critical_lr", "spectral_norm", "alignment", "has_outlier"):
        assert prediction[name] == getattr(law, name), name
    curve = prediction["curve"]
    assert curve["lr"][0] < law.critical_lr < curve["lr"][-1]
    middle = len(curve["lr"]) // 2
    there = ht.predict_one_step(**sizes, lr=curve["lr"][middle], noise_std=1.0)
    assert (curve["spectral_norm"][middle], curve["alignment"][middle]) == (
        there.spectral_norm,
        there.alignment,
    )


@pytest.mark.parametrize("settings", [{"labels": "noise"}, {"labels": "centred"}])
def test_where_there_is_no_theory_nothing_is_predicted(
    engine: KernelEngine, settings: dict[str, Any]
) -> None:
    assert ask(engine, **settings)[0]["prediction"] is None


def test_overlaps_come_with_the_step_that_was_asked_for(engine: KernelEngine) -> None:
    """Oracle: htlib.singular_vector_overlaps of kept weights."""
    weights = ht.train(CONFIG, keep_weights=True, progress=False).weights
    for steps in (2, 4):
        received = snapshots(ask(engine, steps=steps))
        expected = ht.singular_vector_overlaps(weights[steps], weights[steps] - weights[steps - 1], 20).right
        np.testing.assert_allclose(received[-1]["overlaps"], expected, atol=1e-6)
        assert all(s["overlaps"] is None for s in received[:-1])
    assert snapshots(ask(engine, steps=0))[-1]["overlaps"] is None


def test_every_message_is_strict_json_and_carries_the_id(engine: KernelEngine) -> None:
    messages: Queue[Message] = Queue()
    # Two singular values allow no tail fit: the alphas are NaN.
    engine.request({"h": 2, "lr": 0.1}, messages.put, id=41)
    answer = until_final(messages)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert {m["id"] for m in answer} == {41}
    assert snapshots(answer)[0]["metrics"]["alpha_hill"] is None


def test_probe_every_is_overridden(engine: KernelEngine) -> None:
    assert [p["step"] for p in snapshots(ask(engine, probe_every=3))] == [0, 1, 2, 3, 4]


def test_fewer_steps_are_answered_from_what_is_known(engine: KernelEngine, work: Counter[str]) -> None:
    ask(engine, steps=6)
    before = dict(work)
    answer = ask(engine, steps=3)
    assert work == before
    assert [m["type"] for m in answer] == ["start", "snapshots", "done"]
    assert [p["eigenvalues"] is None for p in snapshots(answer)] == [True, True, True, False]
    assert_same(answer, ht.train(CONFIG.replace(steps=3)))


def test_more_steps_continue_the_run(engine: KernelEngine, work: Counter[str]) -> None:
    ask(engine, steps=3)
    assert work == {"starts": 1, "snapshots": 4}
    answer = ask(engine, steps=12)
    assert work == {"starts": 1, "snapshots": 13}
    assert_same(answer, ht.train(CONFIG.replace(steps=12)))


def test_rates_and_optimizers_share_a_start(engine: KernelEngine, work: Counter[str]) -> None:
    for settings in ({"lr": 0.1}, {"lr": 3.0}, {"optimizer": "gd"}, {"lr": 0.1}):
        ask(engine, **settings)
    assert work == {"starts": 1, "snapshots": 15}
    ask(engine, labels="shuffled")
    ask(engine, lr=0.2)
    assert work["starts"] == 2


def test_memory_is_bounded_and_a_run_put_aside_goes_on(engine: KernelEngine, work: Counter[str]) -> None:
    rates = [0.1 * k for k in range(1, 9)]
    for rate in rates:
        ask(engine, lr=rate, steps=2, seed=int(10 * rate))
    assert len(engine._open) == engine_module._RUNS_OPEN < len(rates)
    drawn = work["snapshots"]
    ask(engine, lr=rates[0], steps=2, seed=1)
    assert work["snapshots"] == drawn  # the results are kept
    answer = ask(engine, lr=rates[0], steps=5, seed=1)
    assert work["snapshots"] == drawn + 6  # repeated from the start
    progress = [(m["phase"], m["step"]) for m in answer if m["type"] == "progress"]
    assert progress == [("start", 0), ("train", 1), ("train", 2)]
    assert_same(answer, ht.train(CONFIG.replace(lr=rates[0], steps=5, seed=1)))


def test_a_finished_run_is_not_kept_open(engine: KernelEngine) -> None:
    ask(engine, steps=12)
    assert engine._open[-1].rest is None


def test_a_new_request_cancels_the_one_before(engine: KernelEngine) -> None:
    gate, second, third = Gate(1), Queue[Message](), Queue[Message]()
    engine.request({"steps": 12}, gate, id=1)
    gate.wait()
    engine.request({"lr": 0.5}, second.put, id=2)
    engine.request({"lr": 0.2}, third.put, id=3)
    gate.opened.set()
    assert until_final(gate.messages)[-1] == {"id": 1, "type": "cancelled", "step": 1, "message": None}
    assert until_final(second) == [{"id": 2, "type": "cancelled", "step": None, "message": None}]
    assert_same(until_final(third), ht.train(CONFIG.replace(lr=0.2)))


def test_cancel_stops_between_steps_and_the_run_goes_on_later(
    engine: KernelEngine, work: Counter[str]
) -> None:
    gate = Gate(2)
    engine.request({"steps": 12}, gate, id=1)
    gate.wait()
    engine.cancel(1)
    gate.opened.set()
    assert until_final(gate.messages)[-1] == {"id": 1, "type": "cancelled", "step": 2, "message": None}
    assert work["snapshots"] == 3
    assert_same(ask(engine, steps=12), ht.train(CONFIG.replace(steps=12)))
    assert work["snapshots"] == 13


def test_two_views_do_not_stop_each_other(engine: KernelEngine) -> None:
    """As "Create New View" makes them: a request ends the one before of its own view only."""
    gate, other, again = Gate(3), Queue[Message](), Queue[Message]()
    engine.request({"steps": 12}, gate, id=1_000)
    gate.wait()
    engine.request({"steps": 1}, other.put, id=777_000)
    engine.request({"steps": 2}, again.put, id=777_001)
    gate.opened.set()
    ends = [until_final(messages)[-1]["type"] for messages in (gate.messages, other, again)]
    assert ends == ["done", "cancelled", "done"]


def test_cancel_of_another_request_changes_nothing(engine: KernelEngine) -> None:
    engine.cancel()  # nothing runs
    gate = Gate(1)
    engine.request({}, gate, id=7)
    gate.wait()
    engine.cancel(6)
    gate.opened.set()
    assert until_final(gate.messages)[-1]["type"] == "done"


def test_a_diverging_run_keeps_what_it_has(engine: KernelEngine, work: Counter[str]) -> None:
    settings = {"optimizer": "gd", "lr": 1e9, "activation": "relu", "steps": 10}
    run = ht.train(CONFIG.replace(**settings))
    assert run.diverged_at is not None
    answer = ask(engine, **settings)
    assert answer[-1] == {"id": 0, "type": "diverged", "step": run.diverged_at, "message": None}
    assert_same(answer, run)
    drawn = work["snapshots"]
    again = ask(engine, **settings)
    assert [m["type"] for m in again] == ["start", "snapshots", "diverged"]
    assert_same(again, run)
    assert ask(engine, **{**settings, "steps": run.diverged_at - 1})[-1]["type"] == "done"
    assert work["snapshots"] == drawn


def test_a_run_may_diverge_at_its_start(engine: KernelEngine) -> None:
    answer = ask(engine, noise_std=1e30)  # its square overflows float32
    assert answer[-1] == {"id": 0, "type": "diverged", "step": 0, "message": None}
    assert snapshots(answer) == []


def test_a_saturated_run_says_so(engine: KernelEngine) -> None:
    shares = [p["saturation"] for p in snapshots(ask(engine, lr=1000.0))]
    # |z| > atanh(.99) = 2.647 has probability .0081 for a standard normal; 60 x 30 samples.
    assert shares[0] == pytest.approx(0.0081, abs=0.008)
    assert min(shares[1:]) > 0.9
    same_training = ask(engine, lr=1000.0, feature_scale="released-code")
    assert [p["saturation"] for p in snapshots(same_training)] == shares
    assert {p["saturation"] for p in snapshots(ask(engine, activation="relu", lr=1000.0))} == {None}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr must be finite and not negative; got -1.0"),
        ({"lr": None}, "lr must be a number"),
        ({"steps": 13}, "steps must be at most 12 here; got 13"),
        ({"steps": 1.5}, "steps must be an integer"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam, gd"),
        ({"labels": "false"}, "labels must be one of"),
        ({"teacher": "sine"}, "teacher must be one of"),
        ({"rate": 1.0}, "unknown field 'rate'"),
        ({"momentum": 0.9}, "momentum = 0.9 has no meaning for optimizer='adam'"),
    ],
)
def test_bad_settings_are_named(engine: KernelEngine, settings: dict[str, Any], message: str) -> None:
    (error,) = ask(engine, **settings)
    assert error["type"] == "error"
    assert message in error["message"]
    assert ask(engine)[-1]["type"] == "done"


def test_an_unexpected_failure_reaches_the_reader_and_the_engine_lives(
    engine: KernelEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        yield from ()
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "iterate", failing)
        answer = ask(engine)
    assert answer[-1] == {"id": 0, "type": "error", "step": None, "message": "RuntimeError: out of memory"}
    assert "out of memory" in caplog.text
    assert_same(ask(engine), ht.train(CONFIG))


def test_close_ends_the_thread_at_the_next_step(engine: KernelEngine) -> None:
    gate = Gate(1)
    engine.request({"steps": 12}, gate)
    gate.wait()
    engine.close()
    gate.opened.set()
    assert until_final(gate.messages)[-1]["type"] == "cancelled"
    engine.close(PATIENCE)
    assert engine._thread is not None
    assert not engine._thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        engine.request({}, print)


@pytest.mark.process
def test_an_interpreter_with_a_busy_engine_exits_cleanly() -> None:
    # Ten thousand steps take minutes: only an interruption ends this within the time limit.
    code = """
import threading, htlib as ht
from htlib.explorer.trainer import KernelEngine
seen = threading.Event()
engine = KernelEngine(ht.ExperimentConfig(n=200, d=100, h=150, n_test=50), max_steps=10_000)
engine.request({"steps": 10_000}, lambda message: seen.set())
assert seen.wait(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def widget() -> Iterator[widgets.Explorer]:
    widget = widgets.Explorer(CONFIG)
    yield widget
    widget.close()


def test_defaults_are_small_and_fields_override() -> None:
    widget = widgets.Explorer(lr=3, noise_std=0.1)
    sizes = (widget.config.n, widget.config.d, widget.config.h, widget.config.n_test)
    assert sizes == (600, 300, 450, 2000)
    assert (widget.config.optimizer, widget.config.lr, widget.config.steps) == ("adam", 3.0, 10)
    assert widget.options["settings"]["lr"] == 3.0
    assert widget.options["max_steps"] == 50
    widget.close()


def test_options_hold_every_choice() -> None:
    widget = widgets.Explorer(CONFIG, teacher="hermite5", steps=80)
    assert widget.options["choices"]["teacher"][-1] == "hermite5"
    assert widget.options["choices"]["labels"] == ["real", "shuffled", "noise", "centred"]
    assert widget.options["max_steps"] == 80
    widget.close()


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [({"lr": -1}, ValueError, "lr must"), ({"rate": 1}, TypeError, "unknown field 'rate'")],
)
def test_explorer_names_a_bad_field(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        widgets.Explorer(**fields)


def test_messages_of_the_front_end_reach_the_engine(
    widget: widgets.Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(1)
    monkeypatch.setattr(widget, "send", gate)
    widget._handle_custom_msg({"type": "request", "id": 5, "settings": {"lr": 0.3, "steps": 12}}, [])
    gate.wait()
    widget._handle_custom_msg({"type": "cancel", "id": 5}, [])
    gate.opened.set()
    answer = until_final(gate.messages)
    assert (answer[-1]["type"], answer[-1]["id"]) == ("cancelled", 5)
    run = ht.train(CONFIG.replace(lr=0.3, steps=1))
    assert [p["metrics"] for p in snapshots(answer)][:2] == run.metrics.to_dict("records")


def test_closing_the_widget_stops_the_engine(
    widget: widgets.Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(1)
    monkeypatch.setattr(widget, "send", gate)
    widget._handle_custom_msg({"type": "request", "id": 5, "settings": {"steps": 12}}, [])
    gate.wait()
    widget.close()
    gate.opened.set()
    assert until_final(gate.messages)[-1]["type"] == "cancelled"


def test_a_widget_without_a_front_end_trains_only_for_its_still(
    widget: widgets.Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[ht.ExperimentConfig] = []
    train = widgets.train

    def recorded(config: ht.ExperimentConfig, **kwargs: Any) -> ht.Trajectory:
        calls.append(config)
        return train(config, **kwargs)

    monkeypatch.setattr(widgets, "train", recorded)
    assert widget._engine._thread is None
    assert calls == []
    widget._repr_mimebundle_()
    widget._repr_mimebundle_()
    assert calls == [CONFIG]
    assert widget._engine._thread is None


def test_the_still_picture_says_what_it_is_and_how_to_get_the_live_one(widget: widgets.Explorer) -> None:
    data, _ = widget._repr_mimebundle_()
    assert data[WIDGET_VIEW]["model_id"] == widget.model_id
    figure = BeautifulSoup(data["text/html"], "html.parser").find("figure", class_="explorer-still")
    assert figure is not None
    caption = figure.get_text(" ", strip=True)
    for words in ("Still picture", "Adam, η = 1, 4 steps", "n = 60, d = 20, h = 30", "make env"):
        assert words in caption
        assert words == "Still picture" or words in data["text/plain"]
    assert not figure.find_all(["input", "button", "select", "script"])
    image = figure.find("img")
    assert image is not None
    last = ht.train(CONFIG).metrics.iloc[-1]
    assert f"PL_Alpha_Hill {last['alpha_hill']:.2f}" in image["alt"]
    png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, _height = struct.unpack(">II", png[16:24])
    assert width == 2 * int(image["width"])


def still(widget: widgets.Explorer) -> Tag:
    figure = BeautifulSoup(widget._repr_mimebundle_()[0]["text/html"], "html.parser").figure
    widget.close()
    assert figure is not None
    return figure


def test_the_still_picture_holds_what_the_page_needs_to_live() -> None:
    """Only where all but the controls is as the page trains it: sizes, activation, ridge parameter."""
    figure = still(widgets.Explorer(lr=0.3, steps=1, seed=4))
    assert figure["id"] == "explorer"
    settings = json.loads(str(figure["data-explorer"]))
    assert settings == {
        **{"optimizer": "adam", "lr": 0.3, "steps": 1, "teacher": "softplus", "labels": "real"},
        **{"noise_std": 0.3, "feature_scale": "paper", "seed": 4},
    }
    for fields in ({"n": 50, "d": 20, "h": 30, "n_test": 60}, {"activation": "erf"}, {"ridge_lambda": 1.0}):
        widget = widgets.Explorer(steps=1, **fields)
        assert widget._place == ""
        widget.close()


def test_the_still_picture_is_white_at_its_corners(widget: widgets.Explorer) -> None:
    from matplotlib import pyplot as plt

    opened = plt.get_fignums()
    source = re.search(r"base64,([^\"]+)", widget._repr_mimebundle_()[0]["text/html"])
    assert source is not None
    pixels = plt.imread(io.BytesIO(base64.b64decode(source[1])))
    np.testing.assert_array_equal(pixels[[0, 0, -1, -1], [0, -1, 0, -1]], 1)
    assert plt.get_fignums() == opened  # or the inline backend would show the figure a second time


@pytest.mark.parametrize(
    ("fields", "words", "pictures"),
    [
        ({"optimizer": "gd", "lr": 1e9, "activation": "relu"}, "diverges at step", 1),
        ({"noise_std": 1e30}, "diverges at step 0", 0),
    ],
)
def test_the_still_of_a_diverging_run(fields: dict[str, Any], words: str, pictures: int) -> None:
    widget = widgets.Explorer(CONFIG, **fields)
    html = widget._repr_mimebundle_()[0]["text/html"]
    assert words in html
    assert html.count("<img") == pictures
    widget.close()


def test_the_front_end_asks_no_other_host(widget: widgets.Explorer) -> None:
    for source in (widget._esm, widget._css, Layers._esm, str(Layers._css)):
        code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)  # types of JSDoc are imported, too
        addresses = set(re.findall(r"https?://[^\s\"')]+", code))
        assert addresses <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"\bimport\b(?! htlib as ht)|\bfetch\(|XMLHttpRequest|@import", code)


def test_a_failing_listener_does_not_stop_the_engine():
    """A closed page raises in emit; the next request must still be answered."""
    engine = KernelEngine(ht.ExperimentConfig(n=30, d=8, h=10, n_test=10, steps=1))
    failed, answers = threading.Event(), Queue()

    def broken(message):
        failed.set()
        raise ConnectionError("the page is closed")

    engine.request({}, broken)
    assert failed.wait(60)
    engine.request({}, answers.put, id=1)
    while (message := answers.get(timeout=PATIENCE))["type"] not in ("done", "cancelled"):
        pass
    assert message["type"] == "done"
    engine.close(60)
