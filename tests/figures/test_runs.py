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
from htlib.spectra.phases import PHASES
from htlib.student.config import CHOICES
from htlib.student.probes import METRICS
from htlib.student.problem import draw_readout
from tests.ledger.test_controls import run as network_run
from tests.ledgers import run
from tests.refusals import refused

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
    pairs = [("real", "full"), ("noise", "full"), ("real", "no-top")]
    return {(labels, update): trained(labels=labels, update=update) for labels, update in pairs}


def flat(groups):
    return [one for group in groups.values() for one in group]


def axes_of(figure):
    return {ax.get_ylabel() or ax.get_xlabel(): ax for ax in figure.axes}


def cut(run):
    """The run, of two steps, as if it had diverged at the second."""
    measures = {"metrics": run.metrics.iloc[:2], "eigenvalues": run.eigenvalues[:2]}
    return dataclasses.replace(run, **measures, diverged_at=2)


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_an_unknown_name_is_refused_with_those_there_are():
    with refused("", "rate_map, along_steps, tail_controls", "'rate-map'"):
        hp.draw("rate-map", [])


@pytest.mark.parametrize("name", hp.FIGURES)
def test_runs_of_another_kind_are_refused_by_their_type(name):
    wrong, right = network_run(0, 0.5), trained()[0]
    if "practice" in name:
        wrong, right = right, wrong
    with refused(name, type(right).__name__, type(wrong).__name__):
        hp.draw(name, [wrong])


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


def suited(name, runs):
    """The runs that a figure accepts."""
    if name == "collapse":
        return [one for one in runs if one.config.optimizer == "gd"]
    if name == "along_edge":
        return [ht.train(one.config.replace(probe_sharpness=True), progress=False) for one in runs]
    return runs


@pytest.mark.parametrize(
    "name", [name for name, draw in hp.FIGURES.items() if "practice" not in draw.__module__]
)
class TestEveryFigure:
    def test_no_runs_are_refused(self, name):
        with pytest.raises(ValueError, match="no runs"):
            hp.draw(name, [])

    def test_it_is_closed_and_its_words_are_those_of_the_registries(self, name, anything):
        figure = hp.draw(name, suited(name, anything))
        figure.draw_without_rendering()
        assert not plt.get_fignums()  # nothing waits to be shown twice
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert any(hp.OPTIMIZER_NAMES[o] in words for o in ("adam", "gd"))
        assert not {*METRICS, *CHOICES["optimizer"]} & set(re.split(r"[^\w]+", words)) - {"alignment"}
        assert any(ax.get_xlabel() for ax in figure.axes)

    def test_a_single_seed_a_single_direction_and_a_run_that_diverged_can_be_drawn(self, name, anything):
        tiny = ht.ExperimentConfig(n=5, d=1, h=1, n_test=5, steps=1, optimizer="gd")
        hp.draw(name, suited(name, [ht.train(tiny, keep_overlaps=True)])).draw_without_rendering()
        anything = suited(name, anything)
        broken = [dataclasses.replace(one, diverged_at=2) for one in anything]
        hp.draw(name, [broken[0], *anything[1:]])
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
        # the last is gradient descent at 100, seed 1
        figure = hp.rate_map([*runs[:-1], cut(runs[-1])])
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
        assert legend_of(figure) == ["$n$ = 50", "$n$ = 60"]
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
        assert set(losses) == {"paper feature scale", "released-code feature scale"}
        for scale in ("paper", "released-code"):
            line = means(losses[f"{scale} feature scale"])[0]
            runs = rates["adam", 0.1, scale]
            expected = np.mean([one.metrics.test_loss for one in runs], axis=0)
            assert line.get_ydata() == pytest.approx(expected, rel=1e-12)
        assert sum(ax.get_ylabel() == LABELS["alpha_hill"] for ax in figure.axes) == 1

    def test_one_feature_scale_leaves_room_for_the_spectral_norm(self, rates):
        figure = hp.along_steps(rates["adam", 1.0, "paper"])
        assert LABELS["spectral_norm"] in axes_of(figure)
        assert legend_of(figure) == ["Adam, $η$ = 1"]
        assert {ax.get_xscale() for ax in figure.axes} == {"linear"}
        figure = hp.along_steps(rates["adam", 1.0, "paper"], log_steps=True)
        assert {ax.get_xscale() for ax in figure.axes} == {"symlog"}
        figure.draw_without_rendering()

    def test_diverged_runs_are_counted(self, rates):
        whole, other = rates["adam", 1.0, "paper"]
        figure = hp.along_steps([cut(whole), other])
        assert "1 of 2 runs diverged" in figure.get_supxlabel()
        assert means(axes_of(figure)[LABELS["alpha_hill"]])[0].get_xdata().tolist() == [0, 1]


