"""Figures of singular vectors; the oracle is the overlaps put in, read back from the artists."""

import dataclasses
from itertools import product

import numpy as np
import pytest

import htlib as ht
from htlib.figures.vectors import overlap_maps, subspace_overlaps
from tests.refusals import refused

CONFIG = ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=5)


@pytest.fixture(scope="module")
def runs():
    settings = (CONFIG, CONFIG.replace(optimizer="gd", lr=5.0))
    return [ht.train(c.replace(seed=seed), keep_overlaps=True) for c in settings for seed in range(2)]


def drawn_by(ax):
    """The curves of an Axes: colour and dashes -> what is drawn; dots of single seeds aside."""
    return {
        (line.get_color(), line.get_linestyle()): line.get_ydata().tolist()
        for line in ax.lines
        if line.get_linestyle() in ("-", "--")
    }


def test_the_maps_show_the_overlaps_of_the_first_run(runs):
    figure = overlap_maps(runs, k=7)
    maps = [ax for ax in figure.axes if ax.images]
    assert len(maps) == 16  # four steps; right and left, before and after
    for ax in maps:
        step, side, when = ax.get_title("left").removeprefix("step ").split(", ")
        expected = getattr(getattr(runs[0].overlaps[int(step)], when), side)[:7, :7]
        assert np.array_equal(ax.images[0].get_array(), expected)
        assert tuple(ax.images[0].get_extent()) == (0.5, 7.5, 7.5, 0.5)  # the first at the top left
    assert {ax.get_title("left").split(",")[0] for ax in maps} >= {"step 1", "step 5"}
    assert "seed 0" in figure.get_suptitle()
    assert "Adam" in figure.get_suptitle()


def test_the_maps_share_one_scale_with_a_labelled_bar(runs):
    figure = overlap_maps(runs)
    (limits,) = {ax.images[0].get_clim() for ax in figure.axes if ax.images}
    assert limits == pytest.approx((1 / 30, 1.0))  # from chance, 1/h, to the same direction
    (bar,) = [ax for ax in figure.axes if not ax.images]
    assert "squared overlap" in bar.get_xlabel()


@pytest.mark.parametrize(("column", "side", "size"), [(0, "right", 20), (1, "left", 30)])
def test_subspaces_are_the_mean_over_seeds_and_chance_is_k_over_the_size(runs, column, side, size):
    figure = subspace_overlaps(runs, ks=(3, 100))
    for row, k in enumerate((3, 20)):  # 100 is lowered to all 20 vectors that there are
        ax = figure.axes[2 * row + column]
        assert ax.get_title("left") == f"{side}, $k$ = {k}"
        curves = drawn_by(ax)
        assert len(curves) == 4  # two settings, before and after
        for group, (when, dashes) in product((runs[:2], runs[2:]), (("before", "--"), ("after", "-"))):
            values = [
                [getattr(getattr(run.overlaps[t], when), side)[:k, :k].sum() / k for t in range(1, 6)]
                for run in group
            ]
            expected = pytest.approx(np.mean(values, axis=0), rel=1e-12)
            assert any(line == expected for (_, drawn), line in curves.items() if drawn == dashes)
        (chance,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert chance.get_ydata() == pytest.approx([k / size] * 2, rel=1e-12)


def test_every_seed_is_a_dot(runs):
    ax = subspace_overlaps(runs, ks=(3,)).axes[0]
    dots = [line.get_ydata().tolist() for line in ax.lines if line.get_linestyle() == "None"]
    assert len(dots) == 8  # two settings, two seeds, before and after
    assert [runs[1].overlaps[t].after.subspace(3)[1] for t in range(1, 6)] in dots


def test_the_legend_names_the_settings_and_what_else_varies(runs):
    legend = subspace_overlaps(runs).legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["Adam, $η$ = 1", "GD, $η$ = 5", "after the update", "before it", "chance"]
    control = ht.train(CONFIG.replace(labels="shuffled"), keep_overlaps=True)
    names = [text.get_text() for text in subspace_overlaps([runs[0], control]).legends[0].get_texts()]
    assert names[:2] == ["real labels", "shuffled labels"]


@pytest.mark.parametrize("draw", [overlap_maps, subspace_overlaps])
def test_runs_without_overlaps_are_refused(draw):
    with pytest.raises(ValueError, match="keep_overlaps=True"):
        draw([ht.train(CONFIG.replace(seed=3))])


def test_numbers_of_vectors_are_checked(runs):
    with refused("k must", "at least 1"):
        overlap_maps(runs, k=0)
    for ks in ((), (0, 3)):
        with refused("ks must"):
            subspace_overlaps(runs, ks=ks)


def test_seeds_that_ended_early_are_compared_over_the_steps_they_share(runs):
    short = ht.train(CONFIG.replace(steps=2, seed=5), keep_overlaps=True)
    short = dataclasses.replace(short, config=runs[0].config.replace(seed=5))
    ax = subspace_overlaps([runs[0], short], ks=(3,)).axes[0]
    assert {len(line) for line in drawn_by(ax).values()} == {2}
