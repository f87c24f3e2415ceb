"""Draw one step: the measured values, and the closed form over them.

The prediction is a dashed black line.  It is drawn over the marks, because they would hide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from htlib.figures.curves import against_rate
from htlib.figures.labels import setting_label
from htlib.figures.runs import figure_of_runs
from htlib.figures.spectra import spectrum
from htlib.figures.style import (
    BLACK,
    LABEL_LOOKS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    WIDTH,
    legend_key,
)
from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.run import Trajectory, tidy
from htlib.theory.one_step import OneStepLaw, law_of_config

_WIDE = 10.5  # inches: three panels
_LOOK: dict[str, Any] = {"color": BLACK, "ls": (0, (4, 2)), "lw": 1.3}
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
    look: dict[str, Any] = {**_LOOK, "zorder": 3, **line}
    ax.plot(lr, [getattr(law(float(x)), metric) for x in lr], **look)
    return ax


@figure_of_runs
def one_step_map(
    runs: Sequence[Trajectory], *, metrics: Sequence[str] = ("spectral_norm", "alignment")
) -> Figure:
    """Draw measures after one step against the rate, with the closed form over them; nothing is fitted.

    Parameters
    ----------
    runs : sequence of Trajectory
        They may differ in optimizer, rate and seed, and must have one shape.
    metrics : sequence of {"spectral_norm", "alignment", "alpha_hill"}

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, an optimizer has no law, or there is no prediction of a metric.
    """
    if unknown := set(metrics) - {*_PREDICTED, "alpha_hill"}:
        raise ValueError(f"metrics must be of {', '.join(_PREDICTED)}, alpha_hill; got {min(unknown)!r}")
    table = tidy(runs, ["optimizer", "lr"])
    table = table.loc[table["step"] == 1]
    laws = {run.config.optimizer: law_of_config(run.config) for run in runs}
    figure, axes = plt.subplots(1, len(metrics), figsize=(_WIDE, 4.0), squeeze=False)
    for ax, metric in zip(axes.flat, metrics, strict=True):
        against_rate(table, metric, linestyle="", ax=ax)
        for name, law in laws.items():
            rates = np.sort(table.loc[table["optimizer"] == name, "lr"].unique())
            if metric == "alpha_hill":
                ax.plot(rates, [predicted_hill(law, lr) for lr in rates], **_LOOK)
            elif len(rates):
                prediction(law, metric, rates, ax=ax)
    axes[0, 0].set_yscale("log" if metrics[0] == "spectral_norm" else "linear")
    handles = [
        legend_key(OPTIMIZER_NAMES[name], color=OPTIMIZER_COLORS[name], marker=OPTIMIZER_MARKERS[name], ls="")
        for name in laws
    ]
    handles.append(legend_key("predicted, with nothing fitted", **_LOOK))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def predicted_hill(law: OneStepLaw, lr: float) -> float:
    """Return PL_Alpha_Hill of the bulk after one step, with the spike if it has left the bulk."""
    step = law(lr)
    return law.bulk(lr).hill_alpha(step.spectral_norm**2 if step.has_outlier else None)


@figure_of_runs
def rate_spectra(runs: Sequence[Trajectory], *, step: int = 1) -> Figure:
    """Draw one spectrum per run, with the Marchenko-Pastur law of the start, on shared axes.

    After one step the predicted bulk is drawn, too.

    Parameters
    ----------
    runs : sequence of Trajectory
        A few runs of one shape; each has a panel with its optimizer and rate.
    step : int

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(1, len(runs), figsize=(_WIDE, 3.7), sharex=True, sharey=True, squeeze=False)
    for ax, run in zip(axes.flat, runs, strict=True):
        h, d, last = run.config.h, run.config.d, min(step, int(run.metrics.index[-1]))
        lawful = last == 1 and min(h, d) > 1 and OPTIMIZERS[run.config.optimizer].first_step is not None
        spectrum(
            run.esd(last),
            law=MarchenkoPastur.of_gaussian_esd(h, d),
            bulk=law_of_config(run.config).bulk(run.config.lr) if lawful else None,
            edge=largest_eigenvalue_quantile(h, d),
            color=OPTIMIZER_COLORS[run.config.optimizer],
            label="eigenvalues",
            ax=ax,
        )
        ax.set_title(setting_label(optimizer=run.config.optimizer, lr=run.config.lr))
        words = f"Hill {run.metrics.alpha_hill[last]:.2f}\n$s_1$ = {run.metrics.spectral_norm[last]:.0f}"
        ax.text(0.98, 0.97, words, transform=ax.transAxes, ha="right", va="top")
        ax.label_outer()
        ax.set_ylabel(ax.get_ylabel() if ax is axes[0, 0] else "")
    # predicted bulks are dashed, and not every panel need have one
    keys = {
        label: key for ax in axes.flat for key, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(keys.values()), list(keys), loc="outside lower center", ncols=4)
    return figure


@figure_of_runs
def spike_and_labels(runs: Sequence[Trajectory]) -> Figure:
    """Draw spectral norm and alignment after one step against the rate, one curve per kind of labels.

    Only rates at which all kinds of labels were run are drawn, and the closed forms with and without a
    teacher over them.

    Parameters
    ----------
    runs : sequence of Trajectory
        Of one optimizer and shape.

    Returns
    -------
    Figure
    """
    table = tidy(runs, ["labels", "lr", "optimizer"])
    table = table.loc[table["step"] == 1]
    kinds = table["labels"].unique()
    common = table.groupby("lr")["labels"].nunique()
    table = table.loc[table["lr"].isin(common.index[common == len(kinds)])]
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.0))
    for ax, metric in zip(axes, _PREDICTED, strict=True):
        for kind in kinds:
            look = LABEL_LOOKS[kind]
            rows = table.loc[table["labels"] == kind]
            against_rate(rows, metric, ax=ax, **{**look, "linestyle": ""})
            if kind != "noise":  # the law of noise labels is that of shuffled ones
                law = law_of_config(runs[0].config, labels=kind)
                prediction(law, metric, rows["lr"], ax=ax, color=look["color"])
    axes[0].set_yscale("log")
    axes[1].set_ylim(bottom=0)
    handles = [legend_key(setting_label(labels=k), **{**LABEL_LOOKS[k], "linestyle": ""}) for k in kinds]
    handles.append(legend_key("predicted", **_LOOK))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    axes[0].set_title(OPTIMIZER_NAMES[runs[0].config.optimizer])
    return figure
