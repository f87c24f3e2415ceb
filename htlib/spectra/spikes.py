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
from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile

Array = NDArray[np.float64]

_CENTRE = (0.25, 0.75)  # the bulk between these quantiles sets its scale


@dataclass(frozen=True)
class BulkFit:
    """Describe a Marchenko-Pastur bulk and the eigenvalues beyond it.

    Attributes
    ----------
    law : MarchenkoPastur
        Law of the raw ESD of the bulk.
    variance : float
        Variance of the noise entries.
    edge : float
        99 % quantile of the largest noise eigenvalue (Tracy-Widom).
    n_spikes : int
        Number of eigenvalues beyond the edge.
    soft_rank : float
        Upper end of the law divided by the largest eigenvalue (WeightWatcher's mp_softrank); it is near 1
        for noise.
    ks_distance : float
        Largest distance between the distribution functions of the bulk and of the law; if the bulk is
        pure noise, it is two to five divided by the number of eigenvalues.
    """

    law: MarchenkoPastur
    variance: float
    edge: float
    n_spikes: int
    soft_rank: float
    ks_distance: float


def fit_marchenko_pastur(eigenvalues: Tensor | ArrayLike, h: int, d: int, quantile: float = 0.99) -> BulkFit:
    """Fit the Marchenko-Pastur law to the bulk of a spectrum, without its spikes.

    At the fitted variance the central half of the bulk has the law's mean.  Eigenvalues beyond the
    Tracy-Widom quantile at this variance are spikes and do not belong to the bulk.  Both steps are
    repeated until they agree; no density is estimated and no histogram is made.  (Gavish & Donoho 2014
    use only the median; the central half is as robust, and scatters less.)

    Parameters
    ----------
    eigenvalues : (N,) array
        Raw ESD of an (h, d) matrix in any order, or the pooled ESDs of several matrices of one shape.
    h, d : int
        Shape of the matrix; the order does not matter.
    quantile : float
        Probability that the largest eigenvalue of one pure-noise matrix stays below the edge.

    Returns
    -------
    BulkFit

    Raises
    ------
    ValueError
        If the central half of the spectrum is zero, or h or d is below 1.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((300, 200)) * 0.5
    >>> W[0] += 9
    >>> fit = fit_marchenko_pastur(np.linalg.svd(W, compute_uv=False) ** 2, 300, 200)
    >>> fit.n_spikes, round(fit.variance, 2)
    (1, 0.25)
    """
    values = as_spectrum(eigenvalues)
    matrices = max(1, round(len(values) / max(1, min(h, d))))
    n_spikes, seen = 0, set[int]()
    while True:
        bulk = values[: len(values) - n_spikes]
        # without k spikes, the rest is the noise of a matrix that is smaller by k on both sides
        lost = n_spikes // matrices
        variance = _scale(bulk, h - lost, d - lost)
        edge = largest_eigenvalue_quantile(h - lost, d - lost, quantile, variance)
        seen.add(n_spikes)
        # the lower half always counts as bulk, so that there is one
        n_spikes = min(int((values > edge).sum()), len(values) // 2)
        if n_spikes in seen:
            break
    bulk = values[: len(values) - n_spikes]
    steps = np.arange(len(bulk) + 1) / len(bulk)
    unit = MarchenkoPastur.of_gaussian_esd(h - lost, d - lost)
    fitted = unit.cdf(bulk / variance)  # nothing overflows at scale one
    law = MarchenkoPastur.of_gaussian_esd(h - lost, d - lost, variance)
    return BulkFit(
        law=law,
        variance=variance,
        edge=edge,
        n_spikes=n_spikes,
        soft_rank=float(law.support[1] / values[-1]),
        ks_distance=float(max((steps[1:] - fitted).max(), (fitted - steps[:-1]).max())),
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


def _scale(bulk: Array, h: int, d: int) -> float:
    """Return the variance: the mean of the bulk's central half, divided by that of unit noise."""
    scale = float(bulk[_central(len(bulk))].mean() / _central_mean(h, d, len(bulk)))
    if scale <= 0:
        raise ValueError("the central half of the eigenvalues is zero: there is no bulk to fit")
    return scale


def _central(count: int) -> slice:
    low, high = (int(q * count) for q in _CENTRE)
    return slice(low, max(high, low + 1))


@lru_cache(4096)  # the layers of a model have few shapes
def _central_mean(h: int, d: int, count: int) -> float:
    levels = (np.arange(count)[_central(count)] + 0.5) / count
    # interpolated quantiles are right to five digits; the exact inverse is a hundred times slower
    unit = MarchenkoPastur.of_gaussian_esd(h, d)
    left, right = unit.support
    grid = left + (right - left) * np.sin(np.linspace(0, np.pi / 2, 1001)) ** 2
    return float(np.interp(levels, unit.cdf(grid), grid).mean())


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
