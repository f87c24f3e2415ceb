"""Find the threshold of a power law that has exactly the smallest Kolmogorov-Smirnov distance.

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

_PROBES = 24  # at least this many candidates are measured in full at first
_POINTS = 32  # points of a tail that bound the distances of the other candidates


def slopes(means: Array, rooms: Array | float) -> Array:
    """Compute the (m,) maximum-likelihood s = alpha - 1 from the means of u, 0 < mean < b, and the rooms b.

    Without a bound (a single infinite b) s is 1 / mean.  With one, k = s b is the root of
    1/k - 1/(e^k - 1) = mean / b, which is negative where the sample piles up at its bound.
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
    """Return F(u) of the module's docstring, for any slope and without overflow."""
    if np.ndim(room) == 0 and np.isinf(room):
        return -np.expm1(-slope * u)
    share, steep = u / room, np.abs(slope * room)
    rising = np.where(slope < 0, np.exp(steep * (share - 1)), 1.0)
    return rising * share * _mean_decay(steep * share) / _mean_decay(steep)


def fitted_logpdf(u: Array, slope: float, room: float) -> Array:
    """Return the logarithm of the density of u, for any slope and without overflow."""
    if np.isinf(room):
        return np.log(slope) - slope * u
    share, steep = u / room, abs(slope * room)
    return -steep * (1 - share if slope < 0 else share) - np.log(room * _mean_decay(np.asarray(steep)))


def best_threshold(L: Array, candidates: Indices, ceiling: float = np.inf) -> int:
    """Return the index into L of the candidate with the smallest distance, the first of equals.

    The candidates are ascending indices, each with a larger value above it; no value of L exceeds
    `ceiling`, the logarithm of the upper bound.  The distance of candidate i is
    max_j |F(L_j - L_i) - (j - i) / (N - i)| over j >= i.  Every term bounds the maximum from below, so a
    candidate with one term above the best known distance is dropped.  Large terms lie where a neighbour
    has its maximum: a few candidates are measured in full first, and the others only at those places.
    Those that are left are checked at evenly spaced points, and only then in full.  The result is the same
    as if all were measured.
    """
    N = len(L)
    # total_i = sum_{j >= i} (L_j - L_i), summed from the top down so that no digits cancel
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
    margin = 1e-13  # a bound and the full measurement round differently
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
    """Return (1 - e^-k) / k for k >= 0."""
    return np.where(k > 0, -np.expm1(-k) / np.where(k > 0, k, 1.0), 1.0)


def _mean_of_bounded(k: Array) -> Array:
    """Return 1/k - 1/(e^k - 1), the mean of u / b, for k >= 0."""
    near = k < 1e-3  # a series is used here because the two terms cancel
    safe = np.where(near, 1.0, np.minimum(k, 700))
    return np.where(
        near, 0.5 - k / 12, np.where(k > 700, 1 / np.maximum(k, 1), 1 / safe - 1 / np.expm1(safe))
    )
