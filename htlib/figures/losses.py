"""Draw what features are worth: test losses, at both feature scales and at fixed and chosen ridge parameters.

A ridge parameter is chosen for each run and step by generalised cross-validation, from the probe sample.  A
gain is the test loss at the start minus that after training, of the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from htlib.figures.curves import against_rate, seeds, strips
from htlib.figures.labels import setting_label
from htlib.figures.runs import figure_of_runs
from htlib.figures.style import (
    BLACK,
    GREEN,
    GREY,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_NAMES,
    PINK,
    SCALE_LOOKS,
    WIDTH,
    in_book_style,
    legend_key,
    looks_in_turn,
)
from htlib.ledger.effects import rank_correlation
from htlib.student.run import Trajectory, tidy
from htlib.theory.one_step import OneStepLaw

Array = NDArray[np.float64]

FIXED = 0.01  # the ridge parameter of the paper
_DASHES = {"paper": "-", "released-code": "--"}
_MARKS = {"paper": "x", "released-code": "+"}  # of the closed form
_CHOICES = {"fixed": rf"$\lambda$ = {FIXED:g}", "chosen": r"$\lambda$ chosen for each run"}


def ridge_losses(runs: Sequence[Trajectory]) -> pd.DataFrame:
    """Make one row per run, step and feature scale, with the loss at a fixed and at the chosen parameter.

    Parameters
    ----------
    runs : sequence of Trajectory
        Read along a path of ridge parameters that holds 0.01, as from `Experiment.trainings`.

    Returns
    -------
    DataFrame
        Columns optimizer, lr, lr_decay, labels, seed, step, scale, fixed, chosen, kta, alpha_hill.
    """
    rows: list[dict[str, Any]] = []
    for run in runs:
        config, best = run.config, run.best_readings()
        names = ("optimizer", "lr", "lr_decay", "labels", "seed")
        for step, scale in best.index:
            at = run.read(scale, FIXED).metrics.loc[step]
            rows.append(
                {
                    **{name: getattr(config, name) for name in names},
                    "step": step,
                    "scale": scale,
                    "fixed": at["test_loss"],
                    "chosen": best["test_loss"][step, scale],
                    "kta": at["kta"],
                    "alpha_hill": at["alpha_hill"],
                }
            )
    return pd.DataFrame(rows)


@in_book_style
def ridge_paths(runs: Sequence[Trajectory]) -> Figure:
    """Draw the test loss at the start against the ridge parameter, one curve per feature scale.

    A star is the mean of the parameters that generalised cross-validation chooses.

    Parameters
    ----------
    runs : sequence of Trajectory
        Read along a path of ridge parameters.

    Returns
    -------
    Figure
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    readings = pd.concat([run.readings.assign(seed=run.config.seed) for run in runs], ignore_index=True)
    readings = readings.loc[readings["step"] == 0]
    for scale, group in readings.groupby("feature_scale"):
        look, label = SCALE_LOOKS[str(scale)], setting_label(feature_scale=scale)
        losses = group.pivot_table(index="seed", columns="ridge_lambda", values="test_loss")
        seeds(losses.columns, losses, label=label, ax=ax, **look)
        best = group.loc[group.groupby("seed")["gcv"].idxmin()]
        point = best[["ridge_lambda", "test_loss"]].mean()
        ax.plot(*point, "*", ms=17, color=look["color"], mec="white", zorder=5)
    ax.axvline(FIXED, color=GREY, ls=":")
    ax.text(1.15 * FIXED, 0.6, rf"$\lambda$ = {FIXED:g}", color=GREY, transform=ax.get_xaxis_transform())
    ax.set(xscale="log", xlabel=r"ridge parameter $\lambda$", ylabel=LABELS["test_loss"])
    ax.legend()
    return figure


