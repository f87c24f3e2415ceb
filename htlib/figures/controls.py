"""Draw a spectrum or a measure beside its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from htlib.figures.labels import setting_label
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import BLACK, GOLD, GREY, OPTIMIZER_COLORS, PURPLE, WIDTH, in_book_style
from htlib.student.run import Trajectory


def filled_and_outlined(
    filled: ArrayLike,
    outlined: ArrayLike,
    *,
    names: tuple[str, str],
    color: str = PURPLE,
    outline: str = BLACK,
    ax: Axes | None = None,
) -> Axes:
    """Draw two spectra on the same bins, one filled and the other as an outline over it.

    Parameters
    ----------
    filled, outlined : (N,) array
        Positive eigenvalues.
    names : tuple of str
        Their names in a legend.
    color, outline : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    both = [np.asarray(values, dtype=np.float64) for values in (filled, outlined)]
    low, high = min(map(np.min, both)), max(map(np.max, both))
    if low <= 0:
        raise ValueError("filled and outlined must be positive to be drawn on a log axis")
    bins = np.geomspace(0.9 * low, 1.1 * high, 61).tolist()
    ax.hist(both[0], bins, color=color, alpha=0.55, label=names[0])
    ax.hist(both[1], bins, histtype="step", color=outline, lw=1.5, label=names[1])
    ax.set(
        xscale="log", yscale="log", xlabel=r"eigenvalue $\lambda$ of $W^\top W$", ylabel="eigenvalues per bin"
    )
    ax.set_ylim(bottom=0.5)
    return ax


@in_book_style
def noise_and_tail(noise: ArrayLike, tail: ArrayLike, *, edge: float) -> Figure:
    """Draw the spectrum of pure noise, with its edge, and that of a matrix with a real heavy tail.

    Parameters
    ----------
    noise, tail : (N,) array
    edge : float
        Where the noise ends.

    Returns
    -------
    Figure
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    filled_and_outlined(noise, tail, names=("noise", "tail"), color=GREY, outline=GOLD, ax=ax)
    top = ax.get_ylim()[1]
    ax.set_ylim(top=3 * top)
    ax.axvline(edge, color=GREY, ls=":", lw=1.4)
    ax.text(1.05 * edge, 1.2 * top, "noise ends here", va="bottom")
    far = float(np.sort(np.asarray(tail))[-3])
    # beyond the edge of noise, where only the tail is
    ax.annotate(
        "a heavy tail\nthins out",
        (far, 1.1),
        (ax.get_xlim()[1], 0.35 * top),
        ha="right",
        arrowprops={"arrowstyle": "->", "color": GOLD},
    )
    return figure


@figure_of_runs
def label_control(runs: Sequence[Trajectory], *, steps: Sequence[int] | None = None) -> Figure:
    """Draw spectra with real labels, filled, and with shuffled ones, as an outline, on the same bins.

    There is one panel per optimizer, rate and step, for the smallest seed that has both kinds of labels.

    Parameters
    ----------
    runs : sequence of Trajectory
        Runs with other labels or controls of the update are left out.
    steps : sequence of int, optional
        By default the last measured step only.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run.
    """
    pairs: dict[tuple[str, float, int], dict[str, Trajectory]] = {}
    for run in runs:
        config = run.config
        if config.update == "full":
            pairs.setdefault((config.optimizer, config.lr, config.seed), {})[config.labels] = run
    groups: dict[tuple[str, float], dict[str, Trajectory]] = {}
    for (optimizer, lr, _), pair in sorted(pairs.items(), key=lambda item: item[0][2]):
        if "real" in pair:
            known = groups.setdefault((optimizer, lr), pair)
            if "shuffled" in pair and "shuffled" not in known:
                groups[optimizer, lr] = pair
    panels = [
        (setting, step, pair)
        for setting, pair in groups.items()
        for step in (steps or [int(pair["real"].metrics.index[-1])])
        if all(step in run.metrics.index for run in pair.values())
    ]
    across = steps is None
    shape = (1, len(panels)) if across else (len(panels), 1)
    size = (max(WIDTH, 4 * len(panels)), 4.2) if across else (WIDTH, 1.0 + 1.45 * len(panels))
    figure, axes = plt.subplots(*shape, figsize=size, sharex=not across, sharey=True, squeeze=False)
    for ax, ((optimizer, lr), step, pair) in zip(axes.flat, panels, strict=True):
        real, other = pair["real"].esd(step), pair.get("shuffled", pair["real"]).esd(step)
        color = OPTIMIZER_COLORS[optimizer]
        filled_and_outlined(real, other, names=("real labels", "shuffled labels"), color=color, ax=ax)
        end = float(real[-2]) if len(real) > 1 else float(real[-1])
        name = setting_label(optimizer=optimizer, lr=lr)
        if across:
            ax.set_title(f"{name}, step {step}")
            ax.set_xlim(right=40 * end)
            ax.annotate(
                "the bulk ends", (end, 2), (2.5 * end, 8), arrowprops={"arrowstyle": "->", "color": BLACK}
            )
        else:
            hill = pair["real"].metrics["alpha_hill"][step]
            ax.text(0.99, 0.9, f"step {step}, Hill {hill:.2f}", transform=ax.transAxes, ha="right", va="top")
            ax.set_title(name if ax is axes[0, 0] else "")
        ax.label_outer()
        ax.set_ylabel("eigenvalues per bin" if ax is axes[len(axes) // 2, 0] else "")
    if len(panels):
        bars = [bar for ax in axes.flat for bar in ax.patches if isinstance(bar, Rectangle)]
        axes[0, 0].set_ylim(0.5, 1.6 * max(bar.get_height() for bar in bars))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@in_book_style
def upper_ends(
    spectra: Mapping[str, Sequence[ArrayLike]], *, colors: Mapping[str, str], k: int = 100
) -> Figure:
    """Draw the largest eigenvalues by rank, each over the second largest, on logarithmic axes.

    A power law is a falling straight line; an edge is nearly level.

    Parameters
    ----------
    spectra : mapping
        Name -> spectra of one kind; a line is the geometric mean over them, a band their range.
    colors : mapping
        Colours of the names to look at; the others are grey.
    k : int
        Number of eigenvalues.

    Returns
    -------
    Figure
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    ranks = np.arange(2, k + 1)
    ends: list[tuple[float, str, str]] = []
    for name, values in spectra.items():
        logs = np.log([np.sort(np.asarray(one))[::-1][1:k] for one in values])
        logs -= logs[:, :1]
        color = colors.get(name, GREY)
        ax.fill_between(
            ranks, np.exp(logs.min(axis=0)), np.exp(logs.max(axis=0)), color=color, alpha=0.2, lw=0
        )
        mean = np.exp(logs.mean(axis=0))
        ax.plot(ranks, mean, color=color, lw=2.2 if name in colors else 1.4)
        ends.append((float(mean[-1]), name, color))
    below = 0.0
    for height, name, color in sorted(ends):  # names that would touch are moved apart
        below = max(height, 1.35 * below)
        ax.text(1.06 * k, below, name, color=color, va="center")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="rank of the eigenvalue",
        ylabel="eigenvalue over the second largest",
    )
    ax.set_xlim(2, k)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.set_xticks([2, 5, 10, 20, 50, 100][: int(np.searchsorted([2, 5, 10, 20, 50, 100], k, side="right"))])
    return figure
