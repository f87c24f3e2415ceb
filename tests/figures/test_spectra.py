"""Pictures of one spectrum; the oracle is the data put in, read back from the artists."""

import numpy as np
import pytest

import htlib as ht
from htlib import figures as hp


def test_spectrum_counts_every_positive_eigenvalue_once(ax):
    eigenvalues = np.append(np.geomspace(1, 1e6, 50), 0.0)
    assert hp.spectrum(eigenvalues, ax=ax) is ax
    assert sum(bar.get_height() for bar in ax.patches) == 50


def test_the_law_line_expects_as_many_eigenvalues_as_there_are(ax):
    law = ht.MarchenkoPastur.of_gaussian_esd(300, 200)
    hp.spectrum(law.ppf((np.arange(200) + 0.5) / 200), law=law, ax=ax)
    drawn = ax.lines[0].get_ydata().sum()
    assert 195 < drawn <= 200.001  # bins that expect less than .3 are left out


def test_the_law_expects_what_lies_within_the_edge(ax):
    values = np.concatenate([ht.esd(np.random.default_rng(0).standard_normal((300, 200))), np.full(50, 5e3)])
    hp.spectrum(values, law=ht.MarchenkoPastur.of_gaussian_esd(300, 200), edge=1100.0, ax=ax)
    line = next(line for line in ax.lines if line.get_label() == "Marchenko-Pastur law")
    assert np.sum(line.get_ydata()) == pytest.approx(200, abs=1)  # the ends of less than .3 are not drawn


def test_a_predicted_bulk_expects_its_own_eigenvalues(ax):
    law = ht.one_step_law(n=300, d=150, h=200).bulk(2.0)
    values = [*law.quantiles(), 40 * law.edge]
    hp.spectrum(values, law=ht.MarchenkoPastur.of_gaussian_esd(200, 150), bulk=law, ax=ax)
    line = next(line for line in ax.lines if line.get_label() == "predicted bulk")
    heights = np.array([bar.get_height() for bar in ax.patches])
    assert np.sum(line.get_ydata()) == pytest.approx(149, abs=2)
    assert line.get_ydata().max() == pytest.approx(heights.max(), abs=2)


def test_a_few_outliers_are_marked_and_many_are_not(ax):
    hp.spectrum([1.0, 2.0, 50.0, 70.0], edge=10.0, ax=ax)
    assert ax.lines[-1].get_xdata().tolist() == [50.0, 70.0]
    before = len(ax.lines)
    hp.spectrum(np.linspace(11, 99, 80), edge=10.0, ax=ax)
    assert len(ax.lines) == before + 1  # only the edge


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
    hp.hill(ht.hill_plot(values), ax=ax)
    assert "noise of this shape" not in ax.get_legend_handles_labels()[1]
    ax.clear()
    hp.hill(ht.hill_plot(values), null=2.45, ax=ax)
    lines = {line.get_label(): line for line in ax.lines}
    half = lines["PL_Alpha_Hill's cut"].get_xdata()[0]
    curve = dict(zip(*lines["Hill estimate"].get_data(), strict=True))
    assert curve[half] == pytest.approx(ht.hill_alpha(values), rel=1e-12)
    assert lines["noise of this shape"].get_data() == ([half], [2.45])
    assert ax.get_xscale() == "log"
    assert ax.get_ylabel().startswith("exponent")
