"""Describe the spectrum of pure noise: the Marchenko-Pastur law and the Tracy-Widom edge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root_scalar
from scipy.optimize.elementwise import find_root
from scipy.special import airy, gammaincinv

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MarchenkoPastur:
    """Represent the limit law of the d eigenvalues of W^T W / h for independent entries of W, (h, d).

    For the raw ESD, the eigenvalues of W^T W, use ``variance = h``, as `of_gaussian_esd` does.

    Parameters
    ----------
    aspect_ratio : float
        c = d / h.  If it is above 1, a share 1 - h / d of the eigenvalues is exactly zero.
    variance : float
        Variance of the entries of W.

    Raises
    ------
    ValueError
        If a parameter is not positive and finite.

    References
    ----------
    Marchenko & Pastur (1967); Bai & Silverstein, Spectral Analysis of Large Dimensional
    Random Matrices, sec. 3.1.

    Examples
    --------
    >>> law = MarchenkoPastur(0.25)
    >>> law.support
    (0.25, 2.25)
    """

    aspect_ratio: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("aspect_ratio", "variance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite; got {value}")

    @classmethod
    def of_gaussian_esd(cls, h: int, d: int, variance: float = 1.0) -> MarchenkoPastur:
        """Return the law of `htlib.esd`, min(h, d) values, for an (h, d) matrix of independent entries."""
        if min(h, d) < 1:
            raise ValueError(f"h and d must be at least 1; got h = {h}, d = {d}")
        return cls(min(h, d) / max(h, d), variance * max(h, d))

    @property
    def support(self) -> tuple[float, float]:
        """Return the edges variance (1 -+ sqrt c)^2 of the continuous part."""
        root = math.sqrt(self.aspect_ratio)
        return self.variance * (1 - root) ** 2, self.variance * (1 + root) ** 2

    @property
    def mass_at_zero(self) -> float:
        """Return the weight of the atom at zero, max(0, 1 - 1/c)."""
        return max(0.0, 1 - 1 / self.aspect_ratio)

    def pdf(self, x: ArrayLike) -> Array:
        """Return the density of the continuous part; it integrates to 1 - mass_at_zero."""
        x = np.asarray(x, dtype=np.float64)
        low, high = self.support
        inside = (x > low) & (x < high)
        safe = np.where(inside, x, 1.0)
        root = np.sqrt(np.where(inside, (high - x) * (x - low), 0.0))
        return root / (2 * np.pi * self.aspect_ratio * self.variance * safe)

    def cdf(self, x: ArrayLike) -> Array:
        """Return the distribution function in closed form, including the atom at zero."""
        x = np.asarray(x, dtype=np.float64)
        atom = np.where(x >= 0, self.mass_at_zero, 0.0)
        return atom + (1 - self.mass_at_zero) * self._nonzero_cdf(x)

    def ppf(self, q: ArrayLike) -> Array:
        """Return quantiles; they are zero up to the mass of the atom."""
        q = np.asarray(q, dtype=np.float64)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError("q must lie in [0, 1]")
        low, high = self.support
        level = np.clip((q - self.mass_at_zero) / (1 - self.mass_at_zero), 0.0, 1.0)
        # Solve for t in x = low + (high - low) sin(t)^2: the density is smooth in t at both edges.

        def excess(t: Array, level: Array) -> Array:
            return self._nonzero_cdf(low + (high - low) * np.sin(t) ** 2) - level

        result = find_root(excess, (np.zeros_like(level), np.full_like(level, np.pi / 2)), args=(level,))
        x = np.where(level <= 0, low, np.where(level >= 1, high, low + (high - low) * np.sin(result.x) ** 2))
        return np.where(q <= self.mass_at_zero, 0.0 if self.mass_at_zero else low, x)

    def rvs(self, size: int | tuple[int, ...], rng: np.random.Generator | int) -> Array:
        """Draw independent values.  (The eigenvalues of one matrix are not independent.)"""
        return self.ppf(np.random.default_rng(rng).uniform(size=size))

    def _nonzero_cdf(self, x: Array) -> Array:
        """Return the distribution function of the continuous part, normalised to 1."""
        c, s = self.aspect_ratio, self.variance
        if c > 1:  # W^T W / h and W W^T / h share their nonzero eigenvalues
            c, s = 1 / c, s * c
        low, high = s * (1 - math.sqrt(c)) ** 2, s * (1 + math.sqrt(c)) ** 2
        inside = (x > low) & (x < high)
        safe = np.where(inside, x, (low + high) / 2)
        r = np.sqrt((high - safe) / (safe - low))
        value = np.pi * c + np.sqrt((high - safe) * (safe - low)) / s
        value -= (1 + c) * np.arctan((r * r - 1) / (2 * r))
        if c < 1:
            value += (1 - c) * np.arctan((low * r * r - high) / (2 * s * (1 - c) * r))
        value = np.where(x <= low, 0.0, np.where(x >= high, 1.0, value / (2 * np.pi * c)))
        return np.where(np.isnan(x), np.nan, value)


def tracy_widom_cdf(s: float) -> float:
    """Compute the Tracy-Widom distribution function for real matrices (beta = 1), accurate to 1e-12.

    F_1(s) = det(1 - B_s) with the kernel B_s(x, y) = Ai(x + y + s) on x, y > 0 (Ferrari & Spohn 2005).  The
    determinant is computed by Gauss-Legendre quadrature (Bornemann 2010).
    """
    if s < -10:
        return 0.0  # F_1(-10) is about 1e-21
    nodes, weights = np.polynomial.legendre.leggauss(60)
    length = max(1.0, 16 - s) / 2  # Ai(s + x + y) is below 1e-17 beyond
    x, w = length * (nodes + 1) / 2, np.sqrt(length * weights / 2)
    kernel = w[:, None] * airy(x[:, None] + x + s)[0] * w
    return float(np.linalg.det(np.eye(len(x)) - kernel))


@lru_cache
def tracy_widom_ppf(q: float) -> float:
    """Return the quantile of the Tracy-Widom law for real matrices; q must be in [1e-12, 1 - 1e-12]."""
    if not 1e-12 <= q <= 1 - 1e-12:
        raise ValueError(f"q must be in [1e-12, 1 - 1e-12]; got {q}")
    return float(root_scalar(lambda s: tracy_widom_cdf(s) - q, bracket=(-9, 14)).root)


def largest_eigenvalue_quantile(h: int, d: int, q: float = 0.99, variance: float = 1.0) -> float:
    """Return the quantile at probability q of the largest eigenvalue of W^T W for Gaussian W, (h, d).

    At the default q it is the "noise edge" of this package: an eigenvalue beyond it is an outlier.  With
    sides m >= k and entries of variance 1 it is mu + sigma TW1(q), mu = (sqrt(m - 1) + sqrt k)^2 and
    sigma = (sqrt(m - 1) + sqrt k) (1 / sqrt(m - 1) + 1 / sqrt k)^(1/3) (Johnstone 2001); for a single row
    or column it is the exact quantile of chi-squared.
    """
    k, m = sorted((h, d))
    if k < 1:
        raise ValueError(f"h and d must be at least 1; got h = {h}, d = {d}")
    if not (0 < q < 1 and variance > 0):
        raise ValueError(f"q must be in (0, 1) and variance positive; got q = {q}, variance = {variance}")
    if k == 1:
        return variance * float(2 * gammaincinv(m / 2, q))  # of chi square; scipy.stats is slow to import
    a, b = math.sqrt(m - 1), math.sqrt(k)
    mu, sigma = (a + b) ** 2, (a + b) * (1 / a + 1 / b) ** (1 / 3)
    return variance * (mu + sigma * tracy_widom_ppf(q))
