"""Draw tables over seeds: curves against any variable, the learning rate or the step, and rows.

Every function takes results and an optional Axes and returns the Axes.  seaborn draws the rows.  It does not
draw the curves, because it would take geometric means on a logarithmic axis, and its lines would continue
across a rate at which a seed is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from htlib.figures.style import (
    BLACK,
    GOLD,
    GREEN,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    PINK,
    PURPLE,
    SKY,
)
from htlib.student.run import Trajectory
from htlib.sweeps.seeds import seed_interval


def seeds(
    x: ArrayLike,
    values: ArrayLike,
    *,
    color: str = PURPLE,
    marker: str = "o",
    linestyle: str = "-",
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a curve that was measured with several seeds: the mean as a line, each seed as a faint dot.

    Parameters
    ----------
    x : (k,) array
    values : (n_seeds, k) array
    color, marker, linestyle, label : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    x, values = np.asarray(x, dtype=np.float64), np.atleast_2d(np.asarray(values, dtype=np.float64))
    ax.plot(np.broadcast_to(x, values.shape).T, values.T, ls="", marker=marker, ms=3, color=color, alpha=0.35)
    mean = values.mean(axis=0)
    ax.plot(x, mean, marker=marker, ms=5, ls=linestyle, color=color, label=label)
    return ax


def against_rate(
    table: pd.DataFrame, metric: str, *, by: str = "optimizer", ax: Axes | None = None, **line: Any
) -> Axes:
    """Draw a metric against the learning rate, one curve per optimizer and one dot per seed.

    Parameters
    ----------
    table : DataFrame
        Columns ``lr``, ``seed``, `by` and `metric`; one row per run.
    metric : str
    by : str
        Column whose values have one curve each.
    ax : Axes, optional
    **line
        Passed to `seeds`; ``label`` is appended to the optimizer's name.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    suffix = line.pop("label", "")
    colors, markers = cycle((GREEN, PINK, SKY, GOLD, BLACK)), cycle("os^Dv")
    for name, group in table.groupby(by, sort=False):
        pivot = group.pivot_table(index="seed", columns="lr", values=metric, dropna=False)
        color = OPTIMIZER_COLORS.get(str(name)) or next(colors)
        marker = OPTIMIZER_MARKERS.get(str(name)) or next(markers)
        options = {"color": color, "marker": marker, **line}
        label = f"{OPTIMIZER_NAMES.get(str(name), name)}{suffix}"
        seeds(pivot.columns.to_numpy(), pivot.to_numpy(), label=label, ax=ax, **options)
    ax.set(xscale="log", xlabel=LABELS["lr"], ylabel=LABELS.get(metric, metric))
    return ax


def trajectory(runs: Sequence[Trajectory], metric: str, *, ax: Axes | None = None, **line: Any) -> Axes:
    """Draw a metric against the step for runs that differ only in their seed.

    Parameters
    ----------
    runs : sequence of Trajectory
    metric : str
    ax : Axes, optional
    **line
        Passed to `seeds`.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    table = pd.concat([run.metrics[metric] for run in runs], axis=1).dropna()
    seeds(table.index.to_numpy(), table.to_numpy().T, ax=ax, **line)
    ax.set(xlabel=LABELS["step"], ylabel=LABELS.get(metric, metric))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def strips(
    table: pd.DataFrame,
    x: str,
    y: str,
    *,
    by: str,
    looks: Mapping[str, Mapping[str, Any]],
    order: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """Draw rows of values: a faint marker is a seed, a bar is the mean, a line is its 95 % interval.

    Parameters
    ----------
    table : DataFrame
        One row per value.
    x, y, by : str
        Columns that hold the value, its row in the picture, and its group within that row.
    looks : mapping
        Group -> its ``color`` and ``marker``; groups are drawn from top to bottom.
    order : sequence of str
        Rows of the picture, from top to bottom.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    shared: dict[str, Any] = {"x": x, "y": y, "order": order, "hue": by, "hue_order": list(looks)}
    shared |= {"palette": [look["color"] for look in looks.values()], "legend": False, "ax": ax}
    for name, look in looks.items():
        rows = table.loc[table[by] == name]
        sns.stripplot(rows, marker=look["marker"], size=6, alpha=0.5, jitter=False, dodge=True, **shared)
    mean: dict[str, Any] = {"markers": "|", "ms": 15, "mew": 2.4, "ls": "none", "err_kws": {"linewidth": 1.4}}
    mean["dodge"] = 0.8 * (1 - 1 / len(looks))  # stripplot puts the groups there
    mean["errorbar"] = lambda values: seed_interval(values)[1:]
    sns.pointplot(table, **mean, **shared)
    ax.set(xlabel=LABELS.get(x, x), ylabel="")
    return ax
