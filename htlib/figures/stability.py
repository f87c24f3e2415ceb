"""Draw runs of gradient descent against the edge of stability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from htlib.figures.curves import trajectory
from htlib.figures.labels import by_setting
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import BLUE, GREY, LABELS, OPTIMIZER_NAMES, ORANGE, WIDTH, legend_key, looks_in_turn
from htlib.student.config import ExperimentConfig
from htlib.student.problem import draw_readout
from htlib.student.run import Trajectory
from htlib.theory.stability import predict_sharpness

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
        If there is no run, or one of another optimizer.
    """
    if others := {run.config.optimizer for run in runs} - {"gd"}:
        raise ValueError(f"the edge of stability is predicted for gd only; got runs of {min(others)}")
    if any(run.config.momentum or run.config.weight_decay for run in runs):
        raise ValueError("the edge of stability is predicted without momentum and weight decay")
    if step is None:
        step = int(min(run.metrics.index[-1] for run in runs))
    figure, (plain, scaled) = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    usual = ExperimentConfig.noise_std
    for group in by_setting(runs, ignore=["lr"]).values():
        rates = sorted({run.config.lr for run in group})
        edges = [2 / predict_sharpness(run.config, readout=draw_readout(run.config)) for run in group]
        of_rate = [
            [run.metrics[measure][step] - run.metrics[measure][0] for run in group if run.config.lr == rate]
            for rate in rates
        ]
        change, edge = np.array([np.mean(values) for values in of_rate]), np.exp(np.log(edges).mean())
        strong = group[0].config.noise_std > usual
        look = {"color": ORANGE, "ls": "--"} if strong else {"color": BLUE, "alpha": 0.75}
        plain.plot(rates, change, lw=1.4, marker=".", **look)
        scaled.plot(np.array(rates) / edge, change, lw=1.4, marker=".", **look)
    for ax, label, title in (
        (plain, LABELS["lr"], f"{OPTIMIZER_NAMES['gd']}, in the rate: no order"),
        (scaled, r"rate over edge of stability, $\eta/\eta_c$", "In units of the edge of stability"),
    ):
        ax.set(xscale="log", xlabel=label, title=title)
        ax.axhline(0, color=GREY, lw=0.8, zorder=0)
    scaled.axvline(1, color=GREY, ls="--", lw=1)
    scaled.axvspan(*ONSET, color=BLUE, alpha=0.12, lw=0)
    scaled.set_xticks([0.7, 1, 1.4, 2, 3], ["0.7", "1", "1.4", "2", "3"])
    scaled.xaxis.set_minor_locator(NullLocator())
    plain.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plain.xaxis.set_major_formatter("{x:g}")
    plain.xaxis.set_minor_locator(NullLocator())
    plain.set_ylabel(f"change of {LABELS.get(measure, measure)}")
    if any(run.config.noise_std > usual for run in runs):
        looks = {"usual label noise": {"color": BLUE}, "strong label noise": {"color": ORANGE, "ls": "--"}}
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
    for (label, group), look in zip(settings.items(), looks_in_turn(), strict=False):
        trajectory(group, "sharpness", ax=above, label=label, **look)
        trajectory(group, "alpha_hill", ax=below, **look)
    above.axhline(1, color=GREY, ls="--", lw=1.2)
    above.set(ylim=(0, None), xlabel="", title="Rate times curvature climbs to the edge")
    below.set(title="The exponent")
    above.legend(loc="lower right")
    return figure
