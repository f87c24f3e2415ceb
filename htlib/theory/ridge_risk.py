"""Predict the test loss of stage 2 after one step, with nothing fitted.

Stage 2 is ridge regression on features of fresh samples, so that W1 is a given matrix.  Let B be its row
along the left direction of the spike, u = <B, x> / |B|, and s_j the share of u in the pre-activation of unit
j.  Given u, and to leading order, the features of a sample are those of a Gaussian (Cui et al. 2024, Dandi et
al. 2024):

    sigma(w_j x / sqrt d)  ~  m(s_j u) + m'(s_j u) w'_j x / sqrt d + noise,    m(t) = E sigma(t + tau_j z),

w'_j the row of the bulk, whose law `htlib.theory.bulk` has, and tau_j^2 its mean square.  Their covariance is
Omega = (M M^T + D W' W'^T D / d + Psi) / h: the columns of M are m(s_j u) at the nodes u of a quadrature, and
D and Psi are diagonal.  A deterministic equivalent of its resolvent needs two numbers for each kappa.  From

    T = tr (Omega + kappa)^-1   and   beta = b^T (Omega + kappa)^-1 b,   b = E phi y,

follow the degrees of freedom and the test loss of ridge regression,

    ridge_lambda n / h = kappa (n - df_1),    loss = (E y^2 - beta + kappa beta') / (1 - df_2 / n).

Left out: that samples with a large |u| have another leverage than others; that the bulk knows the coordinates
of B; and, for signs, the second row of the start that B contains.  The book's appendix has the derivation,
and says how far the result is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from htlib.student.functions import get_activation, get_teacher
from htlib.theory.bulk import StepNoise
from htlib.theory.gradient import GradientConstants

Array = NDArray[np.float64]

_INPUTS, _READOUTS, _ROWS = 40, 24, 5  # nodes of the quadratures over u, over a and over the rows of the bulk
_KAPPAS = 400
_RANGE = 1e-12, 1e5  # of kappa, over the mean square of a feature
_ROUNDS, _SETTLED = 50, 1e-11  # of Newton's method, which takes five to eight


@dataclass(frozen=True, eq=False)
class RidgeRisk:
    """Hold the predicted test loss after the refit, for every ridge parameter.  Call it with one or many.

    Attributes
    ----------
    lambdas, losses : arrays
        The curve, ascending in the ridge parameter.  Beyond its ends the loss has come to its limits.
    """

    lambdas: Array
    losses: Array

    def __call__(self, ridge_lambda: ArrayLike) -> Array:
        """Return the test loss at ridge parameters; one that is not positive and finite is a ValueError."""
        values = np.asarray(ridge_lambda, dtype=np.float64)
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"ridge_lambda must be positive and finite; got {ridge_lambda}")
        return np.interp(np.log(values), np.log(self.lambdas), self.losses)

    @property
    def best_lambda(self) -> float:
        """The ridge parameter of the lowest loss."""
        return float(self.lambdas[self.losses.argmin()])

    @property
    def best(self) -> float:
        """The lowest loss."""
        return float(self.losses.min())


def risk_after_step(
    known: GradientConstants, noise: StepNoise, lr: float, row: float, alignment: float, feature_scale: str
) -> RidgeRisk:
    """Return the test loss after a step at a rate, given the noise of the step and its row B along the spike.

    `row` is |B| and `alignment` its cosine with the teacher.  An unknown feature scale is a ValueError.
    """
    n, d, h = known.config.n, known.config.d, known.config.h
    scales = {"paper": 1.0, "released-code": 1 / math.sqrt(d)}
    if feature_scale not in scales:
        raise ValueError(f"feature_scale must be one of {', '.join(scales)}; got {feature_scale!r}")
    gamma = np.append(np.maximum(lr**2 * noise.columns + lr * noise.echo, 0.0), 0.0)
    units = _units(known, noise.signs, row, float(gamma.mean()), scales[feature_scale])
    target = _target(known, alignment)
    parts = _parts(units, target, _function(get_activation(known.config.activation).value))

    shift = np.geomspace(*_RANGE, _KAPPAS) * parts.square  # h kappa
    G = _resolvent(units, parts, gamma, d, shift)
    total = units.counts @ G  # T / h
    beta = _explained(units, parts, target, G, d)

    logs = np.log(shift)
    drop, gain = CubicSpline(logs, np.log(total))(logs, 1) * total, CubicSpline(logs, beta)(logs, 1)
    df1, df2 = h - shift * total, h - 2 * shift * total - shift * drop
    lambdas = shift * (n - df1) / n
    real = (n - df1 > 0) & (lambdas > 0)
    losses = (target.square - beta + gain) / (1 - df2 / n)
    return RidgeRisk(lambdas[real], losses[real])


class _Units(NamedTuple):
    """Classes of hidden units: how many there are, and what their pre-activations are made of."""

    counts: Array
    s: Array  # times u
    tau: Array  # standard deviation of the rest
    rows: Array  # a row of the bulk has the variances 1 + rows gamma
    scale: float  # of the pre-activations, beside 1 / sqrt d


class _Target(NamedTuple):
    """The target given u: its mean, its slope in the teacher's part that u lacks, with the nodes of u."""

    u: Array
    weights: Array
    mean: Array
    slope: Array
    square: float  # E y^2


class _Parts(NamedTuple):
    """The matrices of the features, by class."""

    M: Array  # (classes, nodes)
    D: Array
    psi: Array
    target: Array  # of b along the rows of the bulk: sum over u of m'(s_j u) times the target's slope
    square: float  # mean square of a feature, times h


