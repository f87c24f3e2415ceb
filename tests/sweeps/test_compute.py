"""Oracle: `htlib.train` of each config, to the last bit with one BLAS thread, and counts of computed runs."""

import dataclasses
import gc
import os
import re
import signal
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

import htlib as ht
from htlib.student.probes import METRICS
from htlib.student.run import tidy
from htlib.sweeps import workers as executors
from htlib.sweeps.compute import compute_missing, run_tasks
from htlib.sweeps.grid import expand
from htlib.sweeps.workers import Task
from tests.refusals import refused
from tests.sweeping import EXECUTORS, TINY, assert_intact, blas_threads, files_of

GRID = TINY | {"lr": [0.1, 1.0], "optimizer": ["adam", "gd"]}
DIVERGING = TINY | {"activation": "relu", "optimizer": "gd", "steps": 9, "lr": [1.0, 1e9]}


@pytest.fixture
def computed(monkeypatch):
    """The tasks that were computed, and by what."""
    tasks = []
    compute = executors.compute
    monkeypatch.setattr(executors, "compute", lambda task, *args: tasks.append(task) or compute(task, *args))
    return tasks


def sweep(store, grid=GRID, seeds=2, **options):
    return ht.sweep(grid, seeds, store, **{"progress": False, "workers": 1, "threads": 1} | options)


def sweep_runs(store, seeds, grid=GRID, **options):
    return ht.sweep_runs(grid, seeds, store, workers=1, threads=1, progress=False, **options)


def runs_of(table, fields):
    return dict(iter(table.groupby([*fields, "seed"], sort=False)))


def count(table, kind):
    return sum(int(n) for note in table.attrs["notes"] for n in re.findall(rf"(\d+) {kind}", note))


def test_the_table_is_that_of_train(tmp_path):
    table = sweep(tmp_path)
    assert list(table.columns) == [*GRID, "seed", "step", *METRICS]
    assert table.index.equals(pd.RangeIndex(16))
    assert table["n_outliers"].dtype == table["seed"].dtype == table["step"].dtype == np.int64
    keys = list(runs_of(table, ["lr", "optimizer"]))
    assert keys == [(lr, o, s) for lr in (0.1, 1.0) for o in ("adam", "gd") for s in (0, 1)]
    for (lr, optimizer, seed), rows in runs_of(table, ["lr", "optimizer"]).items():
        with blas_threads(1):
            alone = ht.train(ht.ExperimentConfig(**TINY, lr=lr, optimizer=optimizer, seed=seed))
        assert rows["step"].tolist() == [0, 1]
        pd.testing.assert_frame_equal(
            rows[list(METRICS)].set_axis(alone.metrics.index), alone.metrics, check_exact=True
        )


def test_seeds_are_paired(tmp_path):
    """All settings of one seed start from the same measures; those of another seed do not."""
    start = sweep(tmp_path).query("step == 0")
    assert (start.groupby("seed")["train_loss"].nunique() == 1).all()
    assert start["train_loss"].nunique() == 2


def test_a_union_has_the_fields_of_all(tmp_path):
    assert list(sweep(tmp_path, TINY, 1).columns) == [*TINY, "seed", "step", *METRICS]
    table = sweep(tmp_path, [TINY | {"lr": 0.5}, TINY | {"optimizer": "gd", "lr_decay": 0.5}], 1)
    assert list(table.columns) == [*TINY, "lr", "optimizer", "lr_decay", "seed", "step", *METRICS]
    assert table["lr"].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert table["optimizer"].tolist() == ["adam", "adam", "gd", "gd"]
    np.testing.assert_array_equal(table["lr_decay"], [np.nan, np.nan, 0.5, 0.5])


@pytest.mark.parametrize("fields", [[], ["lr"], ["seed", "lr"], ["lr_decay"]])
def test_tidy_has_a_row_per_step(fields):
    configs = [ht.ExperimentConfig(**TINY | {"steps": steps}, seed=3 - steps) for steps in (0, 2)]
    runs = [ht.train(config) for config in configs]
    table = tidy(runs, fields)
    assert list(table.columns) == [*(f for f in fields if f != "seed"), "seed", "step", *METRICS]
    assert table["step"].tolist() == [0, 0, 1, 2]
    assert table["seed"].tolist() == [3, 1, 1, 1]
    np.testing.assert_array_equal(table[list(METRICS)], np.vstack([run.metrics for run in runs]))
    none = {"metrics": runs[0].metrics.iloc[:0], "eigenvalues": runs[0].eigenvalues[:0]}
    empty = dataclasses.replace(runs[0], **none, diverged_at=0)
    assert tidy([empty, runs[1]], fields)["step"].tolist() == [0, 1, 2]
    assert len(tidy([empty], fields)) == 0


