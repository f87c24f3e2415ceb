"""Is it a power law?  This module compares a fitted tail with other laws by likelihood ratios.

Every law is conditioned on the tail and written for t = ln(x / xmin) in 0..b, where a power law is the
exponential exp(-s t), s = alpha - 1; without an upper bound b is infinite.  The stretched exponential is the
exponential law of e^(beta t).  The lognormal and the power law with exponential cutoff are exponential tilts,
exp(-s t - c h(t)) with c >= 0 and h = t^2 or h = e^t - 1.  Their likelihood is concave in (s, c), so every
maximum is the global one: it is found by a bracketed search over c, at the best s of each c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root_scalar
from scipy.special import chdtrc, erfc
from torch import Tensor

from htlib.spectra.eigenvalues import as_spectrum
from htlib.spectra.ks_scan import fitted_logpdf, slopes
from htlib.spectra.power_law import PowerLawFit, has_spread

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
        If it has an upper bound, all laws are conditioned on xmin..xmax.

    Returns
    -------
    DataFrame
        One row per alternative: "lognormal", "exponential", "stretched_exponential" and
        "truncated_power_law" (a power law with exponential cutoff, alpha >= 1; with an upper bound alpha and
        the rates of the exponentials may be any number, as alpha of `fit_power_law`).  Columns:

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
        If the fit was made from other eigenvalues, or the values of the tail are equal to twelve digits.

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
    values = as_spectrum(eigenvalues)
    values = values[values <= fit.xmax]
    tail = values[len(values) - fit.n_tail :] if fit.n_tail <= len(values) else values[:0]
    room = float(np.log(fit.xmax) - np.log(fit.xmin))
    sample = _Tail(tail, fit.xmin, room)
    if (
        not len(tail)
        or tail[0] < fit.xmin
        or not np.isclose(sample.slope, fit.alpha - 1, rtol=1e-6, atol=0 if np.isinf(room) else 1e-6 / room)
    ):
        raise ValueError(f"fit is not of these eigenvalues: they have no tail of {fit.n_tail} like its own")
    if not has_spread(tail):
        raise ValueError(
            f"eigenvalues above xmin = {fit.xmin:.6g} are all {tail[0]:.6g}: no other law has a best fit"
        )
    power = fitted_logpdf(sample.t, sample.slope, room)
    rows = {}
    for name, alternative in _ALTERNATIVES.items():
        logs, parameters = alternative(sample)
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
    p_value = chdtrc(1, 2 * abs(ratio)) if nested else erfc(abs(normalized) / np.sqrt(2))
    return {
        "log_likelihood_ratio": 0.0 if degenerate else float(ratio),
        "normalized_ratio": float(normalized),
        "p_value": 1.0 if degenerate else float(p_value),
    }


@dataclass(frozen=True, eq=False)
class _Tail:
    """Hold the ascending values of a tail, its threshold, and ln(xmax / xmin)."""

    x: Array
    xmin: float
    room: float

    @cached_property
    def t(self) -> Array:
        """ln(x / xmin)."""
        return np.log(self.x) - np.log(self.xmin)  # the quotient may overflow

    @cached_property
    def slope(self) -> float:
        """alpha - 1 of the power law."""
        return _slope(self.t, self.room)


Fitted = tuple[Array, dict[str, float]]  # log densities of t, and parameters


def _exponential(tail: _Tail) -> Fitted:
    law = _Weibull(tail, np.ones(1))
    return law.logs(0), {"lambda": law.rate(0) / tail.xmin}


def _stretched_exponential(tail: _Tail) -> Fitted:
    """Search over beta on a grid, and on finer ones around the best; each beta has its best rate."""
    t = tail.t
    # without a bound a stationary beta is at most (1 + ln n) / (max t - mean t); the power law is the limit 0
    steepest = 4 * (1 + np.log(len(t))) / (t[-1] - t.mean())
    betas = np.geomspace(1e-4 / t[-1], steepest, 64)
    law = _Weibull(tail, betas)
    best = int(law.scores.argmax())
    if best == 0:
        return fitted_logpdf(t, tail.slope, tail.room), {"rate": np.inf, "beta": 0.0}
    for _ in range(8):  # to eight digits
        betas = np.geomspace(betas[max(best - 1, 0)], betas[min(best + 1, len(betas) - 1)], 16)
        law = _Weibull(tail, betas)
        best = int(law.scores.argmax())
    return law.logs(best), {"rate": law.rate(best), "beta": float(betas[best])}


class _Weibull:
    """Fit the rate of each beta: v = (e^(beta t) - 1) / (its maximum) has an exponential law."""

    def __init__(self, tail: _Tail, betas: Array) -> None:
        self._t, self._top, self._betas = tail.t, tail.t[-1], betas
        means = np.array([self._grown(beta, tail.t).mean() for beta in betas])
        if np.isinf(tail.room):
            self._rooms = np.full(len(betas), np.inf)
            self._slopes = 1 / means
        else:  # a bound a thousand times above the largest v is no bound
            with np.errstate(over="ignore"):
                self._rooms = np.minimum(self._grown(betas, tail.room), 1e3)
            self._slopes = slopes(means, self._rooms)
        self.scores = np.array([self._logs(i, tail.t.mean(), v) for i, v in enumerate(means)])

    def _grown(self, beta: Array | float, t: Array | float) -> Array:
        return np.exp(beta * (t - self._top)) * np.expm1(-beta * t) / np.expm1(-beta * self._top)

    def _logs(self, i: int, t: Array | float, v: Array) -> Array:
        beta = self._betas[i]
        growth = np.log(beta) + beta * (t - self._top) - np.log(-np.expm1(-beta * self._top))
        return growth + fitted_logpdf(v, self._slopes[i], self._rooms[i])

    def logs(self, i: int) -> Array:
        """Return the log densities of t at the i-th beta; their mean is its score."""
        return self._logs(i, self._t, self._grown(self._betas[i], self._t))

    def rate(self, i: int) -> float:
        beta = self._betas[i]
        return float(self._slopes[i] * np.exp(-beta * self._top) / -np.expm1(-beta * self._top))


def _lognormal(tail: _Tail) -> Fitted:
    top = tail.t[-1]

    def h(t: Array) -> Array:
        return (t / top) ** 2

    (s, c), logs = _tilted(tail, h, lambda level: level * top**2 / 2)
    if c == 0:
        return logs, {"mu": -np.inf, "sigma": np.inf}
    variance = top**2 / (2 * c)
    return logs, {"mu": float(np.log(tail.xmin) - s * variance), "sigma": float(np.sqrt(variance))}


def _truncated_power_law(tail: _Tail) -> Fitted:
    top = tail.t[-1]
    unit = -np.expm1(-top)

    def h(t: Array) -> Array:
        return np.exp(np.minimum(t - top, 300)) * -np.expm1(-t) / unit

    lowest = 0.0 if np.isinf(tail.room) else -np.inf
    (s, c), logs = _tilted(tail, h, lambda level: top + np.log(level * unit), lowest)
    return logs, {"alpha": 1 + s, "lambda": c / float(tail.x[-1] - tail.xmin)}


_ALTERNATIVES: dict[str, Callable[[_Tail], Fitted]] = {
    "lognormal": _lognormal,
    "exponential": _exponential,
    "stretched_exponential": _stretched_exponential,
    "truncated_power_law": _truncated_power_law,
}


def _tilted(
    tail: _Tail, h: Callable[[Array], Array], steepness: Callable[[float], float], lowest: float = -np.inf
) -> tuple[tuple[float, float], Array]:
    """Fit exp(-s t - c h(t)), s >= lowest, c >= 0; return (s, c) and the log densities.

    `h` is convex, zero at zero and one at the largest t; `steepness` is the inverse of its derivative.
    """
    t, room = tail.t, tail.room
    grown = h(t)
    mean_t, mean_h = t.mean(), grown.mean()

    def moments(s: float, c: float) -> tuple[float, float, float, float]:
        peak = 0.0 if s >= 0 else steepness(-s / c) if c > 0 else np.inf
        return _moments(lambda u: -s * u - c * h(u), h, min(max(peak, 0.0), room), mean_t, room)

    def best_s(c: float, s: float) -> float:
        """Find where t has its mean, which falls with s and with c: Newton steps within a bracket."""
        if np.isfinite(lowest) and moments(lowest, c)[1] <= mean_t:
            return lowest
        low, high, last = lowest, tail.slope, np.inf
        for _ in range(200):
            _, mean, _, variance = moments(s, c)
            gap = 1 - mean_t / mean  # linear in s for an exponential law
            if abs(gap) < 1e-13:
                break
            low, high = (s, high) if gap > 0 else (low, s)
            step = s + gap * mean**2 / (mean_t * variance)
            if not low < step < high or abs(gap) > last / 2:
                step = s - 4 * (high - s + 1 / mean_t) if np.isinf(low) else (low + high) / 2
            if step == s or high - low < 1e-15 * abs(s):
                break
            s, last = step, abs(gap)
        return s

    def excess(log_c: float) -> float:
        """Return the derivative of the profile likelihood, up to a positive factor; it falls with c."""
        nonlocal s
        c = np.exp(log_c)
        s = best_s(c, s)
        return float(np.log(moments(s, c)[2] / mean_h))

    s, c = tail.slope, 0.0
    if moments(s, c)[2] > mean_h * (1 + 1e-12):
        high = -np.log(mean_h)
        smallest = high + np.log(1e-16)  # so weak a tilt changes no likelihood
        while excess(high) > 0:
            high += 2
        low = high - 2
        while excess(low) <= 0 and low > smallest:
            low -= 2
        if low > smallest:
            c = float(np.exp(root_scalar(excess, bracket=(low, high), xtol=1e-10).root))
        s = best_s(c, s) if c else tail.slope
    return (s, c), -s * t - c * grown - moments(s, c)[0]


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_STEPS = 2.0 ** np.arange(-60, 40)
_NEGLIGIBLE = 40  # nats below the peak


def _moments(
    exponent: Callable[[Array], Array], h: Callable[[Array], Array], peak: float, scale: float, room: float
) -> tuple[float, float, float, float]:
    """Return the log of the integral of exp(exponent) over 0..room, the means of t and h, the variance of t.

    The exponent is concave, with its maximum at `peak`: the integral reaches to where it is negligible.
    """
    around = np.clip(peak + scale * np.concatenate([[0.0], _STEPS, -_STEPS]), 0.0, room)
    drop = exponent(around)
    top = float(drop[0])
    ends: list[float] = []
    for side in (slice(1, 1 + len(_STEPS)), slice(1 + len(_STEPS), None)):
        far = drop[side] < top - _NEGLIGIBLE
        ends.append(float(around[side][far.argmax() if far.any() else -1]))
    right, left = ends
    # a cutoff falls by e^(-e^t): no panel is wider than 3
    panels = [16 + min(int(width / 3), 1000) if width > 0 else 0 for width in (peak - left, right - peak)]
    edges = np.append(
        np.linspace(left, peak, panels[0], endpoint=False), np.linspace(peak, right, panels[1] + 1)
    )
    half = np.diff(edges)[:, None] / 2
    nodes = (edges[:-1, None] + half * (1 + _NODES)).ravel()
    weights = (half * _WEIGHTS).ravel() * np.exp(exponent(nodes) - top)
    z = weights.sum()
    mean = weights @ nodes / z
    return (
        top + float(np.log(z)),
        float(mean),
        float(weights @ h(nodes) / z),
        float(weights @ (nodes - mean) ** 2 / z),
    )


def _slope(values: Array, room: float) -> float:
    mean = values.mean()
    if mean <= 0:
        return np.inf
    return float(slopes(np.array([mean]), room if np.isinf(room) else np.array([room]))[0])