def _units(known: GradientConstants, signs: bool, row: float, gamma: float, scale: float) -> _Units:
    """Return the classes.  The column of the bulk along B is Gaussian and small, and a part of s."""
    d, h = known.config.d, known.config.h
    a, share = (np.ones(1), np.ones(1)) if signs else _nodes(_READOUTS)
    z, weights = _nodes(_ROWS)
    rows = np.ones(1) if signs else (known.readout * a) ** 2
    variance = 1 + rows * gamma
    s = (row / math.sqrt(h * d) * a)[:, None] + np.sqrt(variance / d)[:, None] * z
    counts = h * np.outer(share, weights)
    tau, rows = (np.repeat(values, len(z)) for values in (np.sqrt(variance), rows))
    return _Units(counts.ravel(), scale * s.ravel(), scale * tau, rows, scale)


def _target(known: GradientConstants, alignment: float) -> _Target:
    u, weights = _nodes(_INPUTS)
    rest = math.sqrt(1 - alignment**2)
    y = _function(get_teacher(known.config.teacher).value)(alignment * u[:, None] + rest * u)
    square = float(weights @ (y**2 @ weights)) + known.config.noise_std**2
    return _Target(u, weights, y @ weights, (y * u) @ weights, square)


def _parts(units: _Units, target: _Target, activation: Callable[[Array], Array]) -> _Parts:
    s, tau, u, weights = units.s, units.tau, target.u, target.weights
    values = activation(s[:, None, None] * u[:, None] + tau[:, None, None] * u)  # (classes, u, rest)
    mean, slope = values @ weights, (values * u) @ weights / tau[:, None]
    square = values**2 @ weights
    # of E_u m'(s_j u) m'(s_l u) the part of rank one acts on the bulk, and the rest on its diagonal
    root, kernel = np.sqrt(units.counts), (slope * weights) @ slope.T
    top, vectors = np.linalg.eigh(root[:, None] * kernel * root)
    D = np.abs(vectors[:, -1]) * math.sqrt(top[-1]) / root
    psi = (square - mean**2) @ weights - (D * tau) ** 2
    return _Parts(
        M=mean * np.sqrt(weights),
        D=D,
        psi=psi,
        target=slope @ (weights * target.slope),
        square=float(units.counts @ (square @ weights) / units.counts.sum()),
    )


def _resolvent(units: _Units, parts: _Parts, gamma: Array, d: int, shift: Array) -> Array:
    """Return the diagonal of (D W' W'^T D / d + Psi + shift)^-1, (classes, shifts), by Newton's method.

    Two numbers f are unknown for each shift: the fixed point of a map that is increasing and concave, because
    it is made of parallel sums.  From a start above that point Newton's steps descend to it.
    """
    D2, rows = (units.scale * parts.D) ** 2, units.rows
    powers = np.stack([units.counts * D2 * rows**power for power in range(3)]) / d
    f = np.stack((np.ones_like(shift), np.full_like(shift, gamma.mean())))

    def diagonal(f: Array) -> Array:
        return 1 / (parts.psi[:, None] + shift + D2[:, None] * (f[0] + rows[:, None] * f[1]))

    for _ in range(_ROUNDS):
        G = diagonal(f)
        e0, e1, _ = powers @ G
        F = 1 / (1 + e0 + gamma[:, None] * e1)
        off = np.stack((F.mean(axis=0), gamma @ F / d)) - f
        g0, g1, g2 = (powers * D2) @ G**2  # minus the derivatives of e0 and e1 in f
        p0, p1, p2 = (gamma ** np.arange(3)[:, None]) @ F**2 / d  # minus those of the map in e0 and e1
        j00, j01 = 1 - p0 * g0 - p1 * g1, p0 * g1 + p1 * g2
        j10, j11 = p1 * g0 + p2 * g1, 1 - p1 * g1 - p2 * g2
        step = np.stack((j11 * off[0] + j01 * off[1], j10 * off[0] + j00 * off[1])) / (j00 * j11 - j01 * j10)
        f = f + step
        if (np.abs(step) <= _SETTLED * np.abs(f)).all():
            break
    return diagonal(f)


def _explained(units: _Units, parts: _Parts, target: _Target, G: Array, d: int) -> Array:
    """Return b^T (Omega + kappa)^-1 b: what is explained through u, and through the teacher's other part."""
    M, roots = parts.M, np.sqrt(target.weights)
    N = np.einsum("cq,cx,cr->xqr", M, units.counts[:, None] * G, M, optimize=True)
    y = roots * target.mean
    through_u = np.linalg.solve(np.eye(len(y)) + N, (N @ y)[:, :, None])[:, :, 0] @ y
    column = units.counts * units.tau**2 / d  # of the bulk, squared
    xx, zx, zz = (
        (column * left * right) @ G
        for left, right in (
            (parts.D, parts.D),
            (parts.target, parts.D),
            (parts.target, parts.target),
        )
    )
    return through_u + zz - zx**2 / (1 + xx)


def _nodes(count: int) -> tuple[Array, Array]:
    """Return nodes and weights of a mean over a standard normal."""
    x, weights = hermegauss(count)
    return x, weights / weights.sum()


def _function(of_tensor: Callable[[Tensor], Tensor]) -> Callable[[Array], Array]:
    return lambda x: of_tensor(torch.from_numpy(x)).numpy()
