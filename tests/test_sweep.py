"""Oracle: `htlib.train` of each config alone, and counts of what was computed.

Numbers are compared to the last bit where one code computes them with one number of BLAS threads; another
number adds in another order.
"""

import gc
import re

import numpy as np
import pandas as pd
import psutil
import pytest
from sweeping import TINY, assert_intact, blas_threads, files_of

import htlib as ht
from htlib import executors, tasks
from htlib.executors import Engine
from htlib.grid import expand
from htlib.probes import METRICS
from htlib.records import tidy
from htlib.tasks import Done
from htlib.workload import Options, bytes_of, work_of

GRID = TINY | {"lr": [0.1, 1.0], "optimizer": ["adam", "gd"]}
DIVERGING = TINY | {"activation": "relu", "optimizer": "gd", "steps": 9, "lr": [1.0, 1e9]}


@pytest.fixture
def computed(monkeypatch):
    """The tasks that were computed, and by what."""
    tasks = []
    compute = executors.compute
    monkeypatch.setattr(executors, "compute", lambda task, *args: tasks.append(task) or compute(task, *args))
    return tasks


@pytest.fixture
def no_computing(monkeypatch):
    def fail(*args):
        raise AssertionError("computed")

    monkeypatch.setattr(executors, "compute", fail)
    monkeypatch.setattr(tasks, "prepare", fail)


def sweep(store, grid=GRID, seeds=2, **options):
    return ht.sweep(grid, seeds, store, **{"progress": False, "workers": 1, "threads": 1} | options)


def runs_of(table, fields):
    return dict(iter(table.groupby([*fields, "seed"], sort=False)))


def count(table, kind):
    return sum(int(n) for note in table.attrs["notes"] for n in re.findall(rf"(\d+) {kind}", note))


# The table


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


def test_scalars_and_a_single_field(tmp_path):
    assert list(sweep(tmp_path, TINY, 1).columns) == [*TINY, "seed", "step", *METRICS]


def test_a_union_has_the_fields_of_all(tmp_path):
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


def test_tidy_of_runs_without_a_measure():
    run = ht.train(ht.ExperimentConfig(**TINY))
    empty = ht.Trajectory(run.config, run.metrics.iloc[:0], run.eigenvalues[:0], diverged_at=0)
    assert tidy([empty, run], ["lr"])["step"].tolist() == [0, 1]
    assert len(tidy([empty], ["lr"])) == 0


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


# The store


def test_again_costs_nothing(tmp_path, request):
    first = sweep(tmp_path)
    request.getfixturevalue("no_computing")
    pd.testing.assert_frame_equal(sweep(tmp_path), first, check_exact=True)
    with pytest.raises(AssertionError, match="computed"):  # the control
        sweep(tmp_path, seeds=3)


def test_a_second_time_nothing_is_computed_nor_written(tmp_path, computed, monkeypatch):
    first = sweep(tmp_path)
    assert sum(len(task.configs) for task in computed) == 8
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
    assert {config.seed for task in computed for config in task.configs} == {2}
    assert count(more, "computed") == 4
    computed.clear()
    wider = sweep(tmp_path, GRID | {"lr": [0.1, 0.5, 1.0]})
    assert {config.lr for task in computed for config in task.configs} == {0.5}
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


def test_a_family_is_trained_once(tmp_path, monkeypatch):
    trained = []
    train_family = tasks.train_family
    monkeypatch.setattr(
        tasks, "train_family", lambda c, *args, **kw: trained.append(c) or train_family(c, *args, **kw)
    )
    grid = TINY | {"ridge_lambda": [0.1, 0.01], "lr": [0.5, 1.0], "feature_scale": ["paper", "released-code"]}
    table = sweep(tmp_path, grid, 1)
    assert sorted(map(len, trained)) == [4, 4]
    for (ridge, lr, scale, _), rows in runs_of(table, ["ridge_lambda", "lr", "feature_scale"]).items():
        config = ht.ExperimentConfig(**TINY, ridge_lambda=ridge, lr=lr, feature_scale=scale)
        with blas_threads(1):
            np.testing.assert_array_equal(rows[list(METRICS)], ht.train(config).metrics)


