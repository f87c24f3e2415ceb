"""Draw runs against the edge of stability, and the phases of their spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from htlib.figures.curves import trajectory
from htlib.figures.labels import by_setting, looks_of
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import (
    BLACK,
    BLUE,
    BROWN,
    GOLD,
    GREY,
    LABELS,
    OPTIMIZER_NAMES,
    PURPLE,
    SKY,
    WIDTH,
    legend_key,
)
from htlib.spectra.phases import FEWEST, PHASES, phase
from htlib.student.config import ExperimentConfig
from htlib.student.run import Trajectory
from htlib.theory.stability import drawn_edge

_PHASE_COLORS = ("#e8e8e8", SKY, PURPLE, BROWN, GOLD, BLACK)  # in the order of PHASES
ONSET = (1.2, 1.7)  # the range in which the book's ledger expects the tail to begin, in units of the edge


@figure_of_runs
def collapse(runs: Sequence[Trajectory], *, measure: str = "alpha_hill", step: int | None = None) -> Figure:
    """Draw the change of a measure from the start against the rate, and against the rate over the edge.

    A curve is a setting, its height the mean over the seeds.  The edge of stability is 2 over the predicted
    sharpness at the start (`htlib.predict_sharpness`), with the readout that each seed has drawn.

    Parameters
    ----------
    runs : sequence of Trajectory
        Of gradient descent, with several rates in each setting.
    measure : str
        A column of the metrics.
    step : int, optional
        By default the last one that all runs have.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or one of another optimizer, with momentum or with weight decay.
    """
    if step is None:
        step = int(min(run.metrics.index[-1] for run in runs))
    figure, (plain, scaled) = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    usual = ExperimentConfig.noise_std
    for group in by_setting(runs, ignore=["lr"]).values():
        rates = sorted({run.config.lr for run in group})
        edges = [drawn_edge(run.config) for run in group]
        of_rate = [
            [run.metrics[measure][step] - run.metrics[measure][0] for run in group if run.config.lr == rate]
            for rate in rates
        ]
        change, edge = np.array([np.mean(values) for values in of_rate]), np.exp(np.log(edges).mean())
        strong = group[0].config.noise_std > usual
        look = {"color": PURPLE, "ls": "--"} if strong else {"color": BLUE, "alpha": 0.75}
        plain.plot(rates, change, lw=1.4, marker=".", **look)
        scaled.plot(np.array(rates) / edge, change, lw=1.4, marker=".", **look)
    for ax, label, title in (
        (plain, LABELS["lr"], f"{OPTIMIZER_NAMES['gd']}, in the rate: no order"),
        (scaled, r"rate over edge of stability, $\eta/\eta_c$", "In units of the edge of stability"),
    ):
        ax.set(xscale="log", xlabel=label, title=title)
        ax.axhline(0, color=GREY, lw=0.8, zorder=0)
    scaled.axvline(1, color=GREY, ls="--", lw=1)
    scaled.axvspan(*ONSET, color=GREY, alpha=0.2, lw=0)
    scaled.set_xticks([0.7, 1, 1.4, 2, 3], ["0.7", "1", "1.4", "2", "3"])
    scaled.xaxis.set_minor_locator(NullLocator())
    plain.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plain.xaxis.set_major_formatter("{x:g}")
    plain.xaxis.set_minor_locator(NullLocator())
    plain.set_ylabel(f"change of {LABELS.get(measure, measure)}")
    if any(run.config.noise_std > usual for run in runs):
        looks = {"usual label noise": {"color": BLUE}, "strong label noise": {"color": PURPLE, "ls": "--"}}
        plain.legend(handles=[legend_key(name, **look) for name, look in looks.items()], loc="lower left")
    return figure


@figure_of_runs
def along_edge(runs: Sequence[Trajectory]) -> Figure:
    """Draw the sharpness over the edge of stability and PL_Alpha_Hill along the steps, one curve per setting.

    Parameters
    ----------
    runs : sequence of Trajectory
        With ``probe_sharpness``.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or one without the sharpness.
    """
    if any("sharpness" not in run.metrics for run in runs):
        raise ValueError("runs must have the sharpness: train them with probe_sharpness=True")
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 6.4), sharex=True)
    settings = by_setting(runs)
    for label, look in looks_of(settings).items():
        trajectory(settings[label], "sharpness", ax=above, label=label, **look)
        trajectory(settings[label], "alpha_hill", ax=below, **look)
    above.axhline(1, color=GREY, ls="--", lw=1.2)
    above.set(ylim=(0, None), xlabel="", title="Rate times curvature climbs to the edge")
    below.set(title="The exponent")
    above.legend(loc="lower right")
    return figure


@figure_of_runs
def phase_maps(runs: Sequence[Trajectory]) -> Figure:
    """Draw the phase of the spectrum (`htlib.spectra.phases`) over rate and step, one map per optimizer.

    A cell has the phase that most seeds are in; of two with equally many, the one that comes first in
    `PHASES`.  It is empty for a matrix that is too small to have one.  Of many steps, some are shown, about a
    third apart.

    Parameters
    ----------
    runs : sequence of Trajectory
        Those of one optimizer have the same rates for all seeds.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run.
    """
    optimizers = list(dict.fromkeys(run.config.optimizer for run in runs))
    figure, axes = plt.subplots(1, len(optimizers), figsize=(WIDTH, 4.6), squeeze=False)
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        group = [run for run in runs if run.config.optimizer == optimizer]
        rates = sorted({run.config.lr for run in group})
        steps = _thinned(sorted(set[int]().union(*(run.metrics.index for run in group))))
        cells = np.full((len(rates), len(steps)), np.nan)  # a run that diverged has no later steps
        for i, rate in enumerate(rates):
            for j, step in enumerate(steps):
                found = [
                    PHASES.index(phase(run.esd(step), run.config.h, run.config.d))
                    for run in group
                    if run.config.lr == rate and step in run.metrics.index and _enough(run)
                ]
                if found:
                    cells[i, j] = np.bincount(found).argmax()
        ax.pcolormesh(cells, cmap=ListedColormap(list(_PHASE_COLORS)), vmin=-0.5, vmax=len(PHASES) - 0.5)
        ax.set_xticks(np.arange(len(steps)) + 0.5, [str(step) for step in steps])
        ax.set_yticks(np.arange(len(rates)) + 0.5, [f"{rate:g}" for rate in rates])
        ax.set(xlabel="step", ylabel=LABELS["lr"], title=OPTIMIZER_NAMES[optimizer])
        ax.grid(visible=False)
    keys = [Patch(color=color, label=name) for name, color in zip(PHASES, _PHASE_COLORS, strict=True)]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def _enough(run: Trajectory) -> bool:
    return min(run.config.h, run.config.d) >= FEWEST


def _thinned(steps: Sequence[int]) -> list[int]:
    kept: list[int] = []
    for step in steps:
        if not kept or step == steps[-1] or step >= 1.33 * kept[-1]:
            kept.append(step)
    return kept