def test_diverged_runs_are_listed(tmp_path):
    table = sweep(tmp_path, DIVERGING, 1)
    with blas_threads(1):
        alone = ht.train(ht.ExperimentConfig(**DIVERGING | {"lr": 1e9}))
    assert alone.diverged_at is not None
    expected = [{**DIVERGING, "lr": 1e9, "seed": 0, "step": alone.diverged_at}]
    assert table.attrs["diverged"] == expected
    assert (table["lr"] == 1e9).sum() == len(alone.metrics)
    assert "1 diverged" in table.attrs["notes"][-1]
    assert sweep(tmp_path, DIVERGING, 1).attrs["diverged"] == expected
    assert sweep(tmp_path, GRID, 1).attrs["diverged"] == []


def test_a_second_time_nothing_is_computed_nor_written(tmp_path, computed, monkeypatch):
    first = sweep(tmp_path)
    assert len(computed) == 8
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    computed.clear()
    second = sweep(tmp_path)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert computed == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert second.attrs["notes"] == ["8 of 8 runs, 8 from the store"]
    assert_intact(tmp_path)


def test_only_what_is_new_is_computed(tmp_path, computed):
    sweep(tmp_path)
    computed.clear()
    more = sweep(tmp_path, seeds=3)
    assert {task.config.seed for task in computed} == {2}
    assert count(more, "computed") == 4
    computed.clear()
    wider = sweep(tmp_path, GRID | {"lr": [0.1, 0.5, 1.0]})
    assert {task.config.lr for task in computed} == {0.5}
    assert count(wider, "computed") == 4
    assert count(wider, "from the store") == 8
    computed.clear()
    sweep(tmp_path, GRID | {"lr": 0.5, "optimizer": "gd"}, [1])
    assert computed == []


def test_a_store_object_serves_as_well(tmp_path, monkeypatch):
    table = sweep(ht.Store(tmp_path / "a"))
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "b"))
    assert sweep(None).equals(table)
    assert len(files_of(tmp_path / "a")) == len(files_of(tmp_path / "b")) == 8


def test_one_training_serves_all_of_its_readings(tmp_path, computed):
    grid = TINY | {"ridge_lambda": [0.1, 0.01], "lr": [0.5, 1.0], "feature_scale": ["paper", "released-code"]}
    table = sweep(tmp_path, grid, 1)
    assert [len(task.readings) for task in computed] == [4, 4]
    assert len(files_of(tmp_path)) == 2
    for (ridge, lr, scale, _), rows in runs_of(table, ["ridge_lambda", "lr", "feature_scale"]).items():
        config = ht.ExperimentConfig(**TINY, ridge_lambda=ridge, lr=lr, feature_scale=scale)
        with blas_threads(1):
            np.testing.assert_array_equal(rows[list(METRICS)], ht.train(config).metrics)
    # a reading that the store lacks is trained for, and joins the others
    computed.clear()
    assert count(sweep(tmp_path, grid | {"ridge_lambda": [1.0, 0.1]}, 1), "computed") == 8
    assert [len(task.readings) for task in computed] == [4, 4]
    computed.clear()
    readings = {"ridge_lambda": [0.01, 0.1, 1.0]}
    (run, _) = sweep_runs(tmp_path, 1, TINY | {"lr": [0.5, 1.0]}, readings=readings)
    assert computed == []
    assert len(run.refits) == 6


