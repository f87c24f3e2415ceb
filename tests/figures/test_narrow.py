"""The layout for phones.  Oracles: the wide figure, and sizes worked out by hand."""

from __future__ import annotations

import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from htlib.figures.narrow import NARROW, narrowed
from htlib.figures.pictures import MORE, bundle, numbers
from htlib.figures.style import rc_params


def pixels(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="raw")
    return np.frombuffer(file.getvalue(), dtype=np.uint8)


@pytest.fixture
def grid() -> Figure:
    """Two by two with shared axes, a legend and titles of the figure and a panel."""
    with plt.rc_context(rc_params()):
        figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex="col", sharey=True)
        for ax in axes.flat:
            ax.plot([1, 2], [3, 4])
        axes[0, 0].set_title(r"A title that is far too long for a telephone: $\eta / \eta_c$ and so on")
        axes[1, 0].set(xlabel="step", ylabel="loss")
        axes[0, 0].set_ylabel("loss")
        axes[1, 1].set_xlabel("rate")
        figure.suptitle(
            "A MESSAGE in bold letters that has more words than one line of a telephone shows", weight="bold"
        )
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center")
        figure.legend(
            [axes[0, 0].lines[0]] * 3,
            [f"{i} a rather long name" for i in range(3)],
            loc="outside upper center",
            ncols=3,
        )
        plt.close(figure)
    return figure


@pytest.mark.parametrize("drawn", [True, False], ids=["after a wide picture", "at once"])
def test_panels_stand_in_one_column_with_their_own_labels(grid: Figure, drawn: bool) -> None:
    """The wide picture is an SVG, whose 72 dots per inch once were taken for those of the figure."""
    grid.axes[3].set_xlabel("a rate, with so many words about it that a telephone must break them")
    bar = grid.colorbar(plt.cm.ScalarMappable(), ax=grid.axes[:4])
    bar.set_label("the label of a colour bar, with more words than a panel is high on any telephone")
    if drawn:
        grid.savefig(io.BytesIO(), format="svg")
    with narrowed(grid):
        grid.draw_without_rendering()
        boxes = [ax.get_position() for ax in grid.axes[:4]]
        assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
        assert grid.get_size_inches()[0] == NARROW
        assert [ax.get_xlabel().split("\n")[0][:6] for ax in grid.axes[:4]] == ["step", "a rate"] * 2
        assert [ax.get_ylabel() for ax in grid.axes[:4]] == ["loss"] * 4
        labels = [axis.label for ax in grid.axes for axis in (ax.xaxis, ax.yaxis)]
        for artist in [*grid.texts, *labels, *(legend for legend in grid.legends if legend.get_visible())]:
            extent = artist.get_window_extent()
            assert extent.x0 >= 0, artist
            assert extent.x1 <= grid.bbox.width, artist
            assert extent.y0 >= 0, artist
            assert extent.y1 <= grid.bbox.height, artist
        assert r"$\eta / \eta_c$" in grid.axes[0].get_title(loc="left")


def test_a_long_entry_of_a_legend_is_broken() -> None:
    with plt.rc_context(rc_params()):
        figure, ax = plt.subplots(figsize=(9, 4))
        (line,) = ax.plot([1, 2], [3, 4])
        words = "the law of the start, with its two largest singular values, the alignment and the exponent"
        figure.legend([line], [words], loc="outside lower center")
    with narrowed(figure):
        figure.draw_without_rendering()
        (shown,) = (legend for legend in figure.legends if legend.get_visible())
        box = shown.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= NARROW * figure.dpi
        assert " ".join(shown.get_texts()[0].get_text().split()) == words
    assert [legend.get_texts()[0].get_text() for legend in figure.legends] == [words]


def test_the_wide_figure_is_as_before(grid: Figure) -> None:
    before = pixels(grid)
    with narrowed(grid):
        assert len(pixels(grid)) != len(before)
    np.testing.assert_array_equal(pixels(grid), before)


def test_a_panel_and_its_residuals_stay_together() -> None:
    """Rows of unequal height: the order is by column, and the upper panel needs no ticks of its own."""
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), sharex=True, height_ratios=(2, 1), layout="constrained")
    plt.close(figure)
    with narrowed(figure):
        order = sorted(figure.axes, key=lambda ax: ax.get_subplotspec().rowspan.start)
        assert order == [axes[0, 0], axes[1, 0], axes[0, 1], axes[1, 1]]
        shown = [ax.xaxis.get_tick_params()["labelbottom"] for ax in order]
        assert shown == [False, True, False, True]


def test_small_panels_stand_side_by_side() -> None:
    figure, _ = plt.subplots(2, 4, figsize=(8, 4), layout="constrained")
    plt.close(figure)
    with narrowed(figure):
        assert {ax.get_subplotspec().get_gridspec().ncols for ax in figure.axes} == {2}


def test_the_numbers_are_those_drawn() -> None:
    figure, ax = plt.subplots()
    plt.close(figure)
    ax.scatter([1, 2], [3, 4], label="seeds")
    ax.stairs([5, 6], [0, 1, 2])
    ax.imshow([[7.0, 8.0]], extent=(0, 1, 0, 1))
    ax.axhline(9)
    ax.fill_between([0, 1], [1, 1], [2, 2], label="band")
    rows = [line.split(",") for line in numbers(figure).splitlines()[1:]]
    kinds = [row[4] for row in rows]
    assert [row[3:] for row in rows if row[4] == "point"] == [
        ["seeds", "point", "1", "3", "", ""],
        ["seeds", "point", "2", "4", "", ""],
    ]
    assert [row[5:] for row in rows if row[4] == "bar"] == [["0", "0", "1", "5"], ["1", "0", "2", "6"]]
    assert [row[5:8] for row in rows if row[4] == "cell"] == [["0", "0", "7"], ["1", "0", "8"]]
    assert "line" not in kinds  # a guide has no numbers
    assert kinds.count("outline") >= 4


def test_what_would_be_a_large_drawing_is_pixels() -> None:
    figure, ax = plt.subplots(figsize=(4, 3))
    plt.close(figure)
    ax.plot([0, 1])
    small, metadata = bundle(figure)
    assert metadata == {"image/svg+xml": {"width": round(4 * figure.dpi), "height": round(3 * figure.dpi)}}
    assert small[MORE]["narrow"]["mime"] == "image/svg+xml"
    rng = np.random.default_rng(0)
    ax.scatter(*rng.random((2, 20_000)))
    large, _ = bundle(figure)
    assert "image/png" in large
    assert "image/svg+xml" not in large
