"""What whole figures share: which runs go together, and how settings and measures are said."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from htlib.figures.style import LABELS, OPTIMIZER_NAMES
from htlib.student.config import CHOICES, ExperimentConfig
from htlib.student.run import Trajectory, tidy

WIDTH = 8.0  # inches: two columns that can still be read on a phone
ON_SCALE = {"kta", "test_loss", "ridge_train_loss"}  # what the feature scale changes
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


def check_runs(runs: Sequence[Trajectory], fields: set[str] | None) -> None:
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


def settings_of(runs: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """Runs by the label of their setting, in order of appearance."""
    names = [name for name in _varying(runs) if name != "feature_scale"] or ["optimizer", "lr"]
    settings: dict[str, list[Trajectory]] = {}
    for run in runs:
        label = ", ".join(say(name, getattr(run.config, name)) for name in names)
        settings.setdefault(label, []).append(run)
    return settings


def say(name: str, value: Any) -> str:
    if name == "optimizer":
        return OPTIMIZER_NAMES[value]
    if name == "normalize_weights":
        return "normalised" if value else "not normalised"
    if name == "lr_decay" and value is None:
        return "constant rate"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{_SYMBOLS.get(name, name)} = {shown}"


def say_rate(optimizer: str, lr: float) -> str:
    return f"{say('optimizer', optimizer)}, {say('lr', lr)}"


def ends_and_starts(runs: Sequence[Trajectory], fields: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per run for the last step of those that did not diverge, and for the start of all."""
    whole = [run for run in runs if run.diverged_at is None]
    ends = tidy(whole, [*fields, "steps"]) if whole else tidy(runs, [*fields, "steps"]).head(0)
    starts = tidy(runs, fields)
    return ends.loc[ends["step"] == ends["steps"]], starts.loc[starts["step"] == 0]


def of_scale(table: pd.DataFrame, metric: str, scale: str) -> pd.DataFrame:
    if metric in ON_SCALE:
        return table.loc[table["feature_scale"] == scale]
    return table.drop_duplicates(["optimizer", "lr", "seed"])


def present(values: Any) -> list[str]:
    """Those of the known choices that occur, in the order of the configuration."""
    given = set(values)
    return [value for name in ("optimizer", "feature_scale") for value in CHOICES[name] if value in given]


def short_label(metric: str) -> str:
    return {"alignment": "alignment with the teacher"}.get(metric, LABELS[metric])


def plain_log(ax: Axes) -> None:
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def note_diverged(figure: Figure, runs: Sequence[Trajectory]) -> None:
    if count := sum(run.diverged_at is not None for run in runs):
        figure.supxlabel(f"{count} of {len(runs)} runs diverged and are not drawn to the end", fontsize=9.5)
