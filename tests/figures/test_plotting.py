"""Figures draw what the results say; the oracle is the data put in, read back from the artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import htlib as ht
from htlib import figures as hp


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.fixture(scope="module")
def runs():
    config = ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=3)
    return [ht.train(config.replace(seed=seed)) for seed in range(2)]


def test_spectrum_counts_every_positive_eigenvalue_once(ax):
    eigenvalues = np.append(np.geomspace(1, 1e6, 50), 0.0)
    assert hp.spectrum(eigenvalues, ax=ax) is ax
    assert sum(bar.get_height() for bar in ax.patches) == 50


def test_the_law_line_expects_as_many_eigenvalues_as_there_are(ax):
    law = ht.MarchenkoPastur.of_gaussian_esd(300, 200)
    hp.spectrum(law.ppf((np.arange(200) + 0.5) / 200), law=law, ax=ax)
    drawn = ax.lines[0].get_ydata().sum()
    assert 195 < drawn <= 200.001  # bins that expect less than .3 are left out


def test_a_few_outliers_are_marked_and_many_are_not(ax):
    hp.spectrum([1.0, 2.0, 50.0, 70.0], edge=10.0, ax=ax)
    assert ax.lines[-1].get_xdata().tolist() == [50.0, 70.0]
    before = len(ax.lines)
    hp.spectrum(np.linspace(11, 99, 80), edge=10.0, ax=ax)
    assert len(ax.lines) == before + 1  # the edge alone


def test_seeds_draws_the_mean_and_every_seed(ax):
    hp.seeds([1, 2, 3], [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], label="two seeds", ax=ax)
    *dots, mean = ax.lines
    assert mean.get_ydata().tolist() == [2.0, 2.0, 2.0]
    assert [line.get_ydata().tolist() for line in dots] == [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]


def test_against_rate_has_a_curve_per_optimizer(ax):
    table = pd.DataFrame(
        {
            "optimizer": ["gd", "gd", "adam", "adam"],
            "lr": [1.0, 2.0, 1.0, 2.0],
            "seed": 0,
            "alignment": [0.1, 0.2, 0.3, 0.4],
        }
    )
    hp.against_rate(table, "alignment", ax=ax)
    labelled = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert labelled["GD"] == [0.1, 0.2]
    assert labelled["Adam"] == [0.3, 0.4]
    assert ax.get_xscale() == "log"


def test_trajectory_draws_the_mean_over_runs(runs, ax):
    hp.trajectory(runs, "spectral_norm", ax=ax)
    expected = np.mean([run.metrics.spectral_norm for run in runs], axis=0)
    assert ax.lines[-1].get_ydata() == pytest.approx(expected, rel=1e-12)


def test_every_group_gets_a_curve_of_its_own(ax):
    names = [f"s{k}" for k in range(7)]
    table = pd.DataFrame({"optimizer": names, "lr": 1.0, "seed": 0, "alignment": np.arange(7.0)})
    hp.against_rate(table, "alignment", ax=ax)
    means = [line for line in ax.lines if line.get_label() in names]
    assert len(means) == 7
    assert len({(line.get_color(), line.get_marker()) for line in means[:5]}) == 5


def test_the_law_expects_what_lies_within_the_edge(ax):
    values = np.concatenate([ht.esd(np.random.default_rng(0).standard_normal((300, 200))), np.full(50, 5e3)])
    hp.spectrum(values, law=ht.MarchenkoPastur.of_gaussian_esd(300, 200), edge=1100.0, ax=ax)
    line = next(line for line in ax.lines if line.get_label() == "Marchenko-Pastur law")
    assert np.sum(line.get_ydata()) == pytest.approx(200, abs=1)  # the ends of less than .3 are not drawn


@pytest.mark.parametrize("xmax", [None, 50.0])
def test_power_law_draws_each_value_once_and_the_fit_through_the_threshold(ax, xmax):
    values = np.random.default_rng(0).pareto(1.5, 500) + 1
    fit = ht.fit_power_law(values, xmin=2.0, xmax=xmax)
    hp.power_law(values[::-1], fit, ax=ax)
    points, line, threshold = ax.lines
    within = np.sort(values if xmax is None else values[values <= xmax])
    assert np.array_equal(points.get_xdata(), within)
    for x, share in list(zip(*points.get_data(), strict=True))[::50]:
        assert share == pytest.approx(np.mean(within >= x), rel=1e-12)
    assert line.get_data()[0][0] == pytest.approx(2.0)
    assert line.get_data()[1][0] == pytest.approx(fit.n_tail / len(within))
    assert np.all(np.diff(line.get_ydata()) < 0)
    if xmax is None:  # a straight line of slope 1 - alpha
        slopes = np.diff(np.log(line.get_ydata())) / np.diff(np.log(line.get_xdata()))
        assert slopes == pytest.approx(1 - fit.alpha)
    assert threshold.get_xdata()[0] == 2.0
    assert f"{fit.alpha:.2f}" in line.get_label()
    assert str(fit.n_tail) in line.get_label()


@pytest.mark.parametrize("count", [10, 11])
def test_hill_marks_the_median_cut_where_the_curve_has_pl_alpha_hill(ax, count):
    values = np.random.default_rng(0).pareto(1.5, count) + 1
    hp.hill(ht.hill_plot(values), null=2.45, ax=ax)
    lines = {line.get_label(): line for line in ax.lines}
    half = lines["PL_Alpha_Hill's cut"].get_xdata()[0]
    curve = dict(zip(*lines["Hill estimate"].get_data(), strict=True))
    assert curve[half] == pytest.approx(ht.hill_alpha(values), rel=1e-12)
    assert lines["noise of this shape"].get_data() == ([half], [2.45])
    assert ax.get_xscale() == "log"
    assert ax.get_ylabel().startswith("exponent")


def test_hill_without_noise_has_no_cross(ax):
    hp.hill(ht.hill_plot([1.0, 2.0, 4.0, 8.0]), ax=ax)
    assert "noise of this shape" not in ax.get_legend_handles_labels()[1]
