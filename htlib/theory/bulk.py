"""Predict the bulk of the spectrum after one step: a generalised Marchenko-Pastur law, with nothing fitted.

The gradient is M_jk = (2 / sqrt(hd)) a_j (mu_1 g_k + N_jk).  Given the inputs x_i and the residuals r_i, the
rows of N are independent, with the covariance Sigma = (v_1 / n^2) sum_i r_i^2 x_i x_i^T.  The spike takes one
direction on each side, about g and a for gradient descent.  What remains of W1 = W0 + lr M, or of
W0 + lr sgn(M), is noise with the variances (after a rotation of each side)

    gradient descent:  1 + a_j^2 (4 / hd) sigma_k(lr),   sigma_k(lr) the eigenvalues of
                       lr^2 Sigma - lr (chi / n) sum_i x_i x_i^T,
    signs:             1 + lr^2 kappa_k,                 kappa_k the eigenvalues of
                       K = diag(1 - p^2 - c^2) + diag(c / nu) Sigma diag(c / nu).

The term with chi = E z s(z) s'(z) - mu_1^2 is the echo of the row of W0 itself: each residual contains
-a_j s(w_j x_i / sqrt d) / sqrt h.  It matters up to a hundred times the critical rate, for rows with a large
a_j^2.  Its square is left out, and so is the echo in signs, where all rows count alike.  Further,
nu_k^2 = Sigma_kk, t_k = mu_1 g_k / nu_k, p = erf(t / sqrt 2), the mean of a sign of t + N / nu, and
c = sqrt(2 / pi) exp(-t^2 / 2), the derivative of that mean.  K is the covariance of the signs: of the part
that is linear in N, and of the rest, which is white.  Where no inputs are given, the laws of Sigma and K
follow from equations of the same kind (`expected_noise`).  The book's appendix has the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf, ndtr, ndtri
from scipy.stats import binom, chi2

from htlib.spectra.generalized import GeneralizedMarchenkoPastur, Profile, count_above, grouped, solve
from htlib.student.functions import get_activation, get_teacher
from htlib.student.problem import Problem
from htlib.theory.gradient import GradientConstants

Array = NDArray[np.float64]

_GROUPS = 64  # of equally likely values; the outermost groups hold one value
_GRID = 400  # points of distribution functions that are inverted
_BLUR = 1e-5  # relative height above the real axis at which the law of K is read
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class StepNoise:
    """Hold the noise of one step.

    At a rate lr, row j and column k have the variance rows_j (lr^2 columns_k + lr echo_k), beside that of W0.
    One direction on each side, that of the spike, is left out.
    """

    columns: Array
    echo: Array
    rows: Array
    row_counts: Array
    signs: bool

    def bulk(self, lr: float, has_outlier: bool) -> GeneralizedMarchenkoPastur:
        """Return the law after a step; it includes the directions of the spike if that is no outlier."""
        columns, echo, rows, counts = self.columns, self.echo, self.rows, self.row_counts
        if self.signs and math.isfinite(lr):
            columns = _counted(columns, 1 + round(float(counts.sum())))
        if math.isinf(lr):
            return GeneralizedMarchenkoPastur(columns, rows, row_counts=counts)
        if not has_outlier:
            columns, echo, rows = (np.append(values, 0.0) for values in (columns, echo, rows))
            counts = np.append(counts, 1.0)
        columns = np.maximum(lr**2 * columns + lr * echo, 0.0)
        return GeneralizedMarchenkoPastur(columns, rows, base=1.0, row_counts=counts)


def expected_noise(known: GradientConstants, sharpness: float) -> StepNoise:
    """Return the noise for typical inputs, residuals and readouts, of which none is drawn.

    The squared residuals and readouts are quantiles of their laws: r is teacher(z) plus a Gaussian, and a is
    Gaussian.  So are the kappa_k; K is a sum over samples, as in `htlib.spectra.generalized`, with a shift.
    The sharpness is that of `OneStepLaw`, infinite for gradient descent.
    """
    n, d, h = known.config.n, known.config.d, known.config.h
    squares, samples = _residual_squares(known)
    weights = squares / known.residual / n
    if math.isinf(sharpness):

        def sums(weights: Array) -> Array:
            """The eigenvalues of sum_i weights_i x_i x_i^T, except the first."""
            law = GeneralizedMarchenkoPastur([1.0], weights, column_counts=[d], row_counts=samples)
            return np.append(np.zeros(d - law.size), law.quantiles())[1:]

        levels, counts = _levels(h)
        a2 = chi2.ppf(levels, 1)
        a2 *= known.readout**2 / np.average(a2, weights=counts)
        return _of_gradient(
            sums, weights, known.slope_variance * known.residual, known.echo, n, h * d, a2, counts
        )
    levels, counts = _levels(d)
    slope, white = _signs(math.sqrt(2) * sharpness * ndtri((1 + levels) / 2))
    K = Profile(slope**2, counts, weights, samples, shift=white)
    x = np.geomspace(1e-8, 1, _GRID) * (white.max() + weights.max() * (math.sqrt(n) + math.sqrt(d)) ** 2)
    share = np.maximum.accumulate(1 - count_above(K, x, solve(K, x, _BLUR), _BLUR) / d)
    kappa = np.exp(np.interp((np.arange(d) + 0.5) / d, share, np.log(x)))
    return _of_signs(kappa[1:], h)


@lru_cache(2)  # it takes a second at the paper's sizes, and does not depend on the rate
def noise_of_problem(
    problem: Problem, activation: str, mean_slope: float, slope_variance: float, echo: float, signs: bool
) -> StepNoise:
    """Return the noise for the inputs, residuals and readouts of a problem; the moments are Gaussian."""
    X, W, a = problem.train.inputs, problem.hidden_weights, problem.readout_weights
    (n, d), h = X.shape, len(W)
    U = torch.from_numpy(X @ W.T / math.sqrt(d))
    r = problem.train.targets - get_activation(activation).value(U).numpy() @ a / math.sqrt(h)
    g = X.T @ r / n
    if not signs:

        def sums(weights: Array) -> Array:
            return _without((X.T * weights) @ X, g)

        residual = float(np.mean(r**2))
        a2, counts = grouped(a**2, np.ones(h))
        return _of_gradient(sums, r**2 / residual / n, slope_variance * residual, echo, n, h * d, a2, counts)
    sigma = slope_variance / n**2 * (X.T * r**2) @ X
    nu = np.sqrt(np.diag(sigma))
    t = mean_slope * g / nu
    slope, white = _signs(t)
    slope = slope / nu
    kappa = _without(np.diag(white) + slope[:, None] * sigma * slope, erf(t / math.sqrt(2)))
    return _of_signs(kappa, h)


def _of_signs(kappa: Array, h: int) -> StepNoise:
    return StepNoise(kappa, np.zeros(len(kappa)), np.ones(1), np.array([h - 1.0]), signs=True)


def _of_gradient(
    sums: Callable[[Array], Array],
    weights: Array,
    variance: float,
    echo: float,
    n: int,
    size: int,
    squares: Array,
    counts: Array,
) -> StepNoise:
    """Return the noise of a gradient from what makes eigenvalues of weights of samples, of mean 1 / n.

    The echo adds the same to all weights.  Its effect is taken as linear, with the slope at a fifth of them.
    """
    sigma = sums(weights)
    slope = (sums(weights + 0.2 / n) - sigma) / 0.2
    rows, row_counts = _deflated(squares, counts)
    return StepNoise(4 / size * variance / n * sigma, -4 / size * echo * slope, rows, row_counts, signs=False)


def _signs(t: Array) -> tuple[Array, Array]:
    """Return c, by which the sign of t + N depends on a standard normal N, and the variance of the rest."""
    p, c = erf(t / math.sqrt(2)), math.sqrt(2 / math.pi) * np.exp(-(t**2) / 2)
    return c, np.maximum(1 - p**2 - c**2, 0.0)


def _counted(kappa: Array, h: int) -> Array:
    """Let the small kappa scatter as they do in h rows, ascending.

    A column whose signs agree except for a share s has the variance 4 s (1 - s), and s h is a binomial
    number, often zero where the column is nearly constant.  Levels of the binomial laws are spread evenly.
    """
    kappa = kappa.copy()
    small = kappa < 1
    levels = (np.arange(small.sum()) + 0.5) * _GOLDEN % 1
    share = binom.ppf(levels, h, (1 - np.sqrt(1 - kappa[small])) / 2) / h
    kappa[small] = 4 * share * (1 - share)
    return np.sort(kappa)


def _deflated(values: Array, counts: Array) -> tuple[Array, Array]:
    """Return the eigenvalues of diag(values) in the space orthogonal to (sqrt(values)), with counts.

    They are the values, once less, and between two of them the zero of sum counts values / (values - x).
    """
    low, high = values[:-1], values[1:]
    for _ in range(50):
        x = (low + high) / 2
        above = (counts * values / (values - x[:, None])).sum(axis=1) > 0
        low, high = np.where(above, low, x), np.where(above, x, high)
    both = np.append(values, (low + high) / 2), np.append(counts - 1, np.ones(len(low)))
    kept = both[1] > 0
    return both[0][kept], both[1][kept]


def _without(matrix: Array, direction: Array) -> Array:
    """Return the eigenvalues of a symmetric matrix in the space orthogonal to a direction."""
    v = direction / np.linalg.norm(direction)
    Mv = matrix @ v
    rest = matrix - np.outer(v, Mv) - np.outer(Mv - (v @ Mv) * v, v)
    values = np.linalg.eigvalsh(rest)[1:]  # the first, a zero, belongs to the direction
    return np.where(values > 1e-12 * values[-1], values, 0.0)


def _levels(n: int) -> tuple[Array, Array]:
    """Return the probabilities of n values in order, by groups; that of the largest is right on average.

    (Gringorten's (i - .44) / (n + .12), for tails like those of a Gaussian's square.)
    """
    ends = np.round(n * np.sin(np.linspace(0, np.pi / 2, _GROUPS + 1)) ** 2)
    ends = np.unique(np.concatenate((ends, [1, n - 1])))
    return ((ends[:-1] + ends[1:] + 1) / 2 - 0.44) / (n + 0.12), np.diff(ends)


def _residual_squares(known: GradientConstants) -> tuple[Array, Array]:
    """Return n squared residuals in order, by groups, with the mean r^2."""
    levels, counts = _levels(known.config.n)
    z = np.linspace(-9, 9, _GRID + 1)
    weights = np.exp(-(z**2) / 2)
    centres = get_teacher(known.config.teacher).value(torch.from_numpy(z)).numpy()
    width = math.sqrt(known.config.noise_std**2 + known.output)
    r = np.geomspace(1e-6 * width, np.abs(centres).max() + 9 * width, _GRID)
    beyond = ndtr((centres - r[:, None]) / width) + ndtr((-centres - r[:, None]) / width)
    logs = -np.log(np.maximum(beyond @ weights / weights.sum(), 1e-300))
    squares = np.exp(2 * np.interp(-np.log1p(-levels), logs, np.log(r)))
    return squares * known.residual / np.average(squares, weights=counts), counts
