"""Stage 1: train the student on full batches, and measure every metric on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from htlib.spectra.vectors import SingularSystem, overlaps_of, without_top
from htlib.student.config import ExperimentConfig, Reading
from htlib.student.curvature import divided, hessian_product, largest_eigenvalue
from htlib.student.optimizers import OPTIMIZERS, State
from htlib.student.probes import METRICS, Probe, Refit
from htlib.student.problem import Problem, stream
from htlib.student.run import StepOverlaps, Trajectory, assemble
from htlib.student.start import Start, normalized, prepare

Array = NDArray[np.float64]
Readings = Mapping[str, Any] | Iterable[Reading] | None

_OVERLAPS_KEPT = 100
_SHARPNESS_TOLERANCE = 1e-3  # of its eigenvalue, which a run in float32 does not determine much better


class Diverged(ArithmeticError):
    """A number of the run stopped being finite after ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"weights or losses are not finite after step {step}")
        self.step = step


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after some step."""

    step: int
    metrics: dict[str, float]  # a value for each of `columns(config)`, for the config's own reading
    eigenvalues: Array  # (min(h, d),) float64, the ESD, ascending
    weights: Tensor  # (h, d); the run does not change it later, nor may you
    refits: dict[Reading, Refit]
    overlaps: StepOverlaps | None = None  # between the update that led here and the weights before and after


def train(
    config: ExperimentConfig,
    problem: Problem | None = None,
    *,
    device: str | torch.device = "cpu",
    keep_weights: bool = False,
    keep_overlaps: bool = False,
    readings: Readings = None,
    progress: bool = True,
    on_step: Callable[[], object] | None = None,
) -> Trajectory:
    """Train the student of `config` and measure it on the way.

    Runs of one problem share their first gradient and the measures of their start.  If `problem` is not
    given, those of the last two problems are kept.

    Parameters
    ----------
    config : ExperimentConfig
    problem : Problem, optional
        Default ``make_problem(config)``.  Its arrays are cast to ``config.dtype``.
    device : str or torch.device
        Where to compute.
    keep_weights : bool
        Keep W of every probed step.
    keep_overlaps : bool
        Keep the overlaps of every probed update with the weights before and after it, for the 100 leading
        singular vectors.  The update is always that of one step, from the weights just before it (with
        ``normalize_weights``, after their reset), also where `probe_every` leaves steps out.  Code that
        compares with the previous measurement, or with the weights before the reset, has other overlaps.
    readings : mapping or iterable of Reading, optional
        More feature scales and ridge parameters for stage 2, besides the config's own.  A mapping gives
        values of ``feature_scale``, ``ridge_lambda`` or both, and means all combinations.
    progress : bool
        Show a bar if the run takes more than two seconds.
    on_step : callable, optional
        Called after every update, probed or not; an exception that it raises ends the run.

    Returns
    -------
    Trajectory
        If a number stops being finite, the run ends there: ``diverged_at`` gives the step, and all earlier
        measurements are kept.

    Raises
    ------
    ValueError
        If the problem does not fit the config or has NaN or infinity, a reading is not allowed, or the
        device cannot be used.

    Examples
    --------
    >>> run = train(ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=2))
    >>> run.metrics.index.tolist(), run.eigenvalues.shape
    ([0, 1, 2], (3, 20))
    """
    wanted = readings_of(config, readings)
    start = prepare(config, problem, device=device)
    if not progress:  # even a hidden bar starts a process, which tracks a lock between processes
        return _collect(config, start, wanted, keep_weights, keep_overlaps, on_step)
    with tqdm(total=config.steps, desc="training", unit="step", delay=2, disable=None) as bar:

        def stepped() -> None:
            bar.update()
            if on_step is not None:
                on_step()

        return _collect(config, start, wanted, keep_weights, keep_overlaps, stepped)


def train_rates(
    config: ExperimentConfig,
    rates: Sequence[float],
    problem: Problem | None = None,
    *,
    device: str | torch.device = "cpu",
    keep_weights: bool = False,
    progress: bool = True,
) -> list[Trajectory]:
    """Train once per learning rate from the same start, whose gradient and measures are computed once.

    Parameters
    ----------
    config : ExperimentConfig
        ``lr`` is replaced by each of the rates.
    rates : sequence of float
    problem, device, keep_weights, progress
        As for `train`, but with one bar for all rates.

    Returns
    -------
    list of Trajectory
        In the order of the rates.
    """
    configs = [config.replace(lr=rate) for rate in rates]
    start = prepare(config, problem, device=device)
    return [
        _collect(c, start, [c.reading], keep_weights, False, None)
        for c in tqdm(configs, desc=f"{config.optimizer} rates", delay=2, disable=None if progress else True)
    ]


def iterate(
    config: ExperimentConfig,
    problem: Problem | None = None,
    *,
    device: str | torch.device = "cpu",
    keep_overlaps: bool = False,
    readings: Readings = None,
    on_step: Callable[[], object] | None = None,
) -> Iterator[Snapshot]:
    """Yield the snapshots of `train` at step 0, every ``probe_every`` steps and the last step.

    The arguments are those of `train`.  Raises `Diverged` when a number stops being finite.
    """
    wanted = readings_of(config, readings)
    yield from _iterate(config, prepare(config, problem, device=device), wanted, keep_overlaps, on_step)


def readings_of(config: ExperimentConfig, readings: Readings = None) -> list[Reading]:
    """Return the config's own reading, then the other requested ones, each checked and without repetition."""
    own = config.reading
    pairs: Any = readings or ()
    if isinstance(readings, Mapping):
        given: Any = readings
        if unknown := [name for name in given if name not in Reading._fields]:
            raise TypeError(f"unknown field {unknown[0]!r} in readings; it has {', '.join(Reading._fields)}")
        fields: dict[str, Any] = {**own._asdict(), **given}
        values = [v if isinstance(v, Iterable) and not isinstance(v, str) else [v] for v in fields.values()]
        pairs = product(*values)
    others = [config.replace(**Reading(*pair)._asdict()).reading for pair in pairs]
    return list(dict.fromkeys([own, *others]))


