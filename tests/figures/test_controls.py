"""Spectra beside their controls; oracles are the numbers put in, read back from the artists."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

import htlib as ht
from htlib import figures as hp
from tests.refusals import refused

CONFIG = ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=2)


@pytest.fixture(scope="module")
def runs():
    kinds = [{"labels": "real"}, {"labels": "shuffled"}, {"labels": "noise"}, {"update": "no-top"}]
    return [ht.train(CONFIG.replace(seed=s, **kind), progress=False) for kind in kinds for s in (0, 1)]


def bars(ax):
    return [bar for bar in ax.patches if isinstance(bar, Rectangle)]


def outline(ax):
    """The eigenvalues in the outline of an Axes: heights of its steps."""
    (polygon,) = [patch for patch in ax.patches if not isinstance(patch, Rectangle)]
    corners = polygon.get_xy()
    return corners[1:-1:2, 1]


def test_both_spectra_have_the_same_bins(ax):
    filled, outlined = np.geomspace(1, 10, 30), np.geomspace(5, 100, 50)
    hp.filled_and_outlined(filled, outlined, names=("a", "b"), ax=ax)
    assert sum(bar.get_height() for bar in bars(ax)) == 30
    assert outline(ax).sum() == 50
    assert bars(ax)[0].get_x() == pytest.approx(0.9)
    assert bars(ax)[-1].get_x() + bars(ax)[-1].get_width() == pytest.approx(110.0)
    assert [text.get_text() for text in ax.legend().get_texts()] == ["a", "b"]
    with refused("filled and outlined", "positive"):
        hp.filled_and_outlined([0.0, 1.0], outlined, names=("a", "b"), ax=ax)


def test_the_edge_of_noise_is_marked():
    ax = hp.noise_and_tail([1.0, 2.0, 3.0], [1.0, 5.0, 9.0, 50.0], edge=3.5).axes[0]
    (line,) = [one for one in ax.lines if one.get_linestyle() == ":"]
    assert line.get_xdata()[0] == 3.5


class TestLabelControl:
    def test_a_pair_of_the_first_seed_at_the_last_step(self, runs):
        (ax,) = hp.label_control(runs[::-1]).axes
        real, shuffled = runs[0], runs[2]
        low = min(real.esd(2).min(), shuffled.esd(2).min())
        edges = np.geomspace(0.9 * low, 1.1 * max(real.esd(2).max(), shuffled.esd(2).max()), 61)
        assert [bar.get_height() for bar in bars(ax)] == np.histogram(real.esd(2), edges)[0].tolist()
        assert outline(ax).tolist() == np.histogram(shuffled.esd(2), edges)[0].tolist()
        (arrow,) = [text for text in ax.texts if text.get_text() == "the bulk ends"]
        assert arrow.xy[0] == pytest.approx(real.esd(2)[-2])

    def test_steps_share_one_axis_which_shows_every_bar(self, runs):
        figure = hp.label_control(runs, steps=(0, 1, 2))
        assert [ax.texts[0].get_text().split(",")[0] for ax in figure.axes] == ["step 0", "step 1", "step 2"]
        assert len({ax.get_xlim() for ax in figure.axes}) == 1
        tallest = max(bar.get_height() for ax in figure.axes for bar in bars(ax))
        assert all(ax.get_ylim()[1] > tallest for ax in figure.axes)


def test_upper_ends_are_over_the_second_largest_and_leave_out_the_largest():
    spectra = {
        "power law": [[1.0, 2.0, 4.0, 8.0, 1e9], [1.0, 3.0, 9.0, 27.0, 1e9]],
        "edge": [[7.0, 8.0, 8.0, 8.0, 9.0]],
    }
    ax = hp.upper_ends(spectra, colors={"power law": "#D55E00"}, k=4).axes[0]
    law, edge = ax.lines
    assert law.get_xdata().tolist() == [2, 3, 4]
    assert law.get_ydata() == pytest.approx([1, 6**-0.5, 1 / 6])  # geometric means of 1/2, 1/3 and 1/4, 1/9
    assert edge.get_ydata() == pytest.approx([1, 1, 1])
    assert to_rgba(law.get_color()) == to_rgba("#D55E00")
    assert to_rgba(edge.get_color()) == to_rgba(hp.GREY)
    assert [text.get_text() for text in ax.texts] == ["power law", "edge"]
