"""Oracles: Benaych-Georges & Nadakuditi (2012) as written in the derivations, exact symmetries, matrices with
planted signals, Gavish & Donoho's (2014) published coefficients, quadrature of the density."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import htlib as ht
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.spectra.nulls import gaussian_esd
from htlib.spectra.spikes import critical_strength, outlier_eigenvalue, outlier_overlaps, outlier_strength
from tests.refusals import refused

MODELS = [(1500, 1000, 1.0), (200, 300, 0.49), (50, 50, 4.0), (1, 7, 1.0), (1, 1, 2.0)]
sides = st.integers(1, 3000)
scales = st.floats(1e-6, 1e6)


def planted(noise, strengths, rng):
    """Noise plus a signal of these singular values along random directions, and those directions."""
    U, V = (np.linalg.qr(rng.standard_normal((side, len(strengths))))[0] for side in noise.shape)
    return noise + U * strengths @ V.T, U, V


def spectrum(W):
    W = W if W.shape[0] >= W.shape[1] else W.T
    return np.linalg.eigvalsh(W.T @ W)


@pytest.mark.parametrize(("h", "d"), [(450, 300), (250, 400)])
def test_a_population_makes_an_edge_of_its_own(h, d):
    """Planted spikes beyond it are found, and none of the eigenvalues that equal variances do not explain."""
    rng = np.random.default_rng(0)
    population = rng.chisquare(3, d)
    noise = rng.standard_normal((h, d)) * np.sqrt(0.25 * population)
    clean, spiked = (ht.esd(W) for W in (noise, planted(noise, [90.0, 60.0], rng)[0]))
    assert ht.fit_marchenko_pastur(clean, h, d).n_spikes > 5
    for values, n_spikes in ((clean, 0), (spiked, 2)):
        fit = ht.fit_marchenko_pastur(values, h, d, population=population)
        assert fit.has_bulk
        assert fit.n_spikes == n_spikes
        assert fit.variance == pytest.approx(0.25, rel=0.02)
        assert clean[-1] < fit.edge < 1.25 * clean[-1]
        assert fit.soft_rank == pytest.approx(fit.law.edge / values[-1])
    equal = ht.fit_marchenko_pastur(spiked, h, d, population=np.full(d, 2.0))
    assert equal.variance == pytest.approx(ht.fit_marchenko_pastur(spiked, h, d).variance / 2, rel=0.2)


def test_a_population_of_another_size_is_named():
    with refused("population must hold d = 4 eigenvalues", "(3,)"):
        ht.fit_marchenko_pastur([1.0, 2.0, 3.0, 4.0], 5, 4, population=np.ones(3))


@pytest.mark.parametrize(("h", "d", "variance"), MODELS)
@pytest.mark.parametrize("relative", [1.05, 2.0, 30.0])
def test_outlier_agrees_with_theory(h, d, variance, relative):
    """At unit variance s_1 and the right overlap (eq-dv-lambda, eq-dv-overlap), the left one by symmetry."""
    theta = relative * (h * d) ** 0.25
    s1 = math.sqrt((h + theta**2) * (d + theta**2)) / theta
    right = 1 - d * (h + theta**2) / (theta**2 * (theta**2 + d))
    left = 1 - h * (d + theta**2) / (theta**2 * (theta**2 + h))
    strength = math.sqrt(variance) * theta
    eigenvalue = outlier_eigenvalue(strength, h, d, variance)
    assert math.sqrt(eigenvalue) == pytest.approx(math.sqrt(variance) * s1, rel=1e-12)
    assert eigenvalue > variance * (math.sqrt(h) + math.sqrt(d)) ** 2
    # close to critical the overlap is a difference of numbers near 1
    assert outlier_overlaps(strength, h, d, variance) == pytest.approx((left, right), rel=1e-10, abs=1e-12)


@given(h=sides, d=sides, variance=scales, relative=st.floats(1.01, 1e4))
def test_strength_and_eigenvalue_invert_each_other(h, d, variance, relative):
    strength = relative * critical_strength(h, d, variance)
    eigenvalue = outlier_eigenvalue(strength, h, d, variance)
    # eps over the distance from critical, where the derivative of the eigenvalue vanishes
    assert outlier_strength(eigenvalue, h, d, variance) == pytest.approx(strength, rel=1e-11)
    assert all(0 < overlap < 1 for overlap in outlier_overlaps(strength, h, d, variance))


@given(h=sides, d=sides, variance=scales, relative=st.floats(0, 1e3), scale=scales)
def test_outliers_transpose_and_scale(h, d, variance, relative, scale):
    """h and d change places with left and right; c W has c theta, c^2 variance, c^2 lambda."""
    strength = relative * critical_strength(h, d)
    eigenvalue, overlaps = outlier_eigenvalue(strength, h, d), outlier_overlaps(strength, h, d)
    assert outlier_eigenvalue(strength, d, h) == pytest.approx(eigenvalue, rel=1e-14)
    assert outlier_overlaps(strength, d, h) == pytest.approx(overlaps[::-1], rel=1e-14)
    if abs(relative - 1) > 1e-9:  # rounding decides on which side of critical a scaled strength lies
        model = (math.sqrt(scale) * strength, h, d, scale)
        assert outlier_eigenvalue(*model) == pytest.approx(scale * eigenvalue, rel=1e-12)
        assert outlier_overlaps(*model) == pytest.approx(overlaps, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(("h", "d", "variance"), MODELS)
def test_nothing_shows_below_the_critical_strength(h, d, variance):
    critical = critical_strength(h, d, variance)
    edge = variance * (math.sqrt(h) + math.sqrt(d)) ** 2
    assert critical == pytest.approx((h * d * variance**2) ** 0.25, rel=1e-14)
    for strength in (0.0, 0.3 * critical, critical * (1 - 1e-12)):
        assert outlier_eigenvalue(strength, h, d, variance) == pytest.approx(edge, rel=1e-14)
        assert outlier_overlaps(strength, h, d, variance) == (0, 0)
    # continuous at critical: the eigenvalue to second order, the overlaps to first
    above = critical * (1 + 1e-6)
    assert outlier_eigenvalue(above, h, d, variance) == pytest.approx(edge, rel=1e-11)
    assert max(outlier_overlaps(above, h, d, variance)) < 1e-5
    for inside in (0.0, 0.5 * edge, variance * (math.sqrt(h) - math.sqrt(d)) ** 2, edge * (1 - 1e-12)):
        assert outlier_strength(inside, h, d, variance) == 0
    # an eigenvalue below the bulk solves the same quadratic, and there is no signal either
    assert outlier_strength(0.1 * variance * (math.sqrt(h) - math.sqrt(d)) ** 2, h, d, variance) == 0


@pytest.mark.parametrize("function", [outlier_eigenvalue, outlier_overlaps, outlier_strength])
def test_bad_models_are_refused(function):
    for h, d in ((0, 5), (5, 0), (-1, 3)):
        with refused("h and d", f"h = {h}, d = {d}"):
            function(1.0, h, d)
    for variance in (0.0, -1.0, math.nan, math.inf):
        with refused("variance", "positive", variance):
            function(1.0, 4, 5, variance)
    name = "eigenvalue" if function is outlier_strength else "strength"
    for value in (-1.0, math.nan):
        with refused(f"{name} must", "negative", f"{value:g}"):
            function(value, 4, 5)


def found_in_noise(h, d, std, strengths, seeds):
    """Means over seeds of the leading singular values and of both overlaps with the planted directions."""
    k, found = len(strengths), []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        W, U, V = planted(std * rng.standard_normal((h, d)), strengths, rng)
        left, s, right = np.linalg.svd(W, full_matrices=False)
        found.append([s[:k], (left[:, :k] * U).sum(0) ** 2, (right[:k].T * V).sum(0) ** 2])
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("h", "d"), [(300, 200), (120, 400), (250, 250)])
@pytest.mark.parametrize("relative", [(2.0,), (4.0, 2.5, 1.5)], ids=["one", "three"])
def test_planted_signals_are_found_where_the_theory_has_them(h, d, relative):
    """Means of 10 seeds.  One s_i scatters by 2 %, one overlap by up to .07; finite sizes add about 1/N."""
    strengths = np.array(relative) * critical_strength(h, d, 0.49)
    s, *overlaps = found_in_noise(h, d, 0.7, strengths, 10)
    expected = [math.sqrt(outlier_eigenvalue(theta, h, d, 0.49)) for theta in strengths]
    np.testing.assert_allclose(s, expected, rtol=0.025)
    expected = np.array([outlier_overlaps(theta, h, d, 0.49) for theta in strengths]).T
    np.testing.assert_allclose(overlaps, expected, atol=0.05)


def test_a_weak_signal_leaves_no_trace():
    """Half the critical strength: s_1 at the edge, less its N^(-2/3) fluctuation; overlaps of order 1/N."""
    (s1,), left, right = found_in_noise(300, 200, 1, [0.5 * critical_strength(300, 200)], 5)
    assert s1 == pytest.approx(math.sqrt(300) + math.sqrt(200), rel=0.02)
    assert max(left, right) < 0.05


SHAPES = [(900, 600, 0.02, 0), (600, 900, 1.0, 1), (700, 700, 30.0, 1), (1500, 300, 1.0, 0)]


@pytest.mark.parametrize(("h", "d", "std", "uniform"), SHAPES)
@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_fit_finds_variance_and_number_of_spikes(h, d, std, uniform, k):
    """1 % is four standard deviations of the estimate: sqrt(2 / (h d)) = .2 % is the least that any estimate
    has, this one scatters by 1.3 times as much; 20 spikes add a bias of .2 %."""
    rng = np.random.default_rng(k)
    noise = rng.uniform(-(3**0.5), 3**0.5, (h, d)) if uniform else rng.standard_normal((h, d))
    strengths = np.linspace(2.5, 6, k) * critical_strength(h, d, std**2)
    values = spectrum(planted(std * noise, strengths, rng)[0])
    fit = ht.fit_marchenko_pastur(values, h, d)
    assert fit.n_spikes == k
    assert fit.variance == pytest.approx(std**2, rel=0.01)
    assert fit.ks_distance < 6 / min(h, d)  # twice the "two or three over N" of the docstring
    assert fit.soft_rank == pytest.approx(fit.law.support[1] / values[-1])
    # noise: the largest eigenvalue is within N^(-2/3) = 2 % of the edge; signal: it lies far beyond
    assert abs(fit.soft_rank - 1) < 0.03 if k == 0 else fit.soft_rank < 0.6
    assert k == 0 or values[-k - 1] <= fit.edge < values[-k]


@pytest.mark.parametrize(("h", "d"), [(300, 200), (200, 200), (20, 500)])
def test_pure_noise_has_no_spikes_and_the_law_of_the_bulk(h, d):
    """At the 99 % quantile at most 3 of 60 seeds, 5 %, show a spike: more has probability .003."""
    rngs = [np.random.default_rng(seed) for seed in range(60)]
    fits = [ht.fit_marchenko_pastur(gaussian_esd(h, d, rng, 0.3), h, d) for rng in rngs]
    assert sum(fit.n_spikes > 0 for fit in fits) <= 3
    assert np.mean([fit.variance for fit in fits]) == pytest.approx(0.3, rel=0.005)
    for fit in fits[:5]:
        assert fit.edge == pytest.approx(largest_eigenvalue_quantile(h, d, 0.99, fit.variance), rel=0.02)
        if fit.n_spikes == 0:
            law = ht.MarchenkoPastur.of_gaussian_esd(h, d, fit.variance)
            assert astuple(fit.law) == pytest.approx(astuple(law), rel=1e-12)
    # negative control: the median of the largest eigenvalue is exceeded half of the time
    loose = [ht.fit_marchenko_pastur(gaussian_esd(h, d, rng), h, d, quantile=0.5) for rng in rngs[:24]]
    assert 4 <= sum(fit.n_spikes > 0 for fit in loose) <= 20


def test_ks_distance_tells_noise_from_heavy_tailed_entries():
    h, d = 300, 200
    rng = np.random.default_rng(0)
    noise, heavy = (
        [ht.fit_marchenko_pastur(spectrum(draw(size=(h, d))), h, d) for _ in range(5)]
        for draw in (rng.standard_normal, lambda size: rng.standard_t(2, size))
    )
    # rigid eigenvalues: noise scatters by a fifth around 2.5 / N; the bulk of Student-t(2) has another law
    assert max(fit.ks_distance for fit in noise) < 0.022 < min(fit.ks_distance for fit in heavy)
    assert max(fit.soft_rank for fit in heavy) < 0.3
    assert min(fit.n_spikes for fit in heavy) > 20


def test_ks_distance_is_the_largest_distance_of_the_two_distribution_functions():
    """Both sides of every step of the empirical distribution function, one at a time."""
    rng = np.random.default_rng(3)
    values = spectrum(planted(rng.standard_normal((40, 30)), [30.0, 40.0], rng)[0])
    fit = ht.fit_marchenko_pastur(values, 40, 30)
    assert fit.n_spikes == 2
    bulk = values[:-2]
    gaps = [abs(fit.law.cdf(x) - share / 28) for j, x in enumerate(bulk) for share in (j, j + 1)]
    assert fit.ks_distance == pytest.approx(max(gaps), rel=1e-12)


def test_pooled_spectra_of_several_matrices():
    h, d, spectra = 300, 200, []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        strengths = np.array([2.5, 3, 4]) * critical_strength(h, d)
        spectra.append(spectrum(planted(rng.standard_normal((h, d)), strengths, rng)[0]))
    pooled = ht.fit_marchenko_pastur(np.concatenate(spectra), h, d, n_matrices=5)
    assert pooled.n_spikes == 15
    # sqrt(2 / (h d)) / sqrt(5) = .3 %, and .3 % of bias of three spikes in 200
    assert pooled.variance == pytest.approx(1, rel=0.01)
    assert pooled.ks_distance < 6 / 200
    assert pooled.has_bulk
    # the bulk of each is that of a matrix smaller by its own three spikes
    assert pooled.law.aspect_ratio == pytest.approx(197 / 297)


def test_edge_of_pooled_noise_is_the_quantile_of_the_largest_of_all():
    """Of 100 pools of 9 at the level .9 about 10 show a spike: 4 binomial deviations are 12.  At the quantile
    of one matrix .9^9 = 39 % would show none (negative control)."""
    rng = np.random.default_rng(0)
    pools = [np.concatenate([gaussian_esd(40, 20, rng) for _ in range(9)]) for _ in range(100)]
    fits = [ht.fit_marchenko_pastur(pool, 40, 20, 0.9, n_matrices=9) for pool in pools]
    assert sum(fit.n_spikes > 0 for fit in fits) < 22
    edge = largest_eigenvalue_quantile(40, 20, 0.9)
    assert sum(pool.max() > edge for pool in pools) > 40


@pytest.mark.parametrize("dead", [0, 20, 60, 150])
@pytest.mark.parametrize("side", [0, 1])
def test_rows_and_columns_of_zeros_are_no_noise(dead, side):
    """The matrix without them has variance 1, within four of the standard deviations 1.3 sqrt(2 / (h d)) of
    `test_fit_finds_variance_and_number_of_spikes`, and no spike."""
    W = np.random.default_rng(dead).standard_normal((256, 192))
    np.moveaxis(W, side, 0)[:dead] = 0
    live = [256, 192]
    live[side] -= dead
    fit = ht.fit_marchenko_pastur(ht.esd(W), *live)
    assert fit.n_spikes <= 1  # beyond the 99 % quantile
    assert fit.variance == pytest.approx(1, abs=4 * 1.3 * math.sqrt(2 / math.prod(live)))
    assert fit.has_bulk
    # negative controls: zeros that count as bulk spoil the fit (20 rows less leave the rank as it is)
    if dead == 60:
        assert not ht.fit_marchenko_pastur(ht.esd(W), 256, 192).has_bulk
    if dead == 150:
        with refused("the central half", "zero", "h and d"):
            ht.fit_marchenko_pastur(ht.esd(W), 256, 192)


def test_has_bulk_tells_noise_from_everything_else():
    """At most 1 % of noise has none, of 50 at most 3 (probability .002); spikes do not matter.  Heavy
    entries, covariances with a power law and low rank are no noise, whether or not half are spikes."""
    rng = np.random.default_rng(0)
    for h, d, m in [(30, 30, 1), (150, 50, 1), (400, 200, 1), (32, 16, 9)]:
        pools = [np.concatenate([gaussian_esd(h, d, rng) for _ in range(m)]) for _ in range(50)]
        assert sum(not ht.fit_marchenko_pastur(pool, h, d, n_matrices=m).has_bulk for pool in pools) <= 3
    noise = rng.standard_normal((300, 200))
    spiked = planted(noise, np.linspace(2, 6, 20) * critical_strength(300, 200), rng)[0]
    fit = ht.fit_marchenko_pastur(spectrum(spiked), 300, 200)
    assert (fit.has_bulk, fit.n_spikes) == (True, 20)
    others = {
        "student": rng.standard_t(2, (300, 200)),
        "covariance": noise * np.arange(1, 201.0) ** -0.4,
        "steep": noise * np.arange(1, 201.0) ** -1.5,
        "rank 150": rng.standard_normal((300, 150)) @ rng.standard_normal((150, 200)),
    }
    for W in others.values():
        assert not ht.fit_marchenko_pastur(ht.esd(W), 300, 200).has_bulk
    assert ht.fit_marchenko_pastur(ht.esd(others["steep"]), 300, 200).n_spikes == 100  # the cap


@pytest.mark.parametrize("scale", [1e-120, 1e-6, 7.0, 1e120])
def test_fit_scales_with_the_spectrum_and_ignores_order_and_orientation(scale):
    rng = np.random.default_rng(1)
    values = spectrum(planted(rng.standard_normal((60, 40)), [25.0], rng)[0])
    base = ht.fit_marchenko_pastur(values, 60, 40)
    assert base.n_spikes == 1
    other = ht.fit_marchenko_pastur(scale * rng.permutation(values), 40, 60)
    assert other.n_spikes == 1
    for name in ("variance", "edge"):
        assert getattr(other, name) == pytest.approx(scale * getattr(base, name), rel=1e-10)
    for name in ("soft_rank", "ks_distance"):
        assert getattr(other, name) == pytest.approx(getattr(base, name), rel=1e-10)


@pytest.mark.parametrize(("h", "d"), [(1, 1), (1, 50), (50, 1)])
def test_a_single_row_or_column_is_all_bulk(h, d):
    """One eigenvalue |w|^2: by hand the variance that gives the median of the law that value."""
    value = float((np.random.default_rng(0).standard_normal(h * d) ** 2).sum())
    fit = ht.fit_marchenko_pastur([value], h, d)
    assert fit.n_spikes == 0
    median = float(ht.MarchenkoPastur(1 / (h * d), h * d).ppf(0.5))
    assert fit.variance == pytest.approx(value / median, rel=1e-5)  # quantiles are interpolated
    assert fit.ks_distance == pytest.approx(0.5, abs=1e-5)


def test_bad_arguments_of_the_fit_are_refused():
    for values in ([0.0] * 6, [0, 0, 0, 0, 0, 9.0]):
        with refused("the central half", "zero"):
            ht.fit_marchenko_pastur(values, 6, 8)
    with refused("h must", "0"):
        ht.fit_marchenko_pastur([1.0, 2.0], 0, 4)
    with refused("n_matrices must", "0"):
        ht.fit_marchenko_pastur([1.0, 2.0], 2, 4, n_matrices=0)
    with refused("eigenvalues", "4 values", "2 of 1 x (2, 4)", "n_matrices"):
        ht.fit_marchenko_pastur([1.0, 2.0, 3.0, 4.0], 2, 4)
    with refused("eigenvalues", "NaN"):
        ht.fit_marchenko_pastur([1.0, math.nan], 2, 4)
    for quantile in (0.0, 1.0, -1.0):
        with refused("", "(0, 1)", quantile):
            ht.fit_marchenko_pastur([1.0, 2.0], 2, 4, quantile)


@pytest.mark.parametrize("ratio", [0.05, 0.25, 0.5, 2 / 3, 0.9, 1.0])
def test_median_of_the_bulk(ratio):
    """Quadrature of the density, and Gavish & Donoho (2014): omega = lambda / sqrt(median) with their eq. 11
    and their cubic for omega, good to .007; omega(1) = 2.858."""
    law = ht.MarchenkoPastur(ratio)
    median = float(law.ppf(0.5))
    # x = low + t^2 takes the root at the lower edge, and the pole of ratio 1, out of the integrand
    low = law.support[0]
    mass = quad(lambda t: 2 * t * float(law.pdf(low + t * t)), 0, math.sqrt(median - low), epsabs=1e-12)[0]
    assert mass == pytest.approx(0.5, abs=1e-9)
    known = math.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + math.sqrt(ratio**2 + 14 * ratio + 1)))
    omega = known / math.sqrt(median)
    assert omega == pytest.approx(0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43, abs=0.007)
    if ratio == 1:
        assert known == pytest.approx(4 / math.sqrt(3), rel=1e-14)
        assert omega == pytest.approx(2.858, abs=5e-4)
        assert median == pytest.approx(0.6528, abs=5e-5)
