"""Oracles: Student's interval, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student_t

from htlib.sweeps.seeds import seed_interval


def test_the_interval_of_a_normal_sample_is_about_students():
    values = np.random.default_rng(1).normal(3, 2, size=40)
    half = student_t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    mean, low, high = (x.item() for x in seed_interval(values))
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_five_seeds_are_covered_nearly_as_promised():
    """300 samples of five normals.  Plain percentiles, the negative control, reach about 83 %."""
    rng = np.random.default_rng(2)
    covered = plain = 0
    for _ in range(300):
        sample = rng.standard_normal(5)
        _, low, high = (x.item() for x in seed_interval(sample))
        covered += low < 0 < high
        means = sample[rng.integers(5, size=(2000, 5))].mean(axis=1)
        ends = np.quantile(means, (0.025, 0.975))
        plain += ends[0] < 0 < ends[1]
    assert covered / 300 > 0.91
    assert plain / 300 < 0.88


def test_intervals_of_several_columns_cover_all_at_once():
    """Eight columns of noise, ten seeds, 100 times; at 95 % each, one in three times one would miss."""
    rng = np.random.default_rng(3)
    together = single = 0
    for _ in range(100):
        sample = rng.standard_normal((10, 8))
        _, lows, highs = seed_interval(sample)
        together += bool(((lows < 0) & (highs > 0)).all())
        ends = [seed_interval(column) for column in sample.T]
        single += all(low < 0 < high for _, low, high in ends)
    assert together >= 85
    assert single < 80


def test_seeds_that_agree_have_a_point_for_an_interval():
    assert seed_interval(np.ones(5)) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"values .* two seeds or more; got shape \(1,\)"):
        seed_interval([1.0])
