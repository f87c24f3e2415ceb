"""Stage 1: full-batch training of the student, with every metric taken on the way."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from htlib.spectra.linalg import usable_device
from htlib.spectra.vectors import SingularSystem, overlaps_of, without_top
from htlib.student import network
from htlib.student.config import ExperimentConfig, Reading
from htlib.student.functions import ScalarFunction, get_activation
from htlib.student.network import LossGradient
from htlib.student.optimizers import HYPERPARAMETERS, OPTIMIZERS
from htlib.student.probes import METRICS, Probe, Refit, Sample
from htlib.student.problem import Problem, make_problem, stream
from htlib.student.run import StepOverlaps, Trajectory, assemble

Array = NDArray[np.float64]
Readings = Mapping[str, Any] | Iterable[Reading] | None

_OVERLAPS_KEPT = 100
_STARTS_KEPT = 2  # each holds the data of a problem, some 60 MB at the paper's sizes
# Fields that only matter once the first gradient is known.
_AFTER_START = frozenset({"optimizer", "lr", "steps", "lr_decay", "update", "probe_every", *HYPERPARAMETERS})


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
        A value for each name in `htlib.student.probes.METRICS`, as the config's own reading has it.
    eigenvalues : (min(h, d),) float64 array
        The ESD, ascending.
    weights : (h, d) tensor
        The run does not change it later; nor may you.
    refits : dict
        Reading -> Refit.
    overlaps : StepOverlaps or None
        Overlaps of the update that led here with the weights before and after it.
    """

    step: int
    metrics: dict[str, float]
    eigenvalues: Array
    weights: Tensor
    refits: dict[Reading, Refit]
    overlaps: StepOverlaps | None = None


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
    """Train the student as `config` says and measure it on the way.

    Runs of one problem share their first gradient and the measures of their start: without `problem`, those
    of the last two problems are kept.

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
    readings : mapping or iterable of Reading, optional
        How stage 2 looks at the features, beside the config's own way.  A mapping has ``feature_scale``,
        ``ridge_lambda`` or both with their values, and stands for all combinations.
    progress : bool
        Show a bar if the run takes more than two seconds.
    on_step : callable, optional
        Called after every update, probed or not; what it raises ends the run.

    Returns
    -------
    Trajectory
        If a number stops being finite the run ends there: ``diverged_at`` gives the step, and
        everything measured before is kept.

    Raises
    ------
    ValueError
        If the problem does not fit the config or holds NaN or infinity, a reading is not allowed, or the
        device cannot be used.

    Examples
    --------
    >>> run = train(ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=2))
    >>> run.metrics.index.tolist(), run.eigenvalues.shape
    ([0, 1, 2], (3, 20))
    """
    wanted = readings_of(config, readings)
    start = prepare(config, problem, device=device)
    if not progress:  # even a hidden bar makes a lock between processes, and a process that tracks it
        return _collect(config, start, wanted, keep_weights, keep_overlaps, on_step)
    with tqdm(total=config.steps, desc="training", unit="step", delay=2) as bar:

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
        _collect(c, start, [c.reading], keep_weights, False, None)
        for c in tqdm(configs, desc=f"{config.optimizer} rates", delay=2, disable=not progress)
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
    """The snapshots of `train`, one at a time: stop when you have seen enough.

    Parameters
    ----------
    config, problem, device, keep_overlaps, readings, on_step
        As for `train`.

    Yields
    ------
    Snapshot
        At step 0, every ``probe_every`` steps and the last step.

    Raises
    ------
    Diverged
        When a number stops being finite.
    """
    wanted = readings_of(config, readings)
    yield from _iterate(config, prepare(config, problem, device=device), wanted, keep_overlaps, on_step)


def readings_of(config: ExperimentConfig, readings: Readings = None) -> list[Reading]:
    """The config's own reading first, then the others that are asked for, each once and checked.

    Raises
    ------
    TypeError, ValueError
        Naming the field of the reading, its value and what is allowed.
    """
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


