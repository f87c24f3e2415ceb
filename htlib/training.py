"""Stage 1: full-batch training of the student, with every measure taken on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from htlib import network, probes
from htlib.config import ExperimentConfig
from htlib.functions import ScalarFunction, get_activation
from htlib.network import LossGradient
from htlib.problem import Problem, make_problem, stream
from htlib.records import StepOverlaps, Trajectory, assemble
from htlib.spectrum import SingularSystem, overlaps_of, without_top

Array = NDArray[np.float64]

# Fields that only matter once the first gradient is known: runs that differ in nothing else
# share their start.
_AFTER_START = frozenset(
    {"optimizer", "lr", "steps", "momentum", "weight_decay", "adam_eps", "lr_decay", "update", "probe_every"}
)
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


@dataclass(frozen=True)
class Start:
    """What runs from the same weights on the same data share, computed once by `prepare`.

    Attributes
    ----------
    gradient : LossGradient
        At the (normalised, if asked for) initial weights.
    snapshot : Snapshot
        All measures of step 0.
    """

    config: ExperimentConfig
    activation: ScalarFunction
    teacher_direction: Tensor
    train: probes.Samples
    probe: probes.Samples
    test: probes.Samples
    readout_weights: Tensor
    edge: float
    gradient: LossGradient
    system: SingularSystem
    snapshot: Snapshot


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
        From `prepare`, to share the first gradient and the first probe between runs.

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
                weights[snapshot.step] = snapshot.weights.to("cpu", torch.float64).numpy()
    except Diverged as stop:
        diverged_at = stop.step
    finally:
        bar.close()
    return assemble(
        config,
        {s.step: s.metrics for s in snapshots},
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


def prepare(
    config: ExperimentConfig, problem: Problem | None = None, *, device: str | torch.device = "cpu"
) -> Start:
    """Data on the device, first gradient and first measures of a run.

    Parameters
    ----------
    config : ExperimentConfig
    problem : Problem, optional
        Default ``make_problem(config)``.
    device : str or torch.device

    Returns
    -------
    Start
        Serves every config that differs only in what comes after the first gradient: optimizer,
        rate, steps, momentum, weight decay, eps, schedule, update control, probe interval.

    Raises
    ------
    ValueError
        See `train`.
    """
    problem = make_problem(config) if problem is None else problem
    _check(config, problem)
    target, dtype = _device(device), getattr(torch, config.dtype)
    train_set, probe, test = (
        probes.as_samples(s.inputs, s.targets, dtype, target)
        for s in (problem.train, problem.probe, problem.test)
    )
    W, a, direction = (
        torch.tensor(x, dtype=dtype, device=target)
        for x in (problem.hidden_weights, problem.readout_weights, problem.teacher_direction)
    )
    activation = get_activation(config.activation)
    W_first = _normalized(W) if config.normalize_weights else W
    gradient = network.loss_and_gradient(W_first, a, train_set.inputs, train_set.targets, activation)
    train_loss = (
        network.loss(W, a, train_set.inputs, train_set.targets, activation)
        if config.normalize_weights
        else gradient.loss
    )
    system = SingularSystem(W, "hidden_weights")
    edge = probes.start_edge(config.h, config.d)
    metrics = _metrics(config, train_loss, W, a, system, probe, test, direction, edge)
    return Start(
        config=config,
        activation=activation,
        teacher_direction=direction,
        train=train_set,
        probe=probe,
        test=test,
        readout_weights=a,
        edge=edge,
        gradient=gradient,
        system=system,
        snapshot=Snapshot(0, metrics, system.eigenvalues, W),
    )


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
    start = prepare(config, problem, device=device) if start is None else _fitting(start, config)
    if not math.isfinite(start.snapshot.metrics["train_loss"]):
        raise Diverged(0)
    yield start.snapshot
    W, a = start.snapshot.weights.clone(), start.readout_weights.clone()
    X, y = start.train.inputs, start.train.targets
    optimizer = _optimizer(config, [W, a] if config.train_readout else [W])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=config.lr_decay or 1.0)
    generator = stream(config.seed, "update_control")
    gradient, system = start.gradient, start.system
    for step in range(1, config.steps + 1):
        if config.normalize_weights:
            W.copy_(_normalized(W))
        keep_previous = config.update != "full" or keep_overlaps
        previous = W.clone() if keep_previous else W
        W.grad, a.grad = gradient.hidden, gradient.readout
        optimizer.step()
        schedule.step()
        if config.update != "full":
            W.copy_(previous + _controlled(config.update, W - previous, generator))
        if on_step is not None:
            on_step()
        if not torch.isfinite(W.double().square().sum()):
            raise Diverged(step)
        last = step == config.steps
        due = last or step % config.probe_every == 0
        if last or config.normalize_weights:  # the next gradient is not taken at this W, if at all
            train_loss = network.loss(W, a, X, y, start.activation)
        else:
            gradient = network.loss_and_gradient(W, a, X, y, start.activation)
            train_loss = gradient.loss
        if not math.isfinite(train_loss):
            raise Diverged(step)
        if due:
            before, system = system, SingularSystem(W)
            metrics = _metrics(
                config, train_loss, W, a, system, start.probe, start.test, start.teacher_direction, start.edge
            )
            if not math.isfinite(metrics["test_loss"]):
                raise Diverged(step)
            overlaps = None
            if keep_overlaps:
                if config.probe_every > 1 or config.normalize_weights:
                    before = SingularSystem(previous)
                overlaps = _step_overlaps(before, system, SingularSystem(W - previous, "update"))
            yield Snapshot(step, metrics, system.eigenvalues, W, overlaps)
        if config.normalize_weights and not last:
            gradient = network.loss_and_gradient(_normalized(W), a, X, y, start.activation)


def _metrics(
    config: ExperimentConfig,
    train_loss: float,
    W: Tensor,
    a: Tensor,
    system: SingularSystem,
    probe: probes.Samples,
    test: probes.Samples,
    teacher_direction: Tensor,
    edge: float,
) -> dict[str, float]:
    second = probes.stage_two(
        W,
        probe,
        test,
        activation=get_activation(config.activation),
        feature_scale=config.feature_scale,
        ridge_lambda=config.ridge_lambda,
        trained_readout=a if config.train_readout else None,
    )
    spectral = probes.spectral_measures(system, teacher_direction, edge)
    return {"train_loss": train_loss, **asdict(second), **asdict(spectral)}


def _step_overlaps(before: SingularSystem, after: SingularSystem, update: SingularSystem) -> StepOverlaps:
    k = min(_OVERLAPS_KEPT, len(update.eigenvalues))
    return StepOverlaps(before=overlaps_of(before, update, k), after=overlaps_of(after, update, k))


def _optimizer(config: ExperimentConfig, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if config.optimizer == "gd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.Adam(
        parameters, lr=config.lr, eps=config.adam_eps, weight_decay=config.weight_decay
    )


def _controlled(update: str, M: Tensor, generator: np.random.Generator) -> Tensor:
    if update == "no-top":
        return without_top(M)
    order = torch.from_numpy(generator.permutation(M.numel())).to(M.device)
    return M.flatten()[order].reshape(M.shape)


def _normalized(W: Tensor) -> Tensor:
    return W * (math.sqrt(W.numel()) / W.norm())


def _fitting(start: Start, config: ExperimentConfig) -> Start:
    ours, theirs = start.config.to_dict(), config.to_dict()
    for name in ours.keys() - _AFTER_START:
        if ours[name] != theirs[name]:
            raise ValueError(f"start was prepared for {name} = {ours[name]!r}; the config has {theirs[name]!r}")
    return start


def _check(config: ExperimentConfig, problem: Problem) -> None:
    if problem.hidden_weights.shape != (config.h, config.d):
        raise ValueError(
            f"problem.hidden_weights must have shape (h, d) = {(config.h, config.d)} as the config says; "
            f"got {problem.hidden_weights.shape}"
        )
    arrays = {
        "hidden_weights": problem.hidden_weights,
        "readout_weights": problem.readout_weights,
        "teacher_direction": problem.teacher_direction,
    }
    for name in ("train", "probe", "test"):
        data = getattr(problem, name)
        arrays |= {f"{name}.inputs": data.inputs, f"{name}.targets": data.targets}
    for name, array in arrays.items():
        bad = int((~np.isfinite(array)).sum())
        if bad:
            raise ValueError(f"problem.{name} holds NaN or infinity in {bad} of {array.size} entries")


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {error}") from error
