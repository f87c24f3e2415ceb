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

from htlib.config import ExperimentConfig
from htlib.probes import METRICS
from htlib.problem import Problem, stream
from htlib.records import StepOverlaps, Trajectory, assemble
from htlib.spectrum import SingularSystem, overlaps_of, without_top
from htlib.start import Start, normalized, prepare

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
        A value for each name in `htlib.probes.METRICS`.
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
        From `htlib.start.prepare`, to share the first gradient and the first probe between runs.
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
    snapshots: list[Snapshot] = []
    weights: dict[int, Array] = {}
    diverged_at = None
    bar = tqdm(total=config.steps, desc="training", unit="step", delay=2, disable=not progress, leave=True)
    try:
        for snapshot in iterate(
            config, problem, device=device, keep_overlaps=keep_overlaps, start=start, on_step=bar.update
        ):
            snapshots.append(snapshot)
            if keep_weights:
                weights[snapshot.step] = snapshot.weights.to("cpu", torch.float64, copy=True).numpy()
    except Diverged as stop:
        diverged_at = stop.step
    finally:
        bar.close()
    return assemble(
        config,
        METRICS,
        [s.step for s in snapshots],
        [[s.metrics[name] for name in METRICS] for s in snapshots],
        np.stack([s.eigenvalues for s in snapshots]) if snapshots else np.empty((0, min(config.h, config.d))),
        weights=weights,
        overlaps={s.step: s.overlaps for s in snapshots if s.overlaps is not None},
        diverged_at=diverged_at,
    )


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
    if start is None:
        start = prepare(config, problem, device=device)
    elif problem is not None:
        raise ValueError("give problem or start, not both: a start was prepared from its own problem")
    else:
        start.check_fits(config)
    W, a = start.hidden_weights.clone(), start.readout_weights.clone()
    if not (math.isfinite(start.metrics["train_loss"]) and math.isfinite(start.metrics["test_loss"])):
        raise Diverged(0)
    yield Snapshot(0, start.metrics, start.system.eigenvalues, W)
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
            metrics = start.measure(W, a, train_loss, system)
            if not math.isfinite(metrics["test_loss"]):
                raise Diverged(step)
            overlaps = None
            if keep_overlaps:
                if config.probe_every > 1 or config.normalize_weights:
                    before = SingularSystem(previous)
                overlaps = _step_overlaps(before, system, SingularSystem(W - previous, "update"))
            yield Snapshot(step, metrics, system.eigenvalues, W, overlaps)
        if config.normalize_weights and not last:
            gradient = start.gradient_at(normalized(W), a)


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
