"""Say at which learning rates full-batch training is stable: the curvature of the stage-1 loss at a state.

With the residuals r and J the derivative of the outputs with respect to W, the Hessian of the mean squared
error is (2/n) J^T J plus a term with r and sigma''.  The first part, the Gauss-Newton matrix, contains no
labels.  Gradient descent near a minimum is stable while its largest eigenvalue, the sharpness, is below
2 / lr.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from torch import Tensor

from htlib.student.config import ExperimentConfig
from htlib.student.curvature import Product, divided, hessian_product, largest_eigenvalue, top_of
from htlib.student.functions import ACTIVATIONS, gaussian_mean
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.problem import Problem, draw_readout
from htlib.student.start import Start, prepare

_DENSE = 4000  # samples up to which the n x n matrix is made
_TOLERANCE = 1e-5
_SMALLEST, _LARGEST = 1e-8, 1e8  # rates between which the overshoot is looked for


@dataclass(frozen=True)
class Stability:
    """Hold the curvature at a state and the rates at which an optimizer becomes unstable there.

    Attributes
    ----------
    sharpness : float
        Largest eigenvalue of the Gauss-Newton matrix, (2/n) J^T J, of the stage-1 loss in W.
    critical_lr : float
        For gradient descent with heavy-ball momentum m, 2 (1 + m) / sharpness, and with Nesterov's,
        2 (1 + m) / ((1 + 2 m) sharpness).  For the other optimizers, the rate at which the first step
        overshoots: with a larger one the loss after it exceeds that before.
    late_critical_lr : float
        For Adam at a state with second moments: 38 over the largest eigenvalue of P^-1/2 H P^-1/2, where P is
        the denominator of its update (Cohen et al. 2022); else NaN.
    """

    sharpness: float
    critical_lr: float
    late_critical_lr: float
    _largest: Callable[[], float] = field(repr=False, compare=False)

    @cached_property
    def hessian(self) -> float:
        """Largest eigenvalue of the whole Hessian in W, computed when it is asked for."""
        return self._largest()


def stability(
    config: ExperimentConfig,
    problem: Problem | None = None,
    *,
    weights: ArrayLike | None = None,
    denominator: ArrayLike | None = None,
) -> Stability:
    """Compute the curvature of the stage-1 loss at a state, and the critical rates there.

    Parameters
    ----------
    config : ExperimentConfig
        Its rate does not matter.
    problem : Problem, optional
        By default that of the config.
    weights : (h, d) array, optional
        The state; by default the start.
    denominator : (h, d) array, optional
        The denominator of Adam's update at that state, sqrt(v_hat) + eps.

    Returns
    -------
    Stability

    Raises
    ------
    ValueError
        If an array has another shape than W, holds a value that is not finite, or a denominator is not
        positive.

    References
    ----------
    Cohen, Kaur, Li, Kolter & Talwalkar (2021) for gradient descent; Cohen, Ghorbani, Krishnan, Agarwal,
    Medapati, Badura, Suo, Cardoze, Nado, Dahl & Gilmer (2022) for Adam.

    Examples
    --------
    >>> small = ExperimentConfig(n=60, d=20, h=30, n_test=20, optimizer="gd")
    >>> found = stability(small)
    >>> round(found.critical_lr * found.sharpness, 6)
    2.0
    """
    start = prepare(config.replace(dtype="float64"), problem)
    W = start.hidden_weights if weights is None else _state("weights", weights, start)
    P = None if denominator is None else _state("denominator", denominator, start)
    divides, edge = _edge(config)
    if P is not None and not divides:
        raise ValueError(f"denominator has no meaning for optimizer={config.optimizer!r}; leave it out")
    if P is not None and not bool((P > 0).all()):
        raise ValueError(f"denominator must be positive; its smallest entry is {P.min().item():.3g}")

    def curvature() -> Product:
        return hessian_product(W, start.readout_weights, *start.train, start.activation)

    late = math.nan
    if P is not None:
        late = edge / largest_eigenvalue(divided(curvature(), P), W, _TOLERANCE)
    sharpness = _gauss_newton(start, W)
    by_gradient = OPTIMIZERS[config.optimizer].first_step == "gradient"
    return Stability(
        sharpness=sharpness,
        critical_lr=edge / sharpness if by_gradient else _overshoot(config, start, W),
        late_critical_lr=late,
        _largest=lambda: largest_eigenvalue(curvature(), W, _TOLERANCE),
    )


@lru_cache  # the quadratures take thirty milliseconds
def _slopes(activation: str) -> tuple[float, float, float]:
    """Return mean and variance of s'(z), z standard normal, and the slope of the mean in the variance."""
    slope = ACTIVATIONS[activation].derivative
    mean = gaussian_mean(slope)
    variance = gaussian_mean(lambda z: slope(z) ** 2) - mean**2
    return mean, variance, gaussian_mean(lambda z: (z * z - 1) * slope(z)) / 2


def _edge(config: ExperimentConfig) -> tuple[bool, float]:
    """Tell whether the optimizer divides the gradient; return its edge of lr times the curvature, too."""
    optimizer = OPTIMIZERS[config.optimizer]
    if optimizer.edge is None:
        return False, math.nan
    denominator, edge = optimizer.edge(optimizer.init(torch.zeros(1)), 1, **optimizer.options(config))
    return denominator is not None, edge


