"""Oracles: closed-form moments and CDF values, SciPy quadrature and KS test, published Tracy-Widom numbers,
simulated matrices."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad, trapezoid

import htlib as ht
from htlib.spectra.noise import largest_eigenvalue_quantile, tracy_widom_cdf, tracy_widom_ppf
from tests.refusals import refused

RATIOS = [0.01, 0.25, 2 / 3, 1.0, 1.5, 4.0, 50.0]
LAWS = [ht.MarchenkoPastur(c, s) for c in RATIOS for s in (1.0, 1500.0)]
every_law = pytest.mark.parametrize("law", LAWS, ids=str)


def integral(law, f, upper=math.pi):
    """Integral of f times the density, in t with x = middle - radius cos t, smooth at both edges."""
    low, high = law.support
    middle, radius = (low + high) / 2, (high - low) / 2

    def integrand(t):
        x = middle - radius * math.cos(t)
        return f(x) * float(law.pdf(x)) * radius * math.sin(t)

    return quad(integrand, 0, upper, epsabs=0, epsrel=1e-10)[0]


@every_law
def test_the_atom_and_the_moments(law):
    """Closed form: E x^k / variance^k = 1, 1 + c, 1 + 3c + c^2 for k = 1, 2, 3, with the atom 1 for k = 0."""
    c, atom = law.aspect_ratio, law.mass_at_zero
    assert atom == pytest.approx(max(0, 1 - 1 / c))
    for k, expected in enumerate((1 - atom, 1, 1 + c, 1 + 3 * c + c**2)):
        assert integral(law, lambda x, k=k: (x / law.variance) ** k) == pytest.approx(expected, rel=1e-8)


def test_cdf_at_one_third():
    """Values at aspect ratio 1/3, computed beforehand in another way."""
    found = ht.MarchenkoPastur(1 / 3).cdf([0.5, 1, 2])
    np.testing.assert_allclose(found, [0.242609, 0.561783, 0.929725], atol=5e-7)


@every_law
def test_cdf_is_the_integral_of_the_density(law):
    low, high = law.support
    for t in (0.1, 0.7, 1.5, 2.5, 3.1):
        x = (low + high) / 2 - (high - low) / 2 * math.cos(t)
        expected = law.mass_at_zero + integral(law, lambda x: 1, upper=t)
        assert law.cdf(x) == pytest.approx(expected, rel=1e-7)


@every_law
def test_outside_the_support(law):
    low, high = law.support
    points = [-1.0, 0.0, low * 0.5, high, high * 1.5]
    np.testing.assert_array_equal(law.pdf(points), 0)
    np.testing.assert_allclose(law.cdf(points), [0, *[law.mass_at_zero] * 2, 1, 1], atol=1e-12)


@every_law
def test_ppf_inverts_cdf(law):
    low, high = law.support
    q = law.mass_at_zero + (1 - law.mass_at_zero) * np.linspace(1e-6, 1 - 1e-6, 41)
    x = law.ppf(q)
    assert (np.diff(x) > 0).all()
    assert low <= x[0] < x[-1] <= high
    # at the hard edge of c = 1 the last digits of x = 2 (1 - cos t) move q by 1e-11
    np.testing.assert_allclose(law.cdf(x), q, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(law.ppf(1.0), high, rtol=1e-12)
    zero = 0.0 if law.mass_at_zero else low
    np.testing.assert_allclose(law.ppf([0.0, law.mass_at_zero / 2]), zero, atol=1e-12 * high)


def test_shapes_follow_the_argument():
    law = ht.MarchenkoPastur(0.5)
    for shape in ((), (0,), (3,), (2, 3)):
        for method in (law.pdf, law.cdf, law.ppf):
            assert np.shape(method(np.full(shape, 0.5))) == shape
    assert law.rvs((4, 2), 0).shape == (4, 2)


@pytest.mark.parametrize("c", [0.25, 2 / 3, 1.0])
def test_rvs_passes_a_ks_test_that_rejects_a_wrong_ratio(c):
    sample = ht.MarchenkoPastur(c, 3.0).rvs(4000, 0)
    assert stats.kstest(sample, ht.MarchenkoPastur(c, 3.0).cdf).pvalue > 0.05
    for ratio, variance in ((0.75 * c, 3.0), (c, 3.6)):
        assert stats.kstest(sample, ht.MarchenkoPastur(ratio, variance).cdf).pvalue < 1e-4


def test_rvs_above_ratio_one():
    """A share 1 - 1/c of zeros, and above zero the law of the transposed matrix, scaled by c."""
    sample = ht.MarchenkoPastur(4.0).rvs(4000, np.random.default_rng(0))
    assert stats.binomtest(int((sample == 0).sum()), 4000, 0.75).pvalue > 0.01
    positive = sample[sample > 0]
    assert stats.kstest(positive, ht.MarchenkoPastur(0.25, 4.0).cdf).pvalue > 0.05
    assert stats.kstest(positive, ht.MarchenkoPastur(0.25, 1.0).cdf).pvalue < 1e-6


def test_rvs_follows_its_generator():
    law = ht.MarchenkoPastur(0.5)
    np.testing.assert_array_equal(law.rvs(5, 3), law.rvs(5, np.random.default_rng(3)))
    assert not np.array_equal(law.rvs(5, 3), law.rvs(5, 4))


@pytest.mark.parametrize(("h", "d"), [(300, 200), (200, 300), (250, 250), (400, 40)])
@pytest.mark.parametrize("variance", [1.0, 4.0])
def test_esd_of_a_gaussian_matrix(h, d, variance):
    """Eigenvalues are rigid: the distance is of order ln(N) / N, not the 1/sqrt(N) of independent draws."""
    W = math.sqrt(variance) * np.random.default_rng(0).standard_normal((h, d))
    values, N = ht.esd(W), min(h, d)

    def distance(law):
        return stats.kstest(values, law.cdf).statistic

    assert distance(ht.MarchenkoPastur.of_gaussian_esd(h, d, variance)) < 3 * math.log(N) / N
    # negative controls: another variance, another shape, the normalisation by the wrong side
    assert distance(ht.MarchenkoPastur.of_gaussian_esd(h, d, 1.5 * variance)) > 0.1
    assert distance(ht.MarchenkoPastur.of_gaussian_esd(2 * h, d, variance)) > 0.1
    if h != d:
        assert distance(ht.MarchenkoPastur(N / max(h, d), variance * N)) > 0.1


def test_of_gaussian_esd_with_the_atom_left_out():
    """For h < d, W^T W / h has d - h zeros that `esd` leaves out: the conditional law given x > 0."""
    h, d = 20, 50
    full, given = ht.MarchenkoPastur(d / h, h), ht.MarchenkoPastur.of_gaussian_esd(h, d)
    x = np.linspace(*given.support, 9)
    np.testing.assert_allclose(full.support, given.support, rtol=1e-12)
    np.testing.assert_allclose((full.cdf(x) - full.mass_at_zero) / (h / d), given.cdf(x), atol=1e-12)


@pytest.mark.parametrize("name", ["aspect_ratio", "variance"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bad_parameter_is_refused(name, value):
    with refused(name, "positive", value):
        ht.MarchenkoPastur(**{"aspect_ratio": 0.5, name: value})


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_bad_level_is_refused(q):
    with refused("q", "[0, 1]"):
        ht.MarchenkoPastur(0.5).ppf([0.5, q])
    with refused("q", q):
        tracy_widom_ppf(q)


def test_tracy_widom_published_quantiles():
    """Upper quantiles of beta = 1 (Johnstone 2001 and later tables), to their last digit."""
    np.testing.assert_allclose([tracy_widom_ppf(q) for q in (0.95, 0.99)], [0.9793, 2.0234], atol=6e-5)
    for q in (1e-9, 0.01, 0.5, 0.999, 1 - 1e-9):
        assert tracy_widom_cdf(tracy_widom_ppf(q)) == pytest.approx(q, rel=1e-6)
    ends = [tracy_widom_cdf(x) for x in (-50.0, -9.0, 50.0)]
    assert ends == [0, pytest.approx(0, abs=1e-14), pytest.approx(1, abs=1e-14)]


def test_tracy_widom_published_moments():
    """Mean -1.2065335746 and variance 1.6077810346 (Bornemann 2010), from the CDF by parts."""
    s = np.linspace(-9, 9, 181)
    F = np.array([tracy_widom_cdf(x) for x in s])
    assert (np.diff(F) > -1e-12).all()
    # E s = s_max - int F, E s^2 = s_max^2 - 2 int s F.  For integrands flat at both ends the trapezoid rule
    # is all but exact; s F ends with slope 1 and leaves the known step^2 / 12.
    mean = s[-1] - trapezoid(F, s)
    square = s[-1] ** 2 - 2 * (trapezoid(s * F, s) - 0.1**2 / 12)
    assert mean == pytest.approx(-1.2065335746, abs=1e-8)
    assert square - mean**2 == pytest.approx(1.6077810346, abs=1e-7)


@pytest.mark.parametrize(("h", "d"), [(60, 40), (40, 60), (10, 100)])
def test_one_in_a_hundred_noise_matrices_exceeds_the_edge(h, d):
    """Two-sided binomial test at 1 %, around an exceedance probability that Johnstone's formula gives
    to within a fifth at these sizes."""
    W = np.random.default_rng(0).standard_normal((3000, min(h, d), max(h, d)))
    largest = np.linalg.eigvalsh(W @ W.transpose(0, 2, 1))[:, -1]
    exceed = int((largest > largest_eigenvalue_quantile(h, d)).sum())
    low, high = stats.binom.ppf(0.005, 3000, 0.008), stats.binom.ppf(0.995, 3000, 0.012)
    assert low <= exceed <= high
    # negative control: the edge of the Marchenko-Pastur bulk is exceeded far more often
    assert (largest > (math.sqrt(h) + math.sqrt(d)) ** 2).sum() > 5 * high


def test_largest_eigenvalue_quantile_scales_and_refuses():
    base = largest_eigenvalue_quantile(30, 20, 0.95)
    assert largest_eigenvalue_quantile(30, 20, 0.95, variance=2.5) == pytest.approx(2.5 * base, rel=1e-14)
    assert largest_eigenvalue_quantile(30, 20, 0.99) > base
    assert largest_eigenvalue_quantile(20, 30) == largest_eigenvalue_quantile(30, 20)
    for h, d in ((0, 5), (5, 0)):
        with refused("h and d", f"h = {h}, d = {d}"):
            largest_eigenvalue_quantile(h, d)
    # the edge of a single row is chi-squared
    assert largest_eigenvalue_quantile(1, 30) == pytest.approx(stats.chi2.isf(0.01, 30), rel=1e-12)
