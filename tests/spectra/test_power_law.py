"""Oracles: exact Pareto order statistics, reference.py's brute-force scan, quantiles of the law of noise,
scipy.stats' bounded and unbounded Pareto laws, and the table of Clauset, Shalizi & Newman (2009)."""

import dataclasses
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

import htlib as ht
from tests import reference
from tests.refusals import refused


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
    """Three digits from quantiles of the Marchenko-Pastur law; one matrix scatters by .01: three of them."""
    noise = np.random.default_rng(0).standard_normal((h, d))
    assert ht.hill_alpha(ht.esd(noise)) == pytest.approx(alpha, abs=0.03)
    quantiles = ht.MarchenkoPastur(d / h).ppf((np.arange(4000) + 0.5) / 4000)
    assert ht.hill_alpha(quantiles) == pytest.approx(alpha, abs=0.006)  # the digits given


@pytest.mark.parametrize("estimate", [ht.hill_alpha, ht.fit_power_law], ids=["hill", "ks"])
def test_alphas_do_not_depend_on_order_or_scale(estimate):
    values = np.random.default_rng(1).pareto(2.0, 200) + 1
    shuffled = np.random.default_rng(2).permutation(values)
    expected, scaled = estimate(np.sort(values)), estimate(1e12 * shuffled)
    assert estimate(shuffled) == expected
    alpha = getattr(expected, "alpha", expected)
    assert getattr(scaled, "alpha", scaled) == pytest.approx(alpha, rel=1e-10)


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
    # negative control: exponential values do not follow a power law over the same range
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
    D = max(abs(f - k / 3) for k, f in enumerate(fitted))
    expected = ht.PowerLawFit(alpha, 1.6, D, n_tail=3, alpha_error=(alpha - 1) / 3**0.5, xmax=math.inf)
    assert dataclasses.asdict(fit) == pytest.approx(dataclasses.asdict(expected))
    assert ht.fit_power_law([8, 1, 4, 2], xmin=np.float64(2)).n_tail == 3


@pytest.mark.parametrize("estimate", [ht.hill_alpha, ht.hill_plot, ht.fit_power_law])
@pytest.mark.parametrize(
    ("values", "named"),
    [([1.0], ("at least 3", 1)), ([1.0, 2.0], ("at least 3", 2)), ([0.0, 1, 0, 2, 3], ("2 of 5", "Drop"))],
)
def test_too_few_values_and_zeros_are_refused_and_counted(estimate, values, named):
    with refused("eigenvalues", *named):
        estimate(values)


@pytest.mark.parametrize(
    "xmin", ["mean", "", 0, -1.0, math.nan, math.inf, None, (-1.0, 2.0), (1.0, "x"), (1.0,)]
)
def test_bad_xmin_is_refused(xmin):
    with refused("xmin must", "got", error=(TypeError, ValueError)):
        ht.fit_power_law([1.0, 2.0, 3.0], xmin=xmin)


def test_values_without_a_tail_are_refused():
    with refused("eigenvalues", "equal to 2"):
        ht.fit_power_law([2.0, 2.0, 2.0])
    for xmin in (3.0, 2.5, 10.0):
        with refused(f"xmin = {xmin:g}", "spread"):
            ht.fit_power_law([1.0, 2.0, 3.0], xmin=xmin)
    with refused("xmax = 2.5", "2 values", "at least 3"):
        ht.fit_power_law([1.0, 2.0, 3.0, 4.0], xmax=2.5)
    with refused("xmin = 4", "0 values"):
        ht.fit_power_law([1.0, 2.0, 3.0, 4.0], xmin=4.0, xmax=3.0)
    with refused("the peak", "9.77237"):  # the last of 100 bins between 1 and 10 begins at 10^.99
        ht.fit_power_law([1.0, 2.0, 10.0, 10.0, 10.0], xmin="peak")


