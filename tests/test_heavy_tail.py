"""Oracles: exact Pareto order statistics, reference.py's brute-force scan, THEORY.md's values for noise."""

import dataclasses
import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import htlib as ht


def pareto(N, alpha):
    """Expected log order statistics of N Pareto values above 1 with density exponent alpha (Renyi 1953)."""
    return np.exp(np.cumsum(1 / np.arange(N, 0, -1.0)) / (alpha - 1))


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0, 6.0])
@pytest.mark.parametrize("N", [3, 4, 5, 101, 1000])
def test_hill_on_pareto_order_statistics(alpha, N):
    """Closed form: the expected logs above the i-th sum to (N - i - 1) / (alpha - 1)."""
    tail = N - N // 2
    expected = 1 + (alpha - 1) * tail / (tail - 1)
    assert ht.hill_alpha(pareto(N, alpha)) == pytest.approx(expected, rel=1e-11)


def test_hill_by_hand():
    """Five values: i = 2, three in the tail, logs 0, ln 2, ln 4."""
    assert ht.hill_alpha([1, 1, 2, 4, 8]) == pytest.approx(1 + 3 / math.log(8), rel=1e-14)
    assert ht.hill_alpha([1, 2, 3, 3, 3]) == math.inf


@pytest.mark.parametrize(("h", "d", "alpha"), [(750, 500, 2.449), (500, 500, 2.12), (1600, 400, 3.45)])
def test_hill_of_pure_noise(h, d, alpha):
    """THEORY.md section 3.  One matrix scatters by .005 at twice this size, .01 here: three of them."""
    noise = np.random.default_rng(0).standard_normal((h, d))
    assert ht.hill_alpha(ht.esd(noise)) == pytest.approx(alpha, abs=0.03)
    quantiles = ht.MarchenkoPastur(d / h).ppf((np.arange(4000) + 0.5) / 4000)
    assert ht.hill_alpha(quantiles) == pytest.approx(alpha, abs=0.006)  # the digits given


@pytest.mark.parametrize("estimate", [ht.hill_alpha, ht.fit_power_law], ids=["hill", "ks"])
def test_alphas_do_not_depend_on_order_or_scale(estimate):
    values = np.random.default_rng(1).pareto(2.0, 200) + 1
    shuffled = np.random.default_rng(2).permutation(values)
    expected = estimate(np.sort(values))
    assert estimate(shuffled) == expected
    scaled = estimate(1e12 * shuffled)
    if estimate is ht.fit_power_law:
        scaled, expected = scaled.alpha, expected.alpha
    assert scaled == pytest.approx(expected, rel=1e-10)


KINDS = {
    "uniform": lambda rng, N: rng.uniform(0.1, 1, N),
    "lognormal": lambda rng, N: rng.lognormal(size=N),
    "pareto": lambda rng, N: rng.pareto(1.5, N) + 1,
    "integers": lambda rng, N: rng.integers(1, 7, N).astype(float),
    "powers of two": lambda rng, N: 2.0 ** rng.integers(-3, 4, N),
    "nearly constant": lambda rng, N: 1 + 1e-8 * rng.integers(0, 1000, N),
    "constant but one": lambda rng, N: np.append(np.ones(N - 1), 1 + rng.uniform()),
    "wide": lambda rng, N: np.exp(20 * rng.standard_normal(N)),
}


