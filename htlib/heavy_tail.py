"""Power-law fits of a spectrum: PL_Alpha_Hill and the exact Kolmogorov-Smirnov scan.

Convention: alpha is the exponent of the *density*, p(x) ~ x^(-alpha) for x >= xmin, as in
Clauset, Shalizi & Newman (2009), powerlaw and WeightWatcher.  The Hill estimator of extreme-value
theory is xi = 1 / (alpha - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectrum import as_spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLawFit:
    """Maximum-likelihood power law above a threshold.

    Attributes
    ----------
    alpha : float
        Density exponent.
    xmin : float
        Threshold of the tail.
    ks_distance : float
        Largest distance between the fitted distribution function at the j-th value of the tail and
        j / n_tail, j from 0: the convention of WeightWatcher and powerlaw.
    n_tail : int
        Values counted in the tail, the threshold among them.
    alpha_error : float
        (alpha - 1) / sqrt(n_tail): the standard error if the values were independent.
        Eigenvalues repel each other; their true sampling spread can be ten times smaller.
    """

    alpha: float
    xmin: float
    ks_distance: float
    n_tail: int
    alpha_error: float


def hill_alpha(eigenvalues: Tensor | ArrayLike) -> float:
    """PL_Alpha_Hill: the power-law exponent of the upper half of a spectrum.

    With lambda ascending and i = N // 2,
    alpha = 1 + (N - i) / sum_{j >= i} ln(lambda_j / lambda_i).
    This is the definition of TempBalance, AlphaPruning and the code of arXiv 2406.04657.
    Pure noise has a finite value too: 2.449 for a Gaussian matrix with d/h = 2/3.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.

    Returns
    -------
    float
        Infinite if the upper half is constant.

    Raises
    ------
    ValueError
        With fewer than three values, or any that is not positive and finite.

    Examples
    --------
    >>> round(hill_alpha([1.0, 2.0, 4.0, 8.0]), 6)
    3.885390
    """
    L = np.log(_positive_spectrum(eigenvalues))
    return float(_alpha_at(L, len(L) // 2))


def fit_power_law(eigenvalues: Tensor | ArrayLike, xmin: str | float = "ks") -> PowerLawFit:
    """Fit a power law to the tail of a spectrum.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.
    xmin : {"ks", "median"} or float
        "ks" takes the value, out of all but the largest, whose fit has the smallest
        Kolmogorov-Smirnov distance (Clauset, Shalizi & Newman 2009, sec. 3.3; PL_Alpha_KS),
        the smallest such value if several tie.  "median" cuts where `hill_alpha` cuts.
        A number is used as it is.

    Returns
    -------
    PowerLawFit

    Raises
    ------
    ValueError
        With fewer than three values, any that is not positive and finite, all values equal,
        or a numeric ``xmin`` with fewer than two distinct values at or above it.

    Examples
    --------
    >>> fit = fit_power_law([1.0, 2.0, 4.0, 8.0], xmin=2.0)
    >>> round(fit.alpha, 6), fit.n_tail
    (2.44..., 3)
    """
    values = _positive_spectrum(eigenvalues)
    L = np.log(values)
    if L[0] == L[-1]:
        raise ValueError(f"eigenvalues are all equal to {values[0]:.6g}: no tail to fit")
    if isinstance(xmin, str):
        if xmin == "ks":
            start = _ks_scan(L)
        elif xmin == "median":
            start = len(L) // 2
        else:
            raise ValueError(f"xmin must be 'ks', 'median' or a positive number; got {xmin!r}")
        threshold, tail = values[start], L[start:]
    else:
        try:
            threshold = float(xmin)
        except TypeError:
            raise TypeError(f"xmin must be 'ks', 'median' or a positive number; got {xmin!r}") from None
        if not (np.isfinite(threshold) and threshold > 0):
            raise ValueError(f"xmin must be 'ks', 'median' or a positive number; got {xmin!r}")
        tail = L[values >= threshold]
    if len(tail) < 2 or tail[-1] <= np.log(threshold):
        raise ValueError(
            f"xmin = {threshold:.6g} leaves {len(tail)} values without spread in the tail; choose a lower one"
        )
    ratios = tail - np.log(threshold)
    alpha = 1 + len(tail) / ratios.sum()
    fitted = -np.expm1((1 - alpha) * ratios)
    return PowerLawFit(
        alpha=float(alpha),
        xmin=float(threshold),
        ks_distance=float(np.abs(fitted - np.arange(len(tail)) / len(tail)).max()),
        n_tail=len(tail),
        alpha_error=float((alpha - 1) / np.sqrt(len(tail))),
    )


def _positive_spectrum(eigenvalues: Tensor | ArrayLike) -> Array:
    values = as_spectrum(eigenvalues)
    if len(values) < 3:
        raise ValueError(f"eigenvalues must hold at least 3 values to fit a tail; got {len(values)}")
    if values[0] <= 0:
        raise ValueError(
            f"eigenvalues must be positive; {int((values <= 0).sum())} of {len(values)} are zero. "
            "Drop them first: eigenvalues[eigenvalues > 0]"
        )
    return values


def _alpha_at(L: Array, i: int) -> float:
    total = (L[i:] - L[i]).sum()
    return 1 + (len(L) - i) / total if total > 0 else np.inf


def _ks_scan(L: Array) -> int:
    """Index of the threshold with the smallest KS distance; the first of equals.

    Exact and pruned.  The distance of a candidate is a maximum over its tail, so the maximum over
    a few points of the tail is a lower bound; candidates whose bound exceeds the best distance
    known are dropped unseen.  The bounds are refined in passes, the last one complete.
    """
    N = len(L)
    # T_i = sum_{j >= i} (L_j - L_i), from the top down so that no digits cancel
    T = np.zeros(N)
    T[:-1] = np.cumsum(((N - 1 - np.arange(N - 1)) * np.diff(L))[::-1])[::-1]
    candidates = np.flatnonzero(T[:-1] > 0)
    size = N - candidates
    exponent = -size / T[candidates]  # 1 - alpha

    def bound(rows: NDArray[np.intp], points: int) -> Array:
        """Largest gap over `points` evenly spaced members of each candidate's tail."""
        steps = np.linspace(0, 1, points)
        offset = np.rint(steps * (size[rows, None] - 1)).astype(np.intp)
        return _gaps(rows, offset).max(axis=1)

    def _gaps(rows: NDArray[np.intp], offset: NDArray[np.intp]) -> Array:
        first = candidates[rows, None]
        fitted = np.exp(exponent[rows, None] * (L[first + offset] - L[first]))
        return np.abs(1 - fitted - offset / size[rows, None])

    def distance(row: int) -> float:
        return float(_gaps(np.array([row]), np.arange(size[row])[None]).max())

    alive = np.arange(len(candidates))
    lower = np.zeros(len(candidates))
    exact = np.full(len(candidates), np.inf)
    for points in (16, 128, 1024):
        lower = np.concatenate([bound(chunk, points) for chunk in _chunks(alive, points)])
        seed = int(alive[lower.argmin()])
        exact[seed] = distance(seed)
        keep = lower <= exact.min()
        alive, lower = alive[keep], lower[keep]
    best = exact.min()
    for position in lower.argsort(kind="stable"):
        if lower[position] > best:
            break
        row = int(alive[position])
        exact[row] = distance(row)
        best = min(best, exact[row])
    return int(candidates[exact.argmin()])


def _chunks(rows: NDArray[np.intp], points: int) -> list[NDArray[np.intp]]:
    """Split candidates so that a pass over one part stays within a few megabytes."""
    return np.array_split(rows, max(1, len(rows) * points // 500_000))
