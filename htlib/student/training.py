"""Stage 1: full-batch training of the student, with every measure taken on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from htlib.spectra.vectors import SingularSystem, overlaps_of, without_top
from htlib.student.config import ExperimentConfig
from htlib.student.probes import METRICS
from htlib.student.problem import Problem, stream
from htlib.student.run import StepOverlaps, Trajectory, assemble
from htlib.student.start import Start, family_key, normalized, prepare

Array = NDArray[np.float64]

_OVERLAPS_KEPT = 100


class Diverged(ArithmeticError):
    """A number of the run stopped being finite.

    Attributes
    ----------
    step : int
        The step after which it did.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"weights or losses are not finite after step {step}")
        self.step = step


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after some step.

    Attributes
    ----------
    step : int
    metrics : dict
        A value for each name in `htlib.student.probes.METRICS`.
    eigenvalues : (min(h, d),) float64 array
        The ESD, ascending.
    weights : (h, d) tensor
        Valid until the run is advanced; clone it to keep it.
    overlaps : StepOverlaps or None
        Overlaps of the update that led here with the weights before and after it.
    """

    step: int
    metrics: dict[str, float]
    eigenvalues: Array
    weights: Tensor
    overlaps: StepOverlaps | None = None


def train(
    config: ExperimentConfig,
    problem: Problem | None = None,
    *,
    device: str | torch.device = "cpu",
    keep_weights: bool = False,
    keep_overlaps: bool = False,
    progress: bool = True,
    start: Start | None = None,
) -> Trajectory:
    """Train the student as `config` says and measure it on the way.

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
        Keep the overlaps of every probed update with the weights before and after it, for the
        100 leading singular vectors.
    progress : bool
        Show a bar if the run takes more than two seconds.
    start : Start, optional
        From `htlib.student.start.prepare`, to share the first gradient and the first probe between runs.
        It brings its own problem and device.

    Returns
    -------
    Trajectory
        If a number stops being finite the run ends there: ``diverged_at`` gives the step, and
        everything measured before is kept.

    Raises
    ------
    ValueError
        If the problem or the start does not fit the config, the problem holds NaN or infinity,
        or the device cannot be used.

    Examples
    --------
    >>> run = train(ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=2))
    >>> run.metrics.index.tolist(), run.eigenvalues.shape
    ([0, 1, 2], (3, 20))
    """
    start = _start(config, problem, device, start)
    bar = tqdm(total=config.steps, desc="training", unit="step", delay=2, disable=not progress, leave=True)
    with bar:
        return train_family(
            [config], start, keep_weights=keep_weights, keep_overlaps=keep_overlaps, on_step=bar.update
        )[0]


def train_family(
    configs: Sequence[ExperimentConfig],
    start: Start,
    *,
    keep_weights: bool = False,
    keep_overlaps: bool = False,
    on_step: Callable[[], object] | None = None,
) -> list[Trajectory]:
    """Train once what several configs share, and read it as each of them does.

    Parameters
    ----------
    configs : sequence of ExperimentConfig
        They differ in ``ridge_lambda`` and ``feature_scale`` alone.
    start : Start
    keep_weights, keep_overlaps
        As for `train`.
    on_step : callable, optional
        Called after every update, probed or not.

    Returns
    -------
    list of Trajectory
        In the order of the configs, each as `train` alone would return it.

    Raises
    ------
    ValueError
        If the configs differ in anything else, or do not fit the start.
    """
    if len({family_key(c) for c in configs}) != 1:
        raise ValueError("configs must be one or more that differ in ridge_lambda and feature_scale alone")
    first = configs[0]
    start.check_fits(first)
    kept: list[list[Snapshot]] = [[] for _ in configs]
    weights: dict[int, Array] = {}
    diverged: list[int | None] = [None] * len(configs)
    try:
        for snapshots in _iterate(configs, start, keep_overlaps, on_step):
            for i, snapshot in enumerate(snapshots):
                if diverged[i] is None and not _finite(snapshot.metrics):
                    diverged[i] = snapshot.step
                if diverged[i] is None:
                    kept[i].append(snapshot)
            if None not in diverged:
                break
            if keep_weights:
                W = snapshots[0].weights
                weights[snapshots[0].step] = W.to("cpu", torch.float64, copy=True).numpy()
    except Diverged as stop:
        diverged = [stop.step if step is None else step for step in diverged]
    size = min(first.h, first.d)
    return [
        assemble(
            config,
            METRICS,
            [s.step for s in mine],
            [[s.metrics[name] for name in METRICS] for s in mine],
            np.stack([s.eigenvalues for s in mine]) if mine else np.empty((0, size)),
            weights={s.step: weights[s.step] for s in mine if s.step in weights},
            overlaps={s.step: s.overlaps for s in mine if s.overlaps is not None},
            diverged_at=step,
        )
        for config, mine, step in zip(configs, kept, diverged, strict=True)
    ]


def train_rates(
    config: ExperimentConfig,
    rates: Sequence[float],
    problem: Problem | None = None,
    *,
    device: str | torch.device = "cpu",
    keep_weights: bool = False,
    progress: bool = True,
) -> list[Trajectory]:
    """One run per learning rate from the same start; its gradient and measures are computed once.

    Parameters
    ----------
    config : ExperimentConfig
        ``lr`` is replaced by each of the rates.
    rates : sequence of float
    problem, device, keep_weights, progress
        As for `train`; one bar for all rates.

    Returns
    -------
    list of Trajectory
        In the order of the rates.
    """
    configs = [config.replace(lr=rate) for rate in rates]
    start = prepare(config, problem, device=device)
    return [
        train(c, keep_weights=keep_weights, progress=False, start=start)
        for c in tqdm(configs, desc=f"{config.optimizer} rates", delay=2, disable=not progress)
    ]


def iterate(
    config: ExperimentConfig,
    problem: Problem | None = None,
    *,
    device: str | torch.device = "cpu",
    keep_overlaps: bool = False,
    start: Start | None = None,
    on_step: Callable[[], object] | None = None,
) -> Iterator[Snapshot]:
    """The snapshots of `train`, one at a time: stop when you have seen enough.

    Parameters
    ----------
    config, problem, device, keep_overlaps, start
        As for `train`.
    on_step : callable, optional
        Called after every update, probed or not.

    Yields
    ------
    Snapshot
        At step 0, every ``probe_every`` steps and the last step.

    Raises
    ------
    Diverged
        When a number stops being finite.
    """
    start = _start(config, problem, device, start)
    for (snapshot,) in _iterate([config], start, keep_overlaps, on_step):
        if not _finite(snapshot.metrics):
            raise Diverged(snapshot.step)
        yield snapshot


def _start(
    config: ExperimentConfig, problem: Problem | None, device: str | torch.device, start: Start | None
) -> Start:
    if start is None:
        return prepare(config, problem, device=device)
    if problem is not None:
        raise ValueError("give problem or start, not both: a start was prepared from its own problem")
    start.check_fits(config)
    return start


def _iterate(
    configs: Sequence[ExperimentConfig],
    start: Start,
    keep_overlaps: bool,
    on_step: Callable[[], object] | None,
) -> Iterator[list[Snapshot]]:
    """One run, with a snapshot per config at every probed step."""
    config = configs[0]
    W, a = start.hidden_weights.clone(), start.readout_weights.clone()
    yield [Snapshot(0, metrics, start.system.eigenvalues, W) for metrics in start.metrics_for(configs)]
    optimizer = _optimizer(config, [W, a] if config.train_readout else [W])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=config.lr_decay or 1.0)
    generator = stream(config.seed, "update_control")
    gradient, system = start.gradient, start.system
    for step in range(1, config.steps + 1):
        if config.normalize_weights:
            W.copy_(normalized(W))
        previous = W.clone() if config.update != "full" or keep_overlaps else W
        W.grad, a.grad = gradient.hidden, gradient.readout
        optimizer.step()
        schedule.step()
        if not _squarable(W):
            raise Diverged(step)
        if config.update != "full":
            W.copy_(previous + _controlled(config.update, W - previous, generator))
        if on_step is not None:
            on_step()
        last = step == config.steps
        if last or config.normalize_weights:  # no gradient is taken at this very W
            train_loss = start.train_loss(W, a)
        else:
            gradient = start.gradient_at(W, a)
            train_loss = gradient.loss
        if not math.isfinite(train_loss):
            raise Diverged(step)
        if last or step % config.probe_every == 0:
            before, system = system, SingularSystem(W)
            overlaps = None
            if keep_overlaps:
                if config.probe_every > 1 or config.normalize_weights:
                    before = SingularSystem(previous)
                overlaps = _step_overlaps(before, system, SingularSystem(W - previous, "update"))
            yield [
                Snapshot(step, metrics, system.eigenvalues, W, overlaps)
                for metrics in start.measure(W, a, train_loss, system, configs)
            ]
        if config.normalize_weights and not last:
            gradient = start.gradient_at(normalized(W), a)


def _finite(metrics: dict[str, float]) -> bool:
    return math.isfinite(metrics["train_loss"]) and math.isfinite(metrics["test_loss"])


def _squarable(W: Tensor) -> bool:
    """Whether W is finite and so is its Frobenius norm in float64."""
    low, high = torch.aminmax(W)  # NaN propagates, and compares as false
    return bool((low > -1e150) & (high < 1e150))


def _step_overlaps(before: SingularSystem, after: SingularSystem, update: SingularSystem) -> StepOverlaps:
    k = min(_OVERLAPS_KEPT, len(update.eigenvalues))
    return StepOverlaps(before=overlaps_of(before, update, k), after=overlaps_of(after, update, k))


def _optimizer(config: ExperimentConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if config.optimizer == "gd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.Adam(parameters, lr=config.lr, eps=config.adam_eps, weight_decay=config.weight_decay)


def _controlled(update: str, M: Tensor, generator: np.random.Generator) -> Tensor:
    if update == "no-top":
        return without_top(M)
    order = torch.from_numpy(generator.permutation(M.numel())).to(M.device)
    return M.flatten()[order].reshape(M.shape)
