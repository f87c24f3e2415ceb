"""Draw the pictures of the first page, in which a reader moves one setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from htlib.figures.frames import Frames
from htlib.figures.style import BLACK, GREEN, GREY, OPTIMIZER_COLORS, in_book_style
from htlib.networks.run import NetworkRun
from htlib.spectra.eigenvalues import esd
from htlib.spectra.noise import MarchenkoPastur
from htlib.spectra.power_law import hill_alpha
from htlib.student.run import Trajectory
from htlib.theory.one_step import law_of_config

_SIZE = (5.0, 3.4)  # inches, read at 360 pixels too
_BINS = 50
_DECIDES = {
    "alpha": "the exponent",
    "noise": "that of noise",
    "permuted": "a permutation",
    "depth": "depth",
}
Array = NDArray[np.float64]


def noise_frames(long: int = 1000, shares: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 1.0)) -> Frames:
    """Show spectra of pure noise of several shapes, with the exponent that a fit to each would report.

    Parameters
    ----------
    long : int
        Rows of each Gaussian matrix (seed 0).
    shares : sequence of float
        Columns as a share of the rows.
    """
    rng = np.random.default_rng(0)
    spectra = [esd(rng.standard_normal((long, round(share * long))) / np.sqrt(long)) for share in shares]
    bins = _bins([values for values in spectra if values.min() > 1e-3], low=1e-2)
    exponents = [hill_alpha(values) for values in spectra]
    figures = [
        _noise(values, share, exponent, bins)
        for values, share, exponent in zip(spectra, shares, exponents, strict=True)
    ]
    return Frames(
        figures,
        [f"1 : {1 / share:.3g}" for share in shares],
        name="shape",
        says=[f"exponent {exponent:.2f}" for exponent in exponents],
        alt="Histograms of the eigenvalues of pure noise, each with the Marchenko-Pastur law and "
        f"the exponent of a power-law fit: {exponents[0]:.1f} for a narrow matrix, "
        f"{exponents[-1]:.1f} for a square one.",
    )


def spike_frames(runs: Sequence[Trajectory]) -> Frames:
    """Show the spectrum after one step along the rates, with the spike and the bulk that theory predicts.

    Parameters
    ----------
    runs : sequence of Trajectory
        One per rate, of one optimizer and one seed, measured at step 1.
    """
    runs = sorted(runs, key=lambda run: run.config.lr)
    law = law_of_config(runs[0].config)
    bins = _bins([run.esd(1) for run in runs], low=1e-1)
    figures = [_spike(run, bins) for run in runs]
    return Frames(
        figures,
        [f"{run.config.lr:g}" for run in runs],
        name="learning rate",
        says=[
            f"largest singular value {run.metrics.spectral_norm[1]:.3g}, "
            + (
                f"predicted {law(run.config.lr).spectral_norm:.3g}"
                if law(run.config.lr).has_outlier
                else "no spike"
            )
            for run in runs
        ],
        still=next((i for i, run in enumerate(runs) if run.config.lr > 2 * law.critical_lr), -1),
        alt="The spectrum after one step at growing learning rates. Beyond the critical rate one "
        "eigenvalue leaves the bulk, where the closed form predicts it; at larger rates the bulk follows "
        "its predicted law.",
    )


def step_frames(real: Trajectory, shuffled: Trajectory) -> Frames:
    """Show the spectrum step by step, with that of a network trained on permuted labels as an outline.

    Parameters
    ----------
    real, shuffled : Trajectory
        Two runs that differ only in their labels, measured at the same steps.
    """
    steps = [int(step) for step in real.metrics.index]
    bins = _bins([run.esd(step) for run in (real, shuffled) for step in steps], low=1e-1)
    figures = [_step(real, shuffled, step, bins) for step in steps]
    return Frames(
        figures,
        [str(step) for step in steps],
        name="step",
        says=[
            f"exponent {real.metrics.alpha_hill[step]:.2f}, "
            f"with shuffled labels {shuffled.metrics.alpha_hill[step]:.2f}"
            for step in steps
        ],
        alt="The spectrum step by step: the bulk of noise, then a bulk and a spike, at last a broad spectrum "
        "that ends at an edge. The outline, from labels without meaning, has nearly the same shape.",
    )


def pruning_frames(runs: Sequence[NetworkRun]) -> Frames:
    """Show, at growing sparsity, what a network gains over equal shares when a column decides about layers.

    Parameters
    ----------
    runs : sequence of NetworkRun
        Pruned by ``"uniform"`` and by other columns, with several seeds; of several networks, the first.
    """
    rows = []
    for run in runs:
        config = run.config
        if config.pruned_by != "none" and config.network == runs[0].config.network:
            rows.append((config.sparsity, config.pruned_by, config.seed, run.metrics.accuracy.iloc[-1]))
    table = pd.DataFrame(rows, columns=["sparsity", "column", "seed", "accuracy"])
    wide = table.pivot_table(index=["sparsity", "seed"], columns="column", values="accuracy")
    gains = 100 * wide.drop(columns="uniform").sub(wide["uniform"], axis=0)
    shown = [name for name in _DECIDES if name in gains]
    low, high = gains[shown].min(axis=None), gains[shown].max(axis=None)
    room = 0.1 * max(high - low, 1)
    limits = (min(low, 0) - room, max(high, 0) + room)
    levels = sorted(set(table["sparsity"]))
    return Frames(
        [_pruning(gains.loc[level, shown], level, limits) for level in levels],
        [f"{100 * level:.0f} %" for level in levels],
        name="sparsity",
        says=[
            ", ".join(f"{_DECIDES[name]} {gains.loc[level, name].mean():+.1f}" for name in shown) + " points"
            for level in levels
        ],
        alt="The accuracy that a pruned network gains over uniform sparsity, at growing sparsity, when the "
        "exponents of its layers decide, and when noise, a permutation of the exponents or depth does: "
        + "; ".join(f"{_DECIDES[name]} {gains.loc[levels[-1], name].mean():+.1f}" for name in shown)
        + f" points at {100 * levels[-1]:.0f} %.",
    )


@in_book_style
def _noise(values: Array, share: float, exponent: float, bins: list[float]) -> Figure:
    figure, ax = plt.subplots(figsize=_SIZE)
    _histogram(ax, values, bins, GREY)
    long = round(len(values) / share)
    law = MarchenkoPastur.of_gaussian_esd(long, len(values))
    _law(ax, len(values), np.diff(law.cdf(np.multiply(bins, long))), bins)
    _note(ax, f"$\\alpha$ = {exponent:.2f}", "a fit to pure noise")
    ax.set_title("Noise has an exponent, set by its shape")
    return figure


@in_book_style
def _spike(run: Trajectory, bins: list[float]) -> Figure:
    config = run.config
    figure, ax = plt.subplots(figsize=_SIZE)
    _histogram(ax, run.esd(1), bins, OPTIMIZER_COLORS[config.optimizer])
    law = law_of_config(config)
    step, bulk = law(config.lr), law.bulk(config.lr)
    _law(ax, min(config.h, config.d), np.diff(bulk.cdf(bins)), bins)
    if step.has_outlier:
        ax.annotate(
            "predicted",
            (step.spectral_norm**2, 1.1),
            (step.spectral_norm**2, 5),
            arrowprops={"arrowstyle": "->", "color": BLACK},
            ha="center",
        )
    _note(ax, rf"$\eta$ = {config.lr:g}", "")
    ax.set_title("One step grows a spike, where theory puts it")
    return figure


@in_book_style
def _step(real: Trajectory, shuffled: Trajectory, step: int, bins: list[float]) -> Figure:
    figure, ax = plt.subplots(figsize=_SIZE)
    color = OPTIMIZER_COLORS[real.config.optimizer]
    _histogram(ax, real.esd(step), bins, color, label="labels of the teacher")
    ax.hist(shuffled.esd(step), bins, histtype="step", color=BLACK, lw=1.3, label="shuffled labels")
    ax.legend(loc="upper left")
    _note(ax, f"step {step}", rf"$\alpha$ = {real.metrics.alpha_hill[step]:.2f}")
    ax.set_title("Large steps spread it, whatever the labels")
    return figure


@in_book_style
def _pruning(gains: pd.DataFrame, sparsity: float, limits: tuple[float, float]) -> Figure:
    figure, ax = plt.subplots(figsize=_SIZE)
    for place, name in enumerate(gains.columns):
        color = GREEN if name == "alpha" else GREY
        ax.plot(gains[name], np.full(len(gains), place), "o", color=color, ms=6, alpha=0.7, mew=0)
        ax.plot(gains[name].mean(), place, "|", color=GREEN if name == "alpha" else BLACK, ms=24, mew=3)
    ax.axvline(0, color=BLACK, lw=1)
    ax.set_yticks(range(gains.shape[1]), [_DECIDES[name] for name in gains.columns])
    ax.set(
        xlim=limits, ylim=(gains.shape[1] - 0.4, -0.7), xlabel="accuracy minus that of equal shares (points)"
    )
    alpha, *others = (float(np.mean(gains[name].to_numpy())) for name in gains.columns)
    result = "win" if alpha > max(0.0, *others) else "do not win"
    ax.set_title(f"{100 * sparsity:.0f} % pruned: exponents {result}")
    return figure


def _bins(spectra: Sequence[ArrayLike], low: float) -> list[float]:
    values = np.concatenate([np.asarray(values, dtype=np.float64) for values in spectra])
    return np.geomspace(max(low, values.min()), 1.3 * values.max(), _BINS).tolist()


def _histogram(ax: Axes, values: Array, bins: list[float], color: str, label: str | None = None) -> None:
    ax.hist(values, bins, color=color, alpha=0.6, label=label)
    ax.set(xscale="log", yscale="log", ylim=(0.5, 200), xlabel="eigenvalue", ylabel="number")
    ax.yaxis.set_minor_locator(NullLocator())


def _law(ax: Axes, count: int, shares: Array, bins: list[float]) -> None:
    shown = count * shares > 0.3
    ax.plot(np.sqrt(np.multiply(bins[1:], bins[:-1]))[shown], count * shares[shown], color=BLACK, lw=1.5)


def _note(ax: Axes, large: str, small: str) -> None:
    ax.text(0.97, 0.95, large, transform=ax.transAxes, ha="right", va="top", fontsize=15)
    ax.text(0.97, 0.82, small, transform=ax.transAxes, ha="right", va="top", fontsize=10.5)
