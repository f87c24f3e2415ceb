"""Say at which learning rates full-batch training is stable: the curvature of the stage-1 loss at a state.

With the residuals r and J the derivative of the outputs with respect to W, the Hessian of the mean squared
error is (2/n) J^T J plus a term with r and sigma''.  The first part, the Gauss-Newton matrix, contains no
labels.  Gradient descent near a minimum is stable while its largest eigenvalue, the sharpness, is below
2 / lr.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from htlib.student.config import ExperimentConfig
from htlib.student.network import loss_and_gradient
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.problem import Problem
from htlib.student.start import Start, prepare

_BETA1 = 0.9  # of Adam
_OF_ADAM = (2 + 2 * _BETA1) / (1 - _BETA1)  # 38; for momentum beta1 with dampening (Cohen et al. 2022, eq. 2)
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
    hessian : float
        Largest eigenvalue of the whole Hessian in W.
    critical_lr : float
        For gradient descent with heavy-ball momentum m, 2 (1 + m) / sharpness, and with Nesterov's,
        2 (1 + m) / ((1 + 2 m) sharpness).  For the other optimizers, the rate at which the first step
        overshoots: with a larger one the loss after it exceeds that before.
    late_critical_lr : float
        For Adam at a state with second moments: 38 over the largest eigenvalue of P^-1/2 H P^-1/2, where P is
        the denominator of its update (Cohen et al. 2022); else NaN.
    """

    sharpness: float
    hessian: float
    critical_lr: float
    late_critical_lr: float


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
    X, _ = start.train
    W = start.hidden_weights if weights is None else _state("weights", weights, start)
    P = None if denominator is None else _state("denominator", denominator, start)
    if P is not None and not bool((P > 0).all()):
        raise ValueError(f"denominator must be positive; its smallest entry is {P.min().item():.3g}")
    curvature = _hessian(start, W)
    late = math.nan
    if P is not None:
        root = P.sqrt()
        late = _OF_ADAM / _largest(lambda V: curvature(V / root) / root, W.shape)
    sharpness = _gauss_newton(start, W, X)
    return Stability(
        sharpness=sharpness,
        hessian=_largest(curvature, W.shape),
        critical_lr=_critical(config, start, W, sharpness),
        late_critical_lr=late,
    )


def _critical(config: ExperimentConfig, start: Start, W: Tensor, sharpness: float) -> float:
    if OPTIMIZERS[config.optimizer].first_step == "gradient":
        m = config.momentum
        return 2 * (1 + m) / sharpness / ((1 + 2 * m) if config.nesterov else 1)
    return _overshoot(config, start, W)


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


def _gauss_newton(start: Start, W: Tensor, X: Tensor) -> float:
    """Return the largest eigenvalue of (2/n) J J^T, whose entries are (x_k.x_l) (s_k.s_l) / (h d)."""
    (n, d), h = X.shape, len(W)
    _, slope = start.activation.value_and_derivative(X @ W.T / math.sqrt(d))
    S = slope * start.readout_weights
    scale = 2 / (n * h * d)
    if n <= _DENSE:
        matrix = ((X @ X.T) * (S @ S.T) * scale).numpy()
        return _top(matrix, np.ones(n))

    def product(u: Tensor) -> Tensor:
        back = S.T @ (u[:, None] * X)  # J^T u
        return ((X @ back.T) * S).sum(dim=1) * scale

    return _largest(product, (n,))


def _hessian(start: Start, W: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the product with the Hessian, the derivative of the closed-form gradient (it is symmetric)."""
    X, y = start.train
    state = W.detach().clone().requires_grad_()
    gradient = loss_and_gradient(state, start.readout_weights, X, y, start.activation)[1]
    return lambda V: torch.autograd.grad(gradient, state, V, retain_graph=True)[0]


def _largest(product: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> float:
    """Return the largest eigenvalue of a symmetric operator, by Lanczos iteration."""
    size = math.prod(shape)

    def apply(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return product(torch.from_numpy(np.ascontiguousarray(v)).reshape(shape)).reshape(-1).numpy()

    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)  # pyright: ignore
    return _top(operator, np.random.default_rng(0).standard_normal(size))


def _top(operator: Any, v0: NDArray[np.float64]) -> float:
    values = eigsh(operator, 1, which="LA", v0=v0, tol=_TOLERANCE)[0]  # pyright: ignore[reportArgumentType]
    return float(values[0])


def _state(name: str, given: ArrayLike, start: Start) -> Tensor:
    array = np.asarray(given, dtype=np.float64)
    shape = tuple(start.hidden_weights.shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of W; got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return torch.from_numpy(np.array(array))
