"""Fit power laws to a spectrum: PL_Alpha_Hill, PL_Alpha_KS and their relatives.

Convention: alpha is the exponent of the *density*, p(x) ~ x^(-alpha) for x >= xmin, as in
Clauset, Shalizi & Newman (2009), powerlaw and WeightWatcher.  The tail index of extreme-value theory is
xi = 1 / (alpha - 1).  Hill's (1975) estimator of it divides the same sum of logarithms by n_tail - 1, the
number of values above the threshold; here the threshold counts too, so 1 / (alpha - 1) is
(n_tail - 1) / n_tail times Hill's.

Small tails are biased upwards: for n_tail independent values, one of which is the threshold, alpha - 1
has the mean n_tail / (n_tail - 2) times the true one; without it, n_tail / (n_tail - 1) times.  No function
here corrects it; below about 20 values multiply alpha - 1 by the inverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.eigenvalues import as_spectrum
from htlib.spectra.ks_scan import best_threshold, fitted_cdf, fitted_logpdf, slopes

Array = NDArray[np.float64]

Threshold = str | float | tuple[float, float]

_XMIN = "'ks', 'median', 'peak', a positive number or a pair of them"
_ROUNDING = 1e-12  # logarithms that are closer than solvers of eigenvalue problems resolve


@dataclass(frozen=True)
class PowerLawFit:
    """Represent a maximum-likelihood power law between a threshold and an optional upper bound.

    Attributes
    ----------
    alpha : float
        Density exponent.
    xmin : float
        Threshold of the tail.
    ks_distance : float
        Largest distance between the fitted distribution function at the j-th value of the tail and
        j / n_tail, j from 0: the convention of WeightWatcher and of Clauset's code.  Every value counts;
        powerlaw agrees where no values are equal, but counts equal ones only once.
    n_tail : int
        Number of values in the tail, including the threshold.
    alpha_error : float
        Standard error from the Fisher information, right for independent values: without an upper bound
        (alpha - 1) / sqrt(n_tail).  Eigenvalues repel each other, so their true sampling spread can be ten
        times smaller (`htlib.null_distribution`).
    xmax : float
        Upper bound of the fitted law; infinite if it has none.
    """

    alpha: float
    xmin: float
    ks_distance: float
    n_tail: int
    alpha_error: float
    xmax: float = np.inf

    @property
    def tail_index(self) -> float:
        """Return xi = 1 / (alpha - 1) of extreme-value theory; infinite for a bounded law with alpha <= 1."""
        return 1 / (self.alpha - 1) if self.alpha > 1 else np.inf

    def pdf(self, x: ArrayLike) -> Array:
        """Return the density of the tail; it is zero outside xmin..xmax."""
        x = np.asarray(x, dtype=np.float64)
        inside = (x >= self.xmin) & (x <= self.xmax)
        safe = np.where(inside, x, self.xmin)
        logs = fitted_logpdf(np.log(safe / self.xmin), self.alpha - 1, self._room)
        return np.where(inside, np.exp(logs) / safe, 0.0)

    def cdf(self, x: ArrayLike) -> Array:
        """Return the distribution function of the tail; it is 0 at xmin."""
        x = np.asarray(x, dtype=np.float64)
        u = np.log(np.clip(x, self.xmin, self.xmax) / self.xmin)
        return np.asarray(fitted_cdf(u, self.alpha - 1, self._room))

    def ccdf(self, x: ArrayLike) -> Array:
        """Return the share of the tail above x; it is 1 at xmin."""
        if np.isfinite(self.xmax):
            return 1 - self.cdf(x)
        return (np.maximum(np.asarray(x, dtype=np.float64), self.xmin) / self.xmin) ** (1 - self.alpha)

    @property
    def _room(self) -> float:
        return float(np.log(self.xmax / self.xmin))


@dataclass(frozen=True, eq=False)
class HillPlot:
    """Hold the exponents at every possible threshold; a power law appears as a plateau.

    Attributes
    ----------
    n_tail : (N - 1,) int array
        Number of values in the tail, including the threshold: 2 to N.
    xmin : (N - 1,) float64 array
        The threshold.
    alpha : (N - 1,) float64 array
        1 + n_tail / sum of ln(lambda / xmin); infinite where the tail is constant, to twelve digits.
    alpha_error : (N - 1,) float64 array
        (alpha - 1) / sqrt(n_tail), right for independent values.
    """

    n_tail: NDArray[np.intp]
    xmin: Array
    alpha: Array
    alpha_error: Array


def hill_alpha(eigenvalues: Tensor | ArrayLike) -> float:
    """Compute PL_Alpha_Hill, the power-law exponent of the upper half of a spectrum.

    With lambda ascending and i = N // 2,
    alpha = 1 + (N - i) / sum_{j >= i} ln(lambda_j / lambda_i).
    This is the definition of TempBalance, AlphaPruning and the code of arXiv 2406.04657.
    Pure noise has a finite value too: 2.449 for a Gaussian matrix with d/h = 2/3.
    The module's docstring has the factor to Hill's (1975) estimator, and the bias of short tails.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.

    Returns
    -------
    float
        Infinite if the upper half is constant, to twelve digits.

    Raises
    ------
    ValueError
        If there are fewer than three values, or one is not positive and finite.

    Examples
    --------
    >>> round(hill_alpha([1.0, 2.0, 4.0, 8.0]), 6)
    3.885390
    """
    L = np.log(positive_spectrum(eigenvalues))
    return float(_alpha_at(L, len(L) // 2))


def hill_plot(eigenvalues: Tensor | ArrayLike) -> HillPlot:
    """Compute a Hill plot: the exponent as a function of the number of values in the tail.

    Hill's (1975) estimate with k = n_tail - 1 values above the threshold is n_tail / (n_tail - 1) times
    1 / (alpha - 1).

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.

    Returns
    -------
    HillPlot
        Its value at n_tail = N - N // 2 is `hill_alpha`.

    Raises
    ------
    ValueError
        As for `hill_alpha`.

    References
    ----------
    Hill (1975); Drees, de Haan & Resnick (2000), "How to make a Hill plot".

    Examples
    --------
    >>> plot = hill_plot([1.0, 2.0, 4.0, 8.0])
    >>> plot.n_tail.tolist(), plot.xmin.tolist()
    ([2, 3, 4], [4.0, 2.0, 1.0])
    """
    values = positive_spectrum(eigenvalues)
    L = np.log(values)
    n_tail = np.arange(2, len(values) + 1)
    total = np.cumsum((n_tail - 1) * np.diff(L)[::-1])
    spread = L[-1] - L[-2::-1] > _ROUNDING
    alpha = 1 + np.divide(n_tail, total, out=np.full(len(total), np.inf), where=spread)
    return HillPlot(n_tail, values[-2::-1], alpha, (alpha - 1) / np.sqrt(n_tail))


def fit_power_law(
    eigenvalues: Tensor | ArrayLike, xmin: Threshold = "ks", xmax: float | None = None
) -> PowerLawFit:
    """Fit a power law to the tail of a spectrum.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.  They are taken as continuous: counts need a discrete law, which the package powerlaw
        has (``discrete=True``).
    xmin : {"ks", "median", "peak"}, float or (float, float)
        "ks" takes the value, out of all distinct ones except the largest, whose fit has the smallest
        Kolmogorov-Smirnov distance (Clauset, Shalizi & Newman 2009, sec. 3.3; PL_Alpha_KS),
        and the smallest such value if several tie.  "median" cuts where `hill_alpha` cuts.
        "peak" is "ks" restricted to values from 0.95 to 1.5 times the peak of the spectrum, which is the
        lower edge of the fullest of 100 bins of the logarithm.  This is the "xmin_peak" of WeightWatcher
        and TempBalance, except that their code compares values with the *logarithm* of the lower bound
        and so has no lower bound.  A number is used as it is.  A pair (low, high) is "ks" restricted to
        values from low to high.
    xmax : float, optional
        Upper bound: values above it are left out, and the fitted law ends there, so that the cut does
        not bias alpha.

    Returns
    -------
    PowerLawFit

    Raises
    ------
    ValueError
        If there are fewer than three values up to xmax, a value is not positive and finite, all values
        are equal to twelve digits, or fewer than two distinct values lie between ``xmin`` and xmax.

    Examples
    --------
    >>> fit = fit_power_law([1.0, 2.0, 4.0, 8.0], xmin=2.0)
    >>> round(fit.alpha, 6), fit.n_tail
    (2.44..., 3)
    >>> round(float(fit.ccdf(4.0)), 4)
    0.3679
    """
    values = positive_spectrum(eigenvalues)
    if xmax is not None:
        xmax = _positive_number(xmax, "xmax must be a positive number")
        values = values[values <= xmax]
        if len(values) < 3:
            raise ValueError(f"xmax = {xmax:.6g} leaves {len(values)} values; at least 3 are needed")
    L = np.log(values)
    if not has_spread(values):
        raise ValueError(f"eigenvalues are all equal to {values[0]:.6g}: no tail to fit")
    ceiling = np.inf if xmax is None else float(np.log(xmax))
    if isinstance(xmin, str | tuple):
        start = _start(values, L, xmin, ceiling)
        threshold, tail = values[start], L[start:]
    else:
        threshold = _positive_number(xmin, f"xmin must be {_XMIN}")
        tail = L[values >= threshold]
    floor = float(np.log(threshold))
    if len(tail) < 2 or tail[-1] - floor <= _ROUNDING:
        raise ValueError(
            f"xmin = {threshold:.6g} leaves {len(tail)} values without spread in the tail; choose a lower one"
        )
    ratios = tail - floor
    room = ceiling - floor
    slope = slopes(np.array([ratios.mean()]), room if np.isinf(room) else np.array([room]))[0]
    ks_distance = np.abs(fitted_cdf(ratios, slope, room) - np.arange(len(tail)) / len(tail)).max()
    return PowerLawFit(
        alpha=float(1 + slope),
        xmin=float(threshold),
        ks_distance=float(ks_distance),
        n_tail=len(tail),
        alpha_error=float(_spread(slope, room) / np.sqrt(len(tail))),
        xmax=float(np.exp(ceiling)) if xmax is None else xmax,
    )


def has_spread(values: Array) -> bool:
    """Tell whether ascending positive values differ by more than rounding of their computation, 1e-12."""
    return bool(np.log(values[-1]) - np.log(values[0]) > _ROUNDING)


def _start(values: Array, L: Array, rule: str | tuple[float, float], ceiling: float) -> int:
    """Return the index of the threshold that a rule chooses."""
    if rule == "median":
        return len(L) // 2
    if rule not in ("ks", "peak") and not (isinstance(rule, tuple) and len(rule) == 2):
        raise ValueError(f"xmin must be {_XMIN}; got {rule!r}")
    # take the first of equal values, so that the tail holds all values that are not below the threshold
    distinct = np.flatnonzero(np.diff(L, prepend=-np.inf) > 0)[:-1]
    if rule == "ks":
        return best_threshold(L, distinct, ceiling)
    if isinstance(rule, tuple):
        low, high = (_positive_number(end, f"xmin must be {_XMIN}") for end in rule)
        candidates = distinct[(values[distinct] >= low) & (values[distinct] <= high)]
        if not len(candidates):
            raise ValueError(f"xmin = ({low:.6g}, {high:.6g}) holds no value with a tail above it; widen it")
        return best_threshold(L, candidates, ceiling)
    counts, edges = np.histogram(np.log10(values), bins=100)
    peak = 10 ** edges[counts.argmax()]
    candidates = distinct[(values[distinct] >= 0.95 * peak) & (values[distinct] <= 1.5 * peak)]
    if not len(candidates):
        raise ValueError(f"the peak of the spectrum, {peak:.6g}, has no tail above it; use xmin='ks'")
    return best_threshold(L, candidates, ceiling)


def _spread(slope: float, room: float) -> float:
    """Return the standard deviation of alpha estimated from one value, by the Fisher information."""
    if np.isinf(room):
        return slope
    k = slope * room
    if abs(k) < 1e-3:
        return float(np.sqrt(12) / room)
    half = min(abs(k) / 2, 300.0)
    return float(1 / np.sqrt(1 / slope**2 - (room / (2 * np.sinh(half))) ** 2))


def _positive_number(value: float, rule: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{rule}; got {value!r}") from None
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{rule}; got {value!r}")
    return number


def positive_spectrum(eigenvalues: Tensor | ArrayLike) -> Array:
    """Sort three or more positive eigenvalues, ascending; raise ValueError if they are not."""
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
    return 1 + (len(L) - i) / (L[i:] - L[i]).sum() if L[-1] - L[i] > _ROUNDING else np.inf
