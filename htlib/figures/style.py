"""Define the colours, markers and words of the book's figures.

The colours are those of Okabe and Ito, which people with the common kinds of colour blindness can
distinguish, and two more; lines that share an Axes also differ in their dashes or markers.

A colour means the same on every page.  Optimizers have theirs (`OPTIMIZER_COLORS`), and so have the labels
(`LABEL_LOOKS`; green is also what was learnt from real ones), the feature scales (`SCALE_LOOKS`), noise,
chance and the start (`GREY`), theory (`BLACK`) and a matrix with a true tail (`GOLD`).  What has no meaning
of its own takes `looks_in_turn`, which has no colour of gradient descent or Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from itertools import cycle
from typing import Any, ParamSpec

import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from htlib.student.optimizers import OPTIMIZERS
from htlib.student.probes import SHOWN

P = ParamSpec("P")

BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY, BLACK, PURPLE, BROWN = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C8C8C",
    "#000000",
    "#6A4C93",
    "#8C5A2B",
)
OPTIMIZER_COLORS = {name: optimizer.color for name, optimizer in OPTIMIZERS.items()}
OPTIMIZER_MARKERS = {name: optimizer.marker for name, optimizer in OPTIMIZERS.items()}
OPTIMIZER_NAMES = {name: optimizer.label for name, optimizer in OPTIMIZERS.items()}

LABEL_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "real": {"color": GREEN, "marker": "o", "linestyle": "-"},
    "shuffled": {"color": PINK, "marker": "s", "linestyle": "--"},
    "noise": {"color": GREY, "marker": "^", "linestyle": "-."},
}

SCALE_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "paper": {"color": PURPLE, "marker": "o"},
    "released-code": {"color": BROWN, "marker": "s"},
}

LABELS: Mapping[str, str] = {
    **{name: column.label for name, column in SHOWN.items()},
    "lr": r"learning rate $\eta$",
    "step": "step",
}

ON_PICTURE = "on-picture"  # `gid` of texts on a heat map: pages keep their colour in the dark theme, too
_IN_TURN = (PURPLE, BROWN, SKY, GOLD, BLACK, GREEN, PINK)
WIDTH = 8.0  # inches: two columns that can still be read on a phone


def rc_params() -> dict[Any, Any]:
    """Return the Matplotlib settings of the book, for ``plt.rcParams.update`` or ``plt.rc_context``."""
    return {
        **sns.axes_style("ticks"),
        **sns.plotting_context("notebook"),
        "axes.prop_cycle": cycler(color=_IN_TURN),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 12,
        "axes.labelsize": 11.5,
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "legend.fontsize": 10.5,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "lines.linewidth": 1.8,
    }


def looks_in_turn() -> Iterator[dict[str, Any]]:
    """Yield ``color``, ``marker`` and ``linestyle`` for one curve after another, without end."""
    looks = zip(cycle(_IN_TURN), cycle("os^Dv"), cycle(("-", "--", "-.")), strict=False)
    return ({"color": color, "marker": marker, "linestyle": dashes} for color, marker, dashes in looks)


def shades(color: str, count: int) -> list[str]:
    """Return shades of a colour, from pale to full: one thing at several strengths.

    >>> shades("#0072b2", 2)
    ['#99c7e0', '#0072b2']
    """
    full = np.array(to_rgb(color))
    return [to_hex(1 - share * (1 - full)) for share in np.linspace(1, 0.4, count)[::-1]]


def in_book_style(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw with the settings of the book and leave no figure open in pyplot."""

    @wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(rc_params()):
            figure = function(*args, **kwargs)
            plt.close(figure)
        return figure

    return drawn


def titled(figure: Figure, title: str) -> Figure:
    """Write the message of a figure above it, and return the figure."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=13.5, fontweight="bold")
    return figure


def legend_key(label: str, **look: Any) -> Line2D:
    """Make a legend entry for a look that several artists share; `look` is passed to ``Line2D``."""
    look = {"color": GREY, **look}
    return Line2D([], [], label=label, **look)
