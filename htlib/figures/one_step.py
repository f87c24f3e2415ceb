"""Draw one step: the measured values, the closed form over them, and the difference below.

The prediction is a dashed black line.  It is drawn over the marks, because they would hide it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from htlib.figures.curves import against_rate
from htlib.figures.style import (
    BLACK,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    in_book_style,
    legend_key,
)
from htlib.theory.one_step import OneStepLaw

_DASHES = (0, (4, 2))
_PREDICTED = ("spectral_norm", "alignment")


def prediction(
    law: OneStepLaw, metric: str, rates: ArrayLike, *, ax: Axes | None = None, **line: Any
) -> Axes:
    """Draw the closed form of one step as a curve over a range of rates.

    Parameters
    ----------
    law : OneStepLaw
    metric : {"spectral_norm", "alignment"}
    rates : array
        The curve goes from the smallest to the largest.
    ax : Axes, optional
    **line
        Passed to ``ax.plot``.

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    lr = np.geomspace(np.min(rates), np.max(rates), 400)
    look: dict[str, Any] = {"color": BLACK, "ls": _DASHES, "lw": 1.3, "zorder": 3, **line}
    ax.plot(lr, [getattr(law(float(x)), metric) for x in lr], **look)
    return ax


@in_book_style
def measured_and_predicted(
    table: pd.DataFrame, laws: Mapping[str, OneStepLaw], hill: pd.DataFrame | None = None
) -> Figure:
    """Draw spectral norm and alignment after one step, with the closed form and the residuals.

    Parameters
    ----------
    table : DataFrame
        Columns ``optimizer``, ``lr``, ``seed`` and the measures; one row per run of one step.
    laws : mapping
        Optimizer -> OneStepLaw for the shape of the runs.
    hill : DataFrame, optional
        Columns ``optimizer``, ``lr`` and ``alpha_hill``: exponents as `OneStepLaw.bulk` predicts them, a row
        or more per rate.  They add a panel for PL_Alpha_Hill.

    Returns
    -------
    Figure
    """
    metrics = _PREDICTED if hill is None else (*_PREDICTED, "alpha_hill")
    figure, axes = plt.subplots(
        2, len(metrics), figsize=(10.5, 6.0), sharex=True, height_ratios=(2, 1), squeeze=False
    )
    for (top, bottom), metric in zip(axes.T, metrics, strict=True):
        for optimizer, law in laws.items():
            rows = table.loc[table["optimizer"] == optimizer]
            against_rate(rows, metric, ax=top, linestyle="")
            rates = np.sort(rows["lr"].unique())
            if hill is None or metric != "alpha_hill":
                prediction(law, metric, rates, ax=top)
                expected = pd.Series([getattr(law(float(lr)), metric) for lr in rates], rates)
            else:
                expected = hill.loc[hill["optimizer"] == optimizer].groupby("lr")["alpha_hill"].mean()[rates]
                top.plot(expected, color=BLACK, ls=_DASHES, lw=1.3, zorder=3)
            predicted = rows["lr"].map(expected)
            errors = rows[metric] - predicted
            errors = 100 * errors / predicted if metric == "spectral_norm" else errors
            against_rate(rows.assign(**{metric: errors}), metric, ax=bottom)
        bottom.axhline(0, color=BLACK, lw=1.0, ls=_DASHES)
        top.set(xlabel="", ylabel=LABELS[metric])
        reach = max(map(abs, bottom.get_ylim()))
        bottom.set(xscale="log", xlabel=LABELS["lr"], ylim=(-reach, reach))
        bottom.set_ylabel("difference, %" if metric == "spectral_norm" else "difference")
    axes[0, 0].set_yscale("log")
    axes[0, 1].set_ylim(bottom=0)
    handles = [
        legend_key(
            f"{OPTIMIZER_NAMES[name]}, measured", color=OPTIMIZER_COLORS[name], marker=OPTIMIZER_MARKERS[name]
        )
        for name in laws
    ]
    handles.append(legend_key("predicted, with nothing fitted", color=BLACK, ls=_DASHES, lw=1.3))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
