"""Draw one spectrum: histogram, tail, Hill plot.

Every function takes results and an optional Axes and returns the Axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from htlib.figures.style import BLACK, GREY, PURPLE
from htlib.spectra.generalized import GeneralizedMarchenkoPastur
from htlib.spectra.noise import MarchenkoPastur
from htlib.spectra.power_law import HillPlot, PowerLawFit

Array = NDArray[np.float64]

_MARKED = 30  # more outliers than this get no markers


def spectrum(
    eigenvalues: ArrayLike,
    *,
    law: MarchenkoPastur | GeneralizedMarchenkoPastur | None = None,
    bulk: GeneralizedMarchenkoPastur | None = None,
    edge: float | None = None,
    bins: int = 60,
    color: str = PURPLE,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the histogram of a spectrum on logarithmic axes, with the law of pure noise over it.

    Beside or instead of it, a second law can be drawn, as that of a bulk after one step.

    Parameters
    ----------
    eigenvalues : (N,) array
        An ESD; only positive values can be drawn.
    law : MarchenkoPastur or GeneralizedMarchenkoPastur, optional
        Drawn as the expected number of eigenvalues per bin; with an edge, of those up to the edge.
    bulk : GeneralizedMarchenkoPastur, optional
        A predicted bulk, as of `OneStepLaw.bulk`, drawn as a dashed line with its own number of eigenvalues.
    edge : float, optional
        Upper end of the noise; if few eigenvalues lie beyond it, each gets a marker.
    bins : int
        Number of bins over the range of the data and the law; they are equal on the log axis.
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
        low = min(low, float(law.ppf(0.5 / len(values))))
        high = max(high, law.edge if isinstance(law, GeneralizedMarchenkoPastur) else law.support[1])
    edges = np.geomspace(low * 0.9, high * 1.15, bins + 1)
    counts, *_ = ax.hist(
        values, edges, color=color, alpha=0.55, label=label, edgecolor="white", linewidth=0.4
    )
    if law is not None:
        count = len(values) if edge is None else np.count_nonzero(values <= edge)
        _expected(law, int(count), edges, ax=ax, label="Marchenko-Pastur law")
    if bulk is not None:
        _expected(bulk, bulk.size, edges, ax=ax, label="predicted bulk", ls="--")
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


def _expected(
    law: MarchenkoPastur | GeneralizedMarchenkoPastur, count: int, edges: Array, *, ax: Axes, **line: Any
) -> None:
    """Draw the number of eigenvalues that a law expects per bin, where it is not nearly zero."""
    centres, expected = np.sqrt(edges[:-1] * edges[1:]), count * np.diff(law.cdf(edges))
    shown = expected > 0.3
    ax.plot(centres[shown], expected[shown], color=BLACK, lw=1.6, **line)


def power_law(
    eigenvalues: ArrayLike,
    fit: PowerLawFit,
    *,
    name: str = "eigenvalue",
    color: str = PURPLE,
    ax: Axes | None = None,
) -> Axes:
    """Draw a spectrum as the share of values at or above x, with the fitted power law over its tail.

    No bins have to be chosen, and a power law is a straight line.

    Parameters
    ----------
    eigenvalues : (N,) array
        The values that were fitted, in any order.
    fit : PowerLawFit
    name : str
        What one value is, for the labels of the axes.
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
    ax.plot(values, share, ".", ms=4, color=color, alpha=0.7, label=f"{len(values)} {name}s")
    x = np.geomspace(fit.xmin, values[-1], 200)
    part = fit.n_tail / len(values)
    label = rf"$\alpha$ = {fit.alpha:.2f} $\pm$ {fit.alpha_error:.2f}, {fit.n_tail} values"
    ax.plot(x, part * fit.ccdf(x), color=BLACK, lw=1.6, label=label)
    ax.axvline(fit.xmin, color=GREY, ls=":", lw=1.4, label=rf"$x_{{\min}}$ = {fit.xmin:.3g}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=name,
        ylabel=f"share of {name}s at or above",
    )
    ax.set_ylim(0.6 / len(values), 1.6)
    ax.legend(loc="lower left")
    return ax


def hill(plot: HillPlot, *, null: float | None = None, color: str = PURPLE, ax: Axes | None = None) -> Axes:
    """Draw a Hill plot: the exponent against the number of values in the tail; a power law is a plateau.

    Parameters
    ----------
    plot : HillPlot
    null : float, optional
        Hill exponent of noise of the same shape at the median cut, where it is drawn as a cross.
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
        ax.plot(half, null, "x", color=GREY, ms=9, mew=2, label="noise of this shape")
    top = float(np.quantile(alpha, 0.98)) * 1.15
    ax.set(xscale="log", xlabel="values in the tail", ylabel=r"exponent $\alpha$", ylim=(1, max(top, 2)))
    ax.legend()
    return ax
