"""Oracles: effects worked out by hand on runs whose measures were chosen."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import htlib as ht
from htlib.ledger import effects
from htlib.ledger.effects import critical_rate, critical_slope, prediction_error, value
from htlib.ledger.settings import law_of
from htlib.spectra.vectors import Overlaps
from htlib.student.problem import draw_readout, stream
from htlib.student.run import StepOverlaps
from htlib.theory.one_step import one_step_law
from tests.ledgers import run
from tests.refusals import refused


def test_a_value_of_each_seed_in_order():
    runs = [run(seed, alpha_hill=[0.0, 10.0 + seed]) for seed in (3, 1, 2)]
    assert value(runs, measure="alpha_hill", of={}).tolist() == [[11.0], [12.0], [13.0]]
    assert value(runs, measure="alpha_hill", of={"step": 0}).tolist() == [[0.0]] * 3


def test_differences_are_taken_within_a_seed():
    runs = [run(s, lr=lr, kta=[0, s * lr]) for s in (0, 1, 2) for lr in (1.0, 3.0)]
    found = effects.difference(runs, measure="kta", of={"lr": 3.0}, minus={"lr": 1.0})
    assert found.tolist() == [[0.0], [2.0], [4.0]]


def test_shares_and_changes_of_change():
    runs = [run(s, alpha_hill=[2.0 + s, 1.0 + s]) for s in (0, 1)]
    runs += [run(s, labels="shuffled", alpha_hill=[3.0, 2.75]) for s in (0, 1)]
    chosen = {"measure": "alpha_hill", "of": {"labels": "shuffled"}}
    assert effects.share(runs, **chosen, whole={}).tolist() == [[0.25], [0.25]]
    assert effects.change_of_change(runs, **chosen, minus={"labels": "real"}).tolist() == [[0.75], [0.75]]


def test_an_unknown_measure_is_named():
    with refused("measure must", "train_loss, ", "overlap", "'hill'"):
        value([run()], measure="hill", of={})


def curve(seed, lr, height, **fields):
    return run(seed, lr=lr, alignment=[0, height], **fields)


def test_the_critical_rate_is_where_half_the_peak_is_crossed():
    """Heights 0, .2, .4 at rates 1, 4, 16 cross at 4; 0, .2, .2 half way from 1 to 4 in log rate."""
    runs = [curve(0, lr, y) for lr, y in ((1.0, 0.0), (4.0, 0.2), (16.0, 0.4))]
    runs += [curve(0, lr, y, optimizer="gd") for lr, y in ((1.0, 0.0), (4.0, 0.2), (16.0, 0.2))]
    found = critical_rate(runs, of={}, over={"optimizer": "gd"})
    assert found == pytest.approx(4.0 / 2.0)


def test_a_measured_curve_that_is_the_prediction_gives_one():
    law = one_step_law()
    rates = [float(m * law.critical_lr) for m in (0.5, 0.9, 1.1, 1.5, 3.0)]
    runs = [curve(s, lr, law(lr).alignment) for s in (0, 1) for lr in rates]
    assert critical_rate(runs, of={}, over="prediction") == pytest.approx(1.0)
    with refused("over must", "'prediction'", "a setting"):
        critical_rate(runs, of={}, over="theory")
    with refused("", "half its peak at the smallest rate"):
        critical_rate([r for r in runs if r.config.lr > law.critical_lr], of={}, over="prediction")


def test_the_slope_of_a_critical_rate_that_grows_as_d_squared():
    points = [(d, lr * d**2, y) for d in (5, 10, 20) for lr, y in ((1.0, 0.0), (2.0, 1.0))]
    runs = [curve(s, lr, y, d=d) for s in (0, 1) for d, lr, y in points]
    assert critical_slope(runs, of={}) == pytest.approx(2.0)
    with refused("", "two or more d"):
        critical_slope(runs[:2], of={})


def test_prediction_errors_by_rate():
    """The runs lie three per cent, or 0.1, above the prediction for the |a| of their seed."""
    shape = {"n": 60, "d": 20, "h": 30}
    runs = []
    for seed in (0, 1):
        norm = float(np.linalg.norm(stream(seed, "readout").standard_normal(30)))
        for lr in one_step_law(**shape).critical_lr * np.array([0.5, 2.0, 5.0]):
            found = one_step_law(**shape, readout_norm=norm)(lr)
            norms, alignment = [1, 1.03 * found.spectral_norm], [0, found.alignment + 0.1]
            runs.append(run(seed, lr=lr, **shape, spectral_norm=norms, alignment=alignment))
    norms = prediction_error(runs, measure="spectral_norm", of={})
    assert norms.shape == (2, 3)
    assert norms == pytest.approx(0.03)
    beyond = prediction_error(runs, measure="alignment", of={}, beyond=1.3)
    assert beyond.shape == (2, 2)
    assert beyond == pytest.approx(0.1)


def test_rank_correlations_along_steps_and_rates():
    """Ranks by hand: 1 2 3 against 1 3 2 is 1 - 6 * 2 / 24 = 0.5.  The start is left out of the steps."""
    runs = [run(s, steps=3, alpha_hill=[9, 1, 2, 3], test_loss=[0, 1, 3, 2]) for s in (0, 1)]
    rates = [run(s, lr=x, alpha_hill=[9, x], test_loss=[0, 1 / x]) for s in (0, 1) for x in (1.0, 2.0, 3.0)]
    for given, along, expected in ((runs, "step", 0.5), (rates, "lr", -1.0)):
        found = effects.rank_correlation(given, x="alpha_hill", y="test_loss", of={}, along=along)
        assert found == pytest.approx(np.full((2, 1), expected))


def test_measures_of_the_spectrum():
    values = np.sort(np.geomspace(1, 2, 12))
    values[-1] = 8.0
    ones = np.ones(12)
    one = run(0, d=12, h=20, alpha_hill=[3, 3], alpha_ks=[5, 5], eigenvalues=[ones, values])
    assert value([one], measure="second_over_first", of={}) == pytest.approx(math.sqrt(values[-2] / 8))
    expected = math.log(values[-2] / values[-11]) / (sum(1 / k for k in range(2, 11)) / 2)
    assert value([one], measure="tail_spread_hill", of={}) == pytest.approx(expected)
    assert value([one], measure="tail_spread_ks", of={}) == pytest.approx(2 * expected)


def test_the_spread_of_a_power_law_is_one_and_of_an_edge_is_not():
    """1000 draws of alpha = 3 against the uniform law, whose upper end is sharp; means over 200 samples."""
    rng = np.random.default_rng(0)
    spreads = {"power": [], "edge": []}
    for _ in range(200):
        uniform = rng.uniform(size=1000)
        for name, sample in (("power", uniform**-0.5), ("edge", 1 + uniform)):
            fitted = 3.0 if name == "power" else 4.0
            ends = [np.ones(1000), np.sort(sample)]
            one = run(0, d=1000, h=1000, alpha_hill=[fitted, fitted], eigenvalues=ends)
            spreads[name].append(value([one], measure="tail_spread_hill", of={}).item())
    assert np.mean(spreads["power"]) == pytest.approx(1.0, abs=0.1)
    assert np.mean(spreads["edge"]) < 0.05


def test_the_overlap_is_that_of_the_leading_tenth():
    pair = Overlaps(np.eye(4), np.diag([1.0, 0.5, 0, 0]))
    one = dataclasses.replace(run(0, d=20, h=30), overlaps={1: StepOverlaps(pair, pair)})
    assert value([one], measure="overlap", of={}) == pytest.approx((1 + 0.5) / 2)


def test_the_exponent_without_the_three_largest_values():
    spectrum = np.geomspace(1, 100, 20)
    one = run(eigenvalues=[spectrum, np.r_[spectrum[:-3], 1e4, 1e5, 1e6]], n=30, d=20, h=30)
    first, last = (value([one], measure="alpha_hill_without_top", of={"step": step}) for step in (0, 1))
    assert first == last == pytest.approx(ht.hill_alpha(spectrum[:-3]))


def around_the_edge(seed, changes, factors=(0.8, 1.0, 1.6, 3.2), **fields):
    """A curve of runs at multiples of the predicted edge whose exponent changes by these amounts."""
    config = ht.ExperimentConfig(optimizer="gd", seed=seed, n=400, d=200, h=300, **fields)
    edge = 2 / ht.predict_sharpness(config, readout=draw_readout(config))
    shape = {"optimizer": "gd", "n": 400, "d": 200, "h": 300, **fields}
    return [
        run(seed, lr=factor * edge, alpha_hill=[2.4, 2.4 + change], **shape)
        for factor, change in zip(factors, changes, strict=True)
    ]


def test_onset_and_changes_are_interpolated_per_setting_in_units_of_the_edge():
    runs = [r for s in (0, 1) for r in around_the_edge(s, (0.0, 0.0, -0.1, -0.2))]
    runs += [r for s in (0, 1) for r in around_the_edge(s, (0.0, -0.05, -0.1, -0.2), labels="shuffled")]
    common = {"measure": "alpha_hill", "step": 1.0}
    found = effects.change_at(runs, **common, where={}, at=1.6 * math.sqrt(2))
    assert found == pytest.approx(np.full((2, 2), -0.15))
    found = effects.onset(runs, **common, where={}, fall=0.05)
    assert found == pytest.approx(np.array([[math.sqrt(1.6), 1.0]] * 2))
    found = effects.onset_spread(runs, **common, where={}, fall=0.05, over="stability")
    assert found == pytest.approx(np.full((2, 1), math.sqrt(1.6)))
    (real,) = effects.onset(runs[:4], **common, where={"labels": "real"}, fall=0.05, over="spike")
    law = law_of(runs[0], drawn=True)
    assert real == pytest.approx(math.sqrt(runs[1].config.lr * runs[2].config.lr) / law.critical_lr)
    # one that never falls as far counts as the largest rate, one that begins beyond as the smallest
    ends = effects.onset(runs, **common, where={"labels": "real"}, fall=0.5)
    assert ends == pytest.approx(np.full((2, 1), 3.2))
    ends = effects.onset(runs, **common, where={"labels": "real"}, fall=-0.1)
    assert ends == pytest.approx(np.full((2, 1), 0.8))
    with refused("at = 9", "seed 0", "0.8 to 3.2"):
        effects.change_at(runs, **common, where={}, at=9.0)
    with refused("", "without momentum", "momentum = 0.5"):
        effects.onset(around_the_edge(0, (0.0,) * 4, momentum=0.5), **common, where={}, fall=0.05)
    with refused("where", "'noise'"):
        effects.onset(runs, **common, where={"labels": "noise"}, fall=0.05)
    with refused("over must", "'loss'"):
        effects.onset(runs, **common, where={}, fall=0.05, over="loss")


def test_the_onset_of_adam_is_over_the_rate_of_an_overshooting_first_step():
    rates = (0.1, 0.4, 1.6)
    runs = [
        run(s, lr=lr, train_loss=[1.0, loss])
        for s in (0, 1)
        for lr, loss in zip(rates, (0.5, 2.0, 8.0), strict=True)
    ]
    runs += [
        run(s, lr=lr, steps=2, alpha_hill=[2.4, 0.0, end])
        for s in (0, 1)
        for lr, end in zip(rates, (2.4, 2.2, 2.0), strict=True)
    ]
    found = effects.onset_over_overshoot(runs, measure="alpha_hill", where={}, step=2.0, fall=0.3)
    assert found == pytest.approx(np.full((2, 1), 0.8 / 0.2))  # half way in log rate, each


def test_the_error_of_the_sharpness_is_that_of_the_formula():
    config = ht.ExperimentConfig(
        optimizer="gd", n=300, d=100, h=150, n_test=1, lr=2.0, steps=0, probe_sharpness=True
    )
    runs = [ht.train(config.replace(seed=seed), progress=False) for seed in (0, 1)]
    edges = [ht.predict_sharpness(r.config, readout=draw_readout(r.config)) for r in runs]
    expected = [ht.stability(r.config).hessian / edge - 1 for r, edge in zip(runs, edges, strict=True)]
    assert effects.sharpness_error(runs, where={})[:, 0] == pytest.approx(expected, abs=1e-3)


def test_the_error_of_the_ridge_risk_is_that_of_each_setting_and_the_best_is_compared_with_the_best():
    shape = {"n": 60, "d": 30, "h": 45, "optimizer": "gd"}
    runs = []
    for lr in (5.0, 500.0):
        for seed in (0, 1):
            law = law_of(run(seed, lr=lr, **shape), drawn=True)
            risk = law.ridge_risk(lr)
            for ridge_lambda in (0.1, risk.best_lambda, 100.0):
                loss = 1.1 * float(risk(ridge_lambda))
                runs.append(
                    run(seed, lr=lr, ridge_lambda=round(ridge_lambda, 1), test_loss=[9.0, loss], **shape)
                )
    found = effects.ridge_risk_error(runs, where={}, ridge_lambda=0.1)
    assert found == pytest.approx(np.full((2, 2), 0.1), abs=1e-6)
    # the best parameters of two seeds differ, and only one of each seed was run
    same = [one for one in runs if one.config.seed == 0]
    found = effects.ridge_risk_error(same, where={}, ridge_lambda="best")
    assert found == pytest.approx(np.full((1, 2), 0.1), abs=1e-3)
    assert effects.ridge_risk_error(same, where={}, ridge_lambda=0.1, upto=1.0).shape == (1, 1)
    with refused("where", "'adam'"):
        effects.ridge_risk_error(runs, where={"optimizer": "adam"}, ridge_lambda=0.1)
    with refused("ridge_lambda must", "'least'"):
        effects.ridge_risk_error(runs, where={}, ridge_lambda="least")


def test_a_window_is_compared_with_what_lies_outside_it():
    hills, losses = (2.4, 2.1, 1.8, 3.0), (1.0, 2.0, 4.0, 8.0)
    runs = [
        run(seed, lr=float(k + 1), alpha_hill=[0.0, hill], test_loss=[0.0, loss + seed])
        for seed in (0, 1)
        for k, (hill, loss) in enumerate(zip(hills, losses, strict=True))
    ]
    window = {"measure": "test_loss", "x": "alpha_hill", "of": {}, "along": "lr"}
    found = effects.inside_minus_outside(runs, **window, low=2.0, high=2.5)
    assert found.tolist() == [[1.5 - 6.0]] * 2
    with refused("", "seed 0 has none"):
        effects.inside_minus_outside(runs, **window, low=5.0, high=6.0)


def test_phases_are_counted_over_rates_and_steps():
    rng = np.random.default_rng(0)
    noise = ht.esd(rng.standard_normal((60, 40)))
    spiked, heavy = np.r_[noise[:-1], 1e4], np.sort(rng.pareto(1.0, 40))
    shape = {"n": 20, "d": 40, "h": 60}
    runs = [
        run(s, eigenvalues=[noise, last], lr=lr, **shape)
        for s in (0, 1)
        for lr, last in ((1.0, spiked), (2.0, heavy if s else noise))
    ]
    assert effects.phases_seen(runs, where={}).tolist() == [[2.0], [3.0]]
    with refused("where", "'gd'"):
        effects.phases_seen(runs, where={"optimizer": "gd"})
