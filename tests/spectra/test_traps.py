"""Oracles: products by hand, WeightWatcher's where it does not overflow, planted entries and spikes."""

import numpy as np
import pytest

import htlib as ht
from htlib.spectra.nulls import gaussian_esd
from tests.refusals import refused


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([0.1, 0.2, 0.5, 3.2], 3),  # of mean one: 3.2, 1.6, .32
        ([1.0, 2.0, 5.0, 32.0], 3),  # ten times that
        ([0.0, 0.0, 4.0, 4.0], 3),  # 2, 4, 0
        ([5.0, 5.0, 5.0], 3),  # never below one
        ([1.0, 1.0, 1.0, 97.0], 2),  # of mean 25: 3.88, then 3.88 * .04 = .155
    ],
)
def test_det_x_by_hand(values, count):
    assert ht.det_x(values[::-1]) == count


def test_det_x_is_that_of_weightwatcher():
    """Where the products do not overflow."""
    from weightwatcher.RMT_Util import detX_constraint

    rng = np.random.default_rng(0)
    for values in (
        gaussian_esd(300, 200, rng),
        gaussian_esd(200, 200, rng),
        ht.esd(rng.standard_t(2, (90, 60))),
        np.sort(rng.lognormal(sigma=2, size=150)),
    ):
        assert ht.det_x(values) == detX_constraint(values)[0]


def test_det_x_does_not_overflow():
    """Square noise has .73 N at every size; a product of floats fails above N = 2800."""
    rng = np.random.default_rng(0)
    for size in (500, 4096):
        assert ht.det_x(gaussian_esd(size, size, rng)) / size == pytest.approx(0.732, abs=0.005)
    assert ht.measure_noise(ht.det_x, 1000, 500, 5).mean() / 500 == pytest.approx(0.815, abs=0.005)


def test_traps_are_large_entries_and_not_correlations():
    """Three entries of 40 stay three eigenvalues under a shuffle; a dense spike of that size goes."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((90, 60))
    entries, dense = noise.copy(), noise.copy()
    entries[[3, 20, 50], [5, 30, 2]] = 40.0
    dense += 40 * np.outer(rng.choice([-1, 1], 90), rng.choice([-1, 1], 60)) / np.sqrt(90 * 60)
    assert set(ht.correlation_traps(entries).counts.tolist()) <= {2, 3}  # two may share a row
    traps = ht.correlation_traps(dense)
    assert ht.fit_marchenko_pastur(ht.esd(dense), 90, 60).n_spikes == 1
    assert traps.counts.mean() <= 0.2


def test_noise_has_few_traps():
    """The edge is a 99 % quantile: of 150 shuffles and 150 Gaussian matrices 1.5 each, at most 8."""
    W = np.random.default_rng(0).standard_normal((60, 40))
    traps = ht.correlation_traps(W, n_replicates=150)
    assert traps.counts.sum() <= 8
    assert traps.noise.sum() <= 8
    assert len(traps.counts) == len(traps.noise) == 150


def test_traps_are_seeded():
    W = np.random.default_rng(0).standard_t(2, (50, 40))
    first, again, other = (ht.correlation_traps(W, seed=seed).counts.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_refused():
    with refused("eigenvalues must have a positive maximum"):
        ht.det_x([0.0, 0.0])
    with refused("n_replicates must be at least 1", "0"):
        ht.correlation_traps(np.eye(4), n_replicates=0)
