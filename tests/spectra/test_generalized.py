"""Oracles: the closed form of the Marchenko-Pastur law, its scaling, dense spectra of drawn matrices.

A spectrum of N eigenvalues of one matrix lies within about ln N / N of its law; tolerances are two to three
times that.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import htlib as ht
from htlib.spectra.generalized import GeneralizedMarchenkoPastur
from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile
from tests.refusals import refused

LEVELS = np.linspace(0, 1, 201)[1:-1]


def drawn(columns, rows, base, seed=0):
    Z = np.random.default_rng(seed).standard_normal((len(rows), len(columns)))
    return ht.esd(Z * np.sqrt(base + np.outer(rows, columns)))


def distance(values, law):
    """The Kolmogorov distance."""
    steps = np.arange(len(values) + 1) / len(values)
    fitted = law.cdf(values)
    return max((steps[1:] - fitted).max(), (fitted - steps[:-1]).max())


@pytest.mark.parametrize(("h", "d"), [(1500, 1000), (300, 800), (20, 7), (400, 400), (1500, 1)])
def test_equal_variances_give_the_marchenko_pastur_law(h, d):
    law, known = GeneralizedMarchenkoPastur(np.full(d, 2.0), h), MarchenkoPastur.of_gaussian_esd(h, d, 2.0)
    square = h == d
    x = known.ppf(LEVELS)
    assert law.support[0] == pytest.approx(known.support, rel=1e-6 if d > 1 else 1e-3, abs=0)
    np.testing.assert_allclose(law.cdf(x), LEVELS, atol=1e-5 if square else 1e-6)
    np.testing.assert_allclose(law.pdf(x), known.pdf(x), rtol=2e-3 if square else 1e-4)
    np.testing.assert_allclose(law.ppf(LEVELS), x, rtol=1e-3 if square else 1e-5)
    assert law.size == min(h, d)
    assert law.mass_at_zero == 0


def test_the_largest_eigenvalue_of_equal_variances_is_johnstones():
    law = GeneralizedMarchenkoPastur(np.ones(1000), 1500)
    for q in (0.01, 0.5, 0.99):
        assert law.largest_quantile(q) == pytest.approx(largest_eigenvalue_quantile(1500, 1000, q), rel=5e-4)


@pytest.mark.parametrize(("h", "d"), [(900, 600), (400, 700)])
def test_two_populations_make_the_spectrum_of_a_dense_matrix(h, d):
    columns = np.where(np.arange(d) < d // 5, 40.0, 1.0)
    law = GeneralizedMarchenkoPastur([1.0, 40.0], h, column_counts=[d - d // 5, d // 5])
    values = drawn(columns, np.ones(h), 0.0)
    assert distance(values, law) < 0.015
    assert law.hill_alpha() == pytest.approx(ht.hill_alpha(values), abs=0.02)
    assert values[-1] == pytest.approx(law.largest_quantile(), rel=0.05)
    assert len(law.support) == 2
    (_, low), (high, _) = law.support
    assert np.count_nonzero(values > (low + high) / 2) == d // 5
    assert not ((values > 1.03 * low) & (values < 0.97 * high)).any()


@pytest.mark.parametrize("base", [0.0, 1.0])
@pytest.mark.parametrize(("h", "d"), [(800, 500), (500, 800)])
def test_variances_on_both_sides_make_the_spectrum_of_a_dense_matrix(h, d, base):
    rng = np.random.default_rng(1)
    columns, rows = 3 * rng.chisquare(3, d), rng.chisquare(2, h)
    law = GeneralizedMarchenkoPastur(columns, rows, base)
    transposed = GeneralizedMarchenkoPastur(rows, columns, base)
    values = drawn(columns, rows, base)
    assert distance(values, law) < 0.02
    assert law.edge == pytest.approx(transposed.edge, rel=1e-6)
    assert law.hill_alpha() == pytest.approx(ht.hill_alpha(values), abs=0.03)


def test_rows_and_columns_of_zeros_make_an_atom():
    columns = np.append(np.zeros(300), np.full(100, 5.0))
    law = GeneralizedMarchenkoPastur(columns, 600)
    inner = MarchenkoPastur.of_gaussian_esd(600, 100, 5.0)
    assert law.mass_at_zero == 0.75
    np.testing.assert_allclose(law.cdf([-1.0, 0.0, inner.ppf(0.5), 1e9]), [0, 0.75, 0.875, 1], atol=1e-6)
    np.testing.assert_allclose(law.ppf([0.0, 0.7, 0.875]), [0, 0, inner.ppf(0.5)], rtol=1e-5)
    # what a base adds to columns of zeros is a bulk of its own, with as many eigenvalues
    both = GeneralizedMarchenkoPastur(columns * 1e6, 600, base=1.0)
    assert both.mass_at_zero == 0
    assert both.cdf(sum(np.log(both.support).ravel()[1:3]) ** 4) == pytest.approx(0.75, abs=1e-6)


positive = st.floats(0.05, 50)


@settings(max_examples=10)
@given(
    st.lists(positive, min_size=1, max_size=6),
    st.lists(positive, min_size=1, max_size=6),
    st.integers(20, 400),
    st.integers(20, 400),
    st.sampled_from([0.0, 1.0]),
    st.floats(1e-4, 1e4),
)
def test_every_law_is_a_law(columns, rows, d, h, base, scale):
    law = GeneralizedMarchenkoPastur(columns, rows, base, np.full(len(columns), d), np.full(len(rows), h))
    edges = np.ravel(law.support)
    assert (np.diff(edges) > 0).all()
    assert law.cdf(law.edge) == pytest.approx(1, abs=1e-6)
    assert law.cdf(0.999 * edges[0]) == pytest.approx(law.mass_at_zero, abs=1e-6)
    np.testing.assert_allclose(law.cdf(law.ppf(LEVELS)), LEVELS, atol=2e-5)
    inside = law.ppf(LEVELS)
    assert (law.pdf(inside) >= 0).all()
    scaled = GeneralizedMarchenkoPastur(
        np.multiply(scale, columns), rows, scale * base, np.full(len(columns), d), np.full(len(rows), h)
    )
    assert scaled.edge == pytest.approx(scale * law.edge, rel=1e-4)
    trace = len(columns) * d * len(rows) * h * (base + np.mean(columns) * np.mean(rows))
    assert law.quantiles().sum() == pytest.approx(trace, rel=1e-2)  # the midpoint rule


def test_the_density_is_the_slope_of_the_distribution():
    law = GeneralizedMarchenkoPastur([1.0, 40.0], [1.0, 3.0], 1.0, [400, 100], [400, 300])
    for low, high in law.support:
        x = np.linspace(low, high, 4001)
        middle = (x[1:] + x[:-1]) / 2
        assert np.sum(law.pdf(middle) * np.diff(x)) == pytest.approx(law.cdf(high) - law.cdf(low), abs=1e-4)
    assert law.pdf([0.0, 2 * law.edge]).tolist() == [0, 0]
    assert math.isnan(law.cdf(math.nan))


def test_a_spike_joins_the_expected_spectrum():
    law = GeneralizedMarchenkoPastur(np.ones(40), 60)
    spectrum = law.quantiles()
    assert law.hill_alpha(9e3) == ht.hill_alpha([*spectrum, 9e3])
    assert law.ks_alpha() == ht.fit_power_law(spectrum).alpha


@pytest.mark.parametrize(
    ("arguments", "name", "allowed"),
    [
        ({"columns": [1.0, -1.0]}, "columns must", "not negative"),
        ({"columns": []}, "columns must", "non-empty"),
        ({"columns": [0.0]}, "columns and rows must", "all variances are zero"),
        ({"columns": [math.nan]}, "columns must", "finite"),
        ({"rows": 0}, "rows must", "at least 1"),
        ({"rows": [[1.0]]}, "rows must", "1-d"),
        ({"base": -1.0}, "base must", "not negative"),
        ({"column_counts": [1.0]}, "column_counts must", "one per value (2)"),
        ({"row_counts": [1.0]}, "rows must", "without row_counts"),
    ],
)
def test_bad_arguments_are_named(arguments, name, allowed):
    with refused(name, allowed):
        GeneralizedMarchenkoPastur(**{"columns": [1.0, 2.0], "rows": 3, **arguments})


def test_bad_levels_are_named():
    with refused("q must", "[0, 1]"):
        GeneralizedMarchenkoPastur([1.0], 3).ppf(1.1)
