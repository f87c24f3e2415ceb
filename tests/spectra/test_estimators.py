"""Oracles: published exponents of noise, a transcription of the released peak rule, Pareto laws, hand."""

import math

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.spectra.estimators import ESTIMATORS
from htlib.spectra.nulls import gaussian_esd
from tests.refusals import refused

EACH = pytest.mark.parametrize("name", list(ESTIMATORS))


def released_peak(eigenvalues):
    """Transcribe the loop of the released code, statement by statement, and the place of its threshold."""
    values = torch.sort(torch.as_tensor(eigenvalues, dtype=torch.float64)).values
    N, logs = len(values), torch.log(values)
    decades = torch.log10(values)
    counts = torch.histc(decades, 100, min=float(decades.min()), max=float(decades.max()))
    edges = torch.linspace(decades.min(), decades.max(), 101, dtype=torch.float64)
    peak = 10 ** edges[torch.argmax(counts)]
    lowest, highest = torch.log10(0.95 * peak), 1.5 * peak
    alphas, distances = torch.zeros(N - 1, dtype=torch.float64), torch.ones(N - 1, dtype=torch.float64)
    for i, xmin in enumerate(values[:-1]):
        if xmin < lowest:
            continue
        if xmin > highest:
            break
        n = float(N - i)
        alphas[i] = 1 + n / (torch.sum(logs[i:]) - n * logs[i])
        if alphas[i] > 1:
            fitted = 1 - (values[i:] / xmin) ** (-alphas[i] + 1)
            distances[i] = torch.max(torch.abs(fitted - torch.arange(n, dtype=torch.float64) / n))
    best = torch.argmin(distances)
    return float(alphas[best]), float(values[best])


def hundred_spectra():
    """Noise of many shapes and units, trained-like tails and samples; with bounds that bind and do not."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        yield gaussian_esd(60 + 10 * seed, 60, rng)
        yield 1e-4 * gaussian_esd(80, 70, rng)
        yield ht.esd(rng.standard_t(2.5, (70, 50)))
        yield 1e3 * rng.lognormal(sigma=2.0, size=80)


def test_the_released_peak_rule_to_the_digit():
    differ = 0
    for values in hundred_spectra():
        alpha, xmin = released_peak(values)
        fit = ht.fit_released_peak(values[::-1].copy())
        assert fit.xmin == xmin
        assert fit.alpha == pytest.approx(alpha, rel=1e-11)
        assert ht.tail_exponent(values, "peak-released") == fit.alpha
        differ += fit.xmin != ht.fit_power_law(values, "peak").xmin
    assert 0 < differ < 50  # negative control: the rule as described is another one


def test_the_released_bound_depends_on_the_unit():
    """The peak is a repeated value x* = 1e5, and values below log10(.95 x*) = 4.98 are left out."""
    values = np.concatenate([np.geomspace(1, 50, 60), np.full(5, 1e5), [2e5]])
    assert ht.fit_released_peak(values).xmin >= 4.98
    assert ht.fit_released_peak(values / 1e5).xmin == pytest.approx(released_peak(values / 1e5)[1], rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "median", "top"),
    [
        (1, 2.12, 6.5),
        (3 / 4, 2.35, None),
        (2 / 3, 2.45, 7.5),
        (1 / 2, 2.71, None),
        (4096 / 11008, 3.00, 9.2),
        (1 / 4, 3.46, None),
        (1 / 10, 4.88, None),
    ],
)
def test_noise_has_the_published_exponents(ratio, median, top):
    """Published to two digits; at this size the mean of 12 scatters by .004 at most.  The law agrees."""
    h, d = round(1000 / ratio), 1000
    assert ht.measure_noise("median", h, d, 12).mean() == pytest.approx(median, abs=0.01)
    limit = ht.MarchenkoPastur.of_gaussian_esd(h, d).ppf((np.arange(4000) + 0.5) / 4000)
    assert ht.tail_exponent(limit) == pytest.approx(median, abs=0.01)
    if top:
        assert ht.measure_noise("top-fraction", h, d, 12).mean() == pytest.approx(top, abs=0.1)


def test_the_released_peak_of_noise_is_no_number():
    """Published are 6.2, 7.4 and 8.2; they lie among the draws, which differ by more than a third."""
    for ratio, published in ((1, 6.2), (2 / 3, 7.4), (4096 / 11008, 8.2)):
        draws = ht.measure_noise("peak-released", round(1000 / ratio), 1000, 20)
        assert draws.min() < published < draws.max()
        assert draws.max() > 4 / 3 * draws.min()


@EACH
def test_every_estimator_finds_a_pareto_law(name):
    """xi = 2/3, 5000 values.  At worst, the moments of 500, the error of xi is sqrt(1 + xi^2) / sqrt(500)."""
    values = np.random.default_rng(0).pareto(1.5, 5000) + 1
    alpha = ht.tail_exponent(values, name)
    assert 1 / (alpha - 1) == pytest.approx(2 / 3, abs=4 * math.sqrt(1 + 4 / 9) / math.sqrt(500))
    assert ht.tail_exponent(1e-3 * values, name) == pytest.approx(alpha, rel=1e-9)  # in any unit


def test_only_the_moments_can_decline():
    """A uniform law has an end, xi = -1; the other estimators return an exponent all the same."""
    values = np.random.default_rng(0).uniform(1, 2, 5000)
    found = {name: ht.tail_exponent(values, name) for name in ESTIMATORS}
    assert found.pop("moments") == math.inf
    assert all(math.isfinite(alpha) for alpha in found.values())


def test_the_top_fraction_by_hand():
    """The largest 3 of 30 are 1, 2 and 4 times the threshold: 1 + 3 / (ln 2 + ln 4)."""
    values = [*np.linspace(1, 2, 27), 3.0, 6.0, 12.0]
    assert ht.tail_exponent(values, "top-fraction") == pytest.approx(1 + 3 / math.log(8), rel=1e-12)


def test_the_median_and_ks_are_the_public_fits():
    values = np.random.default_rng(0).lognormal(size=100)
    assert ht.tail_exponent(values) == ht.hill_alpha(values)
    assert ht.tail_exponent(values, "ks") == ht.fit_power_law(values).alpha
    bounded = ht.fit_power_law(values, xmax=values.max())
    assert ht.tail_exponent(values, "bounded") == bounded.alpha != ht.fit_power_law(values).alpha


def test_noise_is_measured_by_any_function():
    """Oracle: the mean of the trace is h d; a seed gives the same matrices for every measure."""
    traces = ht.measure_noise(np.sum, 40, 30, 50)
    assert traces.mean() == pytest.approx(1200, rel=4 * math.sqrt(2 / 1200 / 50))
    assert np.array_equal(ht.measure_noise("median", 40, 30, 3), ht.measure_noise(ht.hill_alpha, 40, 30, 3))
    assert not np.array_equal(
        ht.measure_noise("median", 40, 30, 3, seed=1), ht.measure_noise("median", 40, 30, 3)
    )


def test_what_is_refused():
    with refused("estimator must be one of median, ks", "'mean'"):
        ht.tail_exponent([1.0, 2.0, 3.0], "mean")
    with refused("n_replicates must be at least 1", "0"):
        ht.measure_noise("median", 4, 3, 0)
    with refused("eigenvalues must hold at least 30 values", "29"):
        ht.tail_exponent(np.arange(1.0, 30.0), "top-fraction")
    with refused("h and d must be at least 1"):
        ht.measure_noise("median", 0, 3)