def assert_is_the_brute_force_scan(values):
    fit = ht.fit_power_law(np.random.default_rng(0).permutation(values))
    alphas, distances = reference.ks_distances(values)
    best = int(distances.argmin())
    chosen = len(values) - fit.n_tail
    # Where candidates tie to rounding, either is the smallest; nothing else may be chosen.
    assert chosen == best or distances[chosen] - distances[best] < 1e-13
    assert fit.xmin == values[chosen]
    # logs of nearly constant values, spread 1e-8, keep 8 digits
    assert fit.ks_distance == pytest.approx(distances[chosen], abs=1e-7)
    assert fit.alpha == pytest.approx(alphas[chosen], rel=1e-7)
    assert fit.alpha_error == pytest.approx((fit.alpha - 1) / math.sqrt(fit.n_tail), rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_ks_scan_is_the_brute_force_scan(kind):
    """60 spectra of each kind, 10 of them of the smallest size."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = np.sort(KINDS[kind](rng, 3 if seed < 10 else int(rng.integers(4, 120))))
        values[-1] *= 2 if values[0] == values[-1] else 1
        assert_is_the_brute_force_scan(values)


@pytest.mark.parametrize("kind", ["noise", "spike", "pareto", "ties", "crossover"])
def test_ks_scan_is_the_brute_force_scan_where_it_prunes(kind):
    """Tails longer than the 1024 points of the last bound."""
    rng, N = np.random.default_rng(7), 2500
    noise = ht.MarchenkoPastur(2 / 3, 1500).rvs(N, rng)
    values = {
        "noise": noise,
        "spike": np.append(noise[:-1], 1e6),
        "pareto": rng.pareto(1.5, N) + 1,
        "ties": np.round(20 * rng.lognormal(size=N)) + 1,
        "crossover": np.append(rng.uniform(0, 1, N // 2), rng.pareto(2, N // 2) + 1),
    }[kind]
    assert_is_the_brute_force_scan(np.sort(values))


def test_first_of_equal_candidates_wins():
    """By hand: D is 2/6 at the first 1 (three equal of six), 1/3 at the first 2, above .35 elsewhere."""
    fit = ht.fit_power_law([1.0, 1.0, 1.0, 2.0, 2.0, 3.0])
    assert (fit.xmin, fit.n_tail) == (1, 6)
    assert fit.ks_distance == pytest.approx(1 / 3, rel=1e-14)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 50), min_size=3, max_size=40).filter(lambda v: len(set(v)) > 1))
def test_ks_scan_on_any_list_of_integers(values):
    assert_is_the_brute_force_scan(np.sort(np.array(values, dtype=float)))


@pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0])
def test_fit_recovers_a_pareto_tail_above_a_uniform_body(alpha):
    """The standard error (alpha - 1) / sqrt(n) of independent values; four of them."""
    rng = np.random.default_rng(3)
    values = np.append(rng.uniform(0, 1, 2000), (1 - rng.uniform(size=3000)) ** (-1 / (alpha - 1)))
    fit = ht.fit_power_law(values)
    assert fit.alpha == pytest.approx(alpha, abs=4 * fit.alpha_error)
    assert fit.xmin == pytest.approx(1, rel=0.35)
    assert fit.ks_distance < 1.5 / math.sqrt(fit.n_tail)
    # negative control: exponential values are no power law over the same range
    wrong = ht.fit_power_law(1 + rng.exponential(size=3000), xmin=1.0)
    assert wrong.ks_distance > 3 / math.sqrt(3000)


def test_median_cut_is_hill():
    values = np.random.default_rng(5).lognormal(size=51)
    fit = ht.fit_power_law(values, xmin="median")
    assert fit.alpha == pytest.approx(ht.hill_alpha(values), rel=1e-13)
    assert (fit.xmin, fit.n_tail) == (np.sort(values)[25], 26)


def test_numeric_xmin_by_hand():
    """Tail 2, 4, 8 above 1.6: alpha = 1 + 3 / ln(64 / 1.6^3); D against 0, 1/3, 2/3."""
    fit = ht.fit_power_law([8.0, 1.0, 4.0, 2.0], xmin=1.6)
    alpha = 1 + 3 / math.log(64 / 1.6**3)
    fitted = [1 - (x / 1.6) ** (1 - alpha) for x in (2, 4, 8)]
    distance = max(abs(f - k / 3) for k, f in enumerate(fitted))
    assert dataclasses.asdict(fit) == pytest.approx(
        {
            "alpha": alpha,
            "xmin": 1.6,
            "ks_distance": distance,
            "n_tail": 3,
            "alpha_error": (alpha - 1) / 3**0.5,
            "xmax": math.inf,
        }
    )
    assert ht.fit_power_law([8, 1, 4, 2], xmin=np.float64(2)).n_tail == 3


@pytest.mark.parametrize("estimate", [ht.hill_alpha, ht.fit_power_law])
@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0]])
def test_fewer_than_three_values_are_refused(estimate, values):
    with pytest.raises(ValueError, match=rf"^eigenvalues must hold at least 3 values .*got {len(values)}"):
        estimate(values)


@pytest.mark.parametrize("estimate", [ht.hill_alpha, ht.fit_power_law])
def test_zeros_are_refused_and_counted(estimate):
    with pytest.raises(ValueError, match=r"^eigenvalues must be positive; 2 of 5 are zero\. Drop them"):
        estimate([0.0, 1.0, 0.0, 2.0, 3.0])


def test_constant_spectrum_is_refused():
    with pytest.raises(ValueError, match=r"^eigenvalues are all equal to 2: no tail to fit"):
        ht.fit_power_law([2.0, 2.0, 2.0])


@pytest.mark.parametrize("xmin", ["mean", "", 0, -1.0, math.nan, math.inf, None])
def test_bad_xmin_is_refused(xmin):
    with pytest.raises((TypeError, ValueError), match=r"^xmin must be .*; got "):
        ht.fit_power_law([1.0, 2.0, 3.0], xmin=xmin)


@pytest.mark.parametrize("xmin", [3.0, 2.5, 10.0])
def test_xmin_without_a_tail_is_refused(xmin):
    with pytest.raises(ValueError, match=rf"^xmin = {xmin:g} leaves [01] values without spread"):
        ht.fit_power_law([1.0, 2.0, 3.0], xmin=xmin)
