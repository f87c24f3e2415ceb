"""Whole figures of sweeps: runs in, Figure out.

They take means over seeds and compute nothing else.  A line is the mean over the seeds, a faint dot
one seed.  `FIGURES` names them as the presets of `htlib.experiments` do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from htlib.config import CHOICES, ExperimentConfig
from htlib.overlap_figures import overlap_maps, subspace_overlaps
from htlib.plotting import (
    GREY,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    against_rate,
    looks_in_turn,
    style,
    trajectory,
)
from htlib.records import Trajectory, tidy

_WIDTH = 8.0  # inches: two columns that can still be read on a phone
_SCALE_LINES = {"paper": "-", "released-code": "--"}
_ON_SCALE = {"kta", "test_loss", "ridge_train_loss"}  # what the feature scale changes
_SYMBOLS = {
    "lr": r"$\eta$",
    "n": "$n$",
    "d": "$d$",
    "h": "$h$",
    "ridge_lambda": r"$\lambda$",
    "noise_std": r"$\varsigma$",
    "lr_decay": r"$\gamma$",
    "adam_eps": r"$\epsilon$",
}
_CONTROLS = {  # (labels, update), from top to bottom
    ("real", "full"): "as it is",
    ("centred", "full"): "labels: centred",
    ("shuffled", "full"): "labels: shuffled",
    ("noise", "full"): "labels: pure noise",
    ("real", "no-top"): "update: top removed",
    ("real", "shuffled"): "update: shuffled",
}


def draw(name: str, runs: Sequence[Trajectory]) -> Figure:
    """Draw a figure by its name.

    Parameters
    ----------
    name : str
        One of `FIGURES`.
    runs : sequence of Trajectory

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        For another name, or if the figure cannot show these runs.
    """
    if name not in FIGURES:
        raise ValueError(f"figure must be one of {', '.join(FIGURES)}; got {name!r}")
    return FIGURES[name](runs)


def rate_map(runs: Sequence[Trajectory]) -> Figure:
    """Measures after the last step against the learning rate, a curve per optimizer.

    Kernel-target alignment and test loss have a curve per feature scale.  Dotted: the start.
    A cross on the axis marks a rate at which a run diverged; it has no mean then.

    Parameters
    ----------
    runs : sequence of Trajectory
        They may differ in optimizer, rate, seed and feature scale.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run, or the runs differ in something else, over which a mean would hide it.
    """
    _check(runs, {"optimizer", "lr", "feature_scale"})
    ends, starts = _ends(runs, ["optimizer", "lr", "feature_scale"])
    failed = {(run.config.optimizer, run.config.lr) for run in runs if run.diverged_at is not None}
    scales = _present(run.config.feature_scale for run in runs)
    metrics = ("spectral_norm", "alignment", "alpha_hill", "alpha_ks", "kta", "test_loss")
    with plt.rc_context(style()):
        figure, axes = plt.subplots(3, 2, figsize=(_WIDTH, 9.4), sharex=True)
        for ax, metric in zip(axes.flat, metrics, strict=True):
            for scale in scales if metric in _ON_SCALE else scales[:1]:
                # nothing but the probes knows the scale: the other curves take each run once
                at, begin = (_of_scale(table, metric, scale) for table in (ends, starts))
                for optimizer, group in at.groupby("optimizer"):
                    look = {"marker": OPTIMIZER_MARKERS[str(optimizer)], "linestyle": _SCALE_LINES[scale]}
                    against_rate(group, metric, ax=ax, **look)
                ax.axhline(begin[metric].mean(), color=GREY, ls=":", lw=1.4, zorder=0)
            for optimizer, lr in failed:
                ax.plot(lr, 0.02, "x", color=OPTIMIZER_COLORS[optimizer], transform=ax.get_xaxis_transform())
            ax.set(
                xscale="log",
                xlabel="",
                ylabel=_short(metric),
                yscale="log" if metric in {"spectral_norm", "alpha_ks"} else "linear",
            )
        axes[0, 1].set_ylim(bottom=0)
        _plain_log(axes[1, 1])
        for ax in axes[-1]:
            ax.set_xlabel(LABELS["lr"])
            ax.xaxis.set_minor_locator(NullLocator())
        optimizers = _present(run.config.optimizer for run in runs)
        handles = [
            Line2D(
                [],
                [],
                color=OPTIMIZER_COLORS[name],
                marker=OPTIMIZER_MARKERS[name],
                label=OPTIMIZER_NAMES[name],
            )
            for name in optimizers
        ]
        handles += [
            Line2D([], [], color=GREY, ls=_SCALE_LINES[name], label=f"{name} scale") for name in scales
        ]
        handles.append(Line2D([], [], color=GREY, ls=":", label="start"))
        if failed:
            handles.append(Line2D([], [], color=GREY, ls="", marker="x", label="diverged"))
        figure.legend(handles=handles, loc="outside upper center", ncols=min(5, len(handles)))
        plt.close(figure)
    return figure


def along_steps(runs: Sequence[Trajectory], *, log_steps: bool = False) -> Figure:
    """Measures along the steps, a curve per setting.

    Settings are what differs among the runs, but for seed and feature scale.  Losses and kernel-target
    alignment have a panel per feature scale; with a single one the spectral norm is shown too.

    Parameters
    ----------
    runs : sequence of Trajectory
    log_steps : bool
        Logarithmic steps, linear up to the first one measured, for long runs.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no run.
    """
    _check(runs, None)
    settings = _settings(runs)
    scales = _present(run.config.feature_scale for run in runs)
    panels = [("alpha_hill", scales[0]), ("alignment", scales[0])]
    panels += [(metric, scale) for metric in ("test_loss", "ridge_train_loss", "kta") for scale in scales]
    if len(scales) == 1:
        panels.append(("spectral_norm", scales[0]))
    steps = [int(step) for run in runs for step in run.metrics.index if step > 0]
    with plt.rc_context(style()):
        figure, axes = plt.subplots(
            len(panels) // 2, 2, figsize=(_WIDTH, 0.9 + 1.42 * len(panels)), sharex=True
        )
        for ax, (metric, scale) in zip(axes.flat, panels, strict=True):
            looks = looks_in_turn()
            for label, group in settings.items():
                look = next(looks)
                one = [run for run in group if run.config.feature_scale == scale]
                if one:
                    trajectory(one, metric, ax=ax, label=label, **look)
            ax.set(xlabel="", ylabel=_short(metric))
            if metric in _ON_SCALE:
                ax.set_title(f"{scale} scale", fontsize=10.5)
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            if metric == "spectral_norm":
                ax.set_yscale("log")
                _plain_log(ax)
            if log_steps and steps:
                ax.set_xscale("symlog", linthresh=min(steps))
                ax.xaxis.set_major_formatter("{x:g}")
        axes[0, 1].set_ylim(bottom=0)
        for ax in axes[-1]:
            ax.set_xlabel(LABELS["step"])
        handles = [
            Line2D([], [], label=label, **look)
            for label, look in zip(settings, looks_in_turn(), strict=False)
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
        _note_diverged(figure, runs)
        plt.close(figure)
    return figure


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
    _check(runs, set(fields))
    ends, starts = _ends(runs, fields)
    pairs = {(run.config.labels, run.config.update) for run in runs}
    controls = [pair for pair in _CONTROLS if pair in pairs]
    controls += sorted(pairs - set(controls))
    rates = list(dict.fromkeys((run.config.optimizer, run.config.lr) for run in runs))
    looks = dict(zip(rates, looks_in_turn(), strict=False))
    height = 0.24 * len(rates) + 0.36
    with plt.rc_context(style()):
        figure, axes = plt.subplots(
            1, 2, figsize=(_WIDTH, 1.6 + height * len(controls)), sharey=True, squeeze=False
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
            ax.set_xlabel(_short(metric))
        axes[0, 1].set_xlim(left=0)
        axes[0, 0].set(
            yticks=range(len(controls)),
            yticklabels=[_CONTROLS.get(pair, f"labels: {pair[0]}, update: {pair[1]}") for pair in controls],
            ylim=(len(controls) - 0.5, -0.5),
        )
        handles = [
            Line2D([], [], ls="", marker=look["marker"], color=look["color"], mfc="none", label=_rate(*rate))
            for rate, look in looks.items()
        ]
        handles.append(Line2D([], [], color=GREY, ls=":", label="start"))
        figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
        _note_diverged(figure, runs)
        plt.close(figure)
    return figure


FIGURES: dict[str, Callable[[Sequence[Trajectory]], Figure]] = {
    "rate_map": rate_map,
    "along_steps": along_steps,
    "tail_controls": tail_controls,
    "overlap_maps": overlap_maps,
    "subspace_overlaps": subspace_overlaps,
}


def _check(runs: Sequence[Trajectory], fields: set[str] | None) -> None:
    if not runs:
        raise ValueError("no runs to draw")
    if fields is not None and (others := set(_varying(runs)) - fields):
        raise ValueError(
            f"the runs differ in {', '.join(sorted(others))}; this figure tells apart "
            f"{', '.join(sorted(fields))} alone"
        )


def _varying(runs: Sequence[Trajectory]) -> list[str]:
    """Fields other than the seed in which the runs differ; optimizer and rate come first."""
    names = [field.name for field in dataclasses.fields(ExperimentConfig)]
    names = sorted(names, key=lambda name: name not in {"optimizer", "lr"})
    return [name for name in names if name != "seed" and len({getattr(r.config, name) for r in runs}) > 1]


def _settings(runs: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """Runs by the label of their setting, in order of appearance."""
    names = [name for name in _varying(runs) if name != "feature_scale"] or ["optimizer", "lr"]
    settings: dict[str, list[Trajectory]] = {}
    for run in runs:
        label = ", ".join(_say(name, getattr(run.config, name)) for name in names)
        settings.setdefault(label, []).append(run)
    return settings


def _say(name: str, value: Any) -> str:
    if name == "optimizer":
        return OPTIMIZER_NAMES[value]
    if name == "normalize_weights":
        return "normalised" if value else "not normalised"
    if name == "lr_decay" and value is None:
        return "constant rate"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{_SYMBOLS.get(name, name)} = {shown}"


def _rate(optimizer: str, lr: float) -> str:
    return f"{_say('optimizer', optimizer)}, {_say('lr', lr)}"


def _ends(runs: Sequence[Trajectory], fields: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per run for the last step of those that did not diverge, and for the start of all."""
    whole = [run for run in runs if run.diverged_at is None]
    ends = tidy(whole, [*fields, "steps"]) if whole else tidy(runs, [*fields, "steps"]).head(0)
    starts = tidy(runs, fields)
    return ends.loc[ends["step"] == ends["steps"]], starts.loc[starts["step"] == 0]


def _of_scale(table: pd.DataFrame, metric: str, scale: str) -> pd.DataFrame:
    if metric in _ON_SCALE:
        return table.loc[table["feature_scale"] == scale]
    return table.drop_duplicates(["optimizer", "lr", "seed"])


def _present(values: Any) -> list[str]:
    """Those of the known choices that occur, in the order of the configuration."""
    given = set(values)
    return [value for name in ("optimizer", "feature_scale") for value in CHOICES[name] if value in given]


def _short(metric: str) -> str:
    return {"alignment": "alignment with the teacher"}.get(metric, LABELS[metric])


def _plain_log(ax: Axes) -> None:
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _note_diverged(figure: Figure, runs: Sequence[Trajectory]) -> None:
    if count := sum(run.diverged_at is not None for run in runs):
        figure.supxlabel(f"{count} of {len(runs)} runs diverged and are not drawn to the end", fontsize=9.5)
