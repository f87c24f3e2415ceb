"""Is it a power law?  This module compares a fitted tail with other laws by likelihood ratios.

Every law is conditioned on the tail and written for t = ln(x / xmin) >= 0, where a power law is the
exponential exp(-s t), s = alpha - 1.  The lognormal and the power law with exponential cutoff are its
exponential tilts, exp(-s t - c h(t)) with h = t^2 / 2 and h = e^t - 1.  Their likelihood is concave in
(s, c), so every maximum is the global one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import erfc
from scipy.stats import chi2
from torch import Tensor

from htlib.spectra.eigenvalues import as_spectrum
from htlib.spectra.power_law import PowerLawFit

Array = NDArray[np.float64]

_TRUSTED = 0.1  # below this p-value the sign of a ratio is trusted (Clauset et al. 2009, table 6)


def compare_distributions(eigenvalues: Tensor | ArrayLike, fit: PowerLawFit) -> pd.DataFrame:
    """Compare a fitted power-law tail with other laws of the same tail, by Vuong's test.

    The test assumes independent values.  Eigenvalues of one matrix are not independent: read their ratios
    as a description, and compare them with `htlib.null_distribution`.

    Parameters
    ----------
    eigenvalues : (N,) array
        The values that the power law was fitted to, in any order.
    fit : PowerLawFit
        A fit without an upper bound.

    Returns
    -------
    DataFrame
        One row per alternative: "lognormal", "exponential", "stretched_exponential" and
        "truncated_power_law" (a power law with exponential cutoff, alpha >= 1).  Columns:

        - ``log_likelihood_ratio``: positive where the power law fits better;
        - ``normalized_ratio``: the ratio divided by sqrt(n) times the standard deviation of its terms;
        - ``p_value``: probability that fluctuation makes a ratio as large (Vuong 1989, as in Clauset et
          al. 2009, app. C); for the nested truncated power law by chi-squared, one degree of freedom;
        - ``favours``: "power_law", the alternative, or "neither" where the p-value exceeds 0.1;
        - ``parameters``: those of the alternative, in the units of the eigenvalues; the stretched
          exponential has the survival function exp(-rate ((x / xmin)^beta - 1)).

    Raises
    ------
    ValueError
        If the fit has an upper bound, or was made from other eigenvalues.

    Notes
    -----
    The power law is a limit of the lognormal (as its width grows) and of the stretched exponential (as
    its exponent vanishes), so their ratio is never positive.  Where the limit fits best, the ratio is zero
    and p = 1.

    Examples
    --------
    >>> from htlib import fit_power_law
    >>> values = np.random.default_rng(0).exponential(size=2000) + 1
    >>> table = compare_distributions(values, fit_power_law(values, xmin=1.0))
    >>> table.favours["exponential"]
    'exponential'
    """
    if np.isfinite(fit.xmax):
        raise ValueError(f"fit has an upper bound, xmax = {fit.xmax:.6g}: compare one without")
    values = as_spectrum(eigenvalues)
    tail = values[len(values) - fit.n_tail :] if fit.n_tail <= len(values) else values[:0]
    if (
        not len(tail)
        or tail[0] < fit.xmin
        or not np.isclose(_slope(tail, fit.xmin), fit.alpha - 1, rtol=1e-6)
    ):
        raise ValueError(f"fit is not of these eigenvalues: they have no tail of {fit.n_tail} like its own")
    t = np.log(tail / fit.xmin)
    s = fit.alpha - 1
    power = np.log(s) - s * t
    rows = {}
    for name, alternative in _ALTERNATIVES.items():
        logs, parameters = alternative(t, s, fit.xmin)
        rows[name] = {**_vuong(power - logs, nested=name == "truncated_power_law"), "parameters": parameters}
    table = pd.DataFrame.from_dict(rows, orient="index")
    decided = table.p_value < _TRUSTED
    better = np.where(table.log_likelihood_ratio > 0, "power_law", table.index)
    table.insert(3, "favours", np.where(decided, better, "neither"))
    table.index.name = "alternative"
    return table


def _vuong(terms: Array, *, nested: bool) -> dict[str, float]:
    ratio, n = terms.sum(), len(terms)
    scale = np.sqrt(n) * terms.std()
    degenerate = abs(ratio) < 1e-7 * max(1.0, n**0.5)  # the alternative is the power law itself
    normalized = 0.0 if degenerate or scale == 0 else ratio / scale
    p_value = chi2.sf(2 * abs(ratio), 1) if nested else erfc(abs(normalized) / np.sqrt(2))
    return {
        "log_likelihood_ratio": 0.0 if degenerate else float(ratio),
        "normalized_ratio": float(normalized),
        "p_value": 1.0 if degenerate else float(p_value),
    }


def _lognormal(t: Array, s: float, xmin: float) -> tuple[Array, dict[str, float]]:
    (a, c), logs = _tilted(t, s, lambda u: u**2 / 2)
    if c == 0:
        return logs, {"mu": -np.inf, "sigma": np.inf}
    return logs, {"mu": float(np.log(xmin) - a / c), "sigma": float(c**-0.5)}


def _truncated_power_law(t: Array, s: float, xmin: float) -> tuple[Array, dict[str, float]]:
    (s, c), logs = _tilted(t, s, np.expm1, lowest=0.0)
    return logs, {"alpha": float(1 + s), "lambda": float(c / xmin)}


def _exponential(t: Array, s: float, xmin: float) -> tuple[Array, dict[str, float]]:
    rate = 1 / np.expm1(t).mean()
    return np.log(rate) - rate * np.expm1(t) + t, {"lambda": float(rate / xmin)}


def _stretched_exponential(t: Array, s: float, xmin: float) -> tuple[Array, dict[str, float]]:
    """Fit the survival function exp(-r (y^beta - 1)), y = e^t; each beta has its best r in closed form."""

    def logs(beta: float) -> Array:
        grown = np.expm1(beta * t)
        rate = 1 / grown.mean()
        return np.log(beta * rate) + beta * t - rate * grown

    # The power law is the limit beta -> 0; no tail that a float can hold is steeper than the upper end.
    steepest = min(50.0, 600 / t[-1])
    betas = np.geomspace(1e-4, steepest, 60)
    scores = [logs(beta).sum() for beta in betas]
    best = int(np.argmax(scores))
    if best == 0:
        return np.log(s) - s * t, {"rate": np.inf, "beta": 0.0}
    bounds = np.log(betas[[best - 1, min(best + 1, len(betas) - 1)]])
    found = minimize_scalar(
        lambda b: -float(logs(np.exp(b)).sum()), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    beta = float(np.exp(found.x))
    return logs(beta), {"rate": float(1 / np.expm1(beta * t).mean()), "beta": beta}


_ALTERNATIVES: dict[str, Callable[[Array, float, float], tuple[Array, dict[str, float]]]] = {
    "lognormal": _lognormal,
    "exponential": _exponential,
    "stretched_exponential": _stretched_exponential,
    "truncated_power_law": _truncated_power_law,
}


def _tilted(
    t: Array, s: float, h: Callable[[Array], Array], lowest: float = -np.inf
) -> tuple[tuple[float, float], Array]:
    """Fit exp(-s t - c h(t)), c >= 0, by maximum likelihood; return (s, c) and the log densities of t."""
    means = np.array([t.mean(), h(t).mean()])

    def loss(theta: Array) -> tuple[float, Array]:
        """Return the mean negative log-likelihood and its gradient: sample moments minus model moments."""
        log_z, moments = _moments(theta, h)
        return float(theta @ means + log_z), means - moments

    # in these units of the parameters the curvatures are near one
    unit = np.array([s, 1 / max(h(np.array([1 / s]))[0], means[1])])

    def scaled(v: Array) -> tuple[float, Array]:
        value, gradient = loss(v * unit)
        return value, gradient * unit

    found = minimize(
        scaled,
        np.array([1.0, 0.1]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(lowest / s, None), (0, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    theta = found.x * unit
    if found.fun > loss(np.array([s, 0.0]))[0]:
        theta = np.array([s, 0.0])
    log_z, _ = _moments(theta, h)
    return (float(theta[0]), float(theta[1])), -theta[0] * t - theta[1] * h(t) - log_z


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_PANELS = np.linspace(0, 1, 25) ** 2  # finer near the threshold
_REACH = np.geomspace(1e-9, 1e9, 721)


def _moments(theta: Array, h: Callable[[Array], Array]) -> tuple[float, Array]:
    """Return the log of the integral of exp(-s t - c h(t)) over t > 0, and the means of t and h(t)."""

    def exponent(t: Array) -> Array:
        with np.errstate(over="ignore"):
            return -theta[0] * t - (theta[1] * h(t) if theta[1] > 0 else 0.0)

    reach = exponent(_REACH)
    top = max(0.0, float(reach.max()))
    end = float(_REACH[min(len(_REACH) - 1, int(np.flatnonzero(reach > top - 45)[-1]) + 1)])
    left, right = end * _PANELS[:-1, None], end * _PANELS[1:, None]
    nodes = ((left + right) / 2 + (right - left) / 2 * _NODES).ravel()
    weights = ((right - left) / 2 * _WEIGHTS).ravel() * np.exp(exponent(nodes) - top)
    z = weights.sum()
    return top + float(np.log(z)), np.array([weights @ nodes, weights @ h(nodes)]) / z


def _slope(tail: Array, xmin: float) -> float:
    total = np.log(tail / xmin).sum()
    return len(tail) / total if total > 0 else np.inf
