"""What runs share before their paths part: data on the device, first gradient, first measures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from htlib.spectra.linalg import usable_device
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.spectra.vectors import SingularSystem
from htlib.student import network, probes
from htlib.student.config import ExperimentConfig
from htlib.student.functions import ScalarFunction, get_activation
from htlib.student.network import LossGradient
from htlib.student.problem import Problem, make_problem

# Fields that only matter once the first gradient is known, and those that stage 2 alone reads.
_AFTER_START = frozenset(
    {"optimizer", "lr", "steps", "momentum", "weight_decay", "adam_eps", "lr_decay", "update", "probe_every"}
)
READING = frozenset(probes.Reading._fields)


@dataclass(frozen=True)
class Start:
    """Everything about a run that does not depend on its updates.  Made by `prepare`.

    Attributes
    ----------
    config : ExperimentConfig
        What it was prepared for; `check_fits` tells what else it serves.
    activation : ScalarFunction
    train, probe, test : Samples
        The three sets in the precision and on the device of the run.
    hidden_weights, readout_weights : (h, d) and (h,) tensor
        W and a at the start, before any normalisation.
    teacher_direction : (d,) tensor
    gradient : LossGradient
        At the initial weights, normalised if the config asks for it.
    """

    config: ExperimentConfig
    activation: ScalarFunction
    train: probes.Samples
    probe: probes.Samples
    test: probes.Samples
    hidden_weights: Tensor
    readout_weights: Tensor
    teacher_direction: Tensor
    gradient: LossGradient
    _known: dict[probes.Reading, dict[str, float]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def system(self) -> SingularSystem:
        """The factorised initial weights."""
        return SingularSystem(self.hidden_weights)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All measures of step 0 as its own config reads them, computed when first asked for."""
        return self.metrics_for([self.config])[0]

    def metrics_for(self, configs: Sequence[ExperimentConfig]) -> list[dict[str, float]]:
        """All measures of step 0 for configs that it fits."""
        W, a = self.hidden_weights, self.readout_weights
        if any(reading_of(c) not in self._known for c in configs):
            train_loss = self.train_loss(W, a) if self.config.normalize_weights else self.gradient.loss
            values = self.measure(W, a, train_loss, self.system, configs)
            self._known.update(zip(map(reading_of, configs), values, strict=True))
        return [self._known[reading_of(c)] for c in configs]

    def train_loss(self, W: Tensor, a: Tensor) -> float:
        """Stage-1 loss of a state of the student."""
        return network.loss(W, a, self.train.inputs, self.train.targets, self.activation)

    def gradient_at(self, W: Tensor, a: Tensor) -> LossGradient:
        """Stage-1 loss and gradient of a state of the student."""
        return network.loss_and_gradient(W, a, self.train.inputs, self.train.targets, self.activation)

    def measure(
        self,
        W: Tensor,
        a: Tensor,
        train_loss: float,
        system: SingularSystem,
        configs: Sequence[ExperimentConfig],
    ) -> list[dict[str, float]]:
        """For each config a value for each of `htlib.student.probes.METRICS`.

        Parameters
        ----------
        W, a : tensor
            The state of the student.
        train_loss : float
            Its stage-1 loss.
        system : SingularSystem
            W factorised.
        configs : sequence of ExperimentConfig
            They differ in how stage 2 reads the features, and share all else.

        Returns
        -------
        list of dict
        """
        second = probes.stage_two_readings(
            W,
            self.probe,
            self.test,
            map(reading_of, configs),
            activation=self.activation,
            trained_readout=a if self.config.train_readout else None,
        )
        edge = largest_eigenvalue_quantile(self.config.h, self.config.d)
        spectral = asdict(probes.spectral_measures(system, self.teacher_direction, edge))
        return [{"train_loss": train_loss, **asdict(second[reading_of(c)]), **spectral} for c in configs]

    def check_fits(self, config: ExperimentConfig) -> None:
        """Raise ValueError if `config` needs another start.

        It may differ in what comes after the first gradient: optimizer, rate, steps, momentum,
        weight decay, eps, schedule, update control and probe interval; and in how stage 2 reads
        the features: ridge parameter and feature scale.
        """
        ours, theirs = self.config.to_dict(), config.to_dict()
        for name in ours.keys() - _AFTER_START - READING:
            if ours[name] != theirs[name]:
                raise ValueError(
                    f"start was prepared for {name} = {ours[name]!r}; the config has {theirs[name]!r}"
                )


def reading_of(config: ExperimentConfig) -> probes.Reading:
    """The part of a config that stage 2 alone looks at."""
    return probes.Reading(config.feature_scale, config.ridge_lambda)


def start_key(config: ExperimentConfig) -> str:
    """Equal for the configs that one `Start` serves."""
    return _without(config, _AFTER_START | READING)


def family_key(config: ExperimentConfig) -> str:
    """Equal for the configs whose weights move alike: they differ in what stage 2 alone reads."""
    return _without(config, READING)


def prepare(
    config: ExperimentConfig, problem: Problem | None = None, *, device: str | torch.device = "cpu"
) -> Start:
    """Put the data on the device and take the first gradient.

    Parameters
    ----------
    config : ExperimentConfig
    problem : Problem, optional
        Default ``make_problem(config)``.
    device : str or torch.device

    Returns
    -------
    Start
        To be given to `htlib.train` for every config that it fits.

    Raises
    ------
    ValueError
        If the problem does not fit the config or holds NaN or infinity, or the device cannot be used.

    Examples
    --------
    >>> import htlib as ht
    >>> config = ht.ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=1)
    >>> start = prepare(config)
    >>> runs = [ht.train(config.replace(lr=rate), start=start) for rate in (0.1, 1.0)]
    >>> [run.metrics.index.tolist() for run in runs]
    [[0, 1], [0, 1]]
    """
    problem = make_problem(config) if problem is None else problem
    _check(config, problem)
    target, dtype = usable_device(device), getattr(torch, config.dtype)
    train, probe, test = (
        probes.as_samples(s.inputs, s.targets, dtype, target)
        for s in (problem.train, problem.probe, problem.test)
    )
    W, a, direction = (
        torch.tensor(x, dtype=dtype, device=target)
        for x in (problem.hidden_weights, problem.readout_weights, problem.teacher_direction)
    )
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
        teacher_direction=direction,
        gradient=network.loss_and_gradient(first, a, train.inputs, train.targets, activation),
    )


def normalized(W: Tensor) -> Tensor:
    """W scaled to the Frobenius norm sqrt(h d), the typical one of a standard normal matrix."""
    return W * (math.sqrt(W.numel()) / W.norm())


def _without(config: ExperimentConfig, names: frozenset[str]) -> str:
    return json.dumps([(k, v) for k, v in config.to_dict().items() if k not in names])


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
