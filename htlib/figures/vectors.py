"""Draw how the singular vectors of the weights and of their updates turn towards each other.

Each function takes runs and returns a Figure.  The overlaps come from ``keep_overlaps``: squared inner
products of the leading singular vectors of the update M_t = W_{t+1} - W_t with those of the weights
before it, W_t, and after it, W_{t+1}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from htlib.figures.curves import seeds, trajectory
from htlib.figures.labels import by_setting, looks_of, setting_label
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import (
    BLACK,
    BROWN,
    GREY,
    LABEL_LOOKS,
    LABELS,
    PURPLE,
    in_book_style,
    legend_key,
    looks_in_turn,
)
from htlib.student.run import Trajectory

Array = NDArray[np.float64]

_MAPS = 4  # steps side by side


@figure_of_runs
def overlap_maps(
    runs: Sequence[Trajectory], *, k: int = 15, sides: Sequence[str] = ("right", "left")
) -> Figure:
    """Draw squared overlaps of leading singular vectors, weights against update, at a few steps of one run.

    Two rows per side show the vectors before and after the update; dark is alike.  The colour scale is
    logarithmic and begins at 1/max(h, d), the mean overlap of two random directions of the larger side.

    Parameters
    ----------
    runs : sequence of Trajectory
        The first run is drawn, and named in the title.
    k : int
        Number of leading vectors that are shown, at most as many as were kept.
    sides : sequence of {"right", "left"}

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, `k` is less than 1, or the run was made without ``keep_overlaps``.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    run = _with_overlaps(runs[:1])[0]
    config, steps = run.config, _few(list(run.overlaps))
    k = min(k, len(run.overlaps[steps[0]].after.right))
    norm = LogNorm(1 / max(config.h, config.d, 2), 1, clip=True)
    figure, axes = plt.subplots(
        2 * len(sides),
        len(steps),
        figsize=(2.0 * len(steps), 1.6 + 2.3 * 2 * len(sides)),
        layout="compressed",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for column, step in enumerate(steps):
        pair = run.overlaps[step]
        rows = [
            (f"{side}, {when}" if len(sides) > 1 else when, weights, getattr(getattr(pair, when), side))
            for side in sides
            for when, weights in (("before", "W_t"), ("after", "W_{t+1}"))
        ]
        for ax, (title, weights, overlaps) in zip(axes[:, column], rows, strict=True):
            ax.imshow(overlaps[:k, :k], norm=norm, cmap="Blues", extent=(0.5, k + 0.5, k + 0.5, 0.5))
            ax.set_title(f"step {step}, {title}", fontsize=10.5)
            ax.set_ylabel(rf"vector of ${weights}$" if column == 0 else "")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    for ax in axes[-1]:
        ax.set_xlabel(r"vector of $M_t$")
    bar = figure.colorbar(
        axes[0, 0].images[0], ax=axes, location="bottom", shrink=0.8, aspect=30, extend="min"
    )
    bar.set_label("squared overlap\n(1: the same direction; lower end: chance)")
    figure.suptitle(_title(run), x=0.02, ha="left", fontsize=12)
    return figure


@figure_of_runs
def subspace_overlaps(runs: Sequence[Trajectory], *, ks: Sequence[int] = (10, 100)) -> Figure:
    """Draw the mean squared cosine between the leading subspaces of weights and update, against the step.

    There is one row per dimension of the subspaces, with right and left side by side, one curve per setting
    and one dot per seed.  Lines are solid for the weights after the update and dashed for those before it.
    Dotted lines are the values for random subspaces, k/d on the right and k/h on the left.

    Parameters
    ----------
    runs : sequence of Trajectory
        Runs that differ only in their seed share a curve, over the steps that all of them have.
    ks : sequence of int
        Dimensions of the subspaces; those above the number of kept vectors are lowered to it.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run or no dimension, a dimension is less than 1, or a run was made
        without ``keep_overlaps``.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be one or more dimensions of at least 1; got {list(ks)}")
    groups = by_setting(_with_overlaps(runs))
    kept = min(len(pair.after.right) for run in runs for pair in run.overlaps.values())
    ks = sorted({min(k, kept) for k in ks})
    looks = looks_of(groups)
    figure, axes = plt.subplots(
        len(ks), 2, figsize=(10.5, 0.9 + 3.3 * len(ks)), sharex=True, sharey=True, squeeze=False
    )
    for row, k in zip(axes, ks, strict=True):
        for column, side in enumerate(("right", "left")):
            ax = row[column]
            for label, group in groups.items():
                steps = sorted(set.intersection(*(set(run.overlaps) for run in group)))
                for when, linestyle in (("before", "--"), ("after", "-")):
                    values = [
                        [getattr(run.overlaps[t], when).subspace(k)[1 - column] for t in steps]
                        for run in group
                    ]
                    seeds(steps, values, **{**looks[label], "linestyle": linestyle}, ax=ax)
            _chance(ax, {k / (c.h if column else c.d) for c in (run.config for run in runs)})
            ax.set_title(f"{side}, $k$ = {k}")
            ax.set(ylim=(0, 1.03), ylabel="mean squared cosine" if column == 0 else "")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[-1]:
        ax.set_xlabel(LABELS["step"])
    lines = [legend_key(label, **{**look, "linestyle": "-"}) for label, look in looks.items()]
    lines += [legend_key("after the update"), legend_key("before it", ls="--"), legend_key("chance", ls=":")]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(3, len(lines)))
    return figure


@in_book_style
def update_controls(runs: Sequence[Trajectory], table: pd.DataFrame, *, k: int = 100) -> Figure:
    """Draw the overlap of updates and weights with its controls, and what stays from step to step.

    Parameters
    ----------
    runs : sequence of Trajectory
        One setting with real and with shuffled labels, made with ``keep_overlaps``.
    table : DataFrame
        Of `htlib.student.updates.compare_updates`, for all seeds.
    k : int

    Returns
    -------
    Figure
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    for labels in dict.fromkeys(run.config.labels for run in _with_overlaps(runs)):
        group = [run for run in runs if run.config.labels == labels]
        steps = sorted(set.intersection(*(set(run.overlaps) for run in group)))
        for when, linestyle in (("after", "-"), ("before", "--")):
            values = [[getattr(run.overlaps[t], when).subspace(k)[1] for t in steps] for run in group]
            look = {**LABEL_LOOKS[labels], "linestyle": linestyle}
            seeds(steps, values, label=f"{labels} labels, {when}", ax=left, **look)
    control = table["scrambled"].unstack("step")
    seeds(control.columns, control, color=BLACK, marker="^", label="scrambled update, after", ax=left)
    _chance(left, {k / run.config.d for run in runs})
    left.set(ylim=(0, 1.03), xlabel="step", ylabel="mean squared cosine", title="Update against weights")
    left.legend(fontsize=9.5)
    for column, label, color, marker in (
        ("stays", "weights before and after", PURPLE, "o"),
        ("next", "an update and the next", BROWN, "s"),
    ):
        values = table[column].unstack("step").dropna(axis=1)
        seeds(values.columns, values, color=color, marker=marker, label=label, ax=right)
    right.axhline(0, color=GREY, lw=0.8)
    right.set(ylim=(-0.5, 1.05), xlabel="step", ylabel="similarity", title="What stays")
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@in_book_style
def teacher_shares(runs: Sequence[Trajectory], shares: pd.DataFrame) -> Figure:
    """Draw the alignment along the steps, and how much of the teacher the leading right vectors hold.

    Parameters
    ----------
    runs : sequence of Trajectory
    shares : DataFrame
        Of `htlib.student.updates.teacher_share`, for all seeds.

    Returns
    -------
    Figure
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    settings = by_setting(runs)
    for label, look in looks_of(settings).items():
        trajectory(settings[label], "alignment", label=label, ax=left, **look)
    d = runs[0].config.d
    _chance(left, {math.sqrt(2 / (math.pi * d))})
    left.set(ylim=(0, 0.85), title="The first right vector")
    left.legend(fontsize=9, loc="upper right")
    shown = sorted({round(x) for x in np.geomspace(1, len(shares.columns), 12)})
    for (step, group), look in zip(shares.groupby("step"), looks_in_turn(), strict=False):
        seeds(shown, group[shown], label=f"after step {step}", ax=right, **look)
    right.plot(shares.columns, shares.columns / d, color=GREY, ls=":", lw=1.4, label="chance")
    right.set(xscale="log", xlabel="number of leading vectors $k$", title="The first $k$ together")
    right.set(ylabel=r"part of the teacher, $\sum_{i \leq k} \langle v_i, \beta\rangle^2$", ylim=(0, 0.35))
    right.xaxis.set_major_formatter("{x:g}")
    right.legend(loc="upper left")
    return figure


def _with_overlaps(runs: Sequence[Trajectory]) -> Sequence[Trajectory]:
    for run in runs:
        if not run.overlaps:
            raise ValueError(
                f"the run of {_title(run)} holds no overlaps; "
                "train with keep_overlaps=True and at least one step"
            )
    return runs


def _title(run: Trajectory) -> str:
    return setting_label(optimizer=run.config.optimizer, lr=run.config.lr, seed=run.config.seed)


def _few(steps: Sequence[int]) -> list[int]:
    """Choose at most `_MAPS` steps, from the first to the last, closer together at the start."""
    last = len(steps) - 1
    wanted = {round(last * (math.expm1(2.2 * q) / math.expm1(2.2))) for q in np.linspace(0, 1, _MAPS)}
    return [steps[i] for i in sorted(wanted)]


def _chance(ax: Axes, levels: set[float]) -> None:
    for level in sorted(levels):
        ax.axhline(level, color=GREY, ls=":", lw=1.4)