def peak_scan(values, buggy=False):
    """Index chosen among 0.95..1.5 of the peak; with the lower bound of the released codes if `buggy`."""
    logs = np.log10(values)
    width = (logs[-1] - logs[0]) / 100
    bins = [min(int((log - logs[0]) / width), 99) for log in logs]
    peak = 10 ** (logs[0] + width * np.bincount(bins, minlength=100).argmax())
    low = np.log10(0.95 * peak) if buggy else 0.95 * peak
    _, distances = reference.ks_distances(values)
    distances[(values[:-1] < low) | (values[:-1] > 1.5 * peak)] = np.inf
    return int(distances.argmin())


def lump(rng):
    """A tenth of a Pareto sample from 10 on piled up at 1000, far above the logarithm of the peak."""
    return np.append(10 * (rng.pareto(1.0, 900) + 1), 1000 * rng.uniform(0.99, 1.01, 120))


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: ht.MarchenkoPastur(2 / 3).rvs(300, rng),
        lambda rng: rng.lognormal(4, 1, 300),
        lambda rng: rng.pareto(2.0, 300) + 1,
        lump,
    ],
    ids=["noise", "lognormal", "pareto", "lump"],
)
def test_peak_is_the_brute_force_scan_near_the_peak(draw):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        values = np.sort(draw(rng))
        best = peak_scan(values)
        fit = ht.fit_power_law(rng.permutation(values), xmin="peak")
        assert (fit.xmin, fit.n_tail) == (values[best], len(values) - best)
        assert fit.ks_distance == pytest.approx(reference.ks_distances(values)[1][best], abs=1e-12)


def test_peak_with_the_lower_bound_of_the_released_codes_differs():
    """A bound of log10(950) = 3 admits thresholds a hundred times below the peak."""
    values = np.sort(lump(np.random.default_rng(0)))
    wrong, fit = peak_scan(values, buggy=True), ht.fit_power_law(values, xmin="peak")
    assert values[wrong] < 100 < 900 < fit.xmin < 1600


def bounded_pareto(rng, alpha, ratio, N):
    """Inverse distribution function; alpha = 1 is uniform in the logarithm."""
    u = rng.uniform(size=N)
    return ratio**u if alpha == 1 else (1 - u * (1 - ratio ** (1 - alpha))) ** (1 / (1 - alpha))


def bounded_mle(tail, xmin, xmax):
    """scipy's law, its parameter b = alpha - 1 found by scipy's minimiser, and the KS distance."""
    ratio = xmax / xmin

    def loss(k):  # b in units of the range; scipy has no b = 0
        return -stats.truncpareto.logpdf(tail, k / np.log(ratio) or 1e-12, ratio, scale=xmin).mean()

    k = minimize_scalar(loss, bounds=(-60, 200), method="bounded", options={"xatol": 1e-10}).x
    b = k / np.log(ratio)
    fitted = stats.truncpareto.cdf(tail, b, ratio, scale=xmin)
    return 1 + b, float(np.abs(fitted - np.arange(len(tail)) / len(tail)).max())


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 1.0, 1.5, 3.0, 8.0])
@pytest.mark.parametrize("ratio", [1.5, 30.0, 1e6])
def test_bounded_fit_is_scipys_maximum(alpha, ratio):
    """Minimising a smooth loss finds its place to the root of the machine's precision: 1e-6 of the range."""
    values = 7 * np.sort(bounded_pareto(np.random.default_rng(1), alpha, ratio, 200))
    fit = ht.fit_power_law(np.append(values, 70 * ratio), xmin=7.0, xmax=7 * ratio)  # one above is left out
    expected, distance = bounded_mle(values, 7.0, 7 * ratio)
    assert fit.alpha == pytest.approx(expected, abs=1e-5 / np.log(ratio))
    assert fit.ks_distance == pytest.approx(distance, abs=1e-5)
    assert (fit.n_tail, fit.xmin, fit.xmax) == (200, 7, 7 * ratio)
    # Fisher information of an exponential family: the variance of ln x, here on a fine grid
    u = np.linspace(0, np.log(ratio), 20_001)
    density = np.exp((1 - fit.alpha) * (u - (u[-1] if fit.alpha < 1 else 0)))
    mean = np.trapezoid(u * density) / np.trapezoid(density)
    variance = np.trapezoid((u - mean) ** 2 * density) / np.trapezoid(density)
    assert fit.alpha_error == pytest.approx(1 / math.sqrt(200 * variance), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 3.5])