def test_one_pool_computes_each_training_once_with_all_that_is_asked_of_it(tmp_path, computed):
    """Two wishes share a training: one asks for a reading, the other for the overlaps and one run more."""
    config = ht.ExperimentConfig(**TINY)
    other = config.replace(ridge_lambda=0.1)
    first = [Task(config, (config.reading,)), Task(other, (other.reading,))]
    second = [Task(c, (c.reading,), keep_overlaps=True) for c in (config, config.replace(lr=0.5))]
    summary = compute_missing([*first, *second], tmp_path, progress=False)
    assert summary.startswith("3 of 3 runs, 3 computed in ")
    assert [(len(task.readings), task.keep_overlaps) for task in computed] == [(2, True), (1, True)]
    computed.clear()
    for tasks, kept in ((first, []), (second, [1])):
        runs = run_tasks(tasks, tmp_path, progress=False)
        assert [run.config for run in runs] == [task.config for task in tasks]
        assert [list(run.overlaps) for run in runs] == [kept] * 2
    assert compute_missing(first, tmp_path) == "2 of 2 runs, 2 from the store"
    assert computed == []


def test_long_runs_come_first_and_those_of_a_problem_together(tmp_path, computed):
    tasks = [
        Task(config, (config.reading,))
        for seed in (0, 1)
        for steps in (1, 3, 2)
        for config in [ht.ExperimentConfig(**TINY | {"steps": steps + 3 * seed}, seed=seed)]
    ]
    compute_missing(tasks, tmp_path, workers=1, progress=False)
    assert [(task.config.seed, task.config.steps) for task in computed] == [
        *((1, 6), (1, 5), (1, 4)),
        *((0, 3), (0, 2), (0, 1)),
    ]


def test_runs_keep_their_spectra(tmp_path):
    runs, again = sweep_runs(tmp_path, 2), sweep_runs(tmp_path, 2)
    assert len(runs) == 8
    for run, other in zip(runs, again, strict=True):
        with blas_threads(1):
            alone = ht.train(run.config)
        np.testing.assert_array_equal(run.eigenvalues, alone.eigenvalues)
        np.testing.assert_array_equal(other.eigenvalues, alone.eigenvalues)
        assert not run.overlaps
        assert not run.weights


def test_a_run_that_keeps_more_serves_those_who_ask_for_less(tmp_path, computed):
    sweep(tmp_path, seeds=1)
    full = sweep_runs(tmp_path, 1, keep_overlaps=True, keep_weights=True)
    assert len(files_of(tmp_path)) == 8
    computed.clear()
    overlaps = sweep_runs(tmp_path, 1, keep_overlaps=True)
    again = sweep_runs(tmp_path, 1, keep_overlaps=True, keep_weights=True)
    plain = sweep_runs(tmp_path, 1)
    assert computed == []
    assert [list(run.overlaps) for run in plain] == [[]] * 4
    assert [(list(run.overlaps), list(run.weights)) for run in overlaps] == [([1], [])] * 4
    for run, other in zip(full, again, strict=True):
        with blas_threads(1):
            alone = ht.train(run.config, keep_weights=True, keep_overlaps=True)
        np.testing.assert_array_equal(run.weights[1], alone.weights[1])
        np.testing.assert_array_equal(other.weights[1], alone.weights[1])
        np.testing.assert_array_equal(other.overlaps[1].after.left, alone.overlaps[1].after.left)


def test_what_another_process_stored_meanwhile_is_not_computed(tmp_path, monkeypatch):
    """The worker plays the other process: while the first task is at work, it stores all."""
    compute = executors.compute
    called = []

    def slow(task, *args):
        for config in [] if called else expand(GRID, 1):
            ht.Store(tmp_path).save(ht.train(config))
        called.append(task)
        return compute(task, *args)

    monkeypatch.setattr(executors, "compute", slow)
    table = sweep(tmp_path, seeds=1)
    assert len(called) == 1
    assert table.attrs["notes"][-1].startswith("4 of 4 runs, 3 from the store, 1 computed")


HERE = ("its own thread", "threads")  # without another process


def ways(rare=()):
    """All the ways to compute a sweep, as parameters of `by`."""
    marks = {
        how: [pytest.mark.process] * (how not in HERE) + [pytest.mark.long] * (how in rare)
        for how in EXECUTORS
    }
    return [pytest.param(how, marks=marks[how]) for how in EXECUTORS]


@pytest.fixture(scope="module", params=ways())
def by(request):
    """Options of a sweep: one of all the ways to compute it."""
    how = EXECUTORS[request.param]
    if isinstance(how, dict):
        yield how
    else:
        with how() as executor:
            yield {"executor": executor}


