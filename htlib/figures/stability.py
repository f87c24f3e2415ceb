"""Draw runs of gradient descent against the edge of stability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from htlib.figures.labels import by_setting
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import BLACK, GREY, LABELS, WIDTH
from htlib.student.problem import draw_readout
from htlib.student.run import Trajectory
from htlib.theory.stability import predict_sharpness


@figure_of_runs
def collapse(runs: Sequence[Trajectory], *, measure: str = "alpha_hill", step: int = 10) -> Figure:
    """Draw the change of a measure from the start against the rate, and against the rate over the edge.

    A curve is a setting, its height the mean over the seeds.  The edge of stability is 2 over the predicted
    sharpness at the start (`htlib.predict_sharpness`), with the readout that each seed has drawn.

    Parameters
    ----------
    runs : sequence of Trajectory
        Of gradient descent, with several rates in each setting.
    measure : str
        A column of the metrics.
    step : int

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run.
    """
    figure, (plain, scaled) = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    for group in by_setting(runs, ignore=["lr"]).values():
        rates = sorted({run.config.lr for run in group})
        edges = [2 / predict_sharpness(run.config, readout=draw_readout(run.config)) for run in group]
        of_rate = [
            [run.metrics[measure][step] - run.metrics[measure][0] for run in group if run.config.lr == rate]
            for rate in rates
        ]
        change, edge = np.array([np.mean(values) for values in of_rate]), np.exp(np.log(edges).mean())
        plain.plot(rates, change, color=GREY, lw=1, marker=".")
        scaled.plot(np.array(rates) / edge, change, color=BLACK, lw=1, marker=".", alpha=0.6)
    for ax, label, title in (
        (plain, LABELS["lr"], "In the rate: no order"),
        (scaled, r"rate over edge of stability, $\eta/\eta_c$", "In units of the edge: one curve"),
    ):
        ax.set_xscale("log")
        ax.set_xlabel(label)
        ax.set_title(title)
        ax.axhline(0, color=GREY, lw=0.8, zorder=0)
    scaled.axvline(1, color=GREY, ls="--", lw=1)
    scaled.set_xticks([0.7, 1, 1.5, 2, 3], ["0.7", "1", "1.5", "2", "3"])
    scaled.xaxis.set_minor_locator(NullLocator())
    plain.set_ylabel(f"change of {LABELS.get(measure, measure)}")
    return figure
