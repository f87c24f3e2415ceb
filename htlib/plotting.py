"""Figures of results.  Nothing here computes an experiment, saves a file or shows a window.

Every function takes results and an optional Axes and returns the Axes.
Colours are Okabe and Ito's, told apart by the common kinds of colour blindness; lines that
share an Axes also differ in their dashes or markers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from htlib.heavy_tail import HillPlot, PowerLawFit
from htlib.random_matrix import MarchenkoPastur
from htlib.records import Trajectory

Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, PINK, SKY, GOLD, GREY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#8C8C8C",
    "#000000",
)
_MARKED = 30  # more outliers than this are no outliers to point at

OPTIMIZER_COLORS = {"adam": ORANGE, "gd": BLUE}
OPTIMIZER_MARKERS = {"adam": "o", "gd": "s"}
OPTIMIZER_NAMES = {"adam": "Adam", "gd": "GD"}

LABELS: Mapping[str, str] = {
    "train_loss": "training loss (stage 1)",
    "ridge_train_loss": "refit loss, probe set",
    "test_loss": "test loss after refit",
    "kta": "kernel-target alignment",
    "alignment": r"alignment $|\langle v_1, \beta\rangle|$",
    "alpha_hill": r"PL_Alpha_Hill",
    "alpha_ks": r"PL_Alpha_KS",
    "ks_distance": "KS distance of the fit",
    "ks_xmin": r"KS threshold $x_{\min}$",
    "stable_rank": "stable rank",
    "spectral_norm": r"spectral norm $s_1$",
    "n_outliers": "eigenvalues beyond the noise edge",
    "lr": r"learning rate $\eta$",
    "step": "step",
}


def style() -> dict[Any, Any]:
    """Matplotlib settings of the book, for ``plt.rcParams.update`` or ``plt.rc_context``."""
    return {
        **sns.axes_style("ticks"),
        **sns.plotting_context("notebook"),
        "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, GOLD]),
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
    """Colours, markers and dashes, for one curve after the other."""
    looks = zip(
        cycle((ORANGE, BLUE, GREEN, PINK, SKY, GOLD, BLACK)),
        cycle("os^Dv"),
        cycle(("-", "--", "-.")),
        strict=False,
    )
    return ({"color": color, "marker": marker, "linestyle": dashes} for color, marker, dashes in looks)


def spectrum(
    eigenvalues: ArrayLike,
    *,
    law: MarchenkoPastur | None = None,
    edge: float | None = None,
    bins: int = 60,
    color: str = BLUE,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histogram of a spectrum on logarithmic axes, with the law of pure noise on top.

    Parameters
    ----------
    eigenvalues : (N,) array
        An ESD; only positive values can be drawn.
    law : MarchenkoPastur, optional
        Drawn as the number of eigenvalues that it expects per bin, of those within the edge if one is given.
    edge : float, optional
        Where the noise ends; if few eigenvalues lie beyond, each gets a marker.
    bins : int
        Bins over the range of the data and the law, equal on the log axis.
    color, label : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    values = np.asarray(eigenvalues, dtype=np.float64)
    values = values[values > 0]
    if not len(values):
        raise ValueError("eigenvalues must hold a positive value to be drawn on a log axis")
    low, high = values.min(), values.max()
    if law is not None:
        # a square matrix has its lower edge at zero, which a log axis cannot show
        low, high = min(low, float(law.ppf(0.5 / len(values)))), max(high, law.support[1])
    edges = np.geomspace(low * 0.9, high * 1.15, bins + 1)
    counts, *_ = ax.hist(
        values, edges, color=color, alpha=0.55, label=label, edgecolor="white", linewidth=0.4
    )
    if law is not None:
        centres = np.sqrt(edges[:-1] * edges[1:])
        bulk = len(values) if edge is None else np.count_nonzero(values <= edge)
        expected = bulk * np.diff(law.cdf(edges))
        shown = expected > 0.3
        ax.plot(centres[shown], expected[shown], color=BLACK, lw=1.6, label="Marchenko-Pastur law")
    if edge is not None:
        ax.axvline(edge, color=GREY, ls=":", lw=1.4, label="noise edge (99 %)")
        beyond = values[values > edge]
        if 0 < len(beyond) <= _MARKED:
            ax.plot(beyond, np.full(len(beyond), 0.62), "v", color=color, ms=5)
    ax.set(
        xscale="log", yscale="log", xlabel=r"eigenvalue $\lambda$ of $W^\top W$", ylabel="eigenvalues per bin"
    )
    ax.set_ylim(0.5, 8 * float(np.max(counts)))  # room for a legend on top
    return ax


def power_law(eigenvalues: ArrayLike, fit: PowerLawFit, *, color: str = BLUE, ax: Axes | None = None) -> Axes:
    """The tail of a spectrum as the share of values at or above x, with the fitted power law on it.

    No bins are chosen, and a power law is a straight line.

    Parameters
    ----------
    eigenvalues : (N,) array
        What was fitted, in any order.
    fit : PowerLawFit
    color : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64))
    values = values[(values > 0) & (values <= fit.xmax)]
    share = 1 - np.arange(len(values)) / len(values)
    ax.plot(values, share, ".", ms=4, color=color, alpha=0.7, label=f"{len(values)} eigenvalues")
    x = np.geomspace(fit.xmin, values[-1], 200)
    part = fit.n_tail / len(values)
    label = rf"$\alpha$ = {fit.alpha:.2f} $\pm$ {fit.alpha_error:.2f}, {fit.n_tail} values"
    ax.plot(x, part * fit.ccdf(x), color=BLACK, lw=1.6, label=label)
    ax.axvline(fit.xmin, color=GREY, ls=":", lw=1.4, label=rf"$x_{{\min}}$ = {fit.xmin:.3g}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=r"eigenvalue $\lambda$",
        ylabel=r"share of eigenvalues $\geq \lambda$",
    )
    ax.set_ylim(0.6 / len(values), 1.6)
    ax.legend(loc="lower left")
    return ax


