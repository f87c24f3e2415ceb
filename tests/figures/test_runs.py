"""Figures of runs draw what they get; the oracle is the runs' own measures, read back from the artists."""

import dataclasses
import re

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

import htlib as ht
from htlib import figures as hp
from htlib.figures.style import BLUE, LABELS, ORANGE
from htlib.student.config import CHOICES
from htlib.student.probes import METRICS
from tests.ledgers import run

SMALL = {"n": 60, "d": 20, "h": 30, "n_test": 40, "steps": 2}
SEEDS = (0, 1)
RNG = np.random.default_rng(0)


def trained(**changes):
    """Runs that were not trained: they share their start, and all other measures are drawn at random."""
    return [
        run(seed, **{**SMALL, **changes}, **{name: [1 + seed, *RNG.uniform(1, 2, 2)] for name in METRICS})
        for seed in SEEDS
    ]


def at(runs, metric, step=-1):
    """The measure of each run at a row of its metrics."""
    return [one.metrics[metric].iloc[step] for one in runs]


def means(ax):
    """The lines that are means: those through points, except the dotted references."""
    return [line for line in ax.lines if line.get_linestyle() not in ("None", ":")]


@pytest.fixture(scope="module")
def rates():
    return {
        (optimizer, lr, scale): trained(optimizer=optimizer, lr=lr, feature_scale=scale)
        for optimizer, chosen in (("adam", (0.1, 1.0)), ("gd", (10.0, 100.0)))
        for lr in chosen
        for scale in ("paper", "released-code")
    }


@pytest.fixture(scope="module")
def controls():
    return {
        (labels, update): trained(labels=labels, update=update)
        for labels, update in (("real", "full"), ("noise", "full"), ("real", "no-top"))
    }


def flat(groups):
    return [one for group in groups.values() for one in group]


def axes_of(figure):
    return {ax.get_ylabel() or ax.get_xlabel(): ax for ax in figure.axes}


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"rate_map, along_steps, tail_controls.*got 'rate-map'"):
        hp.draw("rate-map", [])


@pytest.fixture(scope="module")
def anything():
    """Runs that every figure can show."""
    return [
        ht.train(ht.ExperimentConfig(**SMALL, optimizer=optimizer, lr=lr, seed=seed), keep_overlaps=True)
        for optimizer, lr in (("adam", 1.0), ("gd", 10.0))
        for seed in SEEDS
    ]


@pytest.mark.parametrize("name", ["rate_map", "tail_controls"])
def test_a_difference_that_a_mean_would_hide_is_refused(name):
    with pytest.raises(ValueError, match="the runs differ in noise_std"):
        hp.draw(name, [*trained(), *trained(noise_std=0.7)])


@pytest.mark.parametrize("name", hp.FIGURES)
class TestEveryFigure:
    def test_no_runs_are_refused(self, name):
        with pytest.raises(ValueError, match="no runs"):
            hp.draw(name, [])

    def test_it_is_closed_and_settings_are_left_alone(self, name, anything):
        before = dict(plt.rcParams)
        figure = hp.draw(name, anything)
        figure.draw_without_rendering()
        assert dict(plt.rcParams) == before
        assert not plt.get_fignums()  # nothing waits to be shown twice

    def test_words_are_those_of_the_registries_and_not_of_the_code(self, name, anything):
        figure = hp.draw(name, anything)
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert any(hp.OPTIMIZER_NAMES[o] in words for o in ("adam", "gd"))
        assert not {*METRICS, *CHOICES["optimizer"]} & set(re.split(r"[^\w]+", words)) - {"alignment"}
        assert any(ax.get_xlabel() for ax in figure.axes)

    def test_a_single_seed_a_single_direction_and_a_run_that_diverged_can_be_drawn(self, name, anything):
        tiny = ht.ExperimentConfig(n=5, d=1, h=1, n_test=5, steps=1)
        hp.draw(name, [ht.train(tiny, keep_overlaps=True)]).draw_without_rendering()
        broken = [dataclasses.replace(one, diverged_at=2) for one in anything]
        hp.draw(name, [broken[0], *anything[1:]]).draw_without_rendering()
        hp.draw(name, broken).draw_without_rendering()


