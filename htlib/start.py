"""What runs share before their paths part: data on the device, first gradient, first measures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from htlib import network, probes
from htlib.config import ExperimentConfig
from htlib.functions import ScalarFunction, get_activation
from htlib.network import LossGradient
from htlib.problem import Problem, make_problem
from htlib.random_matrix import largest_eigenvalue_quantile
from htlib.spectrum import SingularSystem

# Fields that only matter once the first gradient is known.
_AFTER_START = frozenset(
    {"optimizer", "lr", "steps", "momentum", "weight_decay", "adam_eps", "lr_decay", "update", "probe_every"}
)


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

    @cached_property
    def system(self) -> SingularSystem:
        """The factorised initial weights."""
        return SingularSystem(self.hidden_weights)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All measures of step 0, computed when first asked for."""
        W, a = self.hidden_weights, self.readout_weights
        train_loss = self.train_loss(W, a) if self.config.normalize_weights else self.gradient.loss
        return self.measure(W, a, train_loss, self.system)

    def train_loss(self, W: Tensor, a: Tensor) -> float:
        """Stage-1 loss of a state of the student."""
        return network.loss(W, a, self.train.inputs, self.train.targets, self.activation)

    def gradient_at(self, W: Tensor, a: Tensor) -> LossGradient:
        """Stage-1 loss and gradient of a state of the student."""
        return network.loss_and_gradient(W, a, self.train.inputs, self.train.targets, self.activation)

    def measure(self, W: Tensor, a: Tensor, train_loss: float, system: SingularSystem) -> dict[str, float]:
        """A value for each of `htlib.probes.METRICS`, given what is known of the state already."""
        config = self.config
        second = probes.stage_two(
            W,
            self.probe,
            self.test,
            activation=self.activation,
            feature_scale=config.feature_scale,
            ridge_lambda=config.ridge_lambda,
            trained_readout=a if config.train_readout else None,
        )
        edge = largest_eigenvalue_quantile(config.h, config.d)
        spectral = probes.spectral_measures(system, self.teacher_direction, edge)
        return {"train_loss": train_loss, **asdict(second), **asdict(spectral)}

    def check_fits(self, config: ExperimentConfig) -> None:
        """Raise ValueError if `config` needs another start.

        It may differ in what comes after the first gradient: optimizer, rate, steps, momentum,
        weight decay, eps, schedule, update control and probe interval.
        """
        ours, theirs = self.config.to_dict(), config.to_dict()
        for name in ours.keys() - _AFTER_START:
            if ours[name] != theirs[name]:
                raise ValueError(
                    f"start was prepared for {name} = {ours[name]!r}; the config has {theirs[name]!r}"
                )


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
    target, dtype = _device(device), getattr(torch, config.dtype)
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


def _device(device: str | torch.device) -> torch.device:
    try:
        probe = torch.zeros(1, dtype=torch.float64, device=device)  # the measures need float64
        probe.item()  # "meta" makes tensors that hold nothing
        return probe.device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {error}") from error
