"""Find signals above noise: the spiked model, its outliers, and a fit of the bulk beside them.

In the spiked model W = theta u v^T + noise is an (h, d) matrix with unit vectors u, v and independent noise
entries.  A strength theta above the critical (h d)^(1/4) noise_std makes one eigenvalue of W^T W lie outside
the Marchenko-Pastur bulk (Baik, Ben Arous & Peche 2005; Benaych-Georges & Nadakuditi 2012).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.eigenvalues import as_spectrum
from htlib.spectra.generalized import GeneralizedMarchenkoPastur
from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile

Array = NDArray[np.float64]

_CENTRE = (0.25, 0.75)  # the bulk between these quantiles sets its scale


@dataclass(frozen=True)
class BulkFit:
    """Describe a Marchenko-Pastur bulk and the eigenvalues beyond it.

    Attributes
    ----------
    law : MarchenkoPastur or GeneralizedMarchenkoPastur
        Law of the raw ESD of the bulk; the second where a population is given.
    variance : float
        Variance of the noise entries, or the factor of the population's eigenvalues.
    edge : float
        99 % quantile of the largest noise eigenvalue (Tracy-Widom); of the largest of all matrices where
        several are pooled.
    n_spikes : int
        Number of eigenvalues beyond the edge, at most half of all.
    soft_rank : float
        Upper end of the law divided by the largest eigenvalue (WeightWatcher's mp_softrank); it is near 1
        for noise.
    ks_distance : float
        Largest distance between the distribution functions of the bulk and of the law.
    has_bulk : bool
        Whether the eigenvalues below the edge are distributed as noise.  If not, the other numbers describe
        no noise, and `n_spikes` counts no signals.  It is false where half of the eigenvalues are spikes,
        and where `ks_distance` exceeds ((1 + (sqrt 2 / pi) ln k) / sqrt m + 0.2) / k for m matrices with k
        eigenvalues each.

    Notes
    -----
    Eigenvalues are rigid: for one matrix the largest distance grows as ln k / k, with the factor 1 / pi for
    complex matrices (Claeys, Fahs, Lambert & Webb 2021) and sqrt 2 times that for real ones, where the
    number of eigenvalues in an interval has twice the variance.  The other constants were set by
    simulation: of 16,850 draws of pure noise, k from 10 to 800, m from 1 to 27, sides in ratios from 1 to 10,
    0.5 % were found to have no bulk (at most 1 % for any k of one matrix; 5 % at k = 5, where two spikes
    are half).
    """

    law: MarchenkoPastur | GeneralizedMarchenkoPastur
    variance: float
    edge: float
    n_spikes: int
    soft_rank: float
    ks_distance: float
    has_bulk: bool


def fit_marchenko_pastur(
    eigenvalues: Tensor | ArrayLike,
    h: int,
    d: int,
    quantile: float = 0.99,
    n_matrices: int = 1,
    population: ArrayLike | None = None,
) -> BulkFit:
    """Fit the Marchenko-Pastur law to the bulk of a spectrum, without its spikes.

    At the fitted variance the central half of the bulk has the law's mean.  Eigenvalues beyond the
    Tracy-Widom quantile at this variance are spikes and do not belong to the bulk.  Both steps are
    repeated until they agree; no density is estimated and no histogram is made.  (Gavish & Donoho 2014
    use only the median; the central half is as robust, and scatters less.)

    Rows and columns of zeros are not noise, and each makes eigenvalues that are zero: leave them out of h
    and d.  Zero eigenvalues beyond those count as values of the bulk, which noise does not have: a matrix of
    low rank has no bulk.

    Parameters
    ----------
    eigenvalues : (N,) array
        Raw ESD of a matrix in any order, or the pooled ESDs of several matrices of one shape.
    h, d : int
        Shape of the matrix without its rows and columns of zeros; the order does not matter.
    quantile : float
        Probability that the largest eigenvalue of all pure-noise matrices stays below the edge.
    n_matrices : int
        Number of matrices whose spectra are pooled.
    population : (d,) array, optional
        Eigenvalues of the covariance of the rows of the noise, up to a factor, which is fitted as the
        variance; by default they are equal.  The largest are not taken off with the spikes.

    Returns
    -------
    BulkFit
        Look at its ``has_bulk`` first.

    Raises
    ------
    ValueError
        If the central half of the spectrum is zero, h, d or n_matrices is below 1, there are more
        eigenvalues that are not zero than matrices of this shape have, or a population has not d values,
        finite, not negative and not all zero.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((300, 200)) * 0.5
    >>> W[0] += 9
    >>> W[:, :40] = 0
    >>> fit = fit_marchenko_pastur(np.linalg.svd(W, compute_uv=False) ** 2, 300, 160)
    >>> fit.has_bulk, fit.n_spikes, round(fit.variance, 2)
    (True, 1, 0.25)

    Noise with a covariance has spikes for a law without one:

    >>> population = np.repeat([1.0, 9.0], [160, 40])
    >>> W = np.random.default_rng(0).standard_normal((300, 200)) * np.sqrt(population)
    >>> eigenvalues = np.linalg.svd(W, compute_uv=False) ** 2
    >>> fit_marchenko_pastur(eigenvalues, 300, 200).n_spikes > 30
    True
    >>> fit_marchenko_pastur(eigenvalues, 300, 200, population=population).n_spikes
    0
    """
    values = as_spectrum(eigenvalues)
    for name, value in (("h", h), ("d", d), ("n_matrices", n_matrices)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    size = n_matrices * min(h, d)
    if (values[: len(values) - size] > 1e-12 * values[-1]).any():
        raise ValueError(
            f"eigenvalues hold {len(values)} values, more than the {size} of {n_matrices} x ({h}, {d}); "
            "pool with n_matrices, and count only rows and columns of zeros out of h and d"
        )
    values = values[max(0, len(values) - size) :]
    level = quantile ** (1 / n_matrices) if 0 < quantile < 1 else quantile
    noise = None if population is None else _noise(population, h, d)
    n_spikes, seen = 0, set[int]()
    while True:
        bulk = values[: len(values) - n_spikes]
        # without k spikes, the rest is the noise of a matrix that is smaller by k on both sides
        lost = n_spikes // n_matrices if noise is None else 0
        if noise is None:
            variance = _scale(bulk, _central_mean(h - lost, d - lost, len(bulk)))
            edge = largest_eigenvalue_quantile(h - lost, d - lost, level, variance)
        else:
            variance = _scale(bulk, float(noise.ppf(_central_levels(len(bulk))).mean()))
            edge = variance * noise.largest_quantile(level)
        seen.add(n_spikes)
        # the lower half always counts as bulk, so that there is one
        n_spikes = min(int((values > edge).sum()), len(values) // 2)
        if n_spikes in seen:
            break
    bulk = values[: len(values) - n_spikes]
    steps = np.arange(len(bulk) + 1) / len(bulk)
    unit = MarchenkoPastur.of_gaussian_esd(h - lost, d - lost) if noise is None else noise
    fitted = unit.cdf(bulk / variance)  # nothing overflows at scale one
    if noise is None:
        law = MarchenkoPastur.of_gaussian_esd(h - lost, d - lost, variance)
        end = law.support[1]
    else:
        law = GeneralizedMarchenkoPastur(variance * np.asarray(population), h)
        end = law.edge
    ks_distance = float(max((steps[1:] - fitted).max(), (fitted - steps[:-1]).max()))
    return BulkFit(
        law=law,
        variance=variance,
        edge=edge,
        n_spikes=n_spikes,
        soft_rank=float(end / values[-1]),
        ks_distance=ks_distance,
        has_bulk=(
            ks_distance <= _noise_distance(min(h, d) - lost, n_matrices)
            and n_spikes < max(1, len(values) // 2)
        ),
    )


def critical_strength(h: int, d: int, variance: float = 1.0) -> float:
    """Return the strength above which a rank-one signal makes an outlier, (h d)^(1/4) noise_std."""
    _check_model(h, d, variance)
    return math.sqrt(variance) * (h * d) ** 0.25


def outlier_eigenvalue(strength: float, h: int, d: int, variance: float = 1.0) -> float:
    """Return the limit of the largest eigenvalue of W^T W for a rank-one signal of strength theta in noise.

    It is (h v + theta^2)(d v + theta^2) / theta^2 with v the variance of the noise (Benaych-Georges &
    Nadakuditi 2012, sec. 3.1, rescaled), and the edge (sqrt h + sqrt d)^2 v below the critical strength.
    """
    theta2 = _signal(strength, h, d, variance) ** 2
    if theta2 <= variance * math.sqrt(h * d):
        return variance * (math.sqrt(h) + math.sqrt(d)) ** 2
    return (h * variance + theta2) * (d * variance + theta2) / theta2


def outlier_strength(eigenvalue: float, h: int, d: int, variance: float = 1.0) -> float:
    """Return the strength of the signal that makes an outlier, by the inverse of `outlier_eigenvalue`.

    It is zero for an eigenvalue within the bulk, which shows no signal.
    """
    _check_model(h, d, variance)
    if not eigenvalue >= 0:
        raise ValueError(f"eigenvalue must not be negative; got {eigenvalue}")
    excess = eigenvalue - (h + d) * variance
    root = excess**2 - 4 * h * d * variance**2
    if excess <= 0 or root < 0:
        return 0.0
    return math.sqrt((excess + math.sqrt(root)) / 2)


def outlier_overlaps(strength: float, h: int, d: int, variance: float = 1.0) -> tuple[float, float]:
    """Return the squared inner products (left, right) of the outlier's singular vectors with the signal's.

    The right one is 1 - d v (h v + theta^2) / (theta^2 (theta^2 + d v)), the left one the same with h and d
    exchanged (Benaych-Georges & Nadakuditi 2012, sec. 3.1, rescaled).  Both are zero below the critical
    strength.
    """
    theta2 = _signal(strength, h, d, variance) ** 2
    if theta2 <= variance * math.sqrt(h * d):
        return 0.0, 0.0
    a, b = h * variance, d * variance
    return 1 - a * (b + theta2) / (theta2 * (theta2 + a)), 1 - b * (a + theta2) / (theta2 * (theta2 + b))


def _noise_distance(k: int, n_matrices: int) -> float:
    """Return the KS distance that at most 1 % of fits to pure noise exceed; see `BulkFit`."""
    return ((1 + math.sqrt(2) / math.pi * math.log(k)) / math.sqrt(n_matrices) + 0.2) / k


def _noise(population: ArrayLike, h: int, d: int) -> GeneralizedMarchenkoPastur:
    columns = np.asarray(population, dtype=np.float64)
    if columns.shape != (d,):
        raise ValueError(f"population must hold d = {d} eigenvalues; got an array of shape {columns.shape}")
    return GeneralizedMarchenkoPastur(columns, h)


def _scale(bulk: Array, expected: float) -> float:
    """Return the variance: the mean of the bulk's central half, divided by that of unit noise."""
    scale = float(bulk[_central(len(bulk))].mean()) / expected
    if scale <= 0:
        raise ValueError(
            "the central half of the eigenvalues is zero: there is no bulk to fit.  Leave rows and columns "
            "of zeros out of h and d"
        )
    return scale


def _central(count: int) -> slice:
    low, high = (int(q * count) for q in _CENTRE)
    return slice(low, max(high, low + 1))


def _central_levels(count: int) -> Array:
    return (np.arange(count)[_central(count)] + 0.5) / count


@lru_cache(4096)  # the layers of a model have few shapes
def _central_mean(h: int, d: int, count: int) -> float:
    # interpolated quantiles are right to five digits; the exact inverse is a hundred times slower
    unit = MarchenkoPastur.of_gaussian_esd(h, d)
    left, right = unit.support
    grid = left + (right - left) * np.sin(np.linspace(0, np.pi / 2, 1001)) ** 2
    return float(np.interp(_central_levels(count), unit.cdf(grid), grid).mean())


def _check_model(h: int, d: int, variance: float) -> None:
    if min(h, d) < 1:
        raise ValueError(f"h and d must be at least 1; got h = {h}, d = {d}")
    if not (math.isfinite(variance) and variance > 0):
        raise ValueError(f"variance must be positive and finite; got {variance}")


def _signal(strength: float, h: int, d: int, variance: float) -> float:
    _check_model(h, d, variance)
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength must be finite and not negative; got {strength}")
    return strength
