"""The state of one sweep: what is to do, what is done, and the loop between an engine and the store."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path

from filelock import BaseFileLock

from htlib.student.config import ExperimentConfig
from htlib.student.run import Trajectory
from htlib.student.training import start_key as family_key
from htlib.sweeps.progress import Report
from htlib.sweeps.store import Store
from htlib.sweeps.tasks import Done, Task
from htlib.sweeps.workers import Engine

_POLL = 0.2  # seconds


@dataclasses.dataclass(frozen=True)
class Options:
    """How a sweep is computed; it changes its numbers by rounding alone."""

    device: str = "cpu"
    workers: int | None = None
    threads: int | None = None
    progress: bool = True
    keep_weights: bool = False
    keep_overlaps: bool = False

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be None or a positive integer; got {value!r}")


class Workload:
    """The runs of a sweep, each in the store or in a task still to do.

    Parameters
    ----------
    configs : sequence of ExperimentConfig
    store : Store
    options : Options
    keep : callable
        What of a run to hold in memory.

    Attributes
    ----------
    results : dict
        Config -> what is kept of its run.
    new : dict
        File -> the same, for the runs computed here.
    """

    def __init__(
        self,
        configs: Sequence[ExperimentConfig],
        store: Store,
        options: Options,
        keep: Callable[[Trajectory], Trajectory],
    ) -> None:
        self.store, self.options, self._keep = store, options, keep
        self._file_of = partial(
            store.file_of, keep_weights=options.keep_weights, keep_overlaps=options.keep_overlaps
        )
        self._load = partial(
            store.load, keep_weights=options.keep_weights, keep_overlaps=options.keep_overlaps
        )
        self.results: dict[ExperimentConfig, Trajectory] = {}
        self.new: dict[Path, Trajectory] = {}
        for config in configs:
            self._from_store(config)
        families: dict[str, list[ExperimentConfig]] = {}
        for config in configs:
            if config not in self.results:
                families.setdefault(family_key(config), []).append(config)
        self._queues: dict[str, deque[Task]] = {}
        for family in families.values():
            self._put(Task(tuple(family), options.device, options.keep_weights, options.keep_overlaps))
        self._taken_elsewhere: deque[Task] = deque()

    def compute(self, engine: Engine, report: Report, limit: float = math.inf) -> float:
        """Compute until nothing is left, or `limit` tasks; returns work per second of a slot.

        Raises
        ------
        engine.lost
            If a worker died; its tasks are to do again.
        """
        running: dict[Future[Done], tuple[Task, BaseFileLock]] = {}
        work = seconds = 0.0
        previous = None
        try:
            while True:
                while len(running) < engine.slots and limit > 0:
                    task = self._take(previous)
                    if task is None:
                        break
                    claim = self.store.claim(family_key(task.configs[0]))
                    if claim is None:
                        self._taken_elsewhere.append(task)
                        continue
                    fresh: Task | None = task
                    try:
                        fresh = self._without_stored(task, report)
                        if fresh is not None:
                            running[engine.submit(fresh)] = (fresh, claim)
                    except BaseException:
                        claim.release()
                        if fresh is not None:
                            self._put(fresh)
                        raise
                    if fresh is None:
                        claim.release()
                    else:
                        limit -= 1
                if not running:
                    if not self._taken_elsewhere or limit <= 0:
                        break
                    time.sleep(_POLL)
                    self._retake()
                    continue
                done, _ = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
                self._retake()
                for future in done:
                    task, claim = running[future]
                    result = future.result()
                    self._keep_results(task, result.runs, report)
                    del running[future]
                    claim.release()
                    previous = task.start_key
                    work += work_of(task)
                    seconds += result.seconds
        finally:
            for task, claim in running.values():
                claim.release()
                self._put(task)
        return work / seconds if seconds else 0.0

    @property
    def tasks(self) -> list[Task]:
        """What is still to do."""
        return [task for queue in self._queues.values() for task in queue] + list(self._taken_elsewhere)

    def _take(self, previous: str | None) -> Task | None:
        """The next task: of the same problem as the last one, or else of the one with most to do."""
        if not self._queues:
            return None
        key = previous if previous in self._queues else max(self._queues, key=lambda k: len(self._queues[k]))
        task = self._queues[key].popleft()
        if not self._queues[key]:
            del self._queues[key]
        return task

    def _put(self, task: Task) -> None:
        self._queues.setdefault(task.start_key, deque()).append(task)

    def _retake(self) -> None:
        while self._taken_elsewhere:
            self._put(self._taken_elsewhere.popleft())

    def _from_store(self, config: ExperimentConfig) -> Trajectory | None:
        run = self._load(config)
        if run is not None:
            self.results[config] = self._keep(run)
        return run

    def _without_stored(self, task: Task, report: Report) -> Task | None:
        """The part of a task that another process has not stored by now."""
        missing: list[ExperimentConfig] = []
        for config in task.configs:
            run = self._from_store(config) if self._file_of(config).exists() else None
            if run is None:
                missing.append(config)
            else:
                report.add([run], computed=False)
        return dataclasses.replace(task, configs=tuple(missing)) if missing else None

    def _keep_results(self, task: Task, runs: Sequence[Trajectory], report: Report) -> None:
        for config, run in zip(task.configs, runs, strict=True):
            path = self.store.save(
                run, keep_weights=self.options.keep_weights, keep_overlaps=self.options.keep_overlaps
            )
            self.results[config] = self.new[path] = self._keep(run)
        report.add(runs, computed=True)


def work_of(task: Task) -> float:
    """Floating-point operations of a task, roughly; only ratios between tasks matter."""
    c = task.configs[0]
    probes = 1 + c.steps / c.probe_every
    small, fit = min(c.h, c.d), min(c.n, c.h)
    training = 4.0 * c.n * c.h * c.d * c.steps
    features = 2.0 * (2 * c.n + c.n_test) * c.h * c.d
    # float64 counts twice; a tridiagonalisation runs at a fifth of the speed of a product
    spectrum = 2 * (c.h * c.d * small + 5 * small**3 * (4 if task.keep_overlaps else 1))
    refit = 2 * (c.n * c.h * fit + len(task.configs) * fit**3 / 3)
    return training + probes * (features + spectrum + refit)


def bytes_of(config: ExperimentConfig) -> float:
    """Memory of a run at work, roughly: data, weights and their float64 copies, features, Gram matrices."""
    c = config
    single = 4.0 * ((2 * c.n + c.n_test) * c.d + 8 * c.h * c.d + 3 * c.n * c.h)
    double = 8.0 * (2 * c.h * c.d + (c.n + c.n_test) * c.h + 3 * min(c.n, c.h) ** 2 + 3 * min(c.h, c.d) ** 2)
    return single + double