@dataclass(frozen=True)
class Start:
    """Everything about a run that does not depend on its updates.  Made by `prepare`.

    Attributes
    ----------
    config : ExperimentConfig
        What it was prepared for.
    activation : ScalarFunction
    train, probe, test : pair of tensors
        Inputs and targets of the three sets in the precision and on the device of the run.
    hidden_weights, readout_weights : (h, d) and (h,) tensor
        W and a at the start, before any normalisation.
    teacher_direction : (d,) tensor
    gradient : LossGradient
        At the initial weights, normalised if the config asks for it.
    """

    config: ExperimentConfig
    activation: ScalarFunction
    train: Sample
    probe: Sample
    test: Sample
    hidden_weights: Tensor
    readout_weights: Tensor
    teacher_direction: Tensor
    gradient: LossGradient

    @cached_property
    def first(self) -> Probe:
        """The state at step 0."""
        W, a = self.hidden_weights, self.readout_weights
        train_loss = self.train_loss(W, a) if self.config.normalize_weights else self.gradient.loss
        return self.probe_of(W, a, train_loss, SingularSystem(W))

    def train_loss(self, W: Tensor, a: Tensor) -> float:
        """Stage-1 loss of a state of the student."""
        return network.loss(W, a, *self.train, self.activation)

    def gradient_at(self, W: Tensor, a: Tensor) -> LossGradient:
        """Stage-1 loss and gradient of a state of the student."""
        return network.loss_and_gradient(W, a, *self.train, self.activation)

    def probe_of(self, W: Tensor, a: Tensor, train_loss: float, system: SingularSystem) -> Probe:
        """A state of the student, ready to be measured."""
        return Probe(
            train_loss=train_loss,
            weights=W,
            trained_readout=a if self.config.train_readout else None,
            system=system,
            probe=self.probe,
            test=self.test,
            activation=self.activation,
            teacher_direction=self.teacher_direction,
        )


def prepare(
    config: ExperimentConfig, problem: Problem | None = None, *, device: str | torch.device = "cpu"
) -> Start:
    """Put the data on the device and take the first gradient.

    Parameters
    ----------
    config : ExperimentConfig
    problem : Problem, optional
        Default ``make_problem(config)``; of such problems the last two starts are kept.
    device : str or torch.device

    Returns
    -------
    Start

    Raises
    ------
    ValueError
        If the problem does not fit the config or holds NaN or infinity, or the device cannot be used.

    Examples
    --------
    >>> start = prepare(ExperimentConfig(n=60, d=20, h=30, n_test=50))
    >>> start.gradient.hidden.shape
    torch.Size([30, 20])
    """
    if problem is not None:
        return _prepare(config, problem, device)
    key = start_key(config), str(device)
    with _preparing:  # others would wait for the same start, or fight for the same memory
        start = _starts.get(key)
        if start is None:
            while len(_starts) >= _STARTS_KEPT:
                _starts.popitem(last=False)
            start = _starts[key] = _prepare(config, make_problem(config), device)
        _starts.move_to_end(key)
    return start


def forget_starts() -> None:
    """Free the memory that `prepare` keeps."""
    with _preparing:
        _starts.clear()


def start_key(config: ExperimentConfig) -> str:
    """Equal for the configs that one `Start` serves."""
    return config.replace(
        **{name: getattr(ExperimentConfig, name) for name in _AFTER_START}
    ).training.digest()


def normalized(W: Tensor) -> Tensor:
    """W scaled to the Frobenius norm sqrt(h d), the typical one of a standard normal matrix."""
    return W * (math.sqrt(W.numel()) / W.norm())


_starts: OrderedDict[tuple[str, str], Start] = OrderedDict()
_preparing = threading.Lock()