@pytest.fixture(scope="module")
def expected():
    with blas_threads(1):
        return tidy([ht.train(config) for config in expand(GRID, 2)], list(GRID))


# Pools of a sweep's own are of the kinds of the given ones, but each sweep has to start them anew.  Also,
# test_kill.py presses Ctrl-C on such processes.
after_trouble = pytest.mark.parametrize("by", ways(("its own processes", "its own Dask")), indirect=True)


@after_trouble
def test_ctrl_c_loses_nothing_on_any_executor(by, expected, tmp_path, monkeypatch):
    save, left = ht.Store.save, iter([True, True])

    def interrupted(*args, **kept):
        return save(*args, **kept) if next(left, False) else signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(ht.Store, "save", interrupted)
        with pytest.raises(KeyboardInterrupt) as stop:
            ht.sweep(GRID, 2, tmp_path, progress=False, **by)
    assert str(stop.value).startswith("interrupted; 2 of 8 runs, 2 computed in ")
    assert str(stop.value).endswith("; the same call goes on from there")
    assert len(files_of(tmp_path)) == 2
    table = sweep(tmp_path)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert count(table, "computed") == 6
    assert_intact(tmp_path)


@pytest.mark.parametrize("given", [True, False])
def test_ctrl_c_cancels_what_waits_in_a_given_executor_only(given, tmp_path, monkeypatch):
    """A pool of its own drops what waits as it ends; loky's prints a traceback about a cancelled task."""

    class Never(Executor):
        def submit(self, *_):
            futures.append(Future())
            return futures[-1]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    futures = []
    monkeypatch.setattr(executors, "open_executor", lambda *_: nullcontext((Never(), 2, "never")))
    monkeypatch.setattr("htlib.sweeps.compute.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, executor=Never() if given else None)
    assert [future.cancelled() for future in futures] == [given, given]


@after_trouble
def test_every_executor_hands_on_an_error(by, tmp_path):
    with pytest.raises(ValueError, match="device 'nowhere' cannot be used here"):
        ht.sweep(GRID, 1, tmp_path, progress=False, device="nowhere", **by)
    assert files_of(tmp_path) == {}


def test_every_executor_gives_the_same_table_and_is_left_as_it_was(by, expected, tmp_path):
    """A given executor still works after trouble; one that was opened leaves no process behind."""
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    children = set(psutil.Process().children(recursive=True))
    table = ht.sweep(GRID, 2, tmp_path, progress=False, **by)
    assert before == (torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()])
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert len(files_of(tmp_path)) == count(table, "computed") == 8
    assert_intact(tmp_path)
    if "executor" in by:
        assert by["executor"].submit(abs, -1).result() == 1
        name = f"the given {type(by['executor']).__name__}, 2 tasks at a time"
        assert table.attrs["notes"][0] == f"computing with {name}"
    else:
        left = [" ".join(p.cmdline()) for p in set(psutil.Process().children(recursive=True)) - children]
        assert [command for command in left if "resource_tracker" not in command] == []


