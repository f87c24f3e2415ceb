"""Prepare the start of a run: its problem on the device, the first gradient, the first measures.

Runs that differ only in what comes later share their start, so the last two starts are kept.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from htlib.spectra.linalg import usable_device
from htlib.spectra.vectors import SingularSystem
from htlib.student import network
from htlib.student.config import ExperimentConfig
from htlib.student.functions import ScalarFunction, get_activation
from htlib.student.optimizers import HYPERPARAMETERS
from htlib.student.probes import Probe, Sample
from htlib.student.problem import Problem, make_problem

Array = NDArray[np.float64]

_KEPT = 2  # each holds the data of a problem, some 60 MB at the paper's sizes
# Fields that matter only after the first gradient.
_AFTER_START = frozenset(
    {"optimizer", "lr", "steps", "lr_decay", "update", "batch_size", "probe_every", "probe_sharpness"}
    | HYPERPARAMETERS
)


@dataclass(frozen=True)
class Start:
    """Everything about a run that does not depend on its updates.  Made by `prepare`."""

    config: ExperimentConfig
    activation: ScalarFunction
    train: Sample
    probe: Sample
    test: Sample
    hidden_weights: Tensor  # W (h, d), before any normalisation
    readout_weights: Tensor  # a (h,)
    teacher_direction: Tensor  # (d,)
    loss: Tensor  # this and its gradients are at the normalised W if the config normalises weights
    gradient: Tensor  # (h, d)
    readout_gradient: Tensor  # (h,)

    @cached_property
    def first(self) -> Probe:
        """The probe of the state at step 0."""
        W, a = self.hidden_weights, self.readout_weights
        train_loss = self.train_loss(W, a) if self.config.normalize_weights else self.loss.item()
        return self.probe_of(W, a, train_loss, SingularSystem(W))

    def train_loss(self, W: Tensor, a: Tensor) -> float:
        """Return the stage-1 loss of a state of the student."""
        return network.loss(W, a, *self.train, self.activation)

    def gradient_at(self, W: Tensor, a: Tensor, batch: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the stage-1 loss of a state, on a batch if given, and its derivatives in W and a."""
        X, y = self.train if batch is None else (self.train[0][batch], self.train[1][batch])
        return network.loss_and_gradient(W, a, X, y, self.activation)

    def probe_of(self, W: Tensor, a: Tensor, train_loss: float, system: SingularSystem) -> Probe:
        """Return a state of the student, ready to be measured."""
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
    """Put the data on the device and compute the first gradient.

    The problem is ``make_problem(config)`` by default; the last two starts of such problems are kept.  Raises
    ValueError if the problem does not fit the config or has NaN or infinity, or the device cannot be used.
    """
    if problem is not None:
        return _prepare(config, problem, device)
    key = start_key(config), str(device)
    with _preparing:  # one at a time: two threads may want the same start, or need the same memory
        start = _kept.get(key)
        if start is None:
            while len(_kept) >= _KEPT:
                _kept.popitem(last=False)
            start = _kept[key] = _prepare(config, make_problem(config), device)
        _kept.move_to_end(key)
    return start


def forget_starts() -> None:
    """Free the memory that `prepare` holds."""
    with _preparing:
        _kept.clear()


def start_key(config: ExperimentConfig) -> str:
    """Return a name that is equal for all configs that can share one `Start`."""
    return config.replace(
        **{name: getattr(ExperimentConfig, name) for name in _AFTER_START}
    ).training.digest()


def normalized(W: Tensor) -> Tensor:
    """Scale W to the Frobenius norm sqrt(h d), the typical one of a standard normal matrix."""
    return W * (math.sqrt(W.numel()) / W.norm())


_kept: OrderedDict[tuple[str, str], Start] = OrderedDict()
_preparing = threading.Lock()


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
    loss, gradient, readout_gradient = network.loss_and_gradient(first, a, *train, activation)
    return Start(
        config=config,
        activation=activation,
        train=train,
        probe=probe,
        test=test,
        hidden_weights=W,
        readout_weights=a,
        teacher_direction=tensor(problem.teacher_direction),
        loss=loss,
        gradient=gradient,
        readout_gradient=readout_gradient,
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