@in_book_style
def worth(table: pd.DataFrame, predicted: pd.DataFrame | None = None) -> Figure:
    """Draw the gain of one step against the rate, at a fixed and at the chosen ridge parameter.

    Parameters
    ----------
    table : DataFrame
        As of `gains`, with the columns fixed and chosen.
    predicted : DataFrame, optional
        As of `predicted_gains`: x at the paper's feature scale and + at the released code's.

    Returns
    -------
    Figure
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.0))
    for ax, (choice, title) in zip(axes, _CHOICES.items(), strict=True):
        for scale, group in table.groupby("scale"):
            against_rate(group, choice, linestyle=_DASHES[str(scale)], ax=ax)
        if predicted is not None:
            for scale, group in predicted.groupby("scale"):
                ax.plot(group["lr"], group[choice], _MARKS[str(scale)], color=BLACK, ms=7, zorder=3)
        ax.axhline(0, color=GREY, lw=1)
        ax.set(title=title, ylabel="gain (below 0: worse)" if ax is axes[0] else "")
    axes[0].set_yscale("symlog", linthresh=0.05)
    axes[0].set_yticks([-1, -0.1, -0.05, 0, 0.05])
    axes[0].yaxis.set_major_formatter("{x:g}")
    handles = [legend_key(OPTIMIZER_NAMES[o], color=OPTIMIZER_COLORS[o]) for o in table["optimizer"].unique()]
    handles += [legend_key(setting_label(feature_scale=s), ls=_DASHES[s]) for s in table["scale"].unique()]
    if predicted is not None:
        handles.append(legend_key("closed form (x, +)", color=BLACK, ls="", marker="x"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def gains(losses: pd.DataFrame) -> pd.DataFrame:
    """Turn the losses of `ridge_losses` after training into gains over the start of the same seed."""
    keys = ["seed", "scale"]
    start = losses.loc[losses["step"] == 0].drop_duplicates(keys).set_index(keys)[["fixed", "chosen"]]
    table = losses.loc[losses["step"] > 0].copy()
    before = start.loc[pd.MultiIndex.from_frame(table[keys])].to_numpy()
    table[["fixed", "chosen"]] = before - table[["fixed", "chosen"]].to_numpy()
    return table


def predicted_gains(table: pd.DataFrame, laws: Mapping[str, OneStepLaw]) -> pd.DataFrame:
    """Return the gains of `gains` in closed form: one row per optimizer, feature scale and rate.

    Parameters
    ----------
    table : DataFrame
        As of `gains`.
    laws : mapping of str to OneStepLaw
        By the name of the optimizer.
    """
    keys = ["optimizer", "scale", "lr"]
    rows = []
    for optimizer, scale, lr in table[keys].drop_duplicates().itertuples(index=False):
        before, after = (laws[optimizer].ridge_risk(rate, scale) for rate in (0.0, lr))
        gain = {"fixed": float(before(FIXED)) - float(after(FIXED)), "chosen": before.best - after.best}
        rows.append(dict(zip(keys, (optimizer, scale, lr), strict=True)) | gain)
    return pd.DataFrame(rows)


@in_book_style
def gain_controls(table: pd.DataFrame) -> Figure:
    """Draw gains in rows, one per setting, at a fixed and at the chosen ridge parameter.

    Parameters
    ----------
    table : DataFrame
        As of `gains`, with a column ``setting``.

    Returns
    -------
    Figure
    """
    order = list(dict.fromkeys(table["setting"]))
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.7 + 0.65 * len(order)), sharey=True, sharex=True)
    for ax, (choice, title) in zip(axes, _CHOICES.items(), strict=True):
        strips(table, choice, "setting", by="scale", looks=SCALE_LOOKS, order=order, ax=ax)
        ax.axvline(0, color=GREY, lw=1)
        ax.set(title=title, xlabel="gain over the start")
    axes[0].set_yticks(range(len(order)), [name.replace(", ", ",\n") for name in order])
    axes[0].set_xscale("symlog", linthresh=0.1)
    axes[0].xaxis.set_major_formatter("{x:g}")
    handles = [legend_key(setting_label(feature_scale=s), ls="", **look) for s, look in SCALE_LOOKS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@figure_of_runs
def loss_change(runs: Sequence[Trajectory]) -> Figure:
    """Draw the change of the test loss within a run against the rate, one panel per feature scale.

    Parameters
    ----------
    runs : sequence of Trajectory
        They may differ in optimizer, rate, seed and feature scale.

    Returns
    -------
    Figure
    """
    keys = ["feature_scale", "optimizer", "lr", "seed"]
    table = tidy([run for run in runs if run.diverged_at is None] or runs, keys).set_index([*keys, "step"])
    table = table.loc[~table.index.duplicated(), "test_loss"].unstack("step")
    change = (table.iloc[:, -1] - table[0]).rename("change").reset_index()
    scales = change["feature_scale"].unique()
    figure, axes = plt.subplots(1, len(scales), figsize=(WIDTH, 4.2), sharey=True, squeeze=False)
    for ax, scale in zip(axes.flat, scales, strict=True):
        against_rate(change.loc[change["feature_scale"] == scale], "change", ax=ax)
        ax.axhline(0, color=GREY, lw=1)
        ax.set(title=setting_label(feature_scale=scale), ylabel="change of the test loss")
        ax.label_outer()
    axes[0, 0].set_yscale("symlog", linthresh=0.05, linscale=1.5)
    axes[0, 0].set_yticks([-0.05, 0, 0.05, 0.1, 1])
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    axes[0, 0].legend(loc="upper left")
    return figure


@figure_of_runs
def decays(runs: Sequence[Trajectory]) -> Figure:
    """Draw PL_Alpha_Hill against the step and against the sum of all rates so far, one curve per decay.

    Parameters
    ----------
    runs : sequence of Trajectory
        They may differ in rate, decay of the rate, optimizer and seed; feature scales do not matter.

    Returns
    -------
    Figure
    """
    groups: dict[tuple[str, float, float | None], dict[int, Trajectory]] = {}
    for run in runs:
        config = run.config
        groups.setdefault((config.optimizer, config.lr, config.lr_decay), {})[config.seed] = run
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.0), sharey=True)
    for ((optimizer, lr, decay), group), look in zip(groups.items(), looks_in_turn(), strict=False):
        table = pd.concat([run.metrics["alpha_hill"] for run in group.values()], axis=1).dropna()
        rates = lr * (1.0 if decay is None else decay) ** np.arange(table.index.to_numpy().max(initial=0))
        spent = np.concatenate([[0.0], np.cumsum(rates)])[table.index]
        label = (
            setting_label(lr_decay=decay) if decay is not None else setting_label(optimizer=optimizer, lr=lr)
        )
        for ax, x in zip(axes, (table.index, spent), strict=True):
            seeds(x, table.to_numpy().T, label=label, ax=ax, **look)
    axes[0].set(xlabel=LABELS["step"], ylabel=LABELS["alpha_hill"])
    axes[1].set(xlabel="sum of the rates so far")
    axes[1].legend()
    return figure


def correlations(sweeps: Mapping[str, tuple[str, Sequence[Trajectory]]]) -> pd.DataFrame:
    """Correlate PL_Alpha_Hill with the test loss, along the steps of each setting and across settings.

    Parameters
    ----------
    sweeps : mapping
        Name -> the field in which its runs differ, and the runs.

    Returns
    -------
    DataFrame
        Columns sweep, way, scale, seed, setting and r, Spearman's coefficient.  Along the steps there is a
        row per setting; across settings it is taken after the last step.  There are none where one of the two
        measures does not vary.
    """
    rows: list[dict[str, Any]] = []
    for name, (field, runs) in sweeps.items():
        for scale in dict.fromkeys(run.config.feature_scale for run in runs):
            some = [run for run in runs if run.config.feature_scale == scale and run.diverged_at is None]
            chosen = sorted({run.config.seed for run in some})
            options = {"x": "alpha_hill", "y": "test_loss"}
            at = {"feature_scale": scale}
            cases: dict[tuple[str, Any], Array] = {}
            if field != "ridge_lambda":  # the spectrum does not know it
                cases["across settings", None] = rank_correlation(some, **options, of=at, along=field)
            if min(len(run.metrics) for run in some) > 3:
                for value in dict.fromkeys(getattr(run.config, field) for run in some):
                    of = {**at, field: value}
                    cases["along the steps", value] = rank_correlation(some, **options, of=of, along="step")
            for (way, setting), values in cases.items():
                row = {"sweep": name, "way": way, "scale": scale, "setting": setting}
                rows += [{**row, "seed": s, "r": r} for s, r in zip(chosen, values[:, 0], strict=True)]
    return pd.DataFrame(rows)


@in_book_style
def tail_and_loss(table: pd.DataFrame) -> Figure:
    """Draw the correlations of `correlations`, averaged over settings: one row per sweep, one panel per way.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    Figure
    """
    order = list(dict.fromkeys(table["sweep"]))
    ways = list(dict.fromkeys(table["way"]))
    keys = ["sweep", "way", "scale", "seed"]
    mean = table.groupby(keys, sort=False, as_index=False).agg({"r": "mean"})
    figure, axes = plt.subplots(
        1, len(ways), figsize=(WIDTH, 1.8 + 0.5 * len(order)), sharey=True, squeeze=False
    )
    for ax, way in zip(axes.flat, ways, strict=True):
        strips(mean.loc[mean["way"] == way], "r", "sweep", by="scale", looks=SCALE_LOOKS, order=order, ax=ax)
        ax.axvspan(-1.08, 0, color=PINK, alpha=0.12, lw=0)
        ax.axvspan(0, 1.08, color=GREEN, alpha=0.1, lw=0)
        ax.set(xlim=(-1.08, 1.08), title=way, xlabel="heavier is worse   |   heavier is better")
    handles = [legend_key(setting_label(feature_scale=s), ls="", **look) for s, look in SCALE_LOOKS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