def columns(config: ExperimentConfig) -> list[str]:
    """List the columns of the metrics of a run."""
    return [*METRICS, "sharpness"] if config.probe_sharpness else list(METRICS)


def _collect(
    config: ExperimentConfig,
    start: Start,
    wanted: Sequence[Reading],
    keep_weights: bool,
    keep_overlaps: bool,
    on_step: Callable[[], object] | None,
) -> Trajectory:
    """Run from the start until the last step, or until a number is not finite."""
    kept: list[Snapshot] = []
    weights: dict[int, Array] = {}
    diverged = None
    try:
        for snapshot in _iterate(config, start, wanted, keep_overlaps, on_step):
            kept.append(snapshot)
            if keep_weights:
                W = snapshot.weights
                weights[snapshot.step] = W.to("cpu", torch.float64, copy=True).numpy()
    except Diverged as stop:
        diverged = stop.step
    return assemble(
        config,
        columns(config),
        [snapshot.step for snapshot in kept],
        [list(snapshot.metrics.values()) for snapshot in kept],
        np.array([snapshot.eigenvalues for snapshot in kept]).reshape(len(kept), min(config.h, config.d)),
        refits={
            reading: np.array([snapshot.refits[reading] for snapshot in kept]).reshape(-1, len(Refit._fields))
            for reading in wanted
        },
        weights=weights,
        overlaps={s.step: s.overlaps for s in kept if s.overlaps is not None},
        diverged_at=diverged,
    )


