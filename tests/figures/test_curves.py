"""Pictures of tables over seeds; the oracle is the data put in, read back from the artists."""

import numpy as np
import pandas as pd
import pytest

from htlib import figures as hp
from htlib.sweeps.seeds import seed_interval
from tests.ledgers import run


def test_seeds_draws_the_mean_and_every_seed(ax):
    hp.seeds([1, 2, 3], [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], label="two seeds", ax=ax)
    *dots, mean = ax.lines
    assert mean.get_ydata().tolist() == [2.0, 2.0, 2.0]
    assert [line.get_ydata().tolist() for line in dots] == [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]


def test_against_rate_has_a_curve_per_optimizer(ax):
    rows = [("gd", 1.0, 0.1), ("gd", 2.0, 0.2), ("adam", 1.0, 0.3), ("adam", 2.0, 0.4)]
    table = pd.DataFrame(rows, columns=["optimizer", "lr", "alignment"]).assign(seed=0)
    hp.against_rate(table, "alignment", ax=ax)
    labelled = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert labelled["GD"] == [0.1, 0.2]
    assert labelled["Adam"] == [0.3, 0.4]
    assert ax.get_xscale() == "log"


def test_every_group_gets_a_curve_of_its_own(ax):
    names = [f"s{k}" for k in range(7)]
    table = pd.DataFrame({"optimizer": names, "lr": 1.0, "seed": 0, "alignment": np.arange(7.0)})
    hp.against_rate(table, "alignment", ax=ax)
    means = [line for line in ax.lines if line.get_label() in names]
    assert len(means) == 7
    assert len({(line.get_color(), line.get_marker()) for line in means[:5]}) == 5


def test_trajectory_draws_the_mean_over_the_steps_that_all_runs_have(ax):
    runs = [run(0, steps=2, spectral_norm=[1, 2, 3]), run(1, steps=3, spectral_norm=[3, 4, 5, 6])]
    hp.trajectory(runs, "spectral_norm", ax=ax)
    assert ax.lines[-1].get_data()[0].tolist() == [0, 1, 2]
    assert ax.lines[-1].get_data()[1].tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("n_seeds", [4, 1])
def test_strips_draw_seeds_mean_and_interval_on_one_height(n_seeds, ax):
    """Two groups in the first row, one in the second; the interval is the ledger's, and one seed has none."""
    looks = {"a": {"color": hp.BLUE, "marker": "o"}, "b": {"color": hp.ORANGE, "marker": "s"}}
    groups = {("first", "a"): 1.0, ("first", "b"): 2.0, ("second", "a"): 3.0}
    values = {key: start + np.arange(n_seeds) ** 2 for key, start in groups.items()}
    table = pd.DataFrame([(*key, x) for key, xs in values.items() for x in xs], columns=["row", "by", "x"])
    hp.strips(table, "x", "row", by="by", looks=looks, order=["first", "second"], ax=ax)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    dots = [points.get_offsets().data for points in ax.collections if len(points.get_offsets())]
    means = [line.get_data() for line in ax.lines if line.get_marker() == "|"]
    heights = dict(np.concatenate(list(map(np.transpose, means))))
    others = [line.get_xdata() for line in ax.lines if line.get_marker() != "|"]
    ends = [sorted(x) for x in others if np.isfinite(x).all()]
    assert len(ends) == (3 if n_seeds > 1 else 0)
    for (row, _), xs in values.items():
        assert abs(heights[xs.mean()] - ["first", "second"].index(row)) <= 0.2
        assert any(d[:, 0].tolist() == xs.tolist() and set(d[:, 1]) == {heights[xs.mean()]} for d in dots)
        assert n_seeds == 1 or list(map(float, seed_interval(xs)[1:])) in ends
