"""Figures of losses; oracles are by hand, SciPy, and the runs' own readings."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import htlib as ht
from htlib import figures as hp
from htlib.student.run import tidy

CONFIG = ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=3)
PATH = {"feature_scale": ["paper", "released-code"], "ridge_lambda": [0.001, 0.01, 0.1, 1.0, 10.0]}


@pytest.fixture(scope="module")
def runs():
    return [ht.train(CONFIG.replace(seed=s), readings=PATH, progress=False) for s in (0, 1)]


def means(ax):
    return [line for line in ax.lines if line.get_markersize() == 5 and line.get_marker() != "*"]


def test_losses_at_the_fixed_and_the_chosen_parameter_are_those_of_the_run(runs):
    table = hp.ridge_losses(runs)
    assert len(table) == 2 * 4 * 2
    row = table.set_index(["seed", "step", "scale"]).loc[(1, 2, "released-code")]
    readings = runs[1].readings.set_index(["step", "feature_scale"]).loc[(2, "released-code")]
    assert row.fixed == readings[readings.ridge_lambda == 0.01].test_loss.item()
    assert row.chosen == readings.test_loss.iloc[readings.gcv.to_numpy().argmin()]


def test_a_gain_is_the_start_of_the_same_seed_and_scale_minus_the_end():
    """By hand."""
    losses = pd.DataFrame(
        [
            (0, "paper", 0, 1.0, 0.9),
            (0, "paper", 1, 0.7, 0.8),
            (1, "paper", 1, 2.5, 0.6),
            (1, "paper", 0, 2.0, 0.7),
            (0, "released-code", 0, 5.0, 5.0),
        ],
        columns=["seed", "scale", "step", "fixed", "chosen"],
    )
    gains = hp.gains(losses)
    assert gains.fixed.tolist() == pytest.approx([0.3, -0.5])
    assert gains.chosen.tolist() == pytest.approx([0.1, 0.1])


def test_paths_of_the_start_and_a_star_at_the_chosen_parameter(runs):
    ax = hp.ridge_paths(runs).axes[0]
    paper, code = means(ax)
    for line, scale in ((paper, "paper"), (code, "released-code")):
        expected = [
            np.mean([r.read(scale, x).metrics.test_loss[0] for r in runs]) for x in PATH["ridge_lambda"]
        ]
        assert line.get_ydata() == pytest.approx(expected)
    star = next(line for line in ax.lines if line.get_marker() == "*")
    best = [run.best_readings().loc[(0, "paper")] for run in runs]
    assert star.get_xdata()[0] == pytest.approx(np.mean([one.ridge_lambda for one in best]))
    assert star.get_ydata()[0] == pytest.approx(np.mean([one.test_loss for one in best]))


def test_worth_and_controls_show_the_gains(runs):
    gains = hp.gains(hp.ridge_losses(runs))
    gains = gains[gains.step == 3].assign(setting="three steps")
    for figure, read in ((hp.worth(gains), "y"), (hp.gain_controls(gains), "x")):
        for ax, choice in zip(figure.axes, ("fixed", "chosen"), strict=True):
            expected = gains.groupby("scale")[choice].mean().tolist()
            if read == "y":
                assert [line.get_ydata()[0] for line in means(ax)] == pytest.approx(expected)
            else:
                drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "|"]
                assert drawn == pytest.approx(expected)


def test_the_change_of_the_loss_is_paired(runs):
    ax = hp.loss_change(runs).axes[0]
    expected = np.mean([run.metrics.test_loss[3] - run.metrics.test_loss[0] for run in runs])
    assert means(ax)[0].get_ydata() == pytest.approx([expected])


def test_decays_against_the_sum_of_the_rates():
    runs = [ht.train(CONFIG.replace(lr=2.0, lr_decay=g), progress=False) for g in (0.5, None)]
    steps, spent = hp.decays(runs).axes
    half, constant = means(spent)
    assert half.get_xdata() == pytest.approx([0, 2, 3, 3.5])
    assert constant.get_xdata() == pytest.approx([0, 2, 4, 6])
    for line, other, run in zip((half, constant), means(steps), runs, strict=True):
        assert line.get_ydata() == pytest.approx(run.metrics.alpha_hill)
        assert other.get_xdata().tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def sweeps():
    noise = [0.1, 0.3, 0.9, 2.0]
    runs = [ht.train(CONFIG.replace(noise_std=x, seed=s), progress=False) for x in noise for s in (0, 1)]
    ridge = [
        ht.train(CONFIG.replace(ridge_lambda=x, seed=s), progress=False) for x in (0.01, 0.1) for s in (0, 1)
    ]
    return {"noise": ("noise_std", runs), "ridge": ("ridge_lambda", ridge)}


class TestCorrelations:
    def test_they_are_those_of_scipy_within_each_seed(self, sweeps):
        table = hp.correlations(sweeps).set_index(["sweep", "way", "seed"]).sort_index()
        measured = tidy(sweeps["noise"][1], ["noise_std"])
        last = measured[(measured.step == 3) & (measured.seed == 1)]
        expected = spearmanr(last.alpha_hill, last.test_loss).statistic
        assert table.r["noise", "across settings", 1] == pytest.approx(expected)
        along = measured[(measured.step > 0) & (measured.seed == 0) & (measured.noise_std == 0.9)]
        rows = table.loc[("noise", "along the steps", 0)].set_index("setting").r
        assert rows[0.9] == pytest.approx(spearmanr(along.alpha_hill, along.test_loss).statistic)

    def test_the_ridge_parameter_has_no_answer_across_settings(self, sweeps):
        table = hp.correlations(sweeps)
        assert set(table[table.sweep == "ridge"].way) == {"along the steps"}

    def test_bars_are_means_over_settings_and_seeds(self, sweeps):
        table = hp.correlations(sweeps)
        figure = hp.tail_and_loss(table)
        assert [ax.get_title("left") for ax in figure.axes] == ["across settings", "along the steps"]
        (bar,) = [
            line for line in figure.axes[1].lines if line.get_marker() == "|" and len(line.get_xdata())
        ][:1]
        expected = table[table.way == "along the steps"].groupby("sweep", sort=False).r.mean()
        assert bar.get_xdata() == pytest.approx(expected)