class TestRateMap:
    def test_means_of_the_last_step_against_the_rate(self, rates):
        ax = axes_of(hp.rate_map(flat(rates)))[LABELS["spectral_norm"]]
        adam, gd = means(ax)
        expected = [np.mean(at(rates["adam", lr, "paper"], "spectral_norm")) for lr in (0.1, 1.0)]
        assert adam.get_xdata().tolist() == [0.1, 1.0]
        assert adam.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert (adam.get_color(), gd.get_color()) == (ORANGE, BLUE)
        assert gd.get_xdata().tolist() == [10.0, 100.0]

    def test_losses_have_a_line_style_per_feature_scale(self, rates):
        ax = axes_of(hp.rate_map(flat(rates)))[LABELS["test_loss"]]
        lines = {(line.get_color(), line.get_linestyle()): line for line in means(ax)}
        assert set(lines) == {(color, style) for color in (ORANGE, BLUE) for style in ("-", "--")}
        expected = [np.mean(at(rates["adam", lr, "released-code"], "test_loss")) for lr in (0.1, 1.0)]
        assert lines[ORANGE, "--"].get_ydata() == pytest.approx(expected, rel=1e-12)

    def test_the_start_is_dotted(self, rates):
        ax = axes_of(hp.rate_map(flat(rates)))[LABELS["alpha_hill"]]
        (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        expected = np.mean(at(rates["gd", 10.0, "paper"], "alpha_hill", step=0))  # all share the start
        assert dotted.get_ydata() == pytest.approx([expected] * 2, rel=1e-12)

    def test_a_diverged_run_leaves_a_cross_and_no_mean(self, rates):
        runs = flat({key: group for key, group in rates.items() if key[2] == "paper"})
        whole = runs[-1]  # gradient descent at 100, seed 1
        broken = dataclasses.replace(
            whole, metrics=whole.metrics.iloc[:-1], eigenvalues=whole.eigenvalues[:-1], diverged_at=2
        )
        figure = hp.rate_map([*runs[:-1], broken])
        ax = axes_of(figure)[LABELS["alpha_hill"]]
        gd = means(ax)[1]
        assert np.isfinite(gd.get_ydata()).tolist() == [True, False]
        crosses = [line for line in ax.lines if line.get_marker() == "x"]
        assert [line.get_xdata()[0] for line in crosses] == [100.0]
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "diverged" in labels


class TestAlongSteps:
    def test_a_curve_per_setting_with_its_label(self):
        runs = {n: trained(n=n) for n in (50, 60)}
        figure = hp.along_steps(flat(runs))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$n$ = 50", "$n$ = 60"]
        first, second = means(axes_of(figure)[LABELS["alpha_hill"]])
        for line, group in ((first, runs[50]), (second, runs[60])):
            assert line.get_xdata().tolist() == [0, 1, 2]
            expected = np.mean([one.metrics.alpha_hill for one in group], axis=0)
            assert line.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert first.get_color() != second.get_color()
        assert first.get_marker() != second.get_marker()

    def test_panels_for_both_feature_scales(self, rates):
        figure = hp.along_steps(flat(rates))
        losses = {ax.get_title("left"): ax for ax in figure.axes if ax.get_ylabel() == LABELS["test_loss"]}
        assert set(losses) == {"paper scale", "released-code scale"}
        for scale in ("paper", "released-code"):
            line = means(losses[f"{scale} scale"])[0]
            runs = rates["adam", 0.1, scale]
            expected = np.mean([one.metrics.test_loss for one in runs], axis=0)
            assert line.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert sum(ax.get_ylabel() == LABELS["alpha_hill"] for ax in figure.axes) == 1

    def test_one_feature_scale_leaves_room_for_the_spectral_norm(self, rates):
        figure = hp.along_steps(rates["adam", 1.0, "paper"])
        assert LABELS["spectral_norm"] in axes_of(figure)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Adam, $η$ = 1"]

    def test_steps_are_logarithmic_on_request(self, rates):
        runs = rates["adam", 1.0, "paper"]
        assert {ax.get_xscale() for ax in hp.along_steps(runs).axes} == {"linear"}
        figure = hp.along_steps(runs, log_steps=True)
        assert {ax.get_xscale() for ax in figure.axes} == {"symlog"}
        figure.draw_without_rendering()

    def test_diverged_runs_are_counted(self, rates):
        whole, other = rates["adam", 1.0, "paper"]
        broken = dataclasses.replace(
            whole, metrics=whole.metrics.iloc[:2], eigenvalues=whole.eigenvalues[:2], diverged_at=2
        )
        figure = hp.along_steps([broken, other])
        assert "1 of 2 runs diverged" in figure.get_supxlabel()
        assert means(axes_of(figure)[LABELS["alpha_hill"]])[0].get_xdata().tolist() == [0, 1]


class TestTailControls:
    def test_a_row_per_control_with_seeds_and_mean(self, controls):
        hill, alignment = hp.tail_controls(flat(controls)).axes
        assert [text.get_text() for text in hill.get_yticklabels()] == [
            "as it is",
            "noise labels",
            "no-top update",
        ]
        assert alignment.get_xlabel() == LABELS["alignment"]
        (bars,) = [line for line in hill.lines if line.get_marker() == "|"]
        expected = [np.mean(at(group, "alpha_hill")) for group in controls.values()]
        assert bars.get_xdata() == pytest.approx(expected)
        dots = [points.get_offsets().data for points in hill.collections if len(points.get_offsets())]
        assert [d[:, 0].tolist() for d in dots] == [
            pytest.approx(at(g, "alpha_hill")) for g in controls.values()
        ]

    def test_the_start_is_dotted(self, controls):
        hill = hp.tail_controls(flat(controls)).axes[0]
        (dotted,) = [line for line in hill.lines if line.get_linestyle() == ":"]
        expected = np.mean(at(controls["real", "full"], "alpha_hill", step=0))  # all share the start
        assert dotted.get_xdata() == pytest.approx([expected] * 2)

    def test_rates_are_told_apart(self, controls):
        figure = hp.tail_controls([*flat(controls), *trained(optimizer="gd", lr=100.0)])
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["Adam, $η$ = 1", "GD, $η$ = 100", "start"]
        adam, gd = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
        assert adam.get_color() != gd.get_color()
        assert adam.get_ydata()[0] < gd.get_ydata()[0]  # rows are numbered from the top


@pytest.mark.parametrize("fields", [{**SMALL, "steps": 3}, {"n": 5, "d": 1, "h": 1, "n_test": 5, "steps": 1}])
def test_overview_labels_every_axis_and_leaves_settings_alone(fields):
    before = dict(plt.rcParams)
    figure = hp.overview(ht.train(ht.ExperimentConfig(**fields)), step=1)
    figure.draw_without_rendering()
    assert dict(plt.rcParams) == before
    assert not plt.get_fignums()
    assert len(figure.axes) == 4
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title("left") for ax in figure.axes)