def test_bounded_estimate_is_unbiased_and_its_error_is_the_spread(alpha):
    """200 samples of 1000: the mean within 4 standard errors, the spread within 4 / sqrt(400)."""
    rng = np.random.default_rng(2)
    samples = [bounded_pareto(rng, alpha, 5.0, 1000) for _ in range(200)]
    fits = [ht.fit_power_law(x, xmin=1.0, xmax=5.0) for x in samples]
    alphas = np.array([fit.alpha for fit in fits])
    spread = np.mean([fit.alpha_error for fit in fits])
    assert abs(alphas.mean() - alpha) < 4 * spread / math.sqrt(200)
    assert alphas.std(ddof=1) == pytest.approx(spread, rel=4 / math.sqrt(400))
    # negative control: without the bound the same samples give another alpha
    unbounded = np.mean([ht.fit_power_law(x, xmin=1.0).alpha for x in samples])
    assert unbounded - alpha > 10 * spread / math.sqrt(200)


def test_uniform_in_the_logarithm_is_alpha_one():
    """Closed forms: the logs' mean is the middle, so alpha = 1; error sqrt(12 / n) / ln(xmax / xmin)."""
    n, room = 1000, math.log(50)
    fit = ht.fit_power_law(np.exp((np.arange(n) + 0.5) / n * room), xmin=1.0, xmax=50.0)
    assert fit.alpha == pytest.approx(1, abs=1e-12)
    assert fit.alpha_error == pytest.approx(math.sqrt(12 / n) / room, rel=1e-9)
    assert fit.ks_distance == pytest.approx(0.5 / n, rel=1e-6)
    np.testing.assert_allclose(fit.pdf([1, 7, 50]), 1 / (room * np.array([1, 7, 50])), rtol=1e-10)
    np.testing.assert_allclose(fit.cdf([1, 7, 50]), np.log([1, 7, 50]) / room, rtol=1e-10)


@pytest.mark.parametrize("cap", [0.6, 0.9, 1.0])
def test_bounded_ks_scan_is_the_brute_force_scan(cap):
    """Every distinct value but the largest is a candidate, each fitted by scipy; D agrees to its 1e-6."""
    for seed, draw in enumerate([lambda r: r.lognormal(size=24), lambda r: 1.0 + r.integers(1, 12, 30)]):
        values = np.sort(draw(np.random.default_rng(seed)))
        xmax = float(np.quantile(values, cap)) * 1.001
        fit, kept = ht.fit_power_law(values, xmax=xmax), values[values <= xmax]
        candidates = {x: bounded_mle(kept[kept >= x], x, xmax) for x in np.unique(kept)[:-1]}
        assert fit.ks_distance == pytest.approx(min(d for _, d in candidates.values()), abs=1e-6)
        assert (fit.alpha, fit.ks_distance) == pytest.approx(candidates[fit.xmin], rel=1e-5, abs=1e-6)
        assert fit.n_tail == (kept >= fit.xmin).sum()


def test_a_bound_far_away_changes_nothing():
    values = np.random.default_rng(3).pareto(1.5, 300) + 1
    bounded, free = ht.fit_power_law(values, xmax=1e100), ht.fit_power_law(values)
    assert dataclasses.astuple(bounded)[:5] == pytest.approx(dataclasses.astuple(free)[:5], rel=1e-9)


@pytest.mark.parametrize("span", [(1.0, 1e9), (2.0, 3.0), (3.0, 5.0)])
def test_a_range_of_thresholds_is_the_brute_force_scan_within(span):
    for seed in range(8):
        values = np.sort(np.random.default_rng(seed).lognormal(1, 1, 120))
        _, distances = reference.ks_distances(values)
        distances[(values[:-1] < span[0]) | (values[:-1] > span[1])] = np.inf
        fit = ht.fit_power_law(values, xmin=span)
        assert fit.xmin == values[distances.argmin()]
        assert fit.ks_distance == pytest.approx(distances.min(), abs=1e-12)
    with refused("xmin = (0.1, 0.2)", "widen"):
        ht.fit_power_law([1.0, 2.0, 3.0], xmin=(0.1, 0.2))


