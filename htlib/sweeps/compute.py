"""Sweeps: a grid of configurations with paired seeds, computed once, kept in a store."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pandas as pd
from filelock import BaseFileLock
from tqdm import tqdm

from htlib.student.run import Trajectory, tidy
from htlib.student.training import Readings, readings_of
from htlib.sweeps import workers as executors
from htlib.sweeps.grid import Grid, expand, fields_of
from htlib.sweeps.kinds import Config, Run, Task, by_training
from htlib.sweeps.progress import progress_bar
from htlib.sweeps.store import Store

_LOSSES_ALLOWED = 3  # worker deaths in a row without a finished task between them
_POLL = 0.2  # seconds


class SweepError(RuntimeError):
    """A sweep that cannot go on; what it finished is in the store."""


def sweep(
    grid: Grid,
    seeds: int | Iterable[int] = 5,
    store: Store | str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    *,
    executor: Executor | None = None,
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
        ``"local"`` starts a Dask cluster on this machine; an address such as ``"tcp://host:8786"`` uses
        that one.
    executor : concurrent.futures.Executor, optional
        Computes the runs and stays open: a pool of threads or processes, loky's, or that of a Dask client by
        ``client.get_executor()``.  Its workers need htlib, not the store.  Default: processes of this
        machine by loky; threads of this process for a sweep that would end before processes are up.
    device : str
        Any torch device.  It is not part of a run's name: a run stored from another device counts.
    workers : int, optional
        Tasks at a time.  Default: as many as an executor or cluster has workers; on this machine as many as
        cores and memory allow; one for a device that is not the CPU.
    threads : int, optional
        BLAS threads of each worker.  Default 1, which is fastest for many runs.
    progress : bool
        Show a bar.

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
        If workers keep dying, or those of a scheduler or a given executor are lost.
    RuntimeError
        If the workers of ``"local"`` do not start: they import the calling script, which needs a guard.

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
    tasks = [Task(config, (config.reading,), device) for config in expand(grid, seeds)]
    options = _Options(scheduler, executor, workers, threads, progress)
    work = _Sweep(tasks, store, options, keep=_measures_only)
    runs, names = work.runs(), fields_of(grid)
    table = tidy(runs, names)
    table.attrs["notes"] = [*work.notes, work.summary()]
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
    executor: Executor | None = None,
    device: str = "cpu",
    workers: int | None = None,
    threads: int | None = None,
    keep_weights: bool = False,
    keep_overlaps: bool = False,
    readings: Readings = None,
    progress: bool = True,
) -> list[Trajectory]:
    """As `sweep`, but returns the runs themselves, with their spectra.

    Parameters
    ----------
    grid, seeds, store, scheduler, executor, device, workers, threads, progress
        As for `sweep`.
    keep_weights, keep_overlaps : bool
        As for `htlib.train`.  Runs with and without are kept side by side in the store.
    readings
        As for `htlib.train`.

    Returns
    -------
    list of Trajectory
        In the order of grid and seeds.
    """
    tasks = [
        Task(config, tuple(readings_of(config, readings)), device, keep_weights, keep_overlaps)
        for config in expand(grid, seeds)
    ]
    return run_tasks(
        tasks, store, scheduler, executor=executor, workers=workers, threads=threads, progress=progress
    )


def run_tasks(
    tasks: Sequence[Task],
    store: Store | str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> list[Any]:
    """Return the runs of some tasks, in their order, from the store or computed."""
    options = _Options(scheduler, executor, workers, threads, progress)
    return _Sweep(tasks, store, options, keep=lambda run: run).runs()


def compute_missing(
    tasks: Sequence[Task],
    store: Store | str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> str:
    """Compute the tasks that the store lacks, in one pool, and return a line on how that went.

    Tasks that train alike are one training, with all of their readings and all that any of them keeps.
    """
    work = _Sweep(tasks, store, _Options(scheduler, None, workers, threads, progress), keep=None)
    work.runs()
    return work.summary()


@dataclasses.dataclass(frozen=True)
class _Options:
    """How a sweep is computed; it changes its numbers only by rounding."""

    scheduler: str | None
    executor: Executor | None
    workers: int | None
    threads: int | None
    progress: bool

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be None or a positive integer; got {value!r}")
        given: Any = self.executor
        if given is not None and not isinstance(given, Executor):
            raise TypeError(f"executor must be a concurrent.futures.Executor; got {given!r}")
        if given is not None and self.scheduler is not None:
            raise ValueError(f"give scheduler or executor, not both; got {self.scheduler!r} and {given!r}")


class _Sweep:
    """The runs of a sweep: those at hand, and how the others are computed."""

    def __init__(
        self,
        tasks: Sequence[Task],
        store: Store | str | os.PathLike[str] | None,
        options: _Options,
        keep: Callable[[Any], Any] | None,
    ) -> None:
        self.notes: list[str] = []
        self._options, self._keep = options, keep
        self._configs = [task.config for task in tasks]
        self._tasks = by_training(tasks)
        self._asked: dict[Config, set[Config]] = {}
        for task in tasks:
            self._asked.setdefault(task.training, set()).add(task.config)
        self._store = store if isinstance(store, Store) else Store(store)
        self._results: dict[Config, Run | None] = {}
        self._computed, self._diverged, self._began = 0, 0, time.monotonic()
        self._told = len(self._store.set_aside)  # a Store may have served other sweeps
        self._bar: Any = None

    def runs(self) -> list[Any]:
        """Compute what the store lacks; return all runs in the order of the tasks, as `keep` leaves them."""
        for training in self._tasks:
            self._look_up(training)
        missing = sum(
            executors.work_of(task) for training, task in self._tasks.items() if self._lacks(training)
        )
        show = self._options.progress and missing > 0
        with progress_bar("runs", missing, show, self._state()) as self._bar:
            self._note_damage()
            if missing:
                with self._store.writing() as others, executors.process_as_it_was():
                    for other in others:
                        self._note(f"{other} also works on this store; finished runs are shared")
                    try:
                        self._compute()
                    except KeyboardInterrupt:
                        raise KeyboardInterrupt(
                            f"interrupted; {self.summary()}; the same call goes on from there"
                        ) from None
            self._note_damage()
        return [self._results[config] for config in self._configs]

    def summary(self) -> str:
        """One line on how the sweep went so far."""
        done, parts = len(self._results), [self._state()]
        if stored := done - self._computed:
            parts.append(f"{stored} from the store")
        if self._computed:
            seconds = time.monotonic() - self._began
            took = f"{seconds:.1f} s" if seconds < 60 else tqdm.format_interval(seconds)
            parts.append(f"{self._computed} computed in {took}")
        if self._diverged:
            parts.append(f"{self._diverged} diverged")
        return ", ".join(parts)

    def _state(self) -> str:
        return f"{len(self._results)} of {sum(map(len, self._asked.values()))} runs"

    def _compute(self) -> None:
        """Compute what is missing; if workers of this machine die, once more."""
        options, losses = self._options, 0
        threads = options.threads or 1
        while tasks := [task for training, task in self._tasks.items() if self._lacks(training)]:
            before = self._computed
            try:
                with executors.open_executor(
                    tasks, options.executor, options.scheduler, options.workers, threads
                ) as (executor, slots, name):
                    self._note(f"computing {name}")
                    self._finish(tasks, executor, slots, threads)
            except executors.lost_workers() as error:
                if options.executor is not None or options.scheduler is not None:
                    lost = "the given executor" if options.scheduler is None else "the Dask scheduler"
                    raise SweepError(
                        f"lost {lost} or too many of its workers ({error!r}); {self.summary()}; "
                        "the same call goes on from there"
                    ) from error
                losses = losses + 1 if self._computed == before else 1
                if losses >= _LOSSES_ALLOWED:
                    raise SweepError(
                        f"workers died {losses} times in a row, perhaps for lack of memory; "
                        f"{self.summary()}; go on with fewer workers="
                    ) from error
                self._note("a worker died; its runs start again")

    def _finish(self, tasks: Sequence[Task], executor: Executor, slots: int, threads: int) -> None:
        """Compute tasks and store their runs; what another process has at work is waited for.

        An error of a task is raised once those at work have ended and are stored.
        """
        # Problem by problem, the most work first, so that short tasks are left for the end.
        work: dict[str, float] = {}
        for task in tasks:
            work[task.start_key] = work.get(task.start_key, 0) + executors.work_of(task)
        todo = {key: deque[Task]() for key in sorted(work, key=lambda key: -work[key])}
        for task in sorted(tasks, key=executors.work_of, reverse=True):
            todo[task.start_key].append(task)
        running: dict[Future[Run], Task] = {}
        claims: dict[Config, BaseFileLock] = {}
        errors: list[Exception] = []
        name, previous = uuid.uuid4().hex, None
        try:
            while running or (any(todo.values()) and not errors):
                while len(running) < slots and not errors and (task := self._claim(todo, previous, claims)):
                    if self._look_up(task.training):  # another process has stored it by now
                        self._count(task)
                        claims.pop(task.training).release()
                    else:
                        future = executor.submit(executors.compute, task, threads, name)
                        running[future] = task
                        if isinstance(executor, ThreadPoolExecutor):  # threads keep their starts together
                            previous = task.start_key
                if not running:
                    time.sleep(_POLL)
                for future in wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    try:
                        run = future.result()
                    except Exception as error:
                        errors.append(error)
                    else:
                        self._save(task, run)
                        claims.pop(task.training).release()
                        previous = task.start_key
        finally:
            if running:
                executors.give_up(name)
            # One that was opened here drops what waits as it ends; loky's would trip over a cancelled task.
            if self._options.executor is not None:
                for future in running:
                    future.cancel()
            for claim in claims.values():
                claim.release()
        if errors:
            raise errors[0]

    def _claim(
        self, todo: dict[str, deque[Task]], previous: str | None, claims: dict[Config, BaseFileLock]
    ) -> Task | None:
        """Choose a task that no other process has: of the previous problem, or of the next that has some."""
        for key in sorted(todo, key=lambda key: key != previous):
            for _ in range(len(todo[key])):
                task = todo[key].popleft()
                claim = self._store.claim(task.training.digest())
                if claim is not None:
                    claims[task.training] = claim
                    return task
                todo[key].append(task)
        return None

    def _lacks(self, training: Config) -> bool:
        return not self._asked[training] <= self._results.keys()

    def _look_up(self, training: Config) -> bool:
        """Take a training from the store, if it is there with all that is asked of it."""
        task = self._tasks[training]
        wanted: Any = {
            "readings": task.readings,
            "keep_weights": task.keep_weights,
            "keep_overlaps": task.keep_overlaps,
        }
        if self._keep is None:
            if found := self._store.has(task.config, **wanted):
                self._results.update(dict.fromkeys(self._asked[training]))
            return found
        run = self._store.load(task.config, **wanted)
        if run is not None:
            self._take(training, run)
        return run is not None

    def _save(self, task: Task, run: Run) -> None:
        self._store.save(run, keep_weights=task.keep_weights, keep_overlaps=task.keep_overlaps)
        self._take(task.training, run)
        self._computed += len(self._asked[task.training])
        self._count(task)

    def _take(self, training: Config, run: Run) -> None:
        asked = self._asked[training]
        self._diverged += len(asked) * (run.diverged_at is not None)
        for config in asked:
            self._results[config] = self._keep and self._keep(run.read(*config.reading))

    def _count(self, task: Task) -> None:
        self._bar.set_postfix_str(self._state(), refresh=False)
        self._bar.update(executors.work_of(task))

    def _note(self, text: str) -> None:
        self.notes.append(text)
        if not self._bar.disable:
            self._bar.write(f"sweep: {text}", file=sys.stderr)

    def _note_damage(self) -> None:
        """Note which files of the store were found damaged since the last call."""
        for line in self._store.set_aside[self._told :]:
            self._note(line)
        self._told = len(self._store.set_aside)


def _measures_only(run: Trajectory) -> Trajectory:
    """The run without its arrays, which a table does not need."""
    return dataclasses.replace(run, eigenvalues=np.empty((0, 0)), weights={}, overlaps={})
