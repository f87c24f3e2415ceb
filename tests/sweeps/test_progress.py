"""Oracle: the sentences written out, and what a pretended notebook was shown."""

from contextlib import suppress

import numpy as np
import pytest

import htlib as ht
from htlib.sweeps import progress
from htlib.sweeps.progress import Report
from tests.sweeping import TINY

CONFIG = ht.ExperimentConfig(**TINY)


@pytest.fixture(scope="module")
def runs():
    return [ht.train(CONFIG.replace(lr=lr)) for lr in (0.5, 1.0)]


@pytest.fixture(scope="module")
def diverged():
    run = ht.train(CONFIG.replace(activation="relu", optimizer="gd", lr=1e9, steps=9))
    assert run.diverged_at is not None
    return run


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when the test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Display:
    """Stands for the display handle of a notebook."""

    def __init__(self):
        self.updates = []

    def update(self, shown):
        self.updates.append(shown._repr_html_())
        assert repr(shown) == ""


@pytest.fixture
def notebook(monkeypatch):
    display = Display()
    monkeypatch.setattr(progress, "_notebook_display", lambda: display)
    return display


def test_the_summary_says_what_happened(runs, diverged, clock):
    report = Report(7, 2, ["lr"], show=False)
    assert report.summary() == "2 of 7 runs, 2 from the store"
    clock[0] += 1.26
    report.add(runs[:1], computed=True)
    assert report.summary() == "3 of 7 runs, 2 from the store, 1 computed in 1.3 s"
    report.add(runs, computed=False)
    assert report.summary() == "5 of 7 runs, 4 from the store, 1 computed in 1.3 s"
    clock[0] += 100
    report.add([diverged], computed=True)
    assert report.summary() == "6 of 7 runs, 4 from the store, 2 computed in 01:41, 1 diverged"
    clock[0] += 3600
    assert "2 computed in 1:01:41" in report.summary()


def test_nothing_done_is_said_too():
    assert Report(3, 0, [], show=False).summary() == "0 of 3 runs"


def test_the_bar_is_on_stderr(runs, capsys):
    with Report(3, 1, ["lr"], show=True) as report:
        report.note("a worker died; its runs start again")
        report.add(runs, computed=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sweep:" in captured.err
    assert "3/3" in captured.err
    assert "sweep: a worker died; its runs start again\n" in captured.err
    assert report.notes == ["a worker died; its runs start again"]


@pytest.mark.parametrize("options", [{"show": False}, {"show": True, "stored": 3}])
def test_nothing_is_shown_where_there_is_nothing_to_show(options, runs, capsys, notebook):
    """Not if it is not wanted, and not if the store has all."""
    with Report(3, options.get("stored", 0), ["lr"], show=options["show"]) as report:
        report.note("something")
        report.add(runs, computed=True)
    assert report.notes == ["something"]
    assert capsys.readouterr() == ("", "")
    assert notebook.updates == []


def test_a_quiet_sweep_shows_nothing(tmp_path, capsys, notebook):
    ht.sweep(TINY, 1, tmp_path, workers=1, progress=False)
    assert capsys.readouterr() == ("", "")
    assert notebook.updates == []


def test_a_notebook_is_shown_the_means_of_what_is_done(runs, clock, notebook, capsys):
    with Report(6, 1, ["lr", "seed"], show=True) as report:
        report.add(runs[:1], computed=True)
        assert notebook.updates == []  # at most one a second
        clock[0] += 2
        report.note("4 < 5 & more")
        report.add(runs[1:], computed=True)
        (live,) = notebook.updates
        assert "<b>3 of 6 runs, 1 from the store, 2 computed in 2.0 s</b>, 3.0 s left" in live
        assert "4 &lt; 5 &amp; more" in live
        for run in runs:
            assert f"{run.metrics.test_loss.iloc[-1]:.3g}" in live
        assert "alpha_hill" in live
        clock[0] += 0.5
        report.add(runs[:1], computed=True)
        assert len(notebook.updates) == 1
    assert notebook.updates[-1] == report.summary() == "4 of 6 runs, 1 from the store, 3 computed in 2.5 s"
    assert capsys.readouterr() == ("", "")


def test_means_are_over_seeds(clock, notebook):
    pair = [ht.train(CONFIG.replace(seed=seed)) for seed in (0, 1)]
    with Report(4, 0, ["lr"], show=True) as report:
        clock[0] += 2
        report.add(pair, computed=True)
    mean = np.mean([run.metrics.spectral_norm.iloc[-1] for run in pair])
    assert f"<td>{mean:.3g}</td>" in notebook.updates[0]


@pytest.mark.parametrize("fields", [[], ["lr"], ["lr", "lr_decay"], ["optimizer", "normalize_weights"]])
def test_any_fields_may_vary(fields, runs, clock, notebook):
    with Report(9, 0, fields, show=True) as report:
        clock[0] += 2
        report.add([*runs, ht.train(CONFIG.replace(lr_decay=0.5))], computed=True)
    assert "test_loss" in notebook.updates[0]


def test_runs_without_a_measure_are_counted_all_the_same(runs, clock, notebook):
    nothing = ht.Trajectory(CONFIG, runs[0].metrics.iloc[:0], runs[0].eigenvalues[:0], diverged_at=0)
    with Report(3, 0, ["lr"], show=True) as report:
        clock[0] += 2
        report.add([nothing], computed=True)
        clock[0] += 2
        report.add(runs, computed=True)
    assert "<b>1 of 3 runs, 1 computed in 2.0 s, 1 diverged</b>" in notebook.updates[0]
    assert "test_loss" in notebook.updates[1]


def test_a_sweep_in_a_notebook_ends_with_its_summary(tmp_path, notebook, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN", 0.0)
    table = ht.sweep(TINY | {"lr": [0.1, 1.0]}, 2, tmp_path, workers=1, threads=1)
    assert len(notebook.updates) == 5
    assert notebook.updates[-1].startswith("4 of 4 runs, 4 computed in ")
    assert table.attrs["notes"][-1].startswith("4 of 4 runs, 4 computed in ")
    assert capsys.readouterr() == ("", "")


def test_the_last_word_is_said_after_an_error_too(runs, notebook):
    report = Report(3, 0, ["lr"], show=True)
    with suppress(ArithmeticError), report:
        report.add(runs, computed=True)
        raise ArithmeticError
    assert notebook.updates[-1].startswith("2 of 3 runs, 2 computed in ")


def test_a_terminal_is_no_notebook():
    assert progress._notebook_display() is None


def test_a_notebook_is_known_by_its_kernel(monkeypatch, capsys):
    """IPython in a terminal has a shell, but no kernel."""
    import IPython.core.getipython

    class Shell:
        pass

    shell = Shell()
    monkeypatch.setattr(IPython.core.getipython, "get_ipython", lambda: shell)
    assert progress._notebook_display() is None
    shell.kernel = object()
    monkeypatch.setattr("IPython.display.display", lambda shown, **names: (shown._repr_html_(), names))
    assert progress._notebook_display() == ("sweep: starting", {"display_id": True})