def test_hills_factor_and_the_bias_of_short_tails():
    """Hill (1975): the mean of ln x above the k-th largest.  The smallest of n exponential values taken off,
    the others have a gamma law: the mean of n / their sum is n / (n - 2); 4 standard errors of 4000 draws."""
    values = np.sort(np.random.default_rng(0).pareto(1.5, 200) + 1)[::-1]
    plot = ht.hill_plot(values)
    hill = np.cumsum(np.log(values))[:-1] / np.arange(1, 200) - np.log(values[1:])
    np.testing.assert_allclose(plot.n_tail / (plot.n_tail - 1) / (plot.alpha - 1), hill, rtol=1e-11)
    rng = np.random.default_rng(1)
    for n in (5, 10, 20):
        samples = rng.pareto(1.5, (4000, n)) + 1
        slopes = np.array([ht.hill_plot(x).alpha[-1] - 1 for x in samples])
        assert slopes.mean() == pytest.approx(1.5 * n / (n - 2), abs=4 * slopes.std() / math.sqrt(4000))


@pytest.mark.parametrize("xmax", ["ks", 0, -2.0, math.nan, math.inf])
def test_bad_xmax_is_refused(xmax):
    with refused("xmax", "positive", repr(xmax), error=(TypeError, ValueError)):
        ht.fit_power_law([1.0, 2.0, 3.0], xmax=xmax)


LAWS = [
    (2.5, math.inf),
    (1.2, math.inf),
    (12.0, math.inf),
    (2.5, 60.0),
    (1.0, 60.0),
    (0.2, 60.0),
    (-3.0, 4.0),
]


