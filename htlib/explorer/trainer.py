"""The explorer's engine in Python, which trains while settings change.

`KernelEngine` does not depend on widgets: it takes settings and emits messages (`htlib.explorer.messages`).
Any engine that keeps this protocol, such as the one in the browser, can replace it.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from queue import SimpleQueue
from typing import Any

from torch import Tensor

from htlib.explorer.messages import (
    SATURATION_SAMPLES,
    Message,
    final,
    noise_of,
    one_step,
    packed,
    saturation,
    snapshot_message,
)
from htlib.spectra.vectors import singular_vector_overlaps
from htlib.student.config import ExperimentConfig
from htlib.student.start import prepare
from htlib.student.training import Diverged, Snapshot, iterate

Emit = Callable[[Message], object]

_log = logging.getLogger(__name__)

# The results of a run are small (0.4 MB at the paper's sizes).  The state that continues it is not (some
# 60 MB), so that only a few runs stay open.
_RUNS_KEPT = 200
_RUNS_OPEN = 4

_IDS_OF_A_VIEW = 1000  # as the front end counts (static/kernel.js)
LEADING_VECTORS = 20
_WEIGHTS_KEPT = 2**24  # entries; the newest weights of a run, for its overlaps


class KernelEngine:
    """An engine that trains in one background thread; a new request replaces the one before of its view.

    A view is all ids with the same thousands; the requests of several views are served one after the other.
    Runs that differ only in their number of steps are one run: a request for fewer steps gets known results,
    and a request for more steps continues the run.  Runs from the same weights on the same data share their
    start.  The settings of a request replace fields of `config`, but every step is measured, whatever
    ``probe_every`` is, and a request has at most `max_steps` steps.
    """

    def __init__(self, config: ExperimentConfig | None = None, *, max_steps: int = 50) -> None:
        self.config = ExperimentConfig() if config is None else config
        self.max_steps = max_steps
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._latest: dict[int, _Job] = {}  # view -> its newest request, until that is answered
        self._thread: threading.Thread | None = None
        self._closed = False
        # Only the thread uses the two attributes below.
        self._run = lru_cache(_RUNS_KEPT)(_Run)
        self._open: list[_Run] = []

    def request(self, settings: Mapping[str, Any], emit: Emit, *, id: int = 0) -> None:
        """Start to train with these fields of `ExperimentConfig`, and return at once.

        The background thread calls `emit` with each message, which has the `id`.  Raises RuntimeError if the
        engine is closed.
        """
        job = _Job(id, dict(settings), emit)
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed; make a new one")
            if (before := self._latest.get(job.view)) is not None:
                before.cancelled.set()
            self._latest[job.view] = job
            self._queue.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="htlib-engine", daemon=True)
                self._thread.start()
                atexit.register(self.close, 5.0)  # a daemon thread must not die inside torch

    def cancel(self, id: int | None = None) -> None:
        """Stop after the current step; if an `id` is given, only that request."""
        with self._lock:
            for job in self._latest.values():
                if id in (None, job.id):
                    job.cancelled.set()

    def close(self, timeout: float = 0.0) -> None:
        """Stop after the current step and take no more requests; wait up to `timeout` seconds for the end."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for job in self._latest.values():
                    job.cancelled.set()
                self._queue.put(None)
                atexit.unregister(self.close)
        if self._thread is not None and timeout:
            self._thread.join(timeout)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job.emit({"id": job.id, **self._serve(job)})
            except Exception as error:  # an exception that leaves the thread would not reach the reader
                _log.exception("the request %r failed", job.settings)
                with suppress(Exception):  # emit itself may have failed, because the page is closed
                    job.emit({"id": job.id, **final("error", message=f"{type(error).__name__}: {error}")})
            with self._lock:
                if self._latest.get(job.view) is job:
                    del self._latest[job.view]

    def _serve(self, job: _Job) -> Message:
        """Answer a request and return its last message."""

        def emit(kind: str, **content: Any) -> None:
            job.emit({"id": job.id, "type": kind, **content})

        if job.cancelled.is_set():
            return final("cancelled")
        try:
            config = self.config.replace(**{**job.settings, "probe_every": 1})
            steps = config.steps
            if steps > self.max_steps:
                raise ValueError(f"steps must be at most {self.max_steps} here; got {steps}")
        except (TypeError, ValueError) as error:
            return final("error", message=str(error))
        noise, prediction = noise_of(config.h, config.d), one_step(config)
        emit("start", config=config.to_dict(), noise=noise, prediction=prediction, source="train")
        run = self._run(config.replace(steps=self.max_steps))
        known = run.points[: steps + 1]
        if known:
            emit("snapshots", snapshots=packed(known, run.overlaps(steps)))
        while len(run.points) <= steps and run.diverged_at is None:
            if job.cancelled.is_set():
                return final("cancelled", len(run.points) - 1 if run.points else None)
            if run.rest is None or run.position < len(run.points):
                phase = "start" if run.rest is None else "train"
                emit("progress", phase=phase, step=run.position, steps=steps)
            if (point := self._advance(run)) is not None:
                overlaps = run.overlaps(steps) if point["step"] == steps else None
                emit("snapshots", snapshots=packed([point], overlaps))
        if run.diverged_at is not None and run.diverged_at <= steps:
            return final("diverged", run.diverged_at)
        return final("done", steps)

    def _advance(self, run: _Run) -> Message | None:
        """Go one step further; return the new point, or None if it is known already or the run diverged.

        A run that was put aside starts again: the same configuration gives the same numbers.
        """
        if run.rest is None:
            run.rest, run.position = iterate(run.config), 0
            run.inputs = prepare(run.config).probe[0][:SATURATION_SAMPLES]
        self._open = [other for other in self._open if other is not run] + [run]
        for idle in self._open[:-_RUNS_OPEN]:
            idle.put_aside()
        self._open = self._open[-_RUNS_OPEN:]
        # a generator that raised cannot continue, so that it is kept only after a step without an error
        rest, run.rest = run.rest, None
        try:
            snapshot = next(rest)
        except Diverged as stop:
            run.diverged_at = stop.step
            run.put_aside()
            return None
        run.rest = rest
        run.position += 1
        if run.position <= len(run.points):
            return None
        run.points.append(run.point(snapshot))
        if len(run.points) > run.config.steps:
            run.put_aside()
        return run.points[-1]


