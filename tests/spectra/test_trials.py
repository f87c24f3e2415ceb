"""Oracles: ranks among exchangeable draws, causes that were planted, the threshold of a spike."""

import numpy as np
import pytest

from htlib.spectra import trials
from htlib.spectra.estimators import ESTIMATORS
from htlib.spectra.nulls import gaussian_esd
from tests.refusals import refused

H, D = 90, 60


def test_samples_have_a_row_each():
    table = trials.try_samples(60, 3)
    assert len(table) == len(trials.LAWS) * 3 * len(ESTIMATORS)
    assert table.groupby("law").truth.first().to_dict() == {
        "pareto": 2.5,
        "student": 2.5,
        "lognormal": np.inf,
        "exponential": np.inf,
    }
    assert table.equals(trials.try_samples(60, 3))
    assert not table.equals(trials.try_samples(60, 3, seed=1))


def test_noise_trials_are_those_of_measure_noise():
    table = trials.try_noise((0.5, 1.0), ("median", "top-fraction"), 200, 4)
    means = table.groupby(["estimator", "ratio"]).alpha.mean()
    # published 2.71 and 2.12, 6.5 for the top; small sizes scatter by .03 and .3
    assert means["median", 0.5] == pytest.approx(2.71, abs=0.06)
    assert means["median", 1.0] == pytest.approx(2.12, abs=0.06)
    assert means["top-fraction", 1.0] == pytest.approx(6.5, abs=0.6)


def test_noise_is_below_all_noise_once_in_n():
    """A fresh matrix is the lowest of n + 1 with the chance 1 / (n + 1) = .05; 5 nulls of 20."""
    shares = []
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        fresh = {"noise": [gaussian_esd(45, 30, rng) for _ in range(20)]}
        table = trials.judge_spectra(fresh, 45, 30, n_noise=19, seed=seed)
        shares.append(table[table.estimator.isin(["median", "top-fraction", "ks"])].below_noise.mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.05)


def test_heavy_matrices_are_below_all_noise_and_windows_are_judged():
    table = trials.judge_matrices(trials.draw_kinds(H, D, ["noise", "levy"], 4), n_noise=19)
    shares = table.groupby(["kind", "estimator"]).below_noise.mean()
    for name in ("median", "top-fraction", trials.WINDOWS):
        assert shares["levy", name] == 1
        assert shares["noise", name] <= 0.5
    noise = table[table.estimator == trials.WINDOWS].noise.iloc[0]
    assert noise == pytest.approx(2.05, abs=0.1)  # squares of 30


def test_each_cause_is_explained_by_its_null():
    kinds = ["noise", "student", "spikes", "rows", "pareto"]
    table = trials.beside_nulls(trials.draw_kinds(120, 80, kinds, 2), 6)
    means = table.groupby("kind")[["gaussian", "shuffle", "profile", "n_spikes", "traps"]].mean()
    assert means.loc["noise", ["gaussian", "shuffle", "profile"]].abs().max() < 3
    assert means.gaussian["student"] < -3 < means.shuffle["student"]  # large entries
    assert means.gaussian["rows"] < -6
    assert means.shuffle["rows"] < -6 < -3 < means.profile["rows"]  # rows of unequal length
    assert means.loc["spikes", ["gaussian", "shuffle", "profile"]].max() < -3
    assert means.n_spikes["spikes"] == pytest.approx(10, abs=1)
    assert means.traps["spikes"] < 1 < means.n_spikes["pareto"]


def test_a_spike_is_seen_beyond_its_threshold_only():
    """(90 * 60)^(1/4) / sqrt(15) = 2.2 critical strengths of the whole; the edge lets 1 % of noise pass."""
    table = trials.try_spikes(H, D, (15,), (0.2, 1.8, 12.0), 5)
    seen = table.groupby(["strength", "side"]).seen.mean()
    assert seen[0.2, 0] <= 0.2
    assert seen[0.2, 15] < 0.06
    assert seen[1.8, 0] == 1 > 0.5 > seen[1.8, 15]
    assert seen[12.0, 15] == 1


def test_ratios_reject_a_law_that_is_none():
    rng = np.random.default_rng(0)
    spectra = {"pareto": [rng.pareto(1.5, 400) + 1], "uniform": [rng.uniform(1, 3, 400)]}
    table = trials.try_ratios(spectra).set_index(["kind", "alternative"])
    assert table.favours["pareto", "exponential"] == "power_law"
    assert table.favours["uniform", "truncated_power_law"] == "truncated_power_law"


def test_unknown_kinds_are_refused():
    with refused("kinds must be among noise, exponential", "'cauchy'"):
        trials.draw_kinds(H, D, ["noise", "cauchy"])