def hill(plot: HillPlot, *, null: float | None = None, color: str = BLUE, ax: Axes | None = None) -> Axes:
    """A Hill plot: the exponent against the number of values in the tail; a power law shows as a plateau.

    Parameters
    ----------
    plot : HillPlot
    null : float, optional
        Hill exponent of noise of the same shape at the median cut, drawn as a cross there.
    color : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    known = np.isfinite(plot.alpha)
    n, alpha, error = plot.n_tail[known], plot.alpha[known], plot.alpha_error[known]
    ax.fill_between(
        n, alpha - error, alpha + error, color=color, alpha=0.2, lw=0, label="error, if independent"
    )
    ax.plot(n, alpha, color=color, label="Hill estimate")
    half = len(plot.n_tail) + 1 - (len(plot.n_tail) + 1) // 2
    ax.axvline(half, color=GREY, ls=":", lw=1.4, label="PL_Alpha_Hill's cut")
    if null is not None:
        ax.plot(half, null, "x", color=ORANGE, ms=9, mew=2, label="noise of this shape")
    top = float(np.quantile(alpha, 0.98)) * 1.15
    ax.set(xscale="log", xlabel="eigenvalues in the tail", ylabel=r"exponent $\alpha$", ylim=(1, max(top, 2)))
    ax.legend()
    return ax


def seeds(
    x: ArrayLike,
    values: ArrayLike,
    *,
    color: str = BLUE,
    marker: str = "o",
    linestyle: str = "-",
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A curve measured with several seeds: the mean as a line, each seed as a faint dot.

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
    """A metric against the learning rate, a curve per optimizer, a dot per seed.

    Parameters
    ----------
    table : DataFrame
        Columns ``lr``, ``seed``, the one named by `by`, and `metric`; a row per run.
    metric : str
    by : str
        Column that tells the curves apart.
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
        pivot = group.pivot_table(index="seed", columns="lr", values=metric)
        color = OPTIMIZER_COLORS.get(str(name)) or next(colors)
        options = {"color": color, "marker": next(markers), **line}
        label = f"{OPTIMIZER_NAMES.get(str(name), name)}{suffix}"
        seeds(pivot.columns.to_numpy(), pivot.to_numpy(), label=label, ax=ax, **options)
    ax.set(xscale="log", xlabel=LABELS["lr"], ylabel=LABELS.get(metric, metric))
    return ax


def trajectory(runs: Sequence[Trajectory], metric: str, *, ax: Axes | None = None, **line: Any) -> Axes:
    """A metric against the step for runs that differ in their seed alone.

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