def test_runs_keep_their_spectra(tmp_path):
    options = {"workers": 1, "threads": 1, "progress": False}
    runs = ht.sweep_runs(GRID, 2, tmp_path, **options)
    again = ht.sweep_runs(GRID, 2, tmp_path, **options)
    assert len(runs) == 8
    for run, other in zip(runs, again, strict=True):
        with blas_threads(1):
            alone = ht.train(run.config)
        np.testing.assert_array_equal(run.eigenvalues, alone.eigenvalues)
        np.testing.assert_array_equal(other.eigenvalues, alone.eigenvalues)
        assert not run.overlaps
        assert not run.weights


def test_runs_with_and_without_overlaps_lie_side_by_side(tmp_path, computed):
    sweep(tmp_path, seeds=1)
    options = {"workers": 1, "threads": 1, "progress": False}
    full = ht.sweep_runs(GRID, 1, tmp_path, keep_overlaps=True, keep_weights=True, **options)
    overlaps = ht.sweep_runs(GRID, 1, tmp_path, keep_overlaps=True, **options)
    assert len(files_of(tmp_path)) == 12
    computed.clear()
    again = ht.sweep_runs(GRID, 1, tmp_path, keep_overlaps=True, keep_weights=True, **options)
    plain = ht.sweep_runs(GRID, 1, tmp_path, **options)
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
    """The other one is played by the engine: while the first task is at work, it stores all."""
    compute = executors.compute
    called = []

    def slow(task, *args):
        if not called:
            other = ht.Store(tmp_path)
            for lr in (0.1, 1.0):
                for optimizer in ("adam", "gd"):
                    other.save(ht.train(ht.ExperimentConfig(**TINY, lr=lr, optimizer=optimizer)))
        called.append(task)
        return compute(task, *args)

    monkeypatch.setattr(executors, "compute", slow)
    table = sweep(tmp_path, seeds=1)
    assert len(called) == 1
    assert table.attrs["notes"][-1].startswith("4 of 4 runs, 3 from the store, 1 computed")


# Engines


def test_every_engine_gives_the_same_table(tmp_path):
    pytest.importorskip("distributed")
    configs = expand(GRID, 2)
    expected: dict[int, pd.DataFrame] = {}  # by the number of BLAS threads
    notes = set()
    for name, options in enumerate(
        [
            {"workers": 2},
            {"workers": None, "scheduler": "local"},
            {"workers": None, "threads": None},
            {"workers": 1, "threads": 2},
        ]
    ):
        store = tmp_path / str(name)
        tasks.forget_starts()  # those of another number of threads
        table = sweep(store, **options)
        note = table.attrs["notes"][-2]
        threads = re.search(r"x (\d+) BLAS", note)
        number = int(threads[1]) if threads else 1
        if number not in expected:
            with blas_threads(number):
                expected[number] = tidy([ht.train(config) for config in configs], list(GRID))
        tried = any(note.startswith("tried ") for note in table.attrs["notes"])
        # Layouts that are tried compute some of the runs, each with its number of threads: those agree to
        # rounding.  A step sums 65 products, 1e-6 in single precision; the smallest of ten eigenvalues, a
        # hundredth of the largest, errs by as much of the largest.
        exactness = {"rtol": 1e-4} if tried else {"check_exact": True}
        pd.testing.assert_frame_equal(table, expected[number], **exactness)
        notes.add(note)
        assert_intact(store)
        assert len(files_of(store)) == 8
    assert "computing with 2 processes x 1 BLAS thread" in notes
    assert "computing on Dask at this machine, 2 slots" in notes
    assert "computing with 1 thread of this process x 2 BLAS threads" in notes
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [child for child in children if "resource_tracker" not in child] == []


