"""Figures of negative controls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from htlib.figures.figure_parts import (
    WIDTH,
    check_runs,
    ends_and_starts,
    note_diverged,
    say_rate,
    short_label,
)
from htlib.figures.style import GREY, looks_in_turn, rc_params
from htlib.student.run import Trajectory

_CONTROLS = {  # (labels, update), from top to bottom
    ("real", "full"): "as it is",
    ("centred", "full"): "labels: centred",
    ("shuffled", "full"): "labels: shuffled",
    ("noise", "full"): "labels: pure noise",
    ("real", "no-top"): "update: top removed",
    ("real", "shuffled"): "update: shuffled",
}


def tail_controls(runs: Sequence[Trajectory]) -> Figure:
    """PL_Alpha_Hill and alignment after the last step, for controls on the labels and on the update.

    A row per control, a marker per optimizer and rate: open dots are seeds, the bar is their mean.
    Dotted: the start.

    Parameters
    ----------
    runs : sequence of Trajectory
        They may differ in labels, update, optimizer, rate and seed.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or the runs differ in something else, over which a mean would hide it.
    """
    fields = ["labels", "update", "optimizer", "lr"]
    check_runs(runs, set(fields))
    ends, starts = ends_and_starts(runs, fields)
    pairs = {(run.config.labels, run.config.update) for run in runs}
    controls = [pair for pair in _CONTROLS if pair in pairs]
    controls += sorted(pairs - set(controls))
    rates = list(dict.fromkeys((run.config.optimizer, run.config.lr) for run in runs))
    looks = dict(zip(rates, looks_in_turn(), strict=False))
    height = 0.24 * len(rates) + 0.36
    with plt.rc_context(rc_params()):
        figure, axes = plt.subplots(
            1, 2, figsize=(WIDTH, 1.6 + height * len(controls)), sharey=True, squeeze=False
        )
        for ax, metric in zip(axes[0], ("alpha_hill", "alignment"), strict=True):
            ax.axvline(starts[metric].mean(), color=GREY, ls=":", lw=1.4, zorder=0)
            for (order, rate), (row, pair) in product(enumerate(rates), enumerate(controls)):
                chosen = (ends[["optimizer", "lr", "labels", "update"]] == [*rate, *pair]).all(axis=1)
                values = ends.loc[chosen, metric].to_numpy()
                y = row + 0.75 * ((order + 0.5) / len(rates) - 0.5)
                color, marker = looks[rate]["color"], looks[rate]["marker"]
                if len(values):
                    ax.plot(values.mean(), y, "|", color=color, ms=15, mew=2.4)
                    ax.plot(values, [y] * len(values), ls="", marker=marker, color=color, mfc="none", ms=6)
            for k in range(1, len(controls)):
                ax.axhline(k - 0.5, color=GREY, lw=0.6, alpha=0.5)
            ax.set_xlabel(short_label(metric))
        axes[0, 1].set_xlim(left=0)
        axes[0, 0].set(
            yticks=range(len(controls)),
            yticklabels=[_CONTROLS.get(pair, f"labels: {pair[0]}, update: {pair[1]}") for pair in controls],
            ylim=(len(controls) - 0.5, -0.5),
        )
        handles = [
            Line2D(
                [], [], ls="", marker=look["marker"], color=look["color"], mfc="none", label=say_rate(*rate)
            )
            for rate, look in looks.items()
        ]
        handles.append(Line2D([], [], color=GREY, ls=":", label="start"))
        figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
        note_diverged(figure, runs)
        plt.close(figure)
    return figure
