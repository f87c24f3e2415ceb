"""Oracles: 60-digit arithmetic for the closed forms, reference.py's brute-force scan for the search."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from htlib.spectra.ks_scan import best_threshold, fitted_cdf, slopes
from tests import reference

REGIMES = [-600, -40, -1, -1e-3, -1e-8, -1e-13, 0, 1e-13, 1e-11, 1e-8, 1e-5, 0.5, 8, 300, 1e4, 1e9]


def exact_mean(k):
    """1/k - 1/(e^k - 1), and its derivative with respect to k."""
    if k == 0:
        return 0.5, -1 / 12
    if k > 1e6:
        return 1 / k, -1 / k**2
    with localcontext() as context:
        context.prec = 60
        k = Decimal(k)
        excess = k.exp() - 1
        return float(1 / k - 1 / excess), float(k.exp() / excess**2 - 1 / k**2)


def exact_cdf(share, k):
    if k == 0 or k > 1e6:
        return -math.expm1(-k * share) if k else share
    with localcontext() as context:
        context.prec = 60
        return float((1 - (-Decimal(k) * Decimal(share)).exp()) / (1 - (-Decimal(k)).exp()))


@pytest.mark.parametrize("room", [1e-3, 1.0, 700.0])
@pytest.mark.parametrize("k", REGIMES)
def test_bounded_slope_inverts_the_mean(k, room):
    """The mean holds 16 digits: k cannot be had better than their rounding over the derivative.  The series
    of small k leaves k^3 / 720 out of the mean: 2e-11 in k where it ends, at .001."""
    mean, derivative = exact_mean(k)
    (found,) = slopes(np.array([mean * room]), np.array([room])) * room
    assert found == pytest.approx(k, rel=1e-10, abs=5e-16 / abs(derivative) + 2e-11 * (1e-8 < abs(k) < 0.01))


def test_unbounded_slope_is_the_inverse_mean():
    means = np.geomspace(1e-300, 1e300, 13)
    np.testing.assert_array_equal(slopes(means, math.inf), 1 / means)
    # a bound far away changes only the rounding of the root
    near = slopes(means[5:8], np.full(3, 1e200))
    np.testing.assert_allclose(near, 1 / means[5:8], rtol=1e-10)


@pytest.mark.parametrize("room", [1e-3, 1.0, 700.0])
@pytest.mark.parametrize("k", REGIMES)
def test_bounded_cdf(k, room):
    """A product of k = 600 and a rounded share keeps 13 digits of its exponential."""
    shares = np.array([0.0, 1e-9, 0.125, 0.5, 0.875, 1.0])
    found = fitted_cdf(shares * room, k / room, room)
    expected = [exact_cdf(share, k) for share in shares]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found[0], found[-1]) == (0, 1)


def test_unbounded_cdf_near_zero():
    """-expm1 keeps the digits of a tiny share: s u (1 - s u / 2) there."""
    assert fitted_cdf(np.array([1e-12]), 2.0, math.inf) == pytest.approx(2e-12 * (1 - 1e-12), rel=1e-14)
    assert fitted_cdf(np.array([1e4]), 2.0, math.inf) == 1


SAMPLES = {
    "two values": lambda rng, N: np.append(np.ones(N - 2), [rng.choice([1.0, 3.0]), 3.0]),
    "three values": lambda rng, N: np.append(rng.choice([1.0, 2.0, 7.0], N - 2), [1.0, 7.0]),
    "heavy ties": lambda rng, N: np.ceil(rng.pareto(1.0, N) + 0.5),
    "rounded": lambda rng, N: np.round(rng.lognormal(0, 2, N), 1) + 0.1,
    "distinct": lambda rng, N: rng.weibull(0.7, N),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_best_threshold_is_the_smallest_distance(kind):
    """120 samples a kind.  Distances that differ only by rounding are equal: either index is right."""
    for seed in range(120):
        rng = np.random.default_rng(seed)
        values = np.sort(SAMPLES[kind](rng, int(rng.integers(4, 90))))
        _, distances = reference.ks_distances(values)
        candidates = np.flatnonzero(np.isfinite(distances))
        # all of them, and a window of them as the "peak" rule asks for
        for window in (candidates, candidates[len(candidates) // 3 :]):
            found = best_threshold(np.log(values), window)
            assert found in window
            assert distances[found] <= distances[window].min() + 1e-13


@pytest.mark.parametrize("kind", ["pareto", "lognormal", "uniform in log"])
def test_bounded_search_is_the_search_of_all(kind):
    """The search finds the smallest of all candidates, measured one by one; N is above its pruning sizes."""
    rng, N = np.random.default_rng(4), 1500
    values = {
        "pareto": 1 / (1 - 0.99 * rng.uniform(size=N)),
        "lognormal": rng.lognormal(size=N),
        "uniform in log": np.exp(5 * rng.uniform(size=N)),
    }[kind]
    L = np.sort(np.log(values))
    ceiling = L[-1] + 0.01
    tails, rooms = [L[i:] - L[i] for i in range(N - 1)], ceiling - L[:-1]
    best_slopes = slopes(np.array([u.mean() for u in tails]), rooms)
    distances = [
        np.abs(fitted_cdf(u, s, b) - np.arange(len(u)) / len(u)).max()
        for u, s, b in zip(tails, best_slopes, rooms, strict=True)
    ]
    found = best_threshold(L, np.arange(N - 1), float(ceiling))
    assert distances[found] <= min(distances) + 1e-12  # roots of one mean agree to rounding
    # negative control: the bound changes the answer
    assert found != best_threshold(L, np.arange(N - 1))


def test_slopes_are_found_at_every_ratio():
    """Where the root is 1 / ratio to rounding, and at the mirrored ratios."""
    ratio = 1 / np.random.default_rng(0).uniform(40, 1e4, 10_000)
    one = np.ones_like(ratio)
    np.testing.assert_allclose(slopes(ratio, one), 1 / ratio, rtol=1e-12)
    np.testing.assert_allclose(slopes(1 - ratio, one), -1 / ratio, rtol=1e-11)  # 1 - ratio is rounded
