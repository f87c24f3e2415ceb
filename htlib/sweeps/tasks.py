"""What a sweep computes at a time: the runs of one training, from a start that is kept for the next.

Whoever computes it, a thread, a process or a worker elsewhere, calls `compute`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from htlib.student.config import ExperimentConfig
from htlib.student.run import Trajectory
from htlib.student.training import Start, prepare, start_key

_STARTS_KEPT = 2  # each holds the data of a problem
_starts: OrderedDict[tuple[str, str], Start] = OrderedDict()
_preparing = threading.Lock()


@dataclass(frozen=True)
class Task:
    """One training, read by every config of a family.

    Attributes
    ----------
    configs : tuple of ExperimentConfig
        They differ in what stage 2 alone reads.
    device : str
    keep_weights, keep_overlaps : bool
    """

    configs: tuple[ExperimentConfig, ...]
    device: str
    keep_weights: bool
    keep_overlaps: bool

    @property
    def start_key(self) -> str:
        """Tasks with the same one share their problem, first gradient and first probe."""
        return start_key(self.configs[0])


@dataclass(frozen=True)
class Done:
    """A computed task: its runs in the order of the configs, and the seconds that training took."""

    runs: list[Trajectory]
    seconds: float


class GivenUp(Exception):
    """The sweep ended while this task was at work."""


def compute(task: Task, given_up: Callable[[], bool] | None = None) -> Done:
    """Train a family; its start is kept for the next task of the same problem.

    Parameters
    ----------
    task : Task
    given_up : callable, optional
        Asked after every step; where it returns True, `GivenUp` is raised.
    """
    start = start_of(task)

    def on_step() -> None:
        if given_up is not None and given_up():
            raise GivenUp

    began = perf_counter()
    runs = train_family(
        task.configs,
        start,
        keep_weights=task.keep_weights,
        keep_overlaps=task.keep_overlaps,
        on_step=on_step,
    )
    return Done(runs, perf_counter() - began)


def start_of(task: Task) -> Start:
    """The start that a task needs, with its first measures; of the last two problems it is at hand."""
    key = (task.start_key, task.device)
    with _preparing:  # others would wait for the same start, or fight for the same memory
        start = _starts.get(key)
        if start is None:
            while len(_starts) >= _STARTS_KEPT:
                _starts.popitem(last=False)
            start = _starts[key] = prepare(task.configs[0], device=task.device)
        _starts.move_to_end(key)
        start.metrics_for(task.configs)
    return start


def forget_starts() -> None:
    """Free the memory that `compute` keeps."""
    with _preparing:
        _starts.clear()
