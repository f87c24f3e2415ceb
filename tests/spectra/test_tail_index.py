"""Oracles: loops over the formulas, laws with a known tail index, the estimators' asymptotic variance."""

import math

import numpy as np
import pytest

import htlib as ht
from tests.refusals import refused


def test_moments_by_loops():
    """Dekkers, Einmahl & de Haan (1989): M_1 is Hill's, n_tail / (n_tail - 1) times 1 / (alpha - 1)."""
    values = np.sort(np.random.default_rng(0).lognormal(size=40))
    for n_tail in (3, 10, 40):
        logs = [math.log(x / values[-n_tail]) for x in values[len(values) - n_tail + 1 :]]
        first, second = np.mean(logs), np.mean(np.square(logs))
        assert ht.moment_tail_index(values[::-1], n_tail) == pytest.approx(
            first + 1 - 0.5 / (1 - first**2 / second), rel=1e-12
        )
        plot = ht.hill_plot(values)
        assert first == pytest.approx(n_tail / (n_tail - 1) / (plot.alpha[plot.n_tail == n_tail][0] - 1))


@pytest.mark.parametrize("xi", [0.25, 0.5, 1.0, 2.0])
def test_moments_of_pareto_samples(xi):
    """Unbiased at every threshold, with variance (1 + xi^2) / k; four standard errors."""
    values = np.random.default_rng(0).pareto(1 / xi, 8000) + 1
    for n_tail in (1001, 4001, 8000):
        estimate = ht.moment_tail_index(values, n_tail)
        assert estimate == pytest.approx(xi, abs=4 * math.sqrt((1 + xi**2) / (n_tail - 1)))


def test_moments_have_a_sign():
    """Exponential tails have xi = 0, uniform ones -1; Hill's estimate is positive for both."""
    rng = np.random.default_rng(0)
    light, ended = rng.exponential(size=100_000), rng.uniform(1, 2, 100_000)
    # standard error 1 / sqrt(1000) = .03, and a bias of order 1 / ln(N / k) squared
    assert ht.moment_tail_index(light, 1000) == pytest.approx(0, abs=0.2)
    assert ht.moment_tail_index(ended, 1000) == pytest.approx(-1, abs=0.3)
    assert ht.fit_power_law(light, xmin=float(np.sort(light)[-1000])).tail_index > 0.15


def root_squared_error(samples, threshold, xi):
    found = [ht.fit_power_law(x, xmin=threshold(x)).tail_index for x in samples]
    return math.sqrt(np.mean(np.subtract(found, xi) ** 2))


def test_bootstrapped_threshold_of_student_samples():
    """xi = 1 / 3, N = 1000: the error at the best k, about 60, is xi sqrt(1.5 / k) = .05, but k is not known,
    so three times that is allowed.  The moments at the KS threshold are better than Hill's there."""
    samples = [np.abs(np.random.default_rng(seed).standard_t(3, 1000)) for seed in range(60)]
    assert root_squared_error(samples, lambda x: ht.bootstrap_threshold(x, 100), 1 / 3) < 0.15
    fits = [ht.fit_power_law(x) for x in samples]
    moments = [ht.moment_tail_index(x, fit.n_tail) for x, fit in zip(samples, fits, strict=True)]
    assert math.sqrt(np.mean((np.array(moments) - 1 / 3) ** 2)) < root_squared_error(
        samples, lambda x: "ks", 1 / 3
    )
    # negative control: half of the sample is no tail
    assert root_squared_error(samples, lambda x: "median", 1 / 3) > 0.3


def test_bootstrapped_threshold_of_a_power_law_is_low():
    """All values are the tail: most are kept, and alpha is found within four standard errors."""
    for seed in range(5):
        values = np.random.default_rng(seed).pareto(1.5, 1000) + 1
        fit = ht.fit_power_law(values, xmin=ht.bootstrap_threshold(values, 100))
        assert fit.n_tail > 300
        assert fit.alpha == pytest.approx(2.5, abs=4 * fit.alpha_error)


def test_threshold_depends_on_the_seed_only():
    values = np.abs(np.random.default_rng(0).standard_t(3, 300))
    chosen = ht.bootstrap_threshold(values, 50, seed=1)
    assert chosen in values
    assert chosen == ht.bootstrap_threshold(values[::-1], 50, seed=np.random.default_rng(1))
    assert ht.bootstrap_threshold(7 * values, 50, seed=1) == pytest.approx(7 * chosen, rel=1e-12)


def test_bad_arguments_are_refused():
    values = np.arange(1.0, 100)
    with refused("eigenvalues", "at least 100", 99):
        ht.bootstrap_threshold(values)
    with refused("n_replicates", 2, 1):
        ht.bootstrap_threshold(np.arange(1.0, 200), 1)
    for n_tail in (2, 100):
        with refused("n_tail", "3", 99, n_tail):
            ht.moment_tail_index(values, n_tail)
    with refused("n_tail = 4", "larger"):
        ht.moment_tail_index([1.0, 2.0, 3.0, 3.0, 3.0], 4)
    with refused("eigenvalues", "positive"):
        ht.moment_tail_index([0.0, 1.0, 2.0, 3.0], 3)
