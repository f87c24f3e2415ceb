"""Draw what estimators of a tail find where the answer is known: the tables of `htlib.spectra.trials`.

All are narrow enough for a telephone: panels stand above each other, and a panel is one column of the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from htlib.figures.style import BROWN, GREY, ON_PICTURE, ORANGE, PURPLE, in_book_style, looks_in_turn
from htlib.spectra.estimators import ESTIMATORS
from htlib.spectra.trials import KINDS, LAWS, WINDOWS

_WIDTH = 5.2  # inches: at the 360 pixels of a telephone, letters of ten points still have nine pixels
_SHOWN = (1.5, 8.0)  # exponents beyond are drawn at the margin
_CUTOFF = (2.0, 4.0)  # what practitioners call heavy and good
_LABELS: Mapping[str, str] = {
    **{name: estimator.label for name, estimator in ESTIMATORS.items()},
    WINDOWS: "windows",
}
_NULLS = {
    "gaussian": "noise,\nsame shape",
    "shuffle": "entries\nshuffled",
    "profile": "noise, rows\nand columns",
}


@in_book_style
def noise_exponents(table: pd.DataFrame) -> Figure:
    """Draw the exponents of pure noise against the ratio of its sides, one curve per estimator.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.spectra.trials.try_noise`.

    Returns
    -------
    Figure
    """
    figure, ax = plt.subplots(figsize=(_WIDTH, 4.4))
    for name, look in zip(dict.fromkeys(table["estimator"]), looks_in_turn(), strict=False):
        _mean_and_range(
            ax, table.loc[table["estimator"] == name], "ratio", "alpha", label=_LABELS[name], **look
        )
    ax.axhspan(*_CUTOFF, color=GREY, alpha=0.2, lw=0)
    ax.text(0.1, 2.1, "called good: 2 to 4", fontsize=10)
    ax.set(xscale="log", yscale="log", xlabel="shorter side / longer side", ylabel=r"exponent $\alpha$")
    _plain_ticks(ax, xticks=(0.1, 0.25, 0.5, 1), yticks=(2, 3, 4, 6, 10, 20))
    ax.set_title("Pure noise has an exponent:\nshape and estimator set it")
    ax.legend()
    return figure


@in_book_style
def law_exponents(table: pd.DataFrame) -> Figure:
    """Draw the spread of every estimator on samples of known laws.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.spectra.trials.try_samples`.

    Returns
    -------
    Figure
        A panel for the power law, one for a law that is a power law only far out, and one for laws that
        never are.
    """
    panels = {
        f"{LAWS['pareto'].label}: all agree": ("pareto",),
        f"{LAWS['student'].label}, a power law far out:\nmost are too low": ("student",),
        "Lognormal (disk), exponential (square):\nnot a power law, but nearly all find one": (
            "lognormal",
            "exponential",
        ),
    }
    figure, axes = plt.subplots(3, 1, figsize=(_WIDTH, 9), sharex=True)
    names, (low_end, high_end) = list(ESTIMATORS), _SHOWN
    for ax, (title, laws) in zip(axes, panels.items(), strict=True):
        for law, color, marker, shift in zip(laws, (PURPLE, BROWN), "os", (0, 0.3), strict=False):
            if np.isfinite(LAWS[law].alpha):
                ax.axvline(LAWS[law].alpha, color=GREY, ls="--", lw=1.4)
            for place, name in enumerate(names):
                alphas = np.asarray(table.loc[(table["law"] == law) & (table["estimator"] == name), "alpha"])
                low, middle, high = np.quantile(alphas, [0.1, 0.5, 0.9], method="nearest")
                ends = np.clip([low, high], low_end, high_end)
                ax.plot(ends, [place + shift] * 2, color=color, lw=2.4, alpha=0.6)
                shape = ">" if middle > high_end else marker
                ax.plot(min(middle, high_end), place + shift, shape, color=color, ms=7)
        ax.set_yticks(range(len(names)), [_LABELS[name] for name in names])
        ax.set(ylim=(len(names) - 0.4, -0.6), title=title)
    axes[-1].set_xlabel(r"exponent $\alpha$ (arrow: beyond 8, or none)")
    axes[-1].set_xlim(low_end - 0.1, high_end + 0.2)
    return figure


@in_book_style
def heavy_calls(table: pd.DataFrame) -> Figure:
    """Draw which estimator calls which matrix heavy, by a cutoff and beside noise of the same shape.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.spectra.trials.judge_matrices`.  Kinds that are no keys of `KINDS` are noise.

    Returns
    -------
    Figure
        Above the share of matrices with alpha below 4, below the share that is below the level of noise.
    """
    cut = table.assign(heavy=table["alpha"] < _CUTOFF[1])
    titles = {
        "heavy": r"Called heavy by $\alpha < 4$: noise is, too",
        "below_noise": "Called heavy beside noise of the shape:\nnow it depends on the estimator",
    }
    figure, axes = plt.subplots(2, 1, figsize=(_WIDTH, 9.2), sharex=True)
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        shares = _square(cut, column)
        _heat_map(ax, shares, (100 * shares).map("{:.0f}".format))
        heavy = [KINDS[kind].heavy if kind in KINDS else False for kind in shares.index]
        ax.axhline(len(heavy) - sum(heavy) - 0.5, color=ORANGE, lw=2)
        ax.set_title(title, loc="right")
    _colour_bar(figure, axes[1], "percent of the matrices")
    return figure


@in_book_style
def spectrum_calls(table: pd.DataFrame) -> Figure:
    """Draw the exponents of given spectra, and which estimator finds them heavier than noise.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.spectra.trials.judge_spectra`.

    Returns
    -------
    Figure
        Mean exponents as numbers, the share below the level of noise as colour.
    """
    null = table[table["kind"] == table["kind"].iloc[0]]
    null = null.assign(kind="noise, median", alpha=null["noise"], below_noise=False)
    table = pd.concat([table, null])
    shares, texts = _square(table, "below_noise"), _square(table, "alpha").map(_short)
    figure, ax = plt.subplots(figsize=(_WIDTH, 1.9 + 0.42 * len(texts)))
    _heat_map(ax, shares, texts)
    ax.set_title("One spectrum, seven exponents:\nheavy to some, light to others", loc="right")
    _colour_bar(figure, ax, "percent of the seeds below noise's 5 % level")
    return figure


@in_book_style
def spike_windows(table: pd.DataFrame, h: int, d: int) -> Figure:
    """Draw how often a spike is seen in the whole matrix and in windows, against its strength.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.spectra.trials.try_spikes`.
    h, d : int
        Shape of the whole matrix.

    Returns
    -------
    Figure
        Means over seeds, with their range; a tick on the axis is where a spike leaves the bulk of a window.
    """
    figure, ax = plt.subplots(figsize=(_WIDTH, 4.2))
    sides = sorted({int(side) for side in table["side"]})
    for side, look in zip(sides, looks_in_turn(), strict=False):
        label = "whole matrix" if side == 0 else f"windows of {side} x {side}"
        shown = table.loc[table["side"] == side]
        _mean_and_range(ax, shown, "strength", "seen", label=label, **look)
        critical = 1.0 if side == 0 else (h * d) ** 0.25 / np.sqrt(side)
        ax.axvline(critical, color=look["color"], ls=":", lw=1.6)
    ax.set(
        xscale="log",
        xlabel="strength of the spike / critical strength of the matrix",
        ylabel="share that sees it",
        title="A window hides a spike\nthat the whole matrix shows",
    )
    _plain_ticks(ax, xticks=(1, 2, 4, 8))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@in_book_style
def three_nulls(table: pd.DataFrame) -> Figure:
    """Draw how far the median exponent lies from three nulls, and the spikes before and after a shuffle.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.spectra.trials.beside_nulls`.

    Returns
    -------
    Figure
        Standard deviations of the null as colour and number, means over seeds; then the eigenvalues beyond
        the noise edge of the matrix and of its shuffled entries.
    """
    means = table.pivot_table(index="kind", values=[*_NULLS, "n_spikes", "traps"], sort=False)
    means = means[[*_NULLS, "n_spikes", "traps"]]
    figure, ax = plt.subplots(figsize=(_WIDTH, 2.6 + 0.36 * len(means)))
    z = means[list(_NULLS)]
    image = ax.imshow(z.clip(-10, 10), cmap="PuOr", vmin=-14, vmax=14, aspect="auto")
    ax.set_xlim(-0.5, 4.5)
    for (row, column), value in np.ndenumerate(means.to_numpy(np.float64)):
        on_colour = ON_PICTURE if column < z.shape[1] else None
        ax.text(column, row, str(round(value)), ha="center", va="center", fontsize=10, gid=on_colour)
    ax.axvline(2.5, color=GREY, lw=1)
    ax.set_yticks(range(len(means)), [_kind_label(str(kind)) for kind in means.index], fontsize=9)
    names = [*_NULLS.values(), "spikes", "spikes,\nshuffled"]
    ax.set_xticks(range(5), names, fontsize=9, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_title("Three nulls and a count of spikes\ntell the causes apart", loc="right")
    bar = figure.colorbar(image, ax=ax, location="bottom", shrink=0.6, ticks=[-10, 0, 10])
    bar.ax.set_xlim(-10, 10)
    bar.set_label("distance of $\\alpha$ from the null (st. dev.)")
    return figure


def _mean_and_range(ax: Axes, table: pd.DataFrame, x: str, y: str, *, color: str, **line: Any) -> None:
    """Draw means over seeds as a line, and the range as a band."""
    places = sorted(set(table[x]))
    values = np.array([table.loc[table[x] == place, y] for place in places])
    ax.fill_between(places, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2, lw=0)
    ax.plot(places, values.mean(axis=1), color=color, **line)


def _square(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the means over seeds, one row per kind and one column per estimator, in order of appearance."""
    means = table.pivot_table(index="kind", columns="estimator", values=column, dropna=False)
    return means.loc[list(dict.fromkeys(table["kind"])), list(dict.fromkeys(table["estimator"]))]


