"""Draw whole figures of a run and of sweeps: each function takes runs and returns a Figure.

They take means over seeds and compute nothing else.  A line is the mean over the seeds, and a faint dot is
one seed.  A function that draws several runs is decorated with `figure_of_runs`; the presets of
`htlib.sweeps.presets` call it by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from htlib.figures.curves import against_rate, strips, trajectory
from htlib.figures.labels import by_setting, looks_of, setting_label, varying
from htlib.figures.spectra import spectrum
from htlib.figures.style import (
    BROWN,
    GREEN,
    GREY,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    WIDTH,
    in_book_style,
    legend_key,
    looks_in_turn,
)
from htlib.networks.run import NetworkRun
from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile
from htlib.student.config import CHOICES
from htlib.student.probes import METRICS
from htlib.student.run import Trajectory, tidy

P = ParamSpec("P")
Array = NDArray[Any]

FIGURES: dict[str, Callable[..., Figure]] = {}

RATE_METRICS = ("spectral_norm", "alignment", "alpha_hill", "alpha_ks", "kta", "test_loss")

_ON_SCALE = {metric.name for metric in METRICS.values() if metric.reads == "features"}
_LOGARITHMIC = {"spectral_norm", "alpha_ks"}
_SCALE_LINES = {"paper": "-", "released-code": "--"}


def figure_of_runs(
    function: Callable[Concatenate[Sequence[Trajectory], P], Figure],
) -> Callable[Concatenate[Sequence[Trajectory], P], Figure]:
    """Register a figure of the student's runs in `FIGURES`, in the style of the book.

    It raises ValueError if there are no runs, or runs of another kind.
    """
    return _registered(function, Trajectory)


def figure_of_networks(
    function: Callable[Concatenate[Sequence[NetworkRun], P], Figure],
) -> Callable[Concatenate[Sequence[NetworkRun], P], Figure]:
    """Register a figure of runs of real networks, as `figure_of_runs` does."""
    return _registered(function, NetworkRun)


def _registered(function: Callable[..., Figure], kind: type) -> Callable[..., Figure]:
    name = function.__name__

    @wraps(function)
    def drawn(runs: Sequence[Any], /, *args: Any, **kwargs: Any) -> Figure:
        if not runs:
            raise ValueError("no runs to draw")
        others = {type(run).__name__ for run in runs if not isinstance(run, kind)}
        if others:
            raise ValueError(
                f"{name} draws runs of the type {kind.__name__}; got {', '.join(sorted(others))}"
            )
        return function(runs, *args, **kwargs)

    FIGURES[name] = in_book_style(drawn)
    return FIGURES[name]


def draw(name: str, runs: Sequence[Any]) -> Figure:
    """Draw a figure by its name.

    Parameters
    ----------
    name : str
        A key of `FIGURES`.
    runs : sequence of Trajectory or of NetworkRun

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no such figure, or it cannot show these runs.
    """
    if name not in FIGURES:
        raise ValueError(f"figure must be one of {', '.join(FIGURES)}; got {name!r}")
    return FIGURES[name](runs)


@in_book_style
def overview(run: Trajectory, *, step: int | None = None) -> Figure:
    """Draw one run: spectrum, alignment, tail exponents, losses.

    Parameters
    ----------
    run : Trajectory
    step : int, optional
        Step whose spectrum is shown; by default the last measured one.

    Returns
    -------
    Figure
    """
    config = run.config
    step = int(run.metrics.index[-1]) if step is None else step
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 6.8))
    (left, alignment), (alphas, losses) = axes
    law = MarchenkoPastur.of_gaussian_esd(config.h, config.d)
    edge = largest_eigenvalue_quantile(config.h, config.d)
    spectrum(run.esd(step), law=law, edge=edge, label=f"after step {step}", ax=left)
    left.set_title("Spectrum of the weights")
    left.legend(loc="upper right")
    trajectory([run], "alignment", ax=alignment)
    alignment.set_ylim(0, max(0.5, 1.1 * run.metrics["alignment"].max()))
    alignment.set_title("Alignment with the teacher")
    trajectory([run], "alpha_hill", label="Hill", ax=alphas)
    trajectory([run], "alpha_ks", label="KS", color=BROWN, marker="s", linestyle="--", ax=alphas)
    begun = run.metrics["alpha_hill"].iloc[0]
    alphas.axhline(begun, color=GREY, ls=":", lw=1.4, label="Hill at the start")
    alphas.set(ylabel=r"power-law exponent $\alpha$", title="Tail exponents")
    if np.isfinite(run.metrics["alpha_ks"]).any():  # there is no tail with fewer than three singular values
        alphas.set_yscale("log")
        _plain_log(alphas)
    alphas.legend()
    trajectory([run], "train_loss", label="stage 1, training set", ax=losses)
    who = "student" if config.train_readout else "refit"
    for metric, name, color, marker in (
        ("ridge_train_loss", f"{who}, probe set", GREEN, "^"),
        ("test_loss", f"{who}, test set", BROWN, "s"),
    ):
        trajectory([run], metric, label=name, color=color, marker=marker, linestyle="--", ax=losses)
    losses.set(ylabel="mean squared error", yscale="log", title="Losses")
    losses.legend()
    for ax in (alignment, alphas, losses):
        ax.axvline(step, color=GREY, lw=0.8, alpha=0.6)
    return figure


@figure_of_runs
def rate_map(runs: Sequence[Trajectory], *, metrics: Sequence[str] = RATE_METRICS) -> Figure:
    """Draw measures after the last step against the learning rate, one curve per optimizer.

    Kernel-target alignment and test loss have one curve per feature scale.  A dotted line is the start.
    A cross on the axis marks a rate at which a run diverged; no mean is drawn there.

    Parameters
    ----------
    runs : sequence of Trajectory
        They may differ in optimizer, rate, seed and feature scale.
    metrics : sequence of str
        Columns of the metrics, one panel each, up to three in a row.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or the runs differ in another field, which a mean would hide.
    """
    fields = ["optimizer", "lr", "feature_scale"]
    _refuse_other_differences(runs, fields)
    ends, starts = _ends_and_starts(runs, fields)
    failed = {(run.config.optimizer, run.config.lr) for run in runs if run.diverged_at is not None}
    scales, optimizers = _occurring("feature_scale", runs), _occurring("optimizer", runs)
    figure, axes = _panels(len(metrics))
    for ax, metric in zip(axes.flat, metrics, strict=False):
        for scale in scales if metric in _ON_SCALE else scales[:1]:
            # only the probes depend on the scale: the other curves take each run once
            at, begin = (_of_scale(table, metric, scale) for table in (ends, starts))
            if len(at):
                against_rate(at, metric, linestyle=_SCALE_LINES[scale], ax=ax)
            ax.axhline(begin[metric].mean(), color=GREY, ls=":", lw=1.4, zorder=0)
        for optimizer, lr in failed:
            ax.plot(lr, 0.02, "x", color=OPTIMIZER_COLORS[optimizer], transform=ax.get_xaxis_transform())
        ax.set(xscale="log", xlabel="", ylabel=LABELS[metric])
        if metric in _LOGARITHMIC and np.isfinite(starts[metric]).any():
            ax.set_yscale("log")
            if metric == "alpha_ks":
                _plain_log(ax)
        if metric == "alignment":
            ax.set_ylim(bottom=0)
    for ax in axes[-1]:
        ax.set_xlabel(LABELS["lr"])
        ax.xaxis.set_minor_locator(NullLocator())
    handles = [
        legend_key(OPTIMIZER_NAMES[name], color=OPTIMIZER_COLORS[name], marker=OPTIMIZER_MARKERS[name])
        for name in optimizers
    ]
    if _ON_SCALE & set(metrics):
        handles += [legend_key(setting_label(feature_scale=name), ls=_SCALE_LINES[name]) for name in scales]
    handles.append(legend_key("start", ls=":"))
    if failed:
        handles.append(legend_key("diverged", ls="", marker="x"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
    return figure


@figure_of_runs
def along_steps(
    runs: Sequence[Trajectory], *, metrics: Sequence[str] | None = None, log_steps: bool = False
) -> Figure:
    """Draw measures along the steps, one curve per setting.

    A setting has the fields that differ among the runs, except seed and feature scale.  Losses and
    kernel-target alignment have one panel per feature scale; if there is only one scale, the spectral norm
    is shown too.

    Parameters
    ----------
    runs : sequence of Trajectory
    metrics : sequence of str, optional
        Columns of the metrics.  By default exponent, alignment, and all that depends on features.
    log_steps : bool
        Use a logarithmic axis for the steps, linear up to the first measured one; for long runs.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run.
    """
    settings = by_setting(runs, ignore=["feature_scale"])
    scales = _occurring("feature_scale", runs)
    if metrics is None:
        metrics = ["alpha_hill", "alignment", "test_loss", "ridge_train_loss", "kta"]
        metrics += ["spectral_norm"] * (len(scales) == 1)
    panels = [(name, scale) for name in metrics for scale in (scales if name in _ON_SCALE else scales[:1])]
    steps = [int(step) for run in runs for step in run.metrics.index if step > 0]
    looks = looks_of(settings)
    figure, axes = _panels(len(panels))
    for ax, (metric, scale) in zip(axes.flat, panels, strict=False):
        for label, group in settings.items():
            if one := [run for run in group if run.config.feature_scale == scale]:
                trajectory(one, metric, ax=ax, label=label, **looks[label])
        ax.set_xlabel("")
        if metric in _ON_SCALE:
            ax.set_title(setting_label(feature_scale=scale), fontsize=10.5)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        if metric in _LOGARITHMIC:
            ax.set_yscale("log")
            _plain_log(ax)
        if metric == "alignment":
            ax.set_ylim(bottom=0)
        if log_steps and steps:
            ax.set_xscale("symlog", linthresh=min(steps))
            ax.xaxis.set_major_formatter("{x:g}")
    for ax in axes[-1]:
        ax.set_xlabel(LABELS["step"])
    handles = [legend_key(label, **look) for label, look in looks.items()]
    columns = min(len(handles), 5 if len(panels) == 3 else 2 if len(panels) < 3 else 3)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    _note_diverged(figure, runs)
    return figure


@figure_of_runs
def tail_controls(runs: Sequence[Trajectory]) -> Figure:
    """Draw PL_Alpha_Hill and alignment after the last step, for controls on the labels and on the update.

    There is one row per control, and one colour and marker per optimizer and rate.  A faint marker is a
    seed, a bar is their mean, a line is its 95 % interval, and the dotted line is the start.

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
        As for `rate_map`.
    """
    fields = ["labels", "update", "optimizer", "lr"]
    _refuse_other_differences(runs, fields)
    ends, starts = _ends_and_starts(runs, fields)
    ends = ends.assign(
        control=[_control(*pair) for pair in zip(ends["labels"], ends["update"], strict=True)],
        rate=[_rate(*pair) for pair in zip(ends["optimizer"], ends["lr"], strict=True)],
    )
    order = list(dict.fromkeys(_control(run.config.labels, run.config.update) for run in runs))
    rates = {_rate(run.config.optimizer, run.config.lr): run.config.optimizer for run in runs}
    looks = dict(zip(rates, looks_in_turn(), strict=False))
    for label, optimizer in rates.items():
        looks[label]["color"] = OPTIMIZER_COLORS[optimizer]
    height = 1.6 + (0.24 * len(looks) + 0.36) * len(order)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, height), sharey=True)
    for ax, metric in zip(axes, ("alpha_hill", "alignment"), strict=True):
        ax.axvline(starts[metric].mean(), color=GREY, ls=":", lw=1.4, zorder=0)
        strips(ends, metric, "control", by="rate", looks=looks, order=order, ax=ax)
        for k in range(1, len(order)):
            ax.axhline(k - 0.5, color=GREY, lw=0.6, alpha=0.5)
    axes[1].set_xlim(left=0)
    handles = [legend_key(label, **{**look, "linestyle": ""}) for label, look in looks.items()]
    handles.append(legend_key("start", ls=":"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)))
    _note_diverged(figure, runs)
    return figure


def _panels(count: int) -> tuple[Figure, Array]:
    """Make panels: up to three in one row, more in two columns."""
    if count <= 3:
        return plt.subplots(1, count, figsize=(3.5 * max(count, 2), 3.8), squeeze=False)
    rows = -(-count // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 0.9 + 2.84 * rows), sharex=True)
    if count % 2:
        axes[-1, -1].remove()
    return figure, axes


def _control(labels: str, update: str) -> str:
    changed = {"labels": labels, "update": update}
    changed = {name: value for name, value in changed.items() if value != CHOICES[name][0]}
    return setting_label(**changed) or "as it is"


def _rate(optimizer: str, lr: float) -> str:
    return setting_label(optimizer=optimizer, lr=lr)


def _refuse_other_differences(runs: Sequence[Trajectory], fields: Collection[str]) -> None:
    if others := sorted(set(varying(runs)) - set(fields)):
        known = ", ".join(sorted(fields))
        raise ValueError(f"the runs differ in {', '.join(others)}; this figure tells apart only {known}")


def _ends_and_starts(runs: Sequence[Trajectory], fields: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one row per run: the last step of the runs that did not diverge, and the start of all runs."""
    table = tidy(runs, [*fields, "steps"])
    whole = np.array([run.diverged_at is None for run in runs for _ in run.metrics.index])
    return table.loc[whole & (table["step"] == table["steps"])], table.loc[table["step"] == 0]


def _of_scale(table: pd.DataFrame, metric: str, scale: str) -> pd.DataFrame:
    if metric in _ON_SCALE:
        return table.loc[table["feature_scale"] == scale]
    return table.drop_duplicates(["optimizer", "lr", "seed"])


def _occurring(field: str, runs: Sequence[Trajectory]) -> list[str]:
    """List the choices of a field that occur, in the order of the configuration."""
    given = {getattr(run.config, field) for run in runs}
    return [choice for choice in CHOICES[field] if choice in given]


def _plain_log(ax: Axes) -> None:
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _note_diverged(figure: Figure, runs: Sequence[Trajectory]) -> None:
    if count := sum(run.diverged_at is not None for run in runs):
        figure.supxlabel(f"{count} of {len(runs)} runs diverged and are not drawn to the end", fontsize=9.5)