def _collect(
    config: ExperimentConfig,
    start: Start,
    wanted: Sequence[Reading],
    keep_weights: bool,
    keep_overlaps: bool,
    on_step: Callable[[], object] | None,
) -> Trajectory:
    """A run from its start, as far as its numbers are finite."""
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
        list(METRICS),
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
        return Snapshot(step, metrics, probe.system.eigenvalues, probe.weights, refits, overlaps)

    W, a = start.hidden_weights, start.readout_weights
    yield snapshot(0, start.first)
    optimizer, lr = OPTIMIZERS[config.optimizer], config.lr
    options, states = optimizer.options(config), [optimizer.init(W), optimizer.init(a)]
    generator = stream(config.seed, "update_control")
    gradient, system = start.gradient, start.first.system
    for step in range(1, config.steps + 1):
        if config.normalize_weights:
            W = normalized(W)
        previous = W
        W, states[0] = optimizer.update(gradient.hidden, W, states[0], step, lr, **options)
        if config.train_readout:
            a, states[1] = optimizer.update(gradient.readout, a, states[1], step, lr, **options)
        lr *= config.lr_decay or 1.0
        if not _squarable(W):
            raise Diverged(step)
        if config.update != "full":
            W = previous + _controlled(config.update, W - previous, generator)
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
            yield snapshot(step, start.probe_of(W, a, train_loss, system), overlaps)
        if config.normalize_weights and not last:
            gradient = start.gradient_at(normalized(W), a)


def _prepare(config: ExperimentConfig, problem: Problem, device: str | torch.device) -> Start:
    _check(config, problem)
    target, dtype = usable_device(device), getattr(torch, config.dtype)

    def tensor(array: Array) -> Tensor:
        return torch.tensor(array, dtype=dtype, device=target)

    train, probe, test = (
        (tensor(s.inputs), tensor(s.targets)) for s in (problem.train, problem.probe, problem.test)
    )
    W, a = tensor(problem.hidden_weights), tensor(problem.readout_weights)
    activation = get_activation(config.activation)
    first = normalized(W) if config.normalize_weights else W
    return Start(
        config=config,
        activation=activation,
        train=train,
        probe=probe,
        test=test,
        hidden_weights=W,
        readout_weights=a,
        teacher_direction=tensor(problem.teacher_direction),
        gradient=network.loss_and_gradient(first, a, *train, activation),
    )


def _check(config: ExperimentConfig, problem: Problem) -> None:
    if problem.hidden_weights.shape != (config.h, config.d):
        raise ValueError(
            f"problem.hidden_weights must have shape (h, d) = {(config.h, config.d)} as the config says; "
            f"got {problem.hidden_weights.shape}"
        )
    for name, size in (("train", "n"), ("test", "n_test")):
        samples, expected = len(getattr(problem, name).inputs), getattr(config, size)
        if samples != expected:
            raise ValueError(f"problem.{name} has {samples} samples; the config says {size} = {expected}")
    arrays = {
        name: getattr(problem, name) for name in ("hidden_weights", "readout_weights", "teacher_direction")
    }
    for name in ("train", "probe", "test"):
        data = getattr(problem, name)
        arrays |= {f"{name}.inputs": data.inputs, f"{name}.targets": data.targets}
    for name, array in arrays.items():
        bad = int((~np.isfinite(array)).sum())
        if bad:
            raise ValueError(f"problem.{name} holds NaN or infinity in {bad} of {array.size} entries")
    if not problem.hidden_weights.any():
        raise ValueError("problem.hidden_weights is all zero; no measure of its spectrum is defined")


def _squarable(W: Tensor) -> bool:
    """Whether W is finite and so is its Frobenius norm in float64."""
    low, high = torch.aminmax(W)  # NaN propagates, and compares as false
    return bool((low > -1e150) & (high < 1e150))


def _step_overlaps(before: SingularSystem, after: SingularSystem, update: SingularSystem) -> StepOverlaps:
    k = min(_OVERLAPS_KEPT, len(update.eigenvalues))
    return StepOverlaps(before=overlaps_of(before, update, k), after=overlaps_of(after, update, k))


def _controlled(update: str, M: Tensor, generator: np.random.Generator) -> Tensor:
    if update == "no-top":
        return without_top(M)
    order = torch.from_numpy(generator.permutation(M.numel())).to(M.device)
    return M.flatten()[order].reshape(M.shape)