def _heat_map(ax: Axes, shares: pd.DataFrame, texts: pd.DataFrame) -> None:
    """Draw shares as colours with a text on each."""
    ax.imshow(100 * shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares.to_numpy(np.float64)):
        color = "black" if share > 0.5 else "white"
        text = str(texts.iat[row, column])
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=9.5, gid=ON_PICTURE)
    names = [_LABELS[str(name)] for name in shares.columns]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(shares)), [_kind_label(str(kind)) for kind in shares.index], fontsize=9)
    ax.tick_params(length=0)


def _colour_bar(figure: Figure, ax: Axes, label: str) -> None:
    bar = figure.colorbar(ax.images[0], ax=ax, location="bottom", shrink=0.6, ticks=[0, 50, 100])
    bar.set_label(label)


def _kind_label(kind: str) -> str:
    # on two lines, which leaves room for the numbers on a phone
    return textwrap.fill(KINDS[kind].label if kind in KINDS else kind, 16)


def _short(alpha: float) -> str:
    return "∞" if np.isinf(alpha) else f"{alpha:.1f}" if alpha >= 5 else f"{alpha:.2f}"


def _plain_ticks(ax: Axes, xticks: Sequence[float], yticks: Sequence[float] = ()) -> None:
    ax.set_xticks(xticks, [f"{tick:g}" for tick in xticks])
    ax.xaxis.set_minor_locator(NullLocator())
    if yticks:
        ax.set_yticks(yticks, [f"{tick:g}" for tick in yticks])
        ax.yaxis.set_minor_locator(NullLocator())
