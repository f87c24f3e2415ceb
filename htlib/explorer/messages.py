"""The messages between the explorer and an engine, and their content.

A request is an id and a mapping of `ExperimentConfig` fields to JSON values, which replace those of the
engine's own configuration.  It replaces the request before of its view: the ids of a view have the same
thousands.  Every answer is a JSON object with that ``id`` and a ``type``:

``progress``
    Says what the engine is working on, where no snapshot shows it: ``phase`` ("start" for data, first
    gradient and first measures, or "train"), ``step`` and ``steps``.
``start``
    ``config``: all fields, with the ``steps`` of the request.  ``noise``: ``x`` and ``density``, the
    Marchenko-Pastur density of the initial eigenvalues, and ``edge``, above which they are outliers.
    ``prediction``: one step in closed form, or null where there is none, with ``critical_lr``,
    ``spectral_norm``, ``alignment`` and ``has_outlier`` at the requested rate, a ``curve`` of ``lr``,
    ``spectral_norm`` and ``alignment`` along rates, ``bulk`` (see `bulk_of`; null unless one step is
    requested) and ``unstable_lr`` (see `unstable_lr`; null if it takes too long).  ``source``: "train".
``snapshots``
    ``snapshots``: consecutive steps, each with ``step``, ``metrics`` (as `htlib.Trajectory.metrics`, null
    where not finite), ``saturation`` (see `saturation`, and for stored runs `estimated_saturation`; null if
    the activation has no ceiling), ``eigenvalues`` (ascending; null except in the last of the message, to
    keep messages small) and ``overlaps``: squared inner products of the leading right singular vectors of W
    (rows) and of the update that led to this step (columns); null except at the last requested step.
``done``, ``cancelled``, ``diverged``, ``error``
    The last message of a request; each request gets exactly one.  ``step``: the last step that was
    answered, or the step at which a number stopped being finite; null if there is none.  ``message``: what
    was wrong.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, from_numpy

from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile
from htlib.student import network
from htlib.student.config import ExperimentConfig
from htlib.student.functions import get_activation
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.problem import make_problem
from htlib.theory.one_step import OneStepLaw, law_of_config
from htlib.theory.stability import predict_sharpness, stability

Message = dict[str, Any]

_CURVE = (1 / 30, 300.0, 61)  # first and last rate, in critical rates, and how many
_INTERVAL_POINTS = 80  # of the density of a bulk
_LOWEST = 1e-6  # share of the upper end of an interval, at which its points begin
_OVERSHOOT_SIZE = 10**8  # n d h up to which looking for the overshoot takes about half a second
SATURATED = 0.99  # share of the activation's bound
SATURATION_SAMPLES = 256  # times h units: the share is good to a few thousandths
_NORMALS = 4000  # points of a normal distribution, for the estimate of a share


def final(kind: str, step: int | None = None, message: str | None = None) -> Message:
    """Return the last message of a request."""
    return {"type": kind, "step": step, "message": message}


def snapshot_message(
    step: int, metrics: dict[str, float], eigenvalues: NDArray[np.float64], saturation: float | None
) -> Message:
    """Return one entry of ``snapshots``, without overlaps."""
    return {
        "step": step,
        "metrics": {name: value if math.isfinite(value) else None for name, value in metrics.items()},
        "saturation": saturation,
        "eigenvalues": eigenvalues.tolist(),
        "overlaps": None,
    }


def packed(points: list[Message], overlaps: list[list[float]] | None) -> list[Message]:
    """Return the ``snapshots`` of a message; only the last point has a spectrum and overlaps."""
    lean = [{**point, "eigenvalues": None} for point in points[:-1]]
    return [*lean, *({**point, "overlaps": overlaps} for point in points[-1:])]


def noise_of(h: int, d: int) -> Message:
    """Return the ``noise`` of a start message for a shape."""
    law = MarchenkoPastur.of_gaussian_esd(h, d)
    low, high = law.support
    # The law is like a square root at both ends, and the low end fills decades of a log axis.
    angle = np.pi * np.linspace(0.05, 1, 100) ** 2
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    return {"x": x.tolist(), "density": law.pdf(x).tolist(), "edge": largest_eigenvalue_quantile(h, d)}


def one_step(config: ExperimentConfig) -> Message | None:
    """Return the ``prediction`` of a start message, or None where there is no theory."""
    try:
        law, unstable = _known(config.replace(lr=ExperimentConfig.lr, steps=1, seed=0))
    except ValueError:
        return None
    low, high, points = _CURVE
    rates = law.critical_lr * np.geomspace(low, high, points)
    curve = [law(float(rate)) for rate in rates]
    return asdict(law(config.lr)) | {
        "curve": {
            "lr": rates.tolist(),
            "spectral_norm": [point.spectral_norm for point in curve],
            "alignment": [point.alignment for point in curve],
        },
        "bulk": bulk_of(law, config.lr) if config.steps == 1 and min(law.h, law.d) > 1 else None,
        "unstable_lr": unstable,
    }


def bulk_of(law: OneStepLaw, lr: float) -> Message:
    """Return the law of the bulk after one step: its ``edge``, and its ``density`` at the points ``x``.

    The density is that of all eigenvalues: the weight that is missing is the spike's, if it has left.
    """
    bulk = law.bulk(lr)
    t = np.linspace(0, np.pi / 2, _INTERVAL_POINTS)
    # a support that reaches zero has no end on a logarithmic axis
    starts = [(max(low, _LOWEST * high), high) for low, high in bulk.support]
    x = np.array([low * (high / low) ** (np.sin(t) ** 2) for low, high in starts])
    density = np.zeros_like(x)  # as it is at the ends of an interval
    density[:, 1:-1] = bulk.pdf(x[:, 1:-1]) * bulk.size / min(law.h, law.d)
    x, density = x.ravel(), density.ravel()
    return {"x": x.tolist(), "density": density.tolist(), "edge": bulk.edge}


def unstable_lr(config: ExperimentConfig) -> float | None:
    """Return the rate above which an optimizer whose first step has a law is unstable, if there is one.

    For gradient descent it is the predicted edge of stability at the start.  For steps along signs it is the
    rate at which the first step overshoots on the data of seed 0; other seeds move it by a few percent.
    """
    if OPTIMIZERS[config.optimizer].first_step == "gradient":
        return 2 * (1 + config.momentum) / predict_sharpness(config)
    drawn = config.replace(seed=0, n_test=1)
    # with a problem of its own it does not push out the starts that runs share
    rate = stability(drawn, make_problem(drawn)).critical_lr
    return rate if math.isfinite(rate) else None


@lru_cache  # a law and its noise take a third of a second, and do not depend on the rate
def _known(config: ExperimentConfig) -> tuple[OneStepLaw, float | None]:
    law, optimizer = law_of_config(config), OPTIMIZERS[config.optimizer]
    quick = optimizer.first_step == "gradient" or config.n * config.d * config.h <= _OVERSHOOT_SIZE
    return law, unstable_lr(config) if quick else None


def saturation(W: Float[Tensor, "h d"], X: Float[Tensor, "n d"], activation: str) -> float | None:
    """Return the share of hidden activations of X whose size exceeds 0.99 of the activation's bound.

    The activations have the scale of training.  Return None if the activation has no bound.

    >>> import torch
    >>> saturation(torch.tensor([[9.0], [0.1]]), torch.ones(5, 1), "tanh")
    0.5
    """
    function = get_activation(activation)
    if function.bound is None:
        return None
    return (network.features(W, X, function).abs() > SATURATED * function.bound).double().mean().item()


def estimated_saturation(
    eigenvalues: Float[NDArray[np.float64], " k"], h: int, d: int, activation: str
) -> float | None:
    """Estimate `saturation` from the eigenvalues of W^T W, if nothing else of W (h, d) is known.

    It is the share if all rows of W have the same norm and the inputs are independent of it.  Training on
    these inputs makes larger shares, and gradient descent rows of different norms: an error of 0.15.

    >>> round(estimated_saturation(np.full(10, 40.0), 20, 10, "tanh"), 2)  # pre-activations of variance 2
    0.06
    """
    function = get_activation(activation)
    if function.bound is None:
        return None
    z = ndtri((np.arange(_NORMALS) + 0.5) / _NORMALS) * math.sqrt(eigenvalues.sum() / (h * d))
    return (function.value(from_numpy(z)).abs() > SATURATED * function.bound).double().mean().item()
