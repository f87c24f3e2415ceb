"""Draw how the steps of each optimizer change a spectrum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from htlib.figures.labels import by_setting
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import BLACK, OPTIMIZER_COLORS, WIDTH, legend_key
from htlib.spectra.noise import MarchenkoPastur
from htlib.student.run import Trajectory

_BINS = 44
_FEWEST = 0.2  # fewer eigenvalues per bin are not shown


@figure_of_runs
def optimizer_spectra(runs: Sequence[Trajectory]) -> Figure:
    """Draw spectra after the first and the last measured step, one row per setting, on shared log axes.

    Bars show eigenvalues per bin and numbers are measures, both as means over seeds.  The line is the law at
    the start, the same in every panel.

    Parameters
    ----------
    runs : sequence of Trajectory
        All runs must have one shape.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or the runs have several shapes.
    """
    shapes = {(run.config.h, run.config.d) for run in runs}
    if len(shapes) > 1:
        raise ValueError(f"the runs must be of one shape (h, d); got {sorted(shapes)}")
    ((h, d),) = shapes
    settings = by_setting(runs)
    measured = sorted({int(step) for run in runs for step in run.metrics.index if step > 0})
    steps = sorted({*measured[:1], *measured[-1:]}) or [0]
    law = MarchenkoPastur.of_gaussian_esd(h, d)
    values = np.concatenate([law.support, *(run.eigenvalues.ravel() for run in runs)])
    edges = np.geomspace(0.9 * values[values > 0].min(), 1.2 * values.max(), _BINS + 1)
    x = np.geomspace(edges[0], edges[-1], 40 * _BINS)
    expected = min(h, d) * law.pdf(x) * x * np.log(edges[1] / edges[0])
    figure, axes = plt.subplots(
        len(settings),
        len(steps),
        figsize=(WIDTH, 1.3 + 1.7 * len(settings)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, (label, group) in zip(axes, settings.items(), strict=True):
        for ax, step in zip(row, steps, strict=True):
            _spectra(ax, group, step, edges)
            ax.plot(x, np.where(expected > _FEWEST, expected, np.nan), color=BLACK, lw=1.4)
            ax.set_title(f"{label}: after {step} step{'s'[: step != 1]}", fontsize=11)
    axes[0, 0].set(xscale="log", yscale="log", ylim=(_FEWEST, 12 * expected.max()))
    for ax in axes[-1]:
        ax.set_xlabel(r"eigenvalue $\lambda$ of $W^\top W$")
    figure.supylabel("eigenvalues per bin", fontsize=11.5)
    title = "An update along one direction leaves the bulk as a spike; a flat one widens the bulk"
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    start = ", ".join(["start (Marchenko-Pastur law)", *_measures(runs, 0)])
    figure.legend(handles=[legend_key(start, color=BLACK, lw=1.4)], loc="outside lower center")
    return figure


def _spectra(ax: Axes, runs: Sequence[Trajectory], step: int, edges: NDArray[np.float64]) -> None:
    reached = [run.esd(step) for run in runs if step in run.metrics.index]
    if reached:
        counts = np.histogram(np.concatenate(reached), edges)[0] / len(reached)
        color = OPTIMIZER_COLORS[runs[0].config.optimizer]
        ax.stairs(counts, edges, fill=True, color=color, alpha=0.6, lw=0)
    words = "\n".join(_measures(runs, step)) or "diverged"
    ax.text(0.99, 0.97, words, transform=ax.transAxes, ha="right", va="top", fontsize=10, linespacing=1.3)


def _measures(runs: Sequence[Trajectory], step: int) -> list[str]:
    """Write the measures that show a spike and a tail, as means over the runs that reached the step."""
    reached = [run for run in runs if step in run.metrics.index]
    if not reached:
        return []
    largest = np.mean([np.sqrt(run.esd(step)[:-3:-1]) for run in reached], axis=0)
    sizes = ", ".join(f"$s_{k}$ = {s:.0f}" for k, s in enumerate(largest, 1))
    alignment, alpha = np.mean(
        [run.metrics.loc[step, ["alignment", "alpha_hill"]] for run in reached], axis=0
    )
    return [sizes, f"alignment {alignment:.2f}", f"PL_Alpha_Hill {alpha:.2f}"]