def predict_sharpness(config: ExperimentConfig, *, readout: ArrayLike | None = None) -> float:
    """Predict the sharpness at the start for large n, d and h.

    Parameters
    ----------
    config : ExperimentConfig
        Its sizes, activation, inputs and readout matter; its labels, teacher and rate do not.
    readout : (h,) array, optional
        The readout a of the given network; by default its expectations count.

    Returns
    -------
    float
        The largest eigenvalue of the Gauss-Newton matrix, (2/n) (|a|^2/h) (mu^2 top + v), where mu and v are
        the mean and the variance of the activation's slope at a standard normal, and top is the largest
        eigenvalue of X X^T / d: (1 + sqrt(n/d))^2 for Gaussian inputs, and n/d for whitened ones.

    Raises
    ------
    ValueError
        If the readout has another shape or is zero, or the inputs are whitened and the activation is not odd
        or n < d, for which there is no formula here.

    Notes
    -----
    The Gauss-Newton matrix is the product, entry by entry, of X X^T / d and of the Gram matrix of the slopes
    over h.  The latter is (|a|^2/h) mu^2 off the diagonal, up to fluctuations of the size h^-1/2, and
    (|a|^2/h) (mu^2 + v) on it.  An activation that is not odd adds mu_2^2 (n/d) times the projection on the
    vector of ones, mu_2 = E s''(z), which stays below the edge where mu_2 < mu.

    Whitened inputs have one eigenvalue, n/d, which the fluctuations split to first order: a sample's mean
    slope varies with the draw of W and with |x|.  The formula includes their spread, as a semicircle.

    Examples
    --------
    >>> round(2 / predict_sharpness(ExperimentConfig(optimizer="gd")))
    895
    """
    activation, ratio = ACTIVATIONS[config.activation], config.n / config.d
    a = np.ones(config.h) if readout is None else np.asarray(readout, dtype=np.float64)
    if a.shape != (config.h,) or not a.any():
        raise ValueError(f"readout must be a nonzero array of shape ({config.h},); got shape {a.shape}")
    square = float(np.mean(a**2))
    fourth = float(np.mean(a**4)) / square**2 if readout is not None or config.readout == "signs" else 3.0
    mean, variance, along = _slopes(config.activation)
    if config.inputs == "gaussian":
        top = mean**2 * (1 + math.sqrt(ratio)) ** 2
    elif activation.odd and ratio >= 1:
        spread = variance * fourth / config.h + along**2 * 2 / config.d * (1 - 1 / ratio)
        top = ratio * mean**2 + 4 * mean * math.sqrt(ratio * spread)
    else:
        raise ValueError(
            f"inputs = 'whitened' needs an odd activation and n >= d for a prediction; got activation = "
            f"{config.activation!r}, n = {config.n}, d = {config.d}"
        )
    return 2 / config.n * square * (top + variance)


def drawn_edge(config: ExperimentConfig) -> float:
    """Return 2 over the predicted sharpness, the critical rate of gradient descent, for the readout as drawn.

    Another optimizer, momentum or weight decay is a ValueError: no tail was measured against their edge.
    """
    if config.optimizer != "gd" or config.momentum or config.weight_decay:
        changed = {name: getattr(config, name) for name in ("optimizer", "momentum", "weight_decay")}
        raise ValueError(
            "the edge of stability is predicted for optimizer = 'gd' without momentum and weight decay; got "
            + ", ".join(f"{name} = {value!r}" for name, value in changed.items())
        )
    return 2 / predict_sharpness(config, readout=draw_readout(config))


def _overshoot(config: ExperimentConfig, start: Start, W: Tensor) -> float:
    """Return the rate at which the loss after the first step is that before."""
    before, gradient, _ = start.gradient_at(W, start.readout_weights)
    optimizer = OPTIMIZERS[config.optimizer]
    options, state = optimizer.options(config), optimizer.init(W)

    def excess(log_lr: float) -> float:
        stepped, _ = optimizer.update(gradient, W, state, 1, math.exp(log_lr), **options)
        return start.train_loss(stepped, start.readout_weights) - before.item()

    low = math.log(_SMALLEST)
    while excess(low + 1) <= 0:  # a larger step still lowers the loss
        low += 1
        if low > math.log(_LARGEST):
            return math.inf
    return math.exp(float(brentq(excess, low, low + 1, xtol=1e-6)))  # pyright: ignore[reportArgumentType]


def _gauss_newton(start: Start, W: Tensor) -> float:
    """Return the largest eigenvalue of (2/n) J J^T, whose entries are (x_k.x_l) (s_k.s_l) / (h d)."""
    X, _ = start.train
    (n, d), h = X.shape, len(W)
    _, slope = start.activation.value_and_derivative(X @ W.T / math.sqrt(d))
    S = slope * start.readout_weights
    scale = 2 / (n * h * d)
    if n <= _DENSE:
        return top_of(((X @ X.T) * (S @ S.T) * scale).numpy(), np.ones(n), _TOLERANCE)

    def product(u: Tensor) -> Tensor:
        back = S.T @ (u[:, None] * X)  # J^T u
        return ((X @ back.T) * S).sum(dim=1) * scale

    return largest_eigenvalue(product, X[:, 0], _TOLERANCE)


def _state(name: str, given: ArrayLike, start: Start) -> Tensor:
    array = np.asarray(given, dtype=np.float64)
    shape = tuple(start.hidden_weights.shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of W; got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return torch.from_numpy(np.array(array))