@dataclass(frozen=True)
class _Job:
    id: int
    settings: dict[str, Any]
    emit: Emit
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def view(self) -> int:
        return self.id // _IDS_OF_A_VIEW


class _Run:
    """The known points of a run and, while it is open, the generator that continues it."""

    def __init__(self, config: ExperimentConfig) -> None:
        self.config = config
        self.points: list[Message] = []  # one for each of the steps 0, 1, ...
        self.diverged_at: int | None = None
        self.rest: Iterator[Snapshot] | None = None
        self.position = 0  # snapshots drawn from `rest`
        self.inputs: Tensor | None = None
        self._weights: dict[int, Tensor] = {}  # step -> W, for the newest steps
        self._overlaps: dict[int, list[list[float]]] = {}

    def point(self, snapshot: Snapshot) -> Message:
        assert self.inputs is not None
        self._weights[snapshot.step] = snapshot.weights.clone()
        self._weights.pop(snapshot.step - max(2, _WEIGHTS_KEPT // snapshot.weights.numel()), None)
        share = saturation(snapshot.weights, self.inputs, self.config.activation)
        return snapshot_message(snapshot.step, snapshot.metrics, snapshot.eigenvalues, share)

    def overlaps(self, step: int) -> list[list[float]] | None:
        """Return the overlaps of W and the update that led to it, or None if the weights are not kept."""
        if step not in self._overlaps and {step, step - 1} <= self._weights.keys():
            W, M = self._weights[step], self._weights[step] - self._weights[step - 1]
            right = singular_vector_overlaps(W, M, min(LEADING_VECTORS, *W.shape)).right
            self._overlaps[step] = right.tolist()
        return self._overlaps.get(step)

    def put_aside(self) -> None:
        self.rest, self.inputs, self.position = None, None, 0
        self._weights.clear()
