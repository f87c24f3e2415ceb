"""Whole figures draw the runs they get; the oracle is the runs' own measures, read back from the artists."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

import htlib as ht
from htlib.figures import runs as figures
from htlib.figures.style import BLUE, LABELS, ORANGE

SMALL = {"n": 60, "d": 20, "h": 30, "n_test": 40, "steps": 2}
SEEDS = (0, 1)
PRESETS = sorted((Path(__file__).parents[1] / "experiments").glob("*.toml"))


def trained(**changes):
    config = ht.ExperimentConfig(**{**SMALL, **changes})
    return [ht.train(config.replace(seed=seed), progress=False) for seed in SEEDS]


def at(runs, metric, step=-1):
    """The measure of each run at a row of its metrics."""
    return [run.metrics[metric].iloc[step] for run in runs]


def means(ax):
    """The lines that are means: those through points, but for the dotted references."""
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
    return [run for group in groups.values() for run in group]


def axes_of(figure):
    return {ax.get_ylabel() or ax.get_xlabel(): ax for ax in figure.axes}


class TestDraw:
    def test_an_unknown_name_is_refused_with_those_there_are(self):
        with pytest.raises(ValueError, match=r"rate_map, along_steps, tail_controls.*got 'rate-map'"):
            figures.draw("rate-map", [])

    @pytest.mark.parametrize("name", ["rate_map", "along_steps", "tail_controls"])
    def test_no_runs_are_refused(self, name):
        with pytest.raises(ValueError, match="no runs"):
            figures.draw(name, [])

    @pytest.mark.parametrize("path", PRESETS, ids=[path.stem for path in PRESETS])
    def test_every_preset_names_a_figure_there_is(self, path):
        assert ht.load_experiment(path).figure in figures.FIGURES

    def test_the_figure_is_closed_and_settings_are_left_alone(self, rates):
        before = dict(plt.rcParams)
        figures.draw("rate_map", flat(rates)).draw_without_rendering()
        assert dict(plt.rcParams) == before
        assert not plt.get_fignums()


class TestRateMap:
    def test_means_of_the_last_step_against_the_rate(self, rates):
        ax = axes_of(figures.rate_map(flat(rates)))[LABELS["spectral_norm"]]
        adam, gd = means(ax)
        expected = [np.mean(at(rates["adam", lr, "paper"], "spectral_norm")) for lr in (0.1, 1.0)]
        assert adam.get_xdata().tolist() == [0.1, 1.0]
        assert adam.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert (adam.get_color(), gd.get_color()) == (ORANGE, BLUE)
        assert gd.get_xdata().tolist() == [10.0, 100.0]

    def test_each_seed_is_a_dot(self, rates):
        ax = axes_of(figures.rate_map(flat(rates)))[LABELS["alpha_hill"]]
        dots = [line for line in ax.lines if line.get_linestyle() == "None"]
        drawn = sorted(value for line in dots for value in line.get_ydata())
        runs = [run for (_, _, scale), group in rates.items() if scale == "paper" for run in group]
        assert drawn == pytest.approx(sorted(at(runs, "alpha_hill")))

    def test_losses_have_a_line_style_per_feature_scale(self, rates):
        ax = axes_of(figures.rate_map(flat(rates)))[LABELS["test_loss"]]
        lines = {(line.get_color(), line.get_linestyle()): line for line in means(ax)}
        assert set(lines) == {(color, style) for color in (ORANGE, BLUE) for style in ("-", "--")}
        expected = [np.mean(at(rates["adam", lr, "released-code"], "test_loss")) for lr in (0.1, 1.0)]
        assert lines[ORANGE, "--"].get_ydata() == pytest.approx(expected, rel=1e-12)

    def test_the_start_is_dotted(self, rates):
        ax = axes_of(figures.rate_map(flat(rates)))[LABELS["alpha_hill"]]
        (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        expected = np.mean(at(rates["gd", 10.0, "paper"], "alpha_hill", step=0))  # all share the start
        assert dotted.get_ydata() == pytest.approx([expected] * 2, rel=1e-12)

    def test_a_diverged_run_leaves_a_cross_and_no_mean(self, rates):
        runs = flat({key: group for key, group in rates.items() if key[2] == "paper"})
        whole = runs[-1]  # gradient descent at 100, seed 1
        broken = dataclasses.replace(
            whole, metrics=whole.metrics.iloc[:-1], eigenvalues=whole.eigenvalues[:-1], diverged_at=2
        )
        figure = figures.rate_map([*runs[:-1], broken])
        ax = axes_of(figure)[LABELS["alpha_hill"]]
        gd = means(ax)[1]
        assert np.isfinite(gd.get_ydata()).tolist() == [True, False]
        crosses = [line for line in ax.lines if line.get_marker() == "x"]
        assert [line.get_xdata()[0] for line in crosses] == [100.0]
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "diverged" in labels

    def test_all_runs_diverged(self, rates):
        broken = [dataclasses.replace(run, diverged_at=1) for run in rates["gd", 100.0, "paper"]]
        figure = figures.rate_map(broken)
        assert not means(axes_of(figure)[LABELS["alpha_hill"]])
        figure.draw_without_rendering()

    def test_a_single_seed(self, rates):
        one = [group[0] for group in rates.values()]
        ax = axes_of(figures.rate_map(one))[LABELS["spectral_norm"]]
        expected = [at(rates["adam", lr, "paper"], "spectral_norm")[0] for lr in (0.1, 1.0)]
        assert means(ax)[0].get_ydata() == pytest.approx(expected)

    def test_a_difference_that_a_mean_would_hide_is_refused(self, rates):
        with pytest.raises(ValueError, match="the runs differ in noise_std"):
            figures.rate_map([*flat(rates), *trained(noise_std=0.7)])


class TestAlongSteps:
    def test_a_curve_per_setting_with_its_label(self):
        runs = {n: trained(n=n) for n in (50, 60)}
        figure = figures.along_steps(flat(runs))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$n$ = 50", "$n$ = 60"]
        first, second = means(axes_of(figure)[LABELS["alpha_hill"]])
        for line, group in ((first, runs[50]), (second, runs[60])):
            assert line.get_xdata().tolist() == [0, 1, 2]
            expected = np.mean([run.metrics.alpha_hill for run in group], axis=0)
            assert line.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert first.get_color() != second.get_color()
        assert first.get_marker() != second.get_marker()

    def test_panels_for_both_feature_scales(self, rates):
        figure = figures.along_steps(flat(rates))
        losses = {ax.get_title("left"): ax for ax in figure.axes if ax.get_ylabel() == LABELS["test_loss"]}
        assert set(losses) == {"paper scale", "released-code scale"}
        for scale in ("paper", "released-code"):
            line = means(losses[f"{scale} scale"])[0]
            runs = rates["adam", 0.1, scale]
            expected = np.mean([run.metrics.test_loss for run in runs], axis=0)
            assert line.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert sum(ax.get_ylabel() == LABELS["alpha_hill"] for ax in figure.axes) == 1

    def test_one_feature_scale_leaves_room_for_the_spectral_norm(self, rates):
        figure = figures.along_steps(rates["adam", 1.0, "paper"])
        assert LABELS["spectral_norm"] in axes_of(figure)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"Adam, $\eta$ = 1"]

    @pytest.mark.parametrize(
        ("field", "values", "labels"),
        [
            ("lr_decay", (0.5, None), [r"$\gamma$ = 0.5", "constant rate"]),
            ("normalize_weights", (False, True), ["not normalised", "normalised"]),
            ("adam_eps", (1e-8, 1e-5), [r"$\epsilon$ = 1e-08", r"$\epsilon$ = 1e-05"]),
            ("ridge_lambda", (0.1, 1e-4), [r"$\lambda$ = 0.1", r"$\lambda$ = 0.0001"]),
        ],
    )
    def test_settings_are_named_in_the_symbols_of_the_book(self, field, values, labels):
        runs = [trained(**{field: value})[0] for value in values]
        figure = figures.along_steps(runs)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == labels

    def test_steps_are_logarithmic_on_request(self, rates):
        runs = rates["adam", 1.0, "paper"]
        assert {ax.get_xscale() for ax in figures.along_steps(runs).axes} == {"linear"}
        figure = figures.along_steps(runs, log_steps=True)
        assert {ax.get_xscale() for ax in figure.axes} == {"symlog"}
        figure.draw_without_rendering()

    def test_diverged_runs_are_counted(self, rates):
        whole, other = rates["adam", 1.0, "paper"]
        broken = dataclasses.replace(
            whole, metrics=whole.metrics.iloc[:2], eigenvalues=whole.eigenvalues[:2], diverged_at=2
        )
        figure = figures.along_steps([broken, other])
        assert "1 of 2 runs diverged" in figure.get_supxlabel()
        assert means(axes_of(figure)[LABELS["alpha_hill"]])[0].get_xdata().tolist() == [0, 1]


class TestTailControls:
    def test_a_row_per_control_with_seeds_and_mean(self, controls):
        figure = figures.tail_controls(flat(controls))
        hill, alignment = figure.axes
        rows = [text.get_text() for text in hill.get_yticklabels()]
        assert rows == ["as it is", "labels: pure noise", "update: top removed"]
        assert alignment.get_xlabel() == "alignment with the teacher"
        for row, group in enumerate(controls.values()):
            here = [line for line in hill.lines if line.get_marker() in "|os" and _row(line) == row]
            bars = [line.get_xdata()[0] for line in here if line.get_marker() == "|"]
            dots = [line.get_xdata().tolist() for line in here if line.get_marker() == "o"]
            assert bars == pytest.approx([np.mean(at(group, "alpha_hill"))])
            assert dots == [pytest.approx(at(group, "alpha_hill"))]

    def test_the_start_is_dotted(self, controls):
        hill = figures.tail_controls(flat(controls)).axes[0]
        (dotted,) = [line for line in hill.lines if line.get_linestyle() == ":"]
        expected = np.mean(at(controls["real", "full"], "alpha_hill", step=0))  # all share the start
        assert dotted.get_xdata() == pytest.approx([expected] * 2)

    def test_rates_are_told_apart(self, controls):
        figure = figures.tail_controls([*flat(controls), *trained(optimizer="gd", lr=100.0)])
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == [r"Adam, $\eta$ = 1", r"GD, $\eta$ = 100", "start"]
        heights = {
            line.get_color(): line.get_ydata()[0]
            for line in figure.axes[0].lines
            if line.get_marker() in "os"
        }
        assert len(set(heights.values())) == 2

    def test_a_difference_that_a_mean_would_hide_is_refused(self, controls):
        with pytest.raises(ValueError, match="the runs differ in n;"):
            figures.tail_controls([*flat(controls), *trained(n=50)])


def _row(line):
    return round(float(line.get_ydata()[0]))


# One run


@pytest.fixture(scope="module")
def one_run():
    return ht.train(ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=3))


def test_overview_labels_every_axis_and_leaves_settings_alone(one_run):
    before = dict(plt.rcParams)
    figure = figures.overview(one_run, step=1)
    assert dict(plt.rcParams) == before
    assert not plt.get_fignums()  # nothing waits to be shown twice
    assert len(figure.axes) == 4
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title("left") for ax in figure.axes)
    figure.draw_without_rendering()


def test_overview_of_a_single_eigenvalue():
    run = ht.train(ht.ExperimentConfig(n=5, d=1, h=1, n_test=5, steps=1))
    figures.overview(run).draw_without_rendering()
