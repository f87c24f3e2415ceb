"""Lay out a finished figure anew for a narrow screen: its panels in one column, each with its own labels."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

NARROW = 4.2  # inches: on a phone its text is about as large as that of the page
_CHARACTER = 0.52 / 72  # inches per point of the font's size: how wide a character is in the mean
_MARK = 0.75  # inches: what an entry of a legend takes beside its text
_LABELS = 0.45  # inches that the labels of an axis take

Undo = Callable[..., Any]


@dataclass(frozen=True)
class _Panel:
    """A cell of the wide figure's grid and the Axes in it (several, if they are twins)."""

    rows: range
    columns: range
    height: float  # inches
    width: float
    axes: list[Axes]

    def stands_on(self, other: _Panel) -> bool:
        """Whether the other panel is right below and has the same horizontal axis."""
        below = self.columns == other.columns and self.rows.stop == other.rows.start
        return below and self.axes[0].get_shared_x_axes().joined(self.axes[0], other.axes[0])


@contextmanager
def narrowed(figure: Figure) -> Generator[Figure]:
    """Lay out `figure` for a narrow screen; afterwards it is as it was.

    Panels keep their height and stand below each other, or side by side where they are small.  Each has its
    own tick and axis labels, also where it shared those of a neighbour.  Titles are wrapped, and the figure's
    legend has as many columns as there is room for.

    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
    >>> with narrowed(figure):
    ...     print(figure.get_size_inches(), axes[1].yaxis.get_tick_params()["labelleft"])
    [4.2 6. ] True
    >>> print(figure.get_size_inches(), axes[1].yaxis.get_tick_params()["labelleft"])
    [8. 3.] False
    """
    with ExitStack() as undo:
        panels = _panels(figure)
        width = NARROW
        if panels:
            width = _stack(figure, panels, undo.callback)
        for text in figure.texts:
            if not text.get_rotation():
                _wrap(text, NARROW, undo.callback)
        height = min((panel.height for panel in panels), default=NARROW)
        for ax in figure.axes:  # those of colour bars, too
            room = NARROW / 2 if hasattr(ax, "_colorbar") else width - _LABELS - _width_of_ticks(ax)
            titles = (t for t in ax.get_children() if isinstance(t, Text) and t not in ax.texts)
            for text in (*titles, ax.xaxis.label):
                _wrap(text, room, undo.callback)
            _wrap(ax.yaxis.label, height - 0.3, undo.callback)
        _refit_legends(figure, undo)
        yield figure


def _panels(figure: Figure) -> list[_Panel]:
    """Return the panels in the order in which they are read."""
    width, height = figure.get_size_inches()
    found: dict[tuple[int, ...], _Panel] = {}
    mixed = False
    for ax in figure.axes:
        spec = ax.get_subplotspec()
        if spec is None or hasattr(ax, "_colorbar"):  # an inset or a colour bar follows its panel
            continue
        grid = spec.get_gridspec()
        rows, columns = spec.rowspan, spec.colspan
        heights, widths = (np.ravel(r) for r in (grid.get_height_ratios(), grid.get_width_ratios()))
        mixed = mixed or len(set(heights)) > 1
        panel = _Panel(
            rows,
            columns,
            height * heights[rows].sum() / heights.sum(),
            width * widths[columns].sum() / widths.sum(),
            [],
        )
        found.setdefault((rows.start, rows.stop, columns.start, columns.stop), panel).axes.append(ax)
    # rows of unequal heights are a panel and what belongs below it
    return sorted(
        found.values(),
        key=lambda p: (p.columns.start, p.rows.start) if mixed else (p.rows.start, p.columns.start),
    )