@pytest.mark.parametrize(
    ("wrong", "error"), [({"executor": 2}, TypeError), ({"scheduler": "local"}, ValueError)]
)
def test_a_wrong_executor_is_refused(wrong, error, tmp_path, computed):
    with ThreadPoolExecutor(1) as pool, pytest.raises(error, match="executor"):
        sweep(tmp_path / "store", **{"executor": pool} | wrong)
    assert computed == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["workers", "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_workers_is_refused(name, value, tmp_path, computed):
    with refused(f"{name} must", "positive integer", repr(value)):
        sweep(tmp_path / "store", **{name: value})
    assert computed == list(tmp_path.iterdir()) == []


class Failing(Executor):
    """Computes at once in this thread, or fails; `failures` has one word or error per submission."""

    def __init__(self, failures):
        self.left = iter(failures)

    def submit(self, function, *args):
        how = next(self.left, "good")
        if how == "submit":
            raise BrokenExecutor
        future = Future()
        if how == "good":
            future.set_result(function(*args))
        else:
            future.set_exception(how)
        return future


@pytest.fixture
def fail(monkeypatch):
    """Make the threads of a sweep fail like this."""

    def fail(*failures):
        pool = Failing(failures)
        monkeypatch.setattr(executors, "_threads", lambda count: nullcontext(pool))
        monkeypatch.setattr(executors, "_workers_for", lambda tasks: 2)

    return fail


def test_a_worker_that_dies_between_tasks_loses_none(tmp_path, fail):
    """The pool may notice at the next submission."""
    fail("good", "good", "submit", "good", BrokenExecutor(), *["good"] * 2, "submit")
    table = sweep(tmp_path, workers=None)
    assert count(table, "computed") == 8
    assert table.attrs["notes"].count("a worker died; its runs start again") == 3
    assert table.equals(sweep(tmp_path / "other"))


def test_workers_that_keep_dying_end_the_sweep(tmp_path, fail):
    fail("good", "good", *[BrokenExecutor("out of memory")] * 99)
    with pytest.raises(ht.SweepError, match=r"workers died 3 times in a row.*2 of 8 runs, .*workers="):
        sweep(tmp_path, workers=None)
    assert len(files_of(tmp_path)) == 2
    fail()
    assert count(sweep(tmp_path), "computed") == 6


@pytest.mark.parametrize("kind", [BrokenExecutor, CancelledError, "KilledWorker"])
def test_a_given_executor_that_loses_workers_is_not_replaced(kind, tmp_path):
    if kind == "KilledWorker":
        kind = partial(pytest.importorskip("distributed").KilledWorker, last_worker=None, allowed_failures=3)
    lost = kind("died")
    with pytest.raises(ht.SweepError, match=r"lost the given executor .*died.* [34] of 8 runs, .* goes on"):
        sweep(tmp_path, executor=Failing(["good", "good", lost, *["good"] * 9]), workers=2)
    assert len(files_of(tmp_path)) in (3, 4)
    assert_intact(tmp_path)


def test_a_full_disk_ends_the_sweep_and_not_the_next_one(tmp_path, monkeypatch):
    """The error is kept, as a notebook keeps it, with all that its frames hold."""
    ht.Store(tmp_path).check_writable()
    fsync, calls = os.fsync, iter(range(99))

    def full(number):
        if next(calls) >= 3:
            raise OSError(28, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ht.StoreError, match="No space left on device") as kept:
            sweep(tmp_path)
    assert len(files_of(tmp_path)) == 3
    gc.collect()
    table = sweep(tmp_path)
    assert count(table, "computed") == 5
    assert kept.value is not None
    assert_intact(tmp_path)


def test_an_error_in_a_run_ends_the_sweep_once_those_at_work_are_stored(tmp_path, monkeypatch):
    compute, failed = executors.compute, threading.Event()

    def fail(task, *args):
        if task.config.lr == 1.0:
            failed.set()
            raise ArithmeticError("odd")
        assert failed.wait(60)
        return compute(task, *args)

    with monkeypatch.context() as patch, ThreadPoolExecutor(3) as pool:
        patch.setattr(executors, "compute", fail)
        with pytest.raises(ArithmeticError, match="odd"):
            sweep(tmp_path, TINY | {"lr": [0.1, 0.5, 1.0, 2.0, 3.0]}, 1, executor=pool, workers=3)
    assert len(files_of(tmp_path)) == 2
    assert_intact(tmp_path)


def test_the_bar_is_on_stderr_and_counts(tmp_path, capsys):
    sweep(tmp_path, seeds=1)
    table = sweep(tmp_path, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert "\r" not in captured.err  # in a log, one line per tenth
    assert len([line for line in lines if line.startswith("runs: ")]) <= 11
    assert lines[-1].startswith("runs: 100 %, 8 of 8 runs, ")
    for part in table.attrs["notes"][:-1]:
        assert part in captured.err
    assert re.fullmatch(r"8 of 8 runs, 4 from the store, 4 computed in \d\.\d s", table.attrs["notes"][-1])


def test_minutes_are_written_as_minutes(tmp_path, monkeypatch):
    clock = iter([0.0, 3661.0])
    monkeypatch.setattr("htlib.sweeps.compute.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert sweep(tmp_path, TINY, 1).attrs["notes"][-1].endswith("1 computed in 1:01:01")


@pytest.mark.parametrize("progress", [False, True])
def test_nothing_is_shown_without_progress_or_if_the_store_has_all(progress, tmp_path, capsys):
    sweep(tmp_path)
    sweep(tmp_path, progress=progress)
    assert capsys.readouterr() == ("", "")
