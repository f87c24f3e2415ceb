"""Sweeps: a grid of configurations with paired seeds, computed once, kept in a store."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import psutil

from htlib.student.run import Trajectory, tidy
from htlib.sweeps import workers as executors
from htlib.sweeps.grid import Grid, expand, fields_of
from htlib.sweeps.progress import Report
from htlib.sweeps.store import Store
from htlib.sweeps.tasks import Task, forget_starts, start_of
from htlib.sweeps.workers import Engine
from htlib.sweeps.workload import Options, Workload, bytes_of, work_of

_WORTH_MEASURING = 4  # tasks per core, from which trying several layouts pays
_WORTH_PROCESSES = 30.0  # seconds of work left, from which starting processes pays
_LOSSES_ALLOWED = 3  # worker deaths in a row without a finished task between them


class SweepError(RuntimeError):
    """A sweep that cannot go on; what it finished is in the store."""


def sweep(
    grid: Grid,
    seeds: int | Iterable[int] = 5,
    store: Store | str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    *,
    device: str = "cpu",
    workers: int | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run every combination of a grid with every seed, and return all that was measured.

    Seeds are paired: all settings of one seed meet the same problem.  Runs that the store has are
    not computed again; each new one is stored when it ends, so a sweep that was interrupted,
    killed or extended goes on where it was.

    Parameters
    ----------
    grid : mapping, or sequence of mappings
        Field of `ExperimentConfig` -> list of values; a scalar is one value.  A sequence of grids
        is their union.
    seeds : int or iterable of int
        k means 0..k-1.
    store : Store or path, optional
        Default: the user's store, see `htlib.Store`.
    scheduler : str, optional
        None computes on this machine.  ``"local"`` starts a Dask cluster here; an address such as
        ``"tcp://host:8786"`` uses that one.  Workers need htlib, not the store.
    device : str
        Any torch device.  It is not part of a run's name: a run stored from another device counts.
    workers, threads : int, optional
        Tasks at a time and BLAS threads of each.  Default: what is fastest when tried on the first
        runs of the sweep.
    progress : bool
        Show a bar, in a notebook a live summary.

    Returns
    -------
    DataFrame
        A row per measured step of every run; columns: the fields of the grid, seed, step, and
        `htlib.student.probes.METRICS`.  Runs are in the order of grid and seeds.  ``attrs["notes"]`` tells
        how it was computed, ``attrs["diverged"]`` lists the runs that diverged.

    Raises
    ------
    TypeError, ValueError
        For an empty grid, an unknown field or a value out of range, before anything runs.
    StoreError
        If the store cannot be written to.
    SweepError
        If workers keep dying or the scheduler is lost.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> grid = {"n": 60, "d": 20, "h": 30, "n_test": 50, "steps": 1, "lr": [0.1, 1.0]}
    >>> table = sweep(grid, seeds=2, store=folder)
    >>> table[["lr", "seed", "step"]].iloc[-1].tolist()
    [1.0, 1.0, 1.0]
    >>> table.equals(sweep(grid, seeds=2, store=folder))  # from the store
    True
    """
    runs, report = _collect(
        grid,
        seeds,
        store,
        scheduler,
        Options(device, workers, threads, progress),
        keep=_measures_only,
    )
    names = fields_of(grid)
    table = tidy(runs, names)
    table.attrs["notes"] = [*report.notes, report.summary()]
    table.attrs["diverged"] = [
        {name: getattr(run.config, name) for name in (*names, "seed")} | {"step": run.diverged_at}
        for run in runs
        if run.diverged_at is not None
    ]
    return table


def sweep_runs(
    grid: Grid,
    seeds: int | Iterable[int] = 5,
    store: Store | str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    *,
    device: str = "cpu",
    workers: int | None = None,
    threads: int | None = None,
    keep_weights: bool = False,
    keep_overlaps: bool = False,
    progress: bool = True,
) -> list[Trajectory]:
    """As `sweep`, but returns the runs themselves, with their spectra.

    Parameters
    ----------
    grid, seeds, store, scheduler, device, workers, threads, progress
        As for `sweep`.
    keep_weights, keep_overlaps : bool
        As for `htlib.train`.  Runs with and without are kept side by side in the store.

    Returns
    -------
    list of Trajectory
        In the order of grid and seeds.
    """
    options = Options(device, workers, threads, progress, keep_weights, keep_overlaps)
    return _collect(grid, seeds, store, scheduler, options, keep=lambda run: run)[0]