class TestTailControls:
    def test_a_row_per_control_with_seeds_and_mean(self, controls):
        hill, alignment = hp.tail_controls(flat(controls)).axes
        rows = [text.get_text() for text in hill.get_yticklabels()]
        assert rows == ["as it is", "noise labels", "no-top update"]
        assert alignment.get_xlabel() == LABELS["alignment"]
        (bars,) = [line for line in hill.lines if line.get_marker() == "|"]
        expected = [np.mean(at(group, "alpha_hill")) for group in controls.values()]
        assert bars.get_xdata() == pytest.approx(expected)
        dots = [points.get_offsets().data for points in hill.collections if len(points.get_offsets())]
        for d, group in zip(dots, controls.values(), strict=True):
            assert d[:, 0] == pytest.approx(at(group, "alpha_hill"))
        (dotted,) = [line for line in hill.lines if line.get_linestyle() == ":"]
        expected = np.mean(at(controls["real", "full"], "alpha_hill", step=0))  # all share the start
        assert dotted.get_xdata() == pytest.approx([expected] * 2)

    def test_rates_are_told_apart(self, controls):
        figure = hp.tail_controls([*flat(controls), *trained(optimizer="gd", lr=100.0)])
        assert legend_of(figure) == ["Adam, $η$ = 1", "GD, $η$ = 100", "start"]
        adam, gd = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
        assert adam.get_color() != gd.get_color()
        assert adam.get_ydata()[0] < gd.get_ydata()[0]  # rows are numbered from the top


@pytest.mark.parametrize("fields", [{**SMALL, "steps": 3}, {"n": 5, "d": 1, "h": 1, "n_test": 5, "steps": 1}])
def test_overview_labels_every_axis_and_is_closed(fields):
    figure = hp.overview(ht.train(ht.ExperimentConfig(**fields)), step=1)
    figure.draw_without_rendering()
    assert not plt.get_fignums()
    assert len(figure.axes) == 4
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title("left") for ax in figure.axes)


class TestOptimizerSpectra:
    def test_bars_are_eigenvalues_per_bin_and_words_their_measures(self, anything):
        figure = hp.optimizer_spectra(anything)
        panels = [ax for ax in figure.axes if ax.patches]
        steps = ("after 1 step", "after 2 steps")
        titles = [f"{label}: {step}" for label in ("Adam, $η$ = 1", "GD, $η$ = 10") for step in steps]
        assert [ax.get_title("left") for ax in panels] == titles
        for ax in panels:
            assert np.sum(ax.patches[0].get_data().values) == pytest.approx(SMALL["d"])
        words = panels[0].texts[0].get_text()
        assert f"$s_1$ = {np.mean(at(anything[:2], 'spectral_norm', step=1)):.0f}" in words
        assert f"PL_Alpha_Hill {np.mean(at(anything[:2], 'alpha_hill', step=1)):.2f}" in words

    def test_a_step_that_no_run_reached_is_named(self, anything):
        figure = hp.optimizer_spectra([*(cut(run) for run in anything[:2]), *anything[2:]])
        assert figure.axes[1].texts[0].get_text() == "diverged"

    def test_one_law_is_of_one_shape(self):
        with refused("", "one shape", "(30, 20)", "(30, 21)"):
            hp.optimizer_spectra([*trained(), *trained(d=21)])


class TestStability:
    def test_the_collapse_divides_each_rate_by_the_edge_of_its_setting(self):
        runs = [
            one
            for lr in (10.0, 20.0)
            for labels in ("real", "shuffled")
            for one in trained(optimizer="gd", lr=lr, labels=labels)
        ]
        plain, scaled = hp.collapse(runs, step=1).axes
        for ax in (plain, scaled):
            curves = [line for line in ax.lines if line.get_marker() == "."]
            assert len(curves) == 2
            for line, labels in zip(curves, ("real", "shuffled"), strict=True):
                group = [one for one in runs if one.config.labels == labels]
                expected = [
                    np.mean(
                        [
                            at([r], "alpha_hill", 1)[0] - at([r], "alpha_hill", 0)[0]
                            for r in group
                            if r.config.lr == lr
                        ]
                    )
                    for lr in (10.0, 20.0)
                ]
                assert line.get_ydata() == pytest.approx(expected)
                edges = [2 / ht.predict_sharpness(r.config, readout=draw_readout(r.config)) for r in group]
                edge = 1 if ax is plain else np.exp(np.log(edges).mean())
                assert line.get_xdata() == pytest.approx(np.array([10.0, 20.0]) / edge)

    def test_other_optimizers_and_runs_without_the_sharpness_are_refused(self):
        with refused("", "optimizer = 'gd'", "adam", error=ValueError):
            hp.collapse(trained())
        with refused("", "without momentum", error=ValueError):
            hp.collapse(trained(optimizer="gd", momentum=0.5))
        with refused("", "probe_sharpness=True", error=ValueError):
            hp.along_edge(trained())

    def test_a_cell_of_the_phase_maps_is_the_phase_of_most_seeds(self):
        rng = np.random.default_rng(0)
        shape = {"n": 20, "d": 40, "h": 60}
        noise = ht.esd(rng.standard_normal((60, 40)))
        spiked = np.r_[noise[:-1], 1e4]
        runs = [run(s, eigenvalues=[noise, spiked if s else noise], lr=1.0, **shape) for s in range(3)]
        figure = hp.phase_maps(runs)
        (mesh,) = figure.axes[0].collections
        assert [PHASES[int(k)] for k in mesh.get_array().ravel()] == ["random", "bulk + spikes"]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(PHASES)
        long = hp.phase_maps([run(0, steps=6, eigenvalues=[noise] * 7, **shape)])
        assert [text.get_text() for text in long.axes[0].get_xticklabels()] == list("012346")