def _stack(figure: Figure, panels: list[_Panel], undo: Undo) -> float:
    """Put the panels below each other; returns the width of one in inches."""
    columns = max(1, min(int(1.25 * NARROW / max(p.width for p in panels)), len(panels)))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(p.height for p in row) for row in rows]
    for i, (row, below) in enumerate(zip(rows, [*rows[1:], []], strict=True)):
        for k, panel in enumerate(row):
            if not (k < len(below) and panel.stands_on(below[k])) and _own_labels(panel, panels, "x", undo):
                heights[i] += _LABELS / len(row)
            if not (k and row[k - 1].rows == panel.rows):
                _own_labels(panel, panels, "y", undo)
    grid = GridSpec(len(rows), columns, figure=figure, height_ratios=heights)
    for i, row in enumerate(rows):
        for k, panel in enumerate(row):
            for ax in panel.axes:
                undo(ax.set_subplotspec, ax.get_subplotspec())
                ax.set_subplotspec(grid[i, k])
    undo(figure.set_size_inches, *figure.get_size_inches(), forward=False)
    figure.set_size_inches(NARROW, sum(heights), forward=False)
    return NARROW / columns


def _own_labels(panel: _Panel, panels: list[_Panel], name: Literal["x", "y"], undo: Undo) -> bool:
    """Give a panel the labels that only a neighbour on the same axis shows; returns whether it had none."""
    side = {"x": "labelbottom", "y": "labelleft"}[name]
    across = {"x": "columns", "y": "rows"}[name]
    first = panel.axes[0]
    axis, shared = getattr(first, f"{name}axis"), getattr(first, f"get_shared_{name}_axes")()
    if axis.get_tick_params()[side]:
        return False
    for other in panels:
        neighbour = other.axes[0]
        there = getattr(neighbour, f"{name}axis")
        alike = getattr(other, across) == getattr(panel, across) and shared.joined(first, neighbour)
        if alike and there.get_tick_params()[side]:
            first.tick_params(axis=name, **{side: True})
            undo(first.tick_params, axis=name, **{side: False})
            if not axis.label.get_visible() or not axis.label.get_text():
                undo(axis.label.set, text=axis.label.get_text(), visible=axis.label.get_visible())
                axis.label.set(text=there.label.get_text(), visible=True)
            return True
    return False


def _width_of_ticks(ax: Axes) -> float:
    """Estimate the width of the labels at the ticks of the vertical axis, in inches."""
    labels = ax.get_yticklabels() if ax.yaxis.get_tick_params()["labelleft"] else []
    texts = [re.sub(r"\\mathdefault|[${}^\\]", "", label.get_text()) for label in labels]
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    return longest * _CHARACTER * (float(labels[0].get_fontsize()) if labels else 0)


def _wrap(text: Text, width: float, undo: Undo) -> None:
    """Break a text that is longer than `width` inches, but not inside a formula."""
    whole = text.get_text()
    figure: Any = text.get_figure(root=True)
    # Its own renderer would be that of the last file, which may have other dots per inch than the figure.
    extent = text.get_window_extent(RendererAgg(1, 1, figure.dpi))
    needed = (extent.height if text.get_rotation() == 90 else extent.width) / figure.dpi
    if needed <= width:
        return
    room = max(1, int(0.96 * width / needed * max(map(len, whole.split("\n")))))
    unbroken = re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(" ", "\0"), whole)
    undo(text.set_text, whole)
    lines = (line for part in unbroken.split("\n") for line in textwrap.wrap(part, room) or [""])
    text.set_text("\n".join(lines).replace("\0", " "))


def _refit_legends(figure: Figure, undo: ExitStack) -> None:
    """Replace legends of the figure by ones with as many columns as there is room for."""
    for legend in list(figure.legends):
        labels = [text.get_text() for text in legend.get_texts()]
        if not labels:
            continue
        size = float(legend.get_texts()[0].get_fontsize())
        entry = max(map(len, labels)) * _CHARACTER * size + _MARK
        undo.callback(legend.set, visible=True, in_layout=True)
        legend.set(visible=False, in_layout=False)
        other = figure.legend(
            [handle for handle in legend.legend_handles if handle is not None],
            labels,
            loc=f"outside {'lower' if legend._outside_loc == 'lower' else 'upper'} center",  # pyright: ignore
            ncols=max(1, int(NARROW / entry)),
            fontsize=size,
        )
        undo.callback(other.remove)
        for text in other.get_texts():
            _wrap(text, NARROW - _MARK, undo.callback)