def _iterate(
    config: ExperimentConfig,
    start: Start,
    wanted: Sequence[Reading],
    keep_overlaps: bool,
    on_step: Callable[[], object] | None,
) -> Iterator[Snapshot]:
    def snapshot(step: int, probe: Probe, overlaps: StepOverlaps | None = None) -> Snapshot:
        refits = probe.refits(*wanted)
        losses = [probe.train_loss, *(refit.test_loss for refit in refits.values())]
        if not all(map(math.isfinite, losses)):
            raise Diverged(step)
        metrics = probe.metrics(refits[config.reading])
        if config.probe_sharpness:
            metrics["sharpness"] = _sharpness(config, start, probe.weights, a, states[0], step, lr)
        return Snapshot(step, metrics, probe.system.eigenvalues, probe.weights, refits, overlaps)

    W, a = start.hidden_weights, start.readout_weights
    optimizer, lr = OPTIMIZERS[config.optimizer], config.lr
    options, states = optimizer.options(config), [optimizer.init(W), optimizer.init(a)]
    yield snapshot(0, start.first)
    generator = stream(config.seed, "update_control")
    gradient, readout_gradient, system = start.gradient, start.readout_gradient, start.first.system
    batches = _batches(config, W.device)

    def next_gradient() -> tuple[Tensor, Tensor]:
        return start.gradient_at(normalized(W) if config.normalize_weights else W, a, next(batches))[1:]

    apart = config.normalize_weights or config.batch_size is not None  # from the gradient of the loss at W
    if config.batch_size is not None:
        gradient, readout_gradient = next_gradient()
    for step in range(1, config.steps + 1):
        if config.normalize_weights:
            W = normalized(W)
        previous = W
        W, states[0] = optimizer.update(gradient, W, states[0], step, lr, **options)
        if config.train_readout:
            a, states[1] = optimizer.update(readout_gradient, a, states[1], step, lr, **options)
        lr *= config.lr_decay or 1.0
        if not _squarable(W):
            raise Diverged(step)
        if config.update != "full":
            W = previous + _controlled(config.update, W - previous, generator)
        if on_step is not None:
            on_step()
        last = step == config.steps
        if last or apart:
            train_loss = start.train_loss(W, a)
        else:
            loss, gradient, readout_gradient = start.gradient_at(W, a)
            train_loss = loss.item()
        if not math.isfinite(train_loss):
            raise Diverged(step)
        if last or step % config.probe_every == 0:
            before, system = system, SingularSystem(W)
            overlaps = None
            if keep_overlaps:
                if config.probe_every > 1 or config.normalize_weights:
                    before = SingularSystem(previous)
                overlaps = _step_overlaps(before, system, SingularSystem(W - previous, "update"))
            yield snapshot(step, start.probe_of(W, a, train_loss, system), overlaps)
        if apart and not last:
            gradient, readout_gradient = next_gradient()


def _batches(config: ExperimentConfig, device: torch.device) -> Iterator[Tensor | None]:
    """Yield the indices of one batch after the other, or None for the full batch."""
    generator = stream(config.seed, "batches")
    while True:
        if config.batch_size is None:
            yield None
        else:
            order = torch.from_numpy(generator.permutation(config.n)).to(device)
            yield from order.split(config.batch_size)


def _sharpness(
    config: ExperimentConfig, start: Start, W: Tensor, a: Tensor, state: State, step: int, lr: float
) -> float:
    """Compute lr times the largest eigenvalue of the Hessian, over the edge of stability of the optimizer.

    At the start an optimizer with a denominator does not have one, and the value is NaN.
    """
    optimizer = OPTIMIZERS[config.optimizer]
    assert optimizer.edge is not None  # the configuration has been checked
    if step == 0 and optimizer.first_step == "sign":
        return math.nan
    denominator, edge = optimizer.edge(state, step, **optimizer.options(config))
    product = divided(hessian_product(W, a, *start.train, start.activation), denominator)
    return lr * largest_eigenvalue(product, W, _SHARPNESS_TOLERANCE) / edge


def _squarable(W: Tensor) -> bool:
    """Tell whether W and its Frobenius norm are finite in float64."""
    low, high = torch.aminmax(W)  # NaN propagates, and every comparison with it is false
    return bool((low > -1e150) & (high < 1e150))


def _step_overlaps(before: SingularSystem, after: SingularSystem, update: SingularSystem) -> StepOverlaps:
    k = min(_OVERLAPS_KEPT, len(update.eigenvalues))
    return StepOverlaps(before=overlaps_of(before, update, k), after=overlaps_of(after, update, k))


def _controlled(update: str, M: Tensor, generator: np.random.Generator) -> Tensor:
    if update == "no-top":
        return without_top(M)
    order = torch.from_numpy(generator.permutation(M.numel())).to(M.device)
    return M.flatten()[order].reshape(M.shape)