@pytest.mark.parametrize("name", ["workers", "threads"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_workers_is_refused(name, value, tmp_path, no_computing):
    with pytest.raises(ValueError, match=f"{name} must be None or a positive integer; got {value!r}"):
        sweep(tmp_path / "store", **{name: value})
    assert not list(tmp_path.iterdir())


def test_a_wrong_device_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device 'nowhere' cannot be used here"):
        sweep(tmp_path, device="nowhere")
    assert files_of(tmp_path) == {}
    assert len(sweep(tmp_path)) == 16


def test_many_tasks_are_tried_in_several_layouts(tmp_path, monkeypatch, computed):
    """With four pretended cores and enough tasks; what the trials compute is kept."""
    monkeypatch.setattr(executors, "available_cores", lambda: 4)
    table = ht.sweep(TINY | {"lr": list(np.linspace(0.1, 2, 20))}, 1, tmp_path, progress=False)
    assert len(computed) == 20
    (tried,) = [note for note in table.attrs["notes"] if note.startswith("tried ")]
    assert re.fullmatch(
        r"tried 4 x 1: 1\.00, 2 x 2: [\d.]+, 1 x 4: [\d.]+ \(workers x BLAS threads: relative throughput\)",
        tried,
    )
    assert count(table, "computed") == 20


# Trouble


class Lost(Exception):
    """What a pretended engine raises when a worker died."""


def failing_engine(failures):
    """Computes at once in this thread; `failures` says for each submission how it goes."""
    from concurrent.futures import Future

    left = iter(failures)

    def submit(task):
        how = next(left, "good")
        if how == "submit":
            raise Lost
        future = Future()
        if how == "good":
            future.set_result(executors.compute(task))
        else:
            future.set_exception(how)
        return future

    return lambda workers, blas_threads: Engine("pretended", 2, submit, lambda give_up: None, (Lost,))


def test_a_worker_that_dies_between_tasks_loses_none(tmp_path, monkeypatch):
    """The pool may notice at the next submission."""
    monkeypatch.setattr(
        executors,
        "threads",
        failing_engine(["good", "good", "submit", "good", Lost(), *["good"] * 2, "submit"]),
    )
    table = sweep(tmp_path)
    assert count(table, "computed") == 8
    assert table.equals(sweep(tmp_path / "other"))
    assert table.attrs["notes"].count("a worker died; its runs start again") == 3


def test_workers_that_keep_dying_end_the_sweep(tmp_path, monkeypatch):
    engine = failing_engine(["good", "good", *[Lost("out of memory")] * 99])
    with monkeypatch.context() as patch:
        patch.setattr(executors, "threads", engine)
        with pytest.raises(ht.SweepError, match=r"workers died 3 times in a row.*2 of 8 runs, .*workers="):
            sweep(tmp_path)
    assert len(files_of(tmp_path)) == 2
    assert count(sweep(tmp_path), "computed") == 6


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_interrupted_sweep_tells_how_to_go_on(after, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(executors, "threads", failing_engine(["good"] * after + [KeyboardInterrupt()]))
        with pytest.raises(KeyboardInterrupt) as stop:
            sweep(tmp_path)
    stored = len(files_of(tmp_path))
    assert stored in (after // 2 * 2, after // 2 * 2 + 1)  # two at work, the one that ends well may be first
    assert str(stop.value).startswith(f"interrupted; {stored} of 8 runs")
    assert str(stop.value).endswith("; the same call goes on from there")
    assert len(ht.Store(tmp_path).index()) == 2 * stored
    assert_intact(tmp_path)
    assert count(sweep(tmp_path), "computed") == 8 - stored


def test_a_full_disk_ends_the_sweep_and_not_the_next_one(tmp_path, monkeypatch):
    """The error is kept, as a notebook keeps it, with all that its frames hold."""
    import os

    fsync, calls = os.fsync, iter(range(99))

    def full(number):
        if next(calls) >= 3:
            raise OSError(28, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr("htlib.records.os.fsync", full)
        with pytest.raises(ht.StoreError, match="No space left on device") as kept:
            sweep(tmp_path)
    assert len(files_of(tmp_path)) == 3
    gc.collect()
    table = sweep(tmp_path)
    assert count(table, "computed") == 5
    assert kept.value is not None
    assert_intact(tmp_path)


def test_an_error_in_a_run_ends_the_sweep_with_it(tmp_path, monkeypatch):
    compute = executors.compute

    def fail(task, *args):
        if task.configs[0].lr == 1.0:
            raise ArithmeticError("odd")
        return compute(task, *args)

    with monkeypatch.context() as patch:
        patch.setattr(executors, "compute", fail)
        with pytest.raises(ArithmeticError, match="odd"):
            sweep(tmp_path, scheduler=None)
    assert count(sweep(tmp_path), "computed") <= 8
    assert_intact(tmp_path)


# Estimates


def test_more_work_and_more_memory_for_more_of_everything():
    small = ht.ExperimentConfig(**TINY)

    def task(config):
        return tasks.Task((config,), "cpu", False, False)

    for name in ("n", "d", "h", "n_test", "steps"):
        larger = small.replace(**{name: 4 * getattr(small, name)})
        assert work_of(task(larger)) > work_of(task(small))
        assert name == "steps" or bytes_of(larger) > bytes_of(small)
    assert work_of(task(small.replace(steps=8))) > work_of(task(small.replace(steps=8, probe_every=4)))
    assert Options().workers is None
    assert Done([], 0.0).runs == []