def _collect(
    grid: Grid,
    seeds: int | Iterable[int],
    store: Store | str | os.PathLike[str] | None,
    scheduler: str | None,
    options: Options,
    keep: Callable[[Trajectory], Trajectory],
) -> tuple[list[Trajectory], Report]:
    configs = expand(grid, seeds)
    store = store if isinstance(store, Store) else Store(store)
    told = len(store.set_aside)  # a Store may have served other sweeps
    state = Workload(configs, store, options, keep)
    names = fields_of(grid)
    varying = [name for name in names if len({getattr(c, name) for c in configs}) > 1]
    with Report(len(configs), len(state.results), varying, show=options.progress) as report:
        found = len(store.set_aside)
        for line in store.set_aside[told:found]:
            report.note(line)
        if state.tasks:
            with store.writing() as others:
                for other in others:
                    report.note(f"{other} also works on this store; finished runs are shared")
                try:
                    _compute(state, scheduler, report)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(
                        f"interrupted; {report.summary()}; the same call goes on from there"
                    ) from None
                finally:
                    forget_starts()
                    store.write_index(state.new)
        for line in store.set_aside[found:]:
            report.note(line)
    return [state.results[config] for config in configs], report


def _compute(state: Workload, scheduler: str | None, report: Report) -> None:
    losses = 0
    while state.tasks:
        finished = report.computed
        engine = _engine(state, scheduler, report)
        if engine is None:
            return
        give_up = True
        try:
            state.compute(engine, report)
            give_up = False
        except engine.lost as error:
            if scheduler is not None:
                raise SweepError(
                    f"lost the Dask scheduler or too many of its workers ({error}); {report.summary()}; "
                    "the same call goes on from there"
                ) from error
            losses = losses + 1 if report.computed == finished else 1
            if losses >= _LOSSES_ALLOWED:
                raise SweepError(
                    f"workers died {losses} times in a row, perhaps for lack of memory; {report.summary()}; "
                    "go on with fewer workers="
                ) from error
            report.note("a worker died; its runs start again")
        finally:
            engine.close(give_up)


def _engine(state: Workload, scheduler: str | None, report: Report) -> Engine | None:
    """The engine for what is to do; on this machine it is chosen by trying.  None if that was all."""
    options = state.options
    if scheduler is not None:
        engine = executors.dask(scheduler, options.workers, options.threads)
        report.note(f"computing on {engine.name}")
        return engine
    cores = executors.available_cores()
    tasks = state.tasks
    most = _workers_that_fit(tasks)
    if options.workers or options.threads or options.device != "cpu":
        alone = options.device != "cpu" and options.workers is None
        workers = options.workers or (1 if alone else min(most, max(1, cores // (options.threads or 1))))
        blas_threads = options.threads or max(1, cores // workers)
        make = executors.threads if workers == 1 else executors.processes
        engine = make(workers, blas_threads)
        report.note(f"computing with {engine.name}")
        return engine
    layouts = sorted({(w, cores // w) for w in _divisors(cores) if w <= min(most, len(tasks))}, reverse=True)
    layouts = layouts or [(1, cores)]
    speed = dict.fromkeys(layouts, 0.0)
    if len(layouts) > 1 and len(tasks) >= _WORTH_MEASURING * cores:
        start_of(tasks[0])  # no trial pays for it
        for workers, blas_threads in layouts:
            trial = executors.threads(workers, blas_threads)
            give_up = True
            try:
                speed[workers, blas_threads] = workers * state.compute(trial, report, limit=workers)
                give_up = False
            finally:
                trial.close(give_up)
            if not state.tasks:
                return None
        report.note(
            "tried "
            + ", ".join(f"{w} x {t}: {speed[w, t] / speed[layouts[0]]:.2f}" for w, t in layouts)
            + " (workers x BLAS threads: relative throughput)"
        )
    best = max(layouts, key=lambda layout: speed[layout])
    long = speed[best] > 0 and sum(map(work_of, state.tasks)) / speed[best] > _WORTH_PROCESSES
    engine = (executors.processes if long and best[0] > 1 else executors.threads)(*best)
    report.note(f"computing with {engine.name}")
    return engine


def _workers_that_fit(tasks: Sequence[Task]) -> int:
    need = 3e8 + max(bytes_of(task.configs[0]) for task in tasks)  # the interpreter with torch, and a run
    return max(1, int(0.8 * psutil.virtual_memory().available / need))


def _divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]


def _measures_only(run: Trajectory) -> Trajectory:
    """The run without its arrays, which a table does not need."""
    return dataclasses.replace(run, eigenvalues=np.empty((0, 0)), weights={}, overlaps={})
