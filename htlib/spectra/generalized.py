"""Compute the law of noise with unequal variances, a generalised Marchenko-Pastur law.

Let W be an (h, d) matrix of independent entries with the variances base + rows_j columns_k.  With base 0 it
has a covariance on each side; with all rows 1 it has the population covariance diag(columns) (Silverstein
1995).  Only the eigenvalues of covariances matter for Gaussian entries: a rotation of W changes no spectrum.

To leading order the diagonals of (z - W^T W)^{-1} and of z (z - W W^T)^{-1} are

    G_k = 1 / (z - shift_k - base e0 - columns_k e1),    D_j = 1 / (1 - base q0 - rows_j q1),

    e0 = sum_j D_j,  e1 = sum_j rows_j D_j,  q0 = sum_k G_k,  q1 = sum_k columns_k G_k,

two equations for the complex numbers q0 and q1 (Hachem, Loubaton & Najim 2007); a shift adds a diagonal
matrix to W^T W.  The density is -Im q0 / pi on the real axis.  The number of eigenvalues above x needs no
integral: it is the imaginary part of a potential, whose derivatives by q0 and q1 are zero at the solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicHermiteSpline

from htlib.spectra.noise import tracy_widom_ppf
from htlib.spectra.power_law import fit_power_law, hill_alpha

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_ATOMS = 64  # values that describe a side of the matrix
_HEIGHT = 1e-9  # the real axis is approached up to this share of x
# The height falls by the first factor per step, and faster below _NEAR of x.  The others are for points where
# that loses the solution; in the end, none of 13,000 points of random profiles got lost.
_DESCENTS, _NEAR, _HASTE = (0.35, 0.73, 0.9), 0.1, 1.3
_SETTLED = 1e-9  # relative size of the last Newton step
_EMPTY = 1e-6  # share of the eigenvalues per unit of ln x, below which x lies outside of the support
_COARSE, _ZOOM, _FINE = 40, 9, 64  # points between bounds of the support, in brackets of edges, in intervals
_FLOOR = 1e-10  # smallest eigenvalue that is looked for, as a share of a bound for that of the base, if any
_BRACKET = 1e-2  # relative width of the brackets of edges; five points inside then give seven digits


class Profile(NamedTuple):
    """Variances base + rows_j columns_k, where each row and column occurs as often as its count says."""

    columns: Array
    column_counts: Array
    rows: Array
    row_counts: Array
    base: float = 0.0
    shift: ArrayLike = 0.0

    def sums(self, z: Complex, q: Complex) -> tuple[Complex, Complex, Complex, Complex]:
        """Return D and (e0, e1) at q = (q0, q1), then G and the (q0, q1) that follow from them."""
        D = 1 / (1 - self.base * q[0][:, None] - self.rows * q[1][:, None])
        weighted = D * self.row_counts
        e0, e1 = weighted.sum(axis=1), weighted @ self.rows
        G = 1 / ((z - self.base * e0)[:, None] - self.shift - self.columns * e1[:, None])
        weighted = G * self.column_counts
        return D, np.array((e0, e1)), G, np.array((weighted.sum(axis=1), weighted @ self.columns))


def solve(profile: Profile, x: Array, height: float = _HEIGHT, guess: Complex | None = None) -> Complex:
    """Solve for (q0, q1) at the points x (1 + i height).

    Iteration finds the solution far above the real axis, and Newton's method follows it down; if there is a
    guess, only where the guess fails.  There must be no more columns than rows.

    Returns
    -------
    (2, len(x)) complex array
    """
    z = x + 1j * height * x
    q = _descend(profile, x, height, _DESCENTS[0]) if guess is None else guess
    for ratio in _DESCENTS[guess is None :]:
        q, settled = _newton(profile, z, q, 6)
        lost = ~settled | (q.imag >= 0).any(axis=0)
        if not lost.any():
            break
        q[:, lost] = _descend(profile, x[lost], height, ratio)
    return q


def count_above(profile: Profile, x: Array, q: Complex, height: float = _HEIGHT) -> Array:
    """Return how many eigenvalues of W^T W, with the shift, lie above x; q is the solution there."""
    D, e, G, _ = profile.sums(x + 1j * height * x, q)
    potential = -np.log(G) @ profile.column_counts - np.log(D) @ profile.row_counts
    return (potential + profile.base * q[0] * e[0] + q[1] * e[1]).imag / np.pi


def grouped(values: Array, counts: Array) -> tuple[Array, Array]:
    """Return distinct values with counts, or means of groups that are small at both ends."""
    distinct, same = np.unique(values, return_inverse=True)
    total = np.bincount(same, counts).astype(np.float64)
    n = len(distinct)
    if n <= 2 * _ATOMS:
        return distinct, total
    ends = np.round(n * np.sin(np.linspace(0, np.pi / 2, _ATOMS + 1)) ** 2).astype(int)
    starts = np.unique([0, 1, *ends[ends < n], n - 1])
    sums = np.add.reduceat(total, starts)
    return np.add.reduceat(total * distinct, starts) / sums, sums


@dataclass(frozen=True, eq=False)
class GeneralizedMarchenkoPastur:
    """Represent the limit law of `htlib.esd` for independent entries with variances base + rows_j columns_k.

    Parameters
    ----------
    columns : (d,) array
        With the other defaults, the eigenvalues of the population covariance of the rows of W.
    rows : int or (h,) array
        A number means that many rows with the value 1.
    base : float
    column_counts, row_counts : array, optional
        How often each value occurs, if not once; d and h are their sums.

    Raises
    ------
    ValueError
        If a value is negative or not finite, counts do not fit, or all variances are zero.

    Notes
    -----
    More than 128 values are replaced by means of 64 groups, of which the first and last hold one value.  The
    law is that of the min(h, d) values of `htlib.esd`: zeros of W^T W that its shape makes do not count.
    Against the closed form of the Marchenko-Pastur law the edges are right to 1e-7, the distribution function
    to 1e-6 (1e-5 for a square matrix).

    References
    ----------
    Marchenko & Pastur (1967); Silverstein & Choi (1995); Hachem, Loubaton & Najim (2007).

    Examples
    --------
    >>> law = GeneralizedMarchenkoPastur([1.0, 9.0], 1500, column_counts=[800, 200])
    >>> [[round(end) for end in interval] for interval in law.support]
    [[59, 4049], [6411, 26030]]
    >>> round(law.hill_alpha(), 3)
    1.842
    """

    columns: ArrayLike
    rows: int | ArrayLike
    base: float = 0.0
    column_counts: ArrayLike | None = None
    row_counts: ArrayLike | None = None

    def __post_init__(self) -> None:
        _ = self._profile  # raises

    @property
    def support(self) -> tuple[tuple[float, float], ...]:
        """Return the intervals with eigenvalues, ascending, without the atom at zero."""
        return self._edges.intervals

    @property
    def edge(self) -> float:
        """Return the upper end of the support."""
        return self.support[-1][1]

    @property
    def mass_at_zero(self) -> float:
        """Return the weight of the atom at zero; only rows and columns without variance make one."""
        return 1 - self._rank / self.size

    @property
    def size(self) -> int:
        """Return the number of eigenvalues, min(h, d)."""
        return self._sizes[0]

    def pdf(self, x: ArrayLike) -> Array:
        """Return the density of the continuous part; it integrates to 1 - mass_at_zero."""
        x = np.asarray(x, dtype=np.float64)
        total = np.zeros_like(x)
        for piece in self._pieces:
            inside = (x > math.exp(piece.low)) & (x < math.exp(piece.high))
            logs = np.log(np.where(inside, x, math.exp((piece.low + piece.high) / 2)))
            t = piece.position(logs)
            slope = piece.number(t, 1) / ((piece.high - piece.low) * np.sin(2 * t) * np.exp(logs))
            total += np.where(inside, slope, 0.0)
        return total / self.size

    def cdf(self, x: ArrayLike) -> Array:
        """Return the distribution function, including the atom at zero."""
        x = np.asarray(x, dtype=np.float64)
        logs = np.log(np.maximum(x, np.finfo(float).tiny))
        below = self.size - self._rank + sum(piece.number(piece.position(logs)) for piece in self._pieces)
        share = np.where(x < 0, 0.0, np.clip(below / self.size, 0.0, 1.0))
        return np.where(np.isnan(x), np.nan, share)

    def ppf(self, q: ArrayLike) -> Array:
        """Return quantiles; they are zero up to the mass of the atom."""
        q = np.asarray(q, dtype=np.float64)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError("q must lie in [0, 1]")
        t = np.linspace(0, np.pi / 2, 2001)
        starts = (
            self.size - self._rank + np.cumsum([0.0, *(float(piece.number(t[-1])) for piece in self._pieces)])
        )
        levels = np.concatenate(
            [start + piece.number(t) for start, piece in zip(starts, self._pieces, strict=False)]
        )
        logs = np.concatenate(
            [piece.low + (piece.high - piece.low) * np.sin(t) ** 2 for piece in self._pieces]
        )
        x = np.exp(np.interp(q * self.size, np.maximum.accumulate(levels), logs))
        return np.where(q < self.mass_at_zero, 0.0, x)

    def quantiles(self) -> Array:
        """Return the expected ESD, the quantiles at (i - 1/2) / N of the N = min(h, d) values."""
        return self.ppf((np.arange(self.size) + 0.5) / self.size)

    def hill_alpha(self, spike: float | None = None) -> float:
        """Return `htlib.hill_alpha` of the expected ESD, with a spike above it if one is given."""
        return hill_alpha(self._with(spike))

    def ks_alpha(self, spike: float | None = None) -> float:
        """Return the exponent of `htlib.fit_power_law` of the expected ESD, with a spike if one is given.

        The expected ESD is smoother than a spectrum, and the KS scan may choose another threshold there.
        """
        return fit_power_law(self._with(spike)).alpha

    def largest_quantile(self, q: float = 0.5) -> float:
        """Return a quantile of the largest eigenvalue: edge + s TW1(q), where s follows from the density.

        Near the edge the number density is sqrt((edge - x) / s) / (pi s), as for the Tracy-Widom law with
        scale s (El Karoui 2007, for a population covariance).
        """
        return self.edge + self._edges.scale * tracy_widom_ppf(q)

    def _with(self, spike: float | None) -> Array:
        return self.quantiles() if spike is None else np.append(self.quantiles(), spike)

    @cached_property
    def _sides(self) -> list[tuple[Array, Array]]:
        """Values and counts of the columns and of the rows."""
        if not (math.isfinite(self.base) and self.base >= 0):
            raise ValueError(f"base must be finite and not negative; got {self.base}")
        rows, counts = self.rows, self.row_counts
        if isinstance(rows, int | np.integer):
            if rows < 1 or counts is not None:
                raise ValueError(f"rows must be at least 1, without row_counts, or an array; got {rows}")
            rows, counts = np.ones(1), np.full(1, float(rows))
        return [_side("column", self.columns, self.column_counts), _side("row", rows, counts)]

    @cached_property
    def _sizes(self) -> list[int]:
        return sorted(round(float(counts.sum())) for _, counts in self._sides)

    @cached_property
    def _profile(self) -> Profile:
        """The profile in short, without rows and columns of zeros, with no more columns than rows."""
        base, sides = float(self.base), self._sides
        if sides[0][0].max() * sides[1][0].max() <= 1e-14 * base:
            sides = [
                (np.array([value]), counts.sum(keepdims=True))
                for value, (_, counts) in zip((base, 1.0), sides, strict=True)
            ]
            base = 0.0
        if base == 0:
            sides = [(values[values > 0], counts[values > 0]) for values, counts in sides]
            if not all(len(values) for values, _ in sides):
                raise ValueError("columns and rows must hold positive values; all variances are zero")
        columns, rows = sorted((grouped(*side) for side in sides), key=lambda side: side[1].sum())
        return Profile(*columns, *rows, base)

    @cached_property
    def _rank(self) -> float:
        return float(self._profile.column_counts.sum())

    @cached_property
    def _edges(self) -> _Edges:
        p, k, m = self._profile, self._rank, self._profile.row_counts.sum()
        outer, inner = (math.sqrt(m) + math.sqrt(k)) ** 2, (math.sqrt(m) - math.sqrt(k)) ** 2
        largest, smallest = p.columns.max() * p.rows.max(), p.columns.min() * p.rows.min()
        low = max(0.99 * (p.base + smallest) * inner, _FLOOR * (p.base or largest) * outer)
        x = np.geomspace(low, 1.01 * (p.base + largest) * outer, _COARSE)
        q = solve(p, x)
        while True:
            above, density = count_above(p, x, q), -q[0].imag / np.pi
            inside = x * density > _EMPTY * k
            hidden = (
                ~inside[1:] & ~inside[:-1] & (above[:-1] - above[1:] > 0.3)
            )  # an interval between two points
            brackets = np.flatnonzero(
                (np.diff(x) > _BRACKET * x[:-1]) & (hidden | (inside[1:] != inside[:-1]))
            )
            if not len(brackets):
                break
            new = np.geomspace(x[brackets], x[brackets + 1], _ZOOM + 2)[1:-1].ravel()
            both = np.concatenate((x, new))
            order = np.argsort(both)
            q = np.concatenate((q, solve(p, new, guess=_between(x, q, new))), axis=1)[:, order]
            x = both[order]
        starts = np.flatnonzero(inside & ~np.append(False, inside[:-1]))
        ends = np.flatnonzero(inside & ~np.append(inside[1:], False)) + 1
        intervals, scale = [], 0.0
        for i, j in zip(starts, ends, strict=True):
            near = slice(i, j)
            lower = _edge(x[near], density[near], x[i - 1])[0] if i else 0.0
            upper, scale = _edge(x[near][::-1], density[near][::-1], x[j])
            intervals.append((lower, upper))
        return _Edges(tuple(intervals), scale, x, q, above)

    @cached_property
    def _pieces(self) -> list[_Piece]:
        """The number of eigenvalues as a function of x, on each interval of the support."""
        p, edges = self._profile, self._edges
        t = np.linspace(0, np.pi / 2, _FINE)
        pieces: list[_Piece] = []
        for low, high in edges.intervals:
            a, b = math.log(max(low, edges.x[0])), math.log(high)
            x = np.exp(a + (b - a) * np.sin(t[1:-1]) ** 2)
            q = solve(p, x, guess=_between(edges.x, edges.q, x))
            start = edges.above[np.searchsorted(edges.x, low) - 1] if low else self._rank
            end = edges.above[np.searchsorted(edges.x, high)]
            number = np.concatenate(([0.0], start - count_above(p, x, q), [start - end]))
            slope = np.concatenate(([0.0], -q[0].imag / np.pi * x * (b - a) * np.sin(2 * t[1:-1]), [0.0]))
            pieces.append(_Piece(a, b, CubicHermiteSpline(t, number, slope)))
        return pieces


class _Edges(NamedTuple):
    intervals: tuple[tuple[float, float], ...]
    scale: float  # of the Tracy-Widom law at the upper edge
    x: Array  # points where the equations are solved
    q: Complex
    above: Array  # numbers of eigenvalues


class _Piece(NamedTuple):
    """The number of eigenvalues in an interval, smooth in t: ln x = low + (high - low) sin(t)^2."""

    low: float
    high: float
    number: CubicHermiteSpline

    def position(self, logs: Array) -> Array:
        return np.arcsin(np.sqrt(np.clip((logs - self.low) / (self.high - self.low), 0.0, 1.0)))


def _descend(p: Profile, x: Array, height: float, ratio: float) -> Complex:
    """Follow the solution from far above the real axis down to the height."""
    n = p.column_counts.sum()
    mean = float(p.column_counts @ p.columns * (p.row_counts @ p.rows)) / n
    y = x + 4 * (p.base * p.row_counts.sum() + mean + np.max(p.shift))
    z = x + 1j * y
    q = np.array((n / z, p.column_counts @ p.columns / z))
    for _ in range(10):  # a contraction, there
        q = p.sums(z, q)[3]
    before, trend = q, np.zeros_like(y)
    while (y > height * x).any():
        lower = np.maximum(np.where(y < _NEAR * x, ratio**_HASTE, ratio) * y, height * x)
        step = np.log(y / lower)
        q, before = _newton(p, x + 1j * lower, q * (q / before) ** (step * trend), 2)[0], q
        # far above the axis q is nearly a power of the height
        y, trend = lower, np.where(lower > x, 1 / np.maximum(step, 1e-3), 0.0)
    return q


def _newton(p: Profile, z: Complex, q: Complex, steps: int) -> tuple[Complex, NDArray[np.bool_]]:
    """Return q after some Newton steps, and where they have come to rest."""
    b = p.base
    rows = np.stack([p.row_counts * p.rows**power for power in range(3)], axis=1)
    columns = np.stack([p.column_counts * p.columns**power for power in range(3)], axis=1)
    settled = np.zeros(len(z), dtype=bool)
    for _ in range(steps):
        D, _, G, image = p.sums(z, q)
        f = image - q
        d0, d1, d2 = (D * D @ rows).T  # derivatives of e0 and e1
        g0, g1, g2 = (G * G @ columns).T  # and of q0 and q1
        j00, j01 = 1 - b * b * g0 * d0 - b * g1 * d1, b * g0 * d1 + g1 * d2
        j10, j11 = b * b * g1 * d0 + b * g2 * d1, 1 - b * g1 * d1 - g2 * d2
        step = np.array((j11 * f[0] + j01 * f[1], j10 * f[0] + j00 * f[1])) / (j00 * j11 - j01 * j10)
        q = q + step
        settled = (np.abs(step) <= _SETTLED * np.abs(q)).all(axis=0)
        if settled.all():
            break
    return q, settled


def _between(x: Array, q: Complex, new: Array) -> Complex:
    logs = np.log(x)
    return np.array([np.interp(np.log(new), logs, line) for line in q])


def _edge(x: Array, density: Array, beyond: float) -> tuple[float, float]:
    """Return an edge and its scale from points inside, nearest first, and one beyond.

    The squared density is smooth inside: x is extrapolated to its zero, as a polynomial of it.
    """
    squares = density**2
    if len(x) == 1 or squares[1] <= squares[0]:
        edge = (x[0] + beyond) / 2
        return edge, float(np.cbrt(abs(edge - x[0]) / squares[0] / np.pi**2))
    slope = (x[1] - x[0]) / (squares[1] - squares[0])
    n = max(2, int(np.argmin(np.append(squares[:5] < 0.6 * squares.max(), False))))
    others = [np.delete(squares[:n], i) for i in range(n)]
    edge = float(
        x[:n] @ [(other / (other - square)).prod() for other, square in zip(others, squares, strict=False)]
    )
    low, high = min(beyond, x[0]), max(beyond, x[0])
    if not low <= edge <= high:
        edge = min(max(x[0] - slope * squares[0], low), high)
    return edge, float(np.cbrt(abs(slope) / np.pi**2))


def _side(name: str, values: ArrayLike, counts: ArrayLike | None) -> tuple[Array, Array]:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{name}s must be a non-empty 1-d array, finite and not negative; got {values}")
    if counts is None:
        return values, np.ones(len(values))
    counts = np.asarray(counts, dtype=np.float64)
    if counts.shape != values.shape or not (np.isfinite(counts) & (counts > 0)).all():
        raise ValueError(f"{name}_counts must be positive, one per value ({len(values)}); got {counts}")
    return values, counts
