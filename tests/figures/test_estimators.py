"""Figures of trials; the oracle is the table put in, read back from the artists."""

import numpy as np
import pandas as pd
import pytest

from htlib import figures as hp
from htlib.spectra import trials
from htlib.spectra.estimators import ESTIMATORS


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.fixture(scope="module")
def judged():
    return trials.judge_matrices(trials.draw_kinds(60, 40, ["noise", "levy"], 2), n_noise=5)


def test_noise_exponents_are_the_means():
    table = trials.try_noise((0.5, 1.0), ("median", "peak-released"), 60, 3)
    (ax,) = hp.noise_exponents(table).axes
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"Hill, median", "peak, released"}
    means = table[table.estimator == "median"].groupby("ratio").alpha.mean()
    assert lines["Hill, median"].get_ydata() == pytest.approx(means.to_numpy())


def test_laws_are_drawn_with_their_truth_and_an_arrow_beyond():
    table = trials.try_samples(60, 3)
    panels = hp.law_exponents(table).axes
    assert len(panels) == 3
    for ax, truths in zip(panels, ([2.5], [2.5], []), strict=True):
        assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == truths
        assert [tick.get_text() for tick in ax.get_yticklabels()] == [e.label for e in ESTIMATORS.values()]
    markers = [line.get_marker() for line in panels[2].lines]
    assert ">" in markers  # the moments find no power law in an exponential one


def test_calls_are_shares_in_percent(judged):
    cut, beside, bar = hp.heavy_calls(judged).axes
    names = [*(e.label for e in ESTIMATORS.values()), "windows"]
    assert [tick.get_text() for tick in beside.get_xticklabels()] == names
    assert [" ".join(t.get_text().split()) for t in cut.get_yticklabels()] == [
        "Gaussian noise",
        "Student t(1.5) entries",
    ]
    shares = judged.groupby(["kind", "estimator"], sort=False).below_noise.mean()
    assert texts(beside) == [f"{100 * share:.0f}" for share in shares]
    assert texts(cut)[0] == "100"  # noise has an exponent below 4
    assert bar.get_xlabel() == "percent of the matrices"


def test_spectra_show_their_exponents_and_those_of_noise(judged):
    ax, _ = hp.spectrum_calls(judged).axes
    shown = np.array(texts(ax)).reshape(3, -1)
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "noise, median"
    alpha = judged.alpha[(judged.kind == "levy") & (judged.estimator == "median")].mean()
    assert shown[1, 0] == f"{alpha:.2f}"
    assert shown[2, 0] == f"{judged.noise[judged.estimator == 'median'].iloc[0]:.2f}"
    assert "∞" in shown[:, -2]  # the moments of noise


def test_spikes_have_a_curve_and_a_threshold_per_side():
    table = trials.try_spikes(60, 40, (10, 20), (1.0, 4.0), 2)
    (ax,) = hp.spike_windows(table, 60, 40).axes
    dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([1, 2400**0.25 / 10**0.5, 2400**0.25 / 20**0.5])
    labels = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert labels == ["whole matrix", "windows of 10 x 10", "windows of 20 x 20"]


def test_three_nulls_are_the_means():
    table = pd.DataFrame(
        {
            "kind": ["noise", "noise", "mine"],
            "gaussian": [1.0, 0.0, -40.0],
            "shuffle": [0.0, 0.0, -5.0],
            "profile": [-0.4, 0.0, 2.0],
            "n_spikes": [0, 0, 7],
            "traps": [0.0, 0.0, 1.0],
        }
    )
    ax, _ = hp.three_nulls(table).axes
    assert texts(ax) == ["0", "0", "0", "0", "0", "-40", "-5", "2", "7", "1"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["Gaussian noise", "mine"]
    assert ax.images[0].get_array().tolist() == [[0.5, 0.0, -0.2], [-10.0, -5.0, 2.0]]