class TestOptimizerSpectra:
    def test_bars_are_eigenvalues_per_bin_and_words_their_measures(self, anything):
        figure = hp.optimizer_spectra(anything)
        panels = [ax for ax in figure.axes if ax.patches]
        titles = [
            f"{label}: after {steps}"
            for label in ("Adam, $η$ = 1", "GD, $η$ = 10")
            for steps in ("1 step", "2 steps")
        ]
        assert [ax.get_title("left") for ax in panels] == titles
        for ax in panels:
            assert np.sum(ax.patches[0].get_data().values) == pytest.approx(SMALL["d"])
        norm, alpha = (
            np.mean(at(anything[:2], metric, step=1)) for metric in ("spectral_norm", "alpha_hill")
        )
        words = panels[0].texts[0].get_text()
        assert f"$s_1$ = {norm:.0f}" in words
        assert f"PL_Alpha_Hill {alpha:.2f}" in words

    def test_a_step_that_no_run_reached_is_named(self, anything):
        short = [
            dataclasses.replace(
                one, metrics=one.metrics.iloc[:2], eigenvalues=one.eigenvalues[:2], diverged_at=2
            )
            for one in anything[:2]
        ]
        figure = hp.optimizer_spectra([*short, *anything[2:]])
        assert figure.axes[1].texts[0].get_text() == "diverged"

    def test_one_law_is_of_one_shape(self):
        with pytest.raises(ValueError, match=r"of one shape .*\(30, 20\).*\(30, 21\)"):
            hp.optimizer_spectra([*trained(), *trained(d=21)])
