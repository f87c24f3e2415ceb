"""The exact search for the threshold of a power law: smallest Kolmogorov-Smirnov distance.

All functions work on L, the ascending logarithms of a sample.  With u = L_j - L_i above a candidate
threshold L_i, the fitted distribution function is F(u) = (1 - exp(-s u)) / (1 - exp(-s b)), where s =
alpha - 1 and b is the room up to an upper bound (without one, b is infinite and F = 1 - exp(-s u)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize.elementwise import find_root

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_PROBES = 24  # candidates measured in full at first, for a thousand values
_POINTS = 32  # of a tail, for the bounds of the others


def slopes(means: Array, rooms: Array | float) -> Array:
    """Maximum-likelihood s = alpha - 1 from the mean log ratios to the threshold.

    Without a bound 1 / mean; else the root of 1/k - 1/(e^k - 1) = mean / b with k = s b, which is
    negative where the sample piles up at its bound.

    Parameters
    ----------
    means : (m,) array
        Positive, below `rooms`.
    rooms : (m,) array or inf
        b.

    Returns
    -------
    (m,) array
    """
    if np.ndim(rooms) == 0 and np.isinf(rooms):
        return 1 / means
    ratio = means / rooms
    # symmetric about (0, 1/2) and below 1/k: the root for a ratio below 1/2 is below 1 / ratio
    small = np.minimum(ratio, 1 - ratio)

    def excess(k: Array, level: Array) -> Array:
        return _mean_of_bounded(k) - level

    root = find_root(excess, (np.zeros_like(small), 2 / small), args=(small,)).x
    return np.where(ratio <= 0.5, root, -root) / rooms


def fitted_cdf(u: Array, slope: Array | float, room: Array | float) -> Array:
    """F(u) of the module's head; for every slope, without overflow."""
    if np.ndim(room) == 0 and np.isinf(room):
        return -np.expm1(-slope * u)
    share, steep = u / room, np.abs(slope * room)
    rising = np.where(slope < 0, np.exp(steep * (share - 1)), 1.0)
    return rising * share * _mean_decay(steep * share) / _mean_decay(steep)


def fitted_pdf(u: Array, slope: float, room: float) -> Array:
    """Density of u."""
    if np.isinf(room):
        return slope * np.exp(-slope * u)
    share, steep = u / room, abs(slope * room)
    return np.exp(-steep * (1 - share if slope < 0 else share)) / (room * _mean_decay(np.asarray(steep)))


def best_threshold(L: Array, candidates: Indices, ceiling: float = np.inf) -> int:
    """Index of the candidate with the smallest distance, the first of equals.

    The distance of candidate i is max_j |F(L_j - L_i) - (j - i) / (N - i)| over j >= i.  Every term of
    a maximum bounds it from below, so a candidate with one term above the best distance known is
    dropped unseen.  The terms that tell most are where neighbours have their maximum: a few
    candidates are measured in full first, the others at those places; what is left gets a look at
    evenly spaced points, and only then a full measurement.  The result is that of measuring all.

    Parameters
    ----------
    L : (N,) array
        Ascending logarithms, none above `ceiling`.
    candidates : (m,) array of int
        Ascending indices into L, each with a larger value above it.
    ceiling : float
        Logarithm of the upper bound.

    Returns
    -------
    int
    """
    N = len(L)
    # total_i = sum_{j >= i} (L_j - L_i), from the top down so that no digits cancel
    total = np.zeros(N)
    total[:-1] = np.cumsum(((N - 1 - np.arange(N - 1)) * np.diff(L))[::-1])[::-1]
    rows, size = candidates, N - candidates
    bounded = np.isfinite(ceiling)
    room = ceiling - L[rows] if bounded else np.inf
    slope = slopes(total[rows] / size, room)
    rank = np.arange(N, dtype=np.float64)

    def gaps(row: Indices | int, first: Indices | int, j: Indices | slice, share: Array) -> Array:
        b = np.asarray(room)[row] if bounded else np.inf
        return np.abs(fitted_cdf(L[j] - L[first], slope[row], b) - share)

    def measure(r: int) -> tuple[float, int]:
        i = int(rows[r])
        gap = gaps(r, i, slice(i, None), rank[: N - i] / (N - i))
        j = int(gap.argmax())
        return float(gap[j]), i + j

    stride = max(1, len(rows) // max(_PROBES, int(np.sqrt(len(rows)) / 2)))
    probes = np.unique(np.append(np.arange(0, len(rows), stride), len(rows) - 1))
    distance = np.full(len(rows), np.inf)
    place = np.empty(len(probes), dtype=np.intp)
    for p, r in enumerate(probes):
        distance[r], place[p] = measure(int(r))
    best = distance.min()

    everyone = np.arange(len(rows), dtype=np.intp)
    before = np.searchsorted(probes, everyone, side="right") - 1
    lower = np.zeros(len(rows))
    for neighbour in (before, np.minimum(before + 1, len(probes) - 1)):
        j = np.maximum(place[neighbour], rows)
        np.maximum(lower, gaps(everyone, rows, j, (j - rows) / size), out=lower)
    # rounding differs between a bound and the full measurement
    margin = 1e-13
    alive = np.flatnonzero((lower <= best + margin) & np.isinf(distance))
    if len(alive) > _POINTS:
        for part in np.array_split(alive, len(alive) * _POINTS // 1_000_000 + 1):
            n = size[part, None]
            offset = np.rint(np.linspace(0, 1, _POINTS) * (n - 1)).astype(np.intp)
            first = rows[part, None]
            bound = gaps(part[:, None], first, first + offset, offset / n).max(axis=1)
            lower[part] = np.maximum(lower[part], bound)
    for r in alive[np.argsort(lower[alive], kind="stable")]:
        if lower[r] > best + margin:
            break
        distance[r], _ = measure(int(r))
        best = min(best, distance[r])
    return int(rows[distance.argmin()])


def _mean_decay(k: Array) -> Array:
    """(1 - e^-k) / k for k >= 0."""
    return np.where(k > 0, -np.expm1(-k) / np.where(k > 0, k, 1.0), 1.0)


def _mean_of_bounded(k: Array) -> Array:
    """1/k - 1/(e^k - 1), the mean of u / b, for k >= 0."""
    near = k < 1e-3  # a series there: the two terms cancel
    safe = np.where(near, 1.0, np.minimum(k, 700))
    return np.where(
        near, 0.5 - k / 12, np.where(k > 700, 1 / np.maximum(k, 1), 1 / safe - 1 / np.expm1(safe))
    )
