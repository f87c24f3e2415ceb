"""Estimate the uncertainty of a power-law fit for independent values: bootstrap and goodness of fit.

Both assume that the values are independent draws.  Eigenvalues of one matrix are not (they repel each
other), so for spectra these numbers are a convention of the field, not probabilities; `htlib.spectra.nulls`
takes the matrix into account.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.eigenvalues import as_spectrum
from htlib.spectra.power_law import PowerLawFit, Threshold, fit_power_law

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Hold the fits of resampled values; their spread assumes independent values.

    Attributes
    ----------
    fit : PowerLawFit
        Fit of the values themselves.
    alpha, xmin : (n_replicates,) float64 array
    n_tail : (n_replicates,) int array
    """

    fit: PowerLawFit
    alpha: Array
    xmin: Array
    n_tail: NDArray[np.intp]

    @property
    def alpha_error(self) -> float:
        """Return the standard deviation of alpha over the replicates; it includes the threshold's choice."""
        return float(self.alpha.std(ddof=1))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the percentile interval of alpha."""
        if not 0 < level < 1:
            raise ValueError(f"level must be in (0, 1); got {level}")
        low, high = np.quantile(self.alpha, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class GoodnessOfFit:
    """Record how often independent values from a true power law fit worse than the given values.

    Attributes
    ----------
    p_value : float
        Below 0.1 the power law is ruled out (the rule of Clauset et al. 2009).
    p_error : float
        Standard error of the p-value from the finite number of replicates.
    ks_distance : float
        Distance of the fit that is tested.
    replicates : (n_replicates,) float64 array
        KS distances of the synthetic samples.
    """

    p_value: float
    p_error: float
    ks_distance: float
    replicates: Array


def bootstrap_power_law(
    eigenvalues: Tensor | ArrayLike,
    xmin: Threshold = "ks",
    n_replicates: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Bootstrap:
    """Refit values that are drawn with replacement; the threshold is chosen again each time.

    Parameters
    ----------
    eigenvalues : (N,) array
        Values in any order, treated as independent draws.
    xmin : {"ks", "median", "peak"}, float or (float, float)
        As in `fit_power_law`.
    n_replicates : int
        At least 2.
    seed : int or Generator

    Returns
    -------
    Bootstrap

    Raises
    ------
    ValueError
        As for `fit_power_law`, or if n_replicates is below 2.

    Examples
    --------
    >>> values = np.random.default_rng(0).pareto(1.5, 500) + 1
    >>> bootstrap = bootstrap_power_law(values, xmin=1.0)
    >>> round(bootstrap.alpha_error / bootstrap.fit.alpha_error, 1)  # the threshold is given, not chosen
    1.0
    """
    _check_count(n_replicates)
    values, rng = as_spectrum(eigenvalues), np.random.default_rng(seed)
    fit = fit_power_law(values, xmin)
    fits = [_refit(lambda: rng.choice(values, len(values)), xmin) for _ in range(n_replicates)]
    return Bootstrap(
        fit=fit,
        alpha=np.array([f.alpha for f in fits]),
        xmin=np.array([f.xmin for f in fits]),
        n_tail=np.array([f.n_tail for f in fits]),
    )


def goodness_of_fit(
    eigenvalues: Tensor | ArrayLike,
    xmin: Threshold = "ks",
    n_replicates: int = 1000,
    seed: int | np.random.Generator = 0,
) -> GoodnessOfFit:
    """Compute the p-value of Clauset, Shalizi & Newman (2009, sec. 4.1) for independent values.

    Each synthetic value is drawn from the fitted power law with probability n_tail / N and from the
    values below the threshold otherwise; each synthetic sample is fitted as the values were.

    Parameters
    ----------
    eigenvalues, xmin, seed
        As for `bootstrap_power_law`.
    n_replicates : int
        At least 2; with 1000 the standard error of the p-value is at most 0.016.

    Returns
    -------
    GoodnessOfFit

    Raises
    ------
    ValueError
        As for `fit_power_law`, or if n_replicates is below 2.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> goodness_of_fit(rng.pareto(1.5, 300) + 1, n_replicates=50).p_value > 0.1
    True
    >>> goodness_of_fit(rng.exponential(size=300) + 1, xmin=1.0, n_replicates=50).p_value
    0.0
    """
    _check_count(n_replicates)
    values, rng = as_spectrum(eigenvalues), np.random.default_rng(seed)
    fit = fit_power_law(values, xmin)
    body, share = values[values < fit.xmin], fit.n_tail / len(values)

    def synthetic() -> Array:
        n = rng.binomial(len(values), share) if len(body) else len(values)
        tail = fit.xmin * np.exp(rng.exponential(1 / (fit.alpha - 1), n))
        return np.concatenate([rng.choice(body, len(values) - n), tail]) if len(body) else tail

    replicates = np.array([_refit(synthetic, xmin).ks_distance for _ in range(n_replicates)])
    p = float((replicates >= fit.ks_distance).mean())
    return GoodnessOfFit(
        p_value=p,
        p_error=float(np.sqrt(max(p * (1 - p), 1 / n_replicates) / n_replicates)),
        ks_distance=fit.ks_distance,
        replicates=replicates,
    )


def _refit(sample: Callable[[], Array], xmin: Threshold) -> PowerLawFit:
    """Fit a sample; where a small sample has only equal values, draw it again."""
    for _ in range(100):
        try:
            return fit_power_law(sample(), xmin)
        except ValueError:
            continue
    raise ValueError("100 resampled sets in turn had no tail to fit: there are too few distinct values")


def _check_count(n_replicates: int) -> None:
    if n_replicates < 2:
        raise ValueError(f"n_replicates must be at least 2; got {n_replicates}")
