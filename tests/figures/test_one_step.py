"""Figures of one step; oracles are the law and the measures of the runs, read back from the artists."""

import numpy as np
import pytest

import htlib as ht
from htlib import figures as hp
from htlib.figures.style import LABEL_LOOKS, LABELS
from htlib.student.probes import METRICS
from htlib.theory.one_step import one_step_law
from tests.ledgers import run
from tests.refusals import refused

SHAPE = {"n": 60, "d": 20, "h": 30}
RATES = {"adam": (0.1, 1.0, 10.0), "gd": (10.0, 100.0)}


def measured(**changes):
    """Runs of two seeds, which were not trained, with measures 1 and 3 after the step."""
    fields = {**SHAPE, "n_test": 40, "steps": 1, **changes}
    return [run(seed, **fields, **{name: [1.0, 1.0 + 2 * seed] for name in METRICS}) for seed in (0, 1)]


@pytest.fixture(scope="module")
def laws():
    return {optimizer: one_step_law(optimizer=optimizer, **SHAPE) for optimizer in ("adam", "gd")}


@pytest.fixture(scope="module")
def runs():
    return [r for name, rates in RATES.items() for lr in rates for r in measured(optimizer=name, lr=lr)]


def dashed(ax):
    return [line for line in ax.lines if line.get_linestyle() == "--"]


def test_a_prediction_is_the_law_over_the_rates(laws, ax):
    law = laws["adam"]
    x, y = hp.prediction(law, "spectral_norm", [10.0, 0.1], ax=ax).lines[0].get_data()
    assert (x[0], x[-1]) == pytest.approx((0.1, 10.0))
    assert y[200] == pytest.approx(law(x[200]).spectral_norm)


class TestOneStepMap:
    def test_marks_are_the_runs_and_dashes_the_law(self, runs, laws):
        figure = hp.one_step_map(runs, metrics=("spectral_norm", "alignment", "alpha_hill"))
        norm, alignment, hill = figure.axes
        assert [ax.get_ylabel() for ax in figure.axes] == [
            LABELS[name] for name in ("spectral_norm", "alignment", "alpha_hill")
        ]
        for ax in figure.axes:
            means = [line for line in ax.lines if line.get_markersize() == 5]
            assert [line.get_ydata().tolist() for line in means] == [[2.0] * 3, [2.0] * 2]
        for ax, name in ((norm, "spectral_norm"), (alignment, "alignment")):
            (x, y) = dashed(ax)[1].get_data()
            assert (x[0], x[-1]) == pytest.approx((10.0, 100.0))
            assert y[7] == pytest.approx(getattr(laws["gd"](x[7]), name))
        expected = [hp.predicted_hill(laws["adam"], lr) for lr in RATES["adam"]]
        assert dashed(hill)[0].get_ydata() == pytest.approx(expected)

    def test_a_predicted_exponent_counts_the_spike_once_it_has_left(self, laws):
        law = laws["adam"]
        assert hp.predicted_hill(law, 0.1 * law.critical_lr) == law.bulk(0.1 * law.critical_lr).hill_alpha()
        lr = 10 * law.critical_lr
        assert hp.predicted_hill(law, lr) == law.bulk(lr).hill_alpha(law(lr).spectral_norm ** 2)
        assert hp.predicted_hill(law, lr) != law.bulk(lr).hill_alpha()

    def test_what_has_no_prediction_is_refused(self, runs):
        with refused("metrics must be", "'kta'"):
            hp.one_step_map(runs, metrics=("kta",))


class TestRateSpectra:
    def test_a_panel_per_run_holds_all_eigenvalues_and_its_own_numbers(self):
        config = ht.ExperimentConfig(**SHAPE, n_test=40, steps=2)
        runs = [ht.train(config.replace(lr=lr), progress=False) for lr in (0.1, 1.0)]
        for step in (1, 2):
            figure = hp.rate_spectra(runs, step=step)
            for ax, one in zip(figure.axes, runs, strict=True):
                assert sum(bar.get_height() for bar in ax.patches) == SHAPE["d"]
                assert f"Hill {one.metrics.alpha_hill[step]:.2f}" in ax.texts[0].get_text()
            # one step has a predicted bulk, two have none
            keys = [text.get_text() for text in figure.legends[0].get_texts()]
            assert ("predicted bulk" in keys) == (step == 1)


class TestSpikeAndLabels:
    def test_kinds_of_labels_at_the_rates_that_all_have(self, laws):
        runs = [r for lr in (0.1, 1.0, 10.0) for r in measured(lr=lr)]
        runs += [r for lr in (0.1, 10.0) for r in measured(lr=lr, labels="shuffled")]
        norm, alignment = hp.spike_and_labels(runs).axes
        means = {line.get_color(): line for line in norm.lines if line.get_markersize() == 5}
        assert {color: line.get_xdata().tolist() for color, line in means.items()} == {
            LABEL_LOOKS[name]["color"]: [0.1, 10.0] for name in ("real", "shuffled")
        }
        control = one_step_law(optimizer="adam", labels="shuffled", **SHAPE)
        for line, law in zip(dashed(alignment), (laws["adam"], control), strict=True):
            x, y = line.get_data()
            assert y[-1] == pytest.approx(law(x[-1]).alignment)
        assert np.all(dashed(alignment)[1].get_ydata() == 0)  # no teacher