@pytest.mark.parametrize(("alpha", "xmax"), LAWS)
def test_law_integrates_to_one_and_is_scipys(alpha, xmax):
    """Quadrature of the density in ln x, and scipy.stats (loguniform where alpha = 1), to rounding."""
    fit = ht.PowerLawFit(alpha=alpha, xmin=3.0, ks_distance=0.0, n_tail=10, alpha_error=0.1, xmax=xmax)
    if math.isinf(xmax):
        law = stats.pareto(alpha - 1, scale=3)
    else:
        law = stats.loguniform(3, xmax) if alpha == 1 else stats.truncpareto(alpha - 1, xmax / 3, scale=3)
    upper = math.log(min(xmax, 3 * 1e15 ** (1 / max(alpha - 1, 0.1))))  # 1e-15 lies above
    mass, _ = quad(lambda t: float(fit.pdf(math.exp(t))) * math.exp(t), math.log(3), upper, epsabs=1e-12)
    assert mass == pytest.approx(1, abs=1e-10)
    x = np.array([0.0, 1.0, 3.0, 3.1, 3.7, min(xmax, 50), min(xmax, 1e4), 1e300])
    np.testing.assert_allclose(fit.pdf(x), law.pdf(x), rtol=1e-12)
    np.testing.assert_allclose(fit.cdf(x), law.cdf(x), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(fit.ccdf(x), law.sf(x), rtol=1e-11, atol=1e-15)
    if math.isinf(xmax):
        assert fit.ccdf(3e30) == pytest.approx(1e30 ** (1 - alpha), rel=1e-12)  # no 1 - cdf there
    else:
        assert (fit.pdf(xmax * 1.001), fit.cdf(xmax), fit.ccdf(2 * xmax)) == (0, 1, 0)
    assert fit.tail_index == (pytest.approx(1 / (alpha - 1)) if alpha > 1 else math.inf)


def test_tail_index_of_pareto_moments():
    """Extreme-value theory: xi = 1 / 1.5 of a survival x^(-1.5); the standard error of xi is xi / sqrt(n)."""
    fit = ht.fit_power_law(np.random.default_rng(6).pareto(1.5, 4000) + 1, xmin=1.0)
    assert fit.tail_index == pytest.approx(2 / 3, rel=4 / math.sqrt(4000))
    assert fit.alpha_error == pytest.approx((fit.alpha - 1) / math.sqrt(4000), rel=1e-14)


@pytest.mark.parametrize("N", [3, 50, 51])
def test_hill_plot_by_loops(N):
    values = np.sort(np.random.default_rng(N).lognormal(size=N))
    plot = ht.hill_plot(values[::-1])
    assert plot.n_tail.tolist() == list(range(2, N + 1))
    for n, xmin, alpha, error in zip(plot.n_tail, plot.xmin, plot.alpha, plot.alpha_error, strict=True):
        tail = values[N - n :]
        expected = 1 + n / sum(math.log(x / tail[0]) for x in tail)
        assert (xmin, alpha) == (tail[0], pytest.approx(expected, rel=1e-12))
        assert error == pytest.approx((expected - 1) / math.sqrt(n), rel=1e-12)
    at_the_cut = plot.alpha[plot.n_tail == N - N // 2] if N > 3 else plot.alpha[:1]
    assert at_the_cut == pytest.approx(ht.hill_alpha(values), rel=1e-12)


def test_hill_plot_of_ties_is_infinite_where_there_is_no_spread():
    """By hand: 3, 3 and 3, 3, 3 have none; with 1 below, 4 / (3 ln 3)."""
    plot = ht.hill_plot([3.0, 1.0, 3.0, 3.0])
    assert plot.alpha == pytest.approx([math.inf, math.inf, 1 + 4 / (3 * math.log(3))])


@pytest.mark.parametrize("kind", ["lognormal", "pareto"])
def test_large_samples(kind):
    """Instead of brute force, 200 random candidates measured one by one must not beat the fit."""
    rng, N = np.random.default_rng(8), 200_000
    L = np.sort(rng.standard_normal(N) if kind == "lognormal" else rng.exponential(1 / 1.5, N))
    fit = ht.fit_power_law(np.exp(L))
    smallest = math.inf
    for i in np.append(rng.integers(0, N - 2, 100), N - 2 - rng.integers(0, 5000, 100)):
        u = L[i:] - L[i]
        smallest = min(smallest, np.abs(-np.expm1(-u / u.mean()) - np.arange(N - i) / (N - i)).max())
    assert fit.ks_distance <= smallest + 1e-12
    if kind == "pareto":
        assert fit.alpha == pytest.approx(2.5, abs=4 * fit.alpha_error)


DATA = Path(importlib.util.find_spec("powerlaw").origin).parent / "reference_data"


@pytest.mark.parametrize(
    ("name", "unit", "xmin", "alpha", "n_tail", "scanned"),
    [
        ("blackouts", 1e3, "230", "2.3", 59, (2.2726, 0.06067)),
        ("flares", 1, "323", "1.79", 1711, (1.7884, 0.00829)),
        ("cities", 1e3, "52.46", "2.37", 580, None),
        ("fires", 1, "6324", "2.2", 521, None),
        ("quakes", 1e3, ".794", "1.64", 11697, None),
        ("surnames", 1e3, "111.92", "2.5", 239, None),
    ],
)
def test_clauset_shalizi_newman_table_6_1(name, unit, xmin, alpha, n_tail, scanned):
    """Published: half a unit of the last digit printed, the count exactly; five digits by reference.py."""
    fit = ht.fit_power_law(np.loadtxt(DATA / f"{name}.txt") / unit)
    for found, printed in ((fit.xmin, xmin), (fit.alpha, alpha)):
        assert found == pytest.approx(float(printed), abs=0.5 * 10.0 ** -len(printed.partition(".")[2]))
    assert fit.n_tail == n_tail
    assert scanned is None or (fit.alpha, fit.ks_distance) == pytest.approx(scanned, abs=5e-5)


def test_a_spectrum_that_piles_up_at_its_bound():
    """Nearly all values at xmax: a density that rises by hundreds of powers, and no overflow on the way."""
    fit = ht.fit_power_law([1.0] + [100.0] * 2000, xmin=1.0, xmax=100.0)
    assert fit.alpha == pytest.approx(1 - 2001 / math.log(100), rel=1e-3)  # mean distance to the bound
    assert fit.ks_distance == pytest.approx(1 - 1 / 2001, rel=1e-12)
    assert np.isfinite(fit.pdf([1.0, 50.0, 100.0])).all()
