"""Oracles: the bootstrap's own coverage, Stephens (1974), the table of Clauset, Shalizi & Newman (2009)."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

import htlib as ht
from tests.refusals import refused

DATA = Path(importlib.util.find_spec("powerlaw").origin).parent / "reference_data"


def pareto(seed, N, alpha=2.5):
    return (1 - np.random.default_rng(seed).uniform(size=N)) ** (-1 / (alpha - 1))


def test_interval_covers_the_exponent_as_often_as_it_says():
    """100 samples of 400, level .8: binomial, 4 standard deviations of .04, and .02 for small samples."""
    boots = [ht.bootstrap_power_law(pareto(seed, 400), 1.0, 100, seed) for seed in range(100)]
    covered = [low < 2.5 < high for low, high in (boot.interval(0.8) for boot in boots)]
    assert abs(np.mean(covered) - 0.8) < 0.18


def test_bootstrap_error_at_a_fixed_threshold():
    """Asymptotics: (alpha - 1) / sqrt(n), met to 4 / sqrt(2 * 500) by 500 replicates, .05 by the sample."""
    values = pareto(0, 1000)
    boot = ht.bootstrap_power_law(values, 1.0, 500)
    assert boot.alpha_error == pytest.approx(boot.fit.alpha_error, rel=0.18)
    assert boot.alpha_error == np.std(boot.alpha, ddof=1)
    assert boot.fit == ht.fit_power_law(values, 1.0)
    assert (boot.xmin == 1).all()
    assert (boot.n_tail == 1000).all()


def test_every_replicate_is_a_fit_of_resampled_values():
    """The threshold chosen anew is one of the values; intervals are nested quantiles of the exponents."""
    values = pareto(1, 120)
    boot = ht.bootstrap_power_law(values, n_replicates=50, seed=3)
    assert boot.alpha.shape == boot.xmin.shape == boot.n_tail.shape == (50,)
    assert np.isin(boot.xmin, values).all()
    assert len(set(boot.xmin)) > 5
    assert boot.interval(0.5) == tuple(np.quantile(boot.alpha, [0.25, 0.75]))
    assert boot.interval(0.9)[0] < boot.interval(0.5)[0] < boot.interval(0.5)[1] < boot.interval(0.9)[1]


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, math.nan])
def test_bad_level_is_refused(level):
    boot = ht.bootstrap_power_law(pareto(0, 20), 1.0, 2)
    with refused("level", "(0, 1)", level):
        boot.interval(level)


def test_p_values_of_power_laws_are_uniform():
    """KS test of 40 p-values at .001, and their mean within 4 of .29 / sqrt(40)."""
    p = [ht.goodness_of_fit(pareto(seed, 80), n_replicates=30, seed=seed).p_value for seed in range(40)]
    assert abs(np.mean(p) - 0.5) < 4 * 0.29 / math.sqrt(40)
    # multiples of 1/30: half of a step moves each to the middle of its own
    assert kstest(np.array(p) * 30 / 31 + 0.5 / 31, "uniform").pvalue > 0.001


def test_replicates_have_the_distribution_of_stephens():
    """Stephens (1974), table 1.1 (exponential, mean unknown): upper 10, 5, 1 % points .990, 1.094, 1.308."""
    # 3000 replicates give them to .008, .012, .03 (one deviation); the distance from one side of each step
    # falls short by up to 1 / sqrt(n) = .025 more.
    n = 1600
    D = ht.goodness_of_fit(pareto(0, n), 1.0, 3000).replicates
    modified = (D - 0.2 / n) * (math.sqrt(n) + 0.26 + 0.5 / math.sqrt(n))
    found = np.quantile(modified, [0.9, 0.95, 0.99])
    assert found == pytest.approx([0.990, 1.094, 1.308], abs=0.07)
    assert (found < [1.02, 1.14, 1.42]).all()


def test_synthetic_values_are_body_and_tail():
    """A body that no power law fits does not matter at a fixed threshold: p is that of the tail."""
    tail = 10 * pareto(2, 150)
    whole = np.append(np.linspace(9, 9.9, 150), tail)
    p = [ht.goodness_of_fit(values, 10.0, 400, seed).p_value for seed, values in ((1, whole), (2, tail))]
    assert p[0] == pytest.approx(p[1], abs=4 * math.sqrt(2 * 0.25 / 400))  # 400 replicates each


def noise(rng, size):
    return ht.MarchenkoPastur(2 / 3).rvs(size, rng)


@pytest.mark.parametrize("xmin", ["median", 1.0])
@pytest.mark.parametrize(
    "draw", [np.random.Generator.exponential, np.random.Generator.lognormal, noise], ids=lambda f: f.__name__
)
def test_values_without_a_power_law_are_rejected(draw, xmin):
    """1000 values, half of them or all in the tail: the distance is far beyond that of any replicate."""
    gof = ht.goodness_of_fit(draw(np.random.default_rng(5), size=1000), xmin, 100)
    assert gof.p_value == 0
    assert gof.ks_distance > 1.1 * gof.replicates.max()


def test_noise_is_rejected_wherever_its_tail_begins():
    """With the threshold chosen, the power is less: the hard edge still shows in most of 8 samples."""
    p = [ht.goodness_of_fit(noise(seed, 2000), n_replicates=20).p_value for seed in range(8)]
    assert np.median(p) < 0.1


@pytest.mark.parametrize("study", [ht.bootstrap_power_law, ht.goodness_of_fit])
def test_seeds_reproduce(study):
    def draws(seed, order=1):
        result = study(pareto(0, 60)[::order], n_replicates=5, seed=seed)
        return result.alpha if study is ht.bootstrap_power_law else result.replicates

    np.testing.assert_array_equal(draws(7), draws(7))
    np.testing.assert_array_equal(draws(7), draws(np.random.default_rng(7)))
    np.testing.assert_array_equal(draws(7), draws(7, order=-1))
    assert not np.array_equal(draws(7), draws(8))


@pytest.mark.parametrize("study", [ht.bootstrap_power_law, ht.goodness_of_fit])
def test_bad_arguments_are_refused(study):
    for n in (1, 0, -3):
        with refused("n_replicates", 2, n):
            study(pareto(0, 60), n_replicates=n)
    with refused("xmin", "'mean'"):
        study(pareto(0, 60), xmin="mean", n_replicates=2)
    with refused("eigenvalues", "positive", "1 of 4"):
        study([0.0, 1.0, 2.0, 3.0], n_replicates=2)


def test_p_value_is_the_share_of_replicates():
    gof = ht.goodness_of_fit(pareto(4, 100), n_replicates=50)
    assert gof.ks_distance == ht.fit_power_law(pareto(4, 100)).ks_distance
    assert gof.p_value == sum(d >= gof.ks_distance for d in gof.replicates) / 50
    assert gof.p_error == pytest.approx(math.sqrt(gof.p_value * (1 - gof.p_value) / 50))
    rejected = ht.goodness_of_fit(np.linspace(1, 2, 500), 1.0, 50)
    assert (rejected.p_value, rejected.p_error) == (0, 1 / 50)


@pytest.mark.parametrize(
    ("name", "unit", "n_replicates", "p"),
    [("blackouts", 1e3, 300, 0.62), ("surnames", 1e3, 200, 0.20), ("flares", 1, 50, 1.00)],
)
def test_published_p_values(name, unit, n_replicates, p):
    """Clauset et al. (2009), table 6.1, to .01; ours to four standard errors, at least one replicate."""
    gof = ht.goodness_of_fit(np.loadtxt(DATA / f"{name}.txt") / unit, n_replicates=n_replicates)
    assert gof.p_value == pytest.approx(p, abs=0.01 + 4 * math.sqrt(max(p * (1 - p), 0.01) / n_replicates))


@pytest.mark.parametrize(
    ("name", "printed", "half_a_unit"), [("blackouts", 0.3, 0.05), ("cities", 0.08, 0.005)]
)
def test_published_bootstrap_errors(name, printed, half_a_unit):
    """Table 6.1, alpha = 2.3(3) and 2.37(8), lets the threshold vary: errors above ours at a fixed one."""
    # 200 replicates give the spread to 5 %, heavier-tailed than a Gaussian's: four times that.
    boot = ht.bootstrap_power_law(np.loadtxt(DATA / f"{name}.txt") / 1e3, n_replicates=200)
    assert boot.alpha_error == pytest.approx(printed, abs=half_a_unit + 0.2 * printed)
    assert boot.alpha_error > 1.2 * boot.fit.alpha_error
