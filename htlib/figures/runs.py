"""Whole figures of a run and of sweeps: runs in, Figure out.

They take means over seeds and compute nothing else.  A line is the mean over the seeds, a faint dot
one seed.  `FIGURES` names them as the presets of `htlib.sweeps.presets` do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator

from htlib.figures.controls import tail_controls
from htlib.figures.curves import against_rate, trajectory
from htlib.figures.figure_parts import (
    ON_SCALE,
    WIDTH,
    check_runs,
    ends_and_starts,
    note_diverged,
    of_scale,
    plain_log,
    present,
    settings_of,
    short_label,
)
from htlib.figures.spectra import spectrum
from htlib.figures.style import (
    GREEN,
    GREY,
    LABELS,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    OPTIMIZER_NAMES,
    ORANGE,
    looks_in_turn,
    rc_params,
)
from htlib.figures.vectors import overlap_maps, subspace_overlaps
from htlib.spectra.noise import MarchenkoPastur, largest_eigenvalue_quantile
from htlib.student.run import Trajectory

_SCALE_LINES = {"paper": "-", "released-code": "--"}


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


def overview(run: Trajectory, *, step: int | None = None) -> Figure:
    """One run at a glance: spectrum, alignment, alphas, losses.

    Parameters
    ----------
    run : Trajectory
    step : int, optional
        Step whose spectrum is shown; default the last one measured.

    Returns
    -------
    Figure
    """
    config = run.config
    step = int(run.metrics.index[-1]) if step is None else step
    with plt.rc_context(rc_params()):
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
        trajectory([run], "alpha_ks", label="KS", color=ORANGE, marker="s", linestyle="--", ax=alphas)
        alphas.axhline(
            run.metrics["alpha_hill"].iloc[0], color=GREY, ls=":", lw=1.4, label="Hill at the start"
        )
        alphas.set(ylabel=r"power-law exponent $\alpha$", title="Tail exponents")
        if np.isfinite(
            run.metrics["alpha_ks"].to_numpy()
        ).any():  # fewer than three singular values have no tail
            alphas.set_yscale("log")
            alphas.yaxis.set_major_formatter("{x:g}")
            alphas.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        alphas.legend()
        trajectory([run], "train_loss", label="stage 1, training set", ax=losses)
        who = "student" if config.train_readout else "refit"
        for metric, name, color, marker in (
            ("ridge_train_loss", f"{who}, probe set", GREEN, "^"),
            ("test_loss", f"{who}, test set", ORANGE, "s"),
        ):
            trajectory([run], metric, label=name, color=color, marker=marker, linestyle="--", ax=losses)
        losses.set(ylabel="mean squared error", yscale="log", title="Losses")
        losses.legend()
        for ax in (alignment, alphas, losses):
            ax.axvline(step, color=GREY, lw=0.8, alpha=0.6)
        plt.close(figure)
    return figure


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
    check_runs(runs, {"optimizer", "lr", "feature_scale"})
    ends, starts = ends_and_starts(runs, ["optimizer", "lr", "feature_scale"])
    failed = {(run.config.optimizer, run.config.lr) for run in runs if run.diverged_at is not None}
    scales = present(run.config.feature_scale for run in runs)
    metrics = ("spectral_norm", "alignment", "alpha_hill", "alpha_ks", "kta", "test_loss")
    with plt.rc_context(rc_params()):
        figure, axes = plt.subplots(3, 2, figsize=(WIDTH, 9.4), sharex=True)
        for ax, metric in zip(axes.flat, metrics, strict=True):
            for scale in scales if metric in ON_SCALE else scales[:1]:
                # nothing but the probes knows the scale: the other curves take each run once
                at, begin = (of_scale(table, metric, scale) for table in (ends, starts))
                for optimizer, group in at.groupby("optimizer"):
                    look = {"marker": OPTIMIZER_MARKERS[str(optimizer)], "linestyle": _SCALE_LINES[scale]}
                    against_rate(group, metric, ax=ax, **look)
                ax.axhline(begin[metric].mean(), color=GREY, ls=":", lw=1.4, zorder=0)
            for optimizer, lr in failed:
                ax.plot(lr, 0.02, "x", color=OPTIMIZER_COLORS[optimizer], transform=ax.get_xaxis_transform())
            ax.set(
                xscale="log",
                xlabel="",
                ylabel=short_label(metric),
                yscale="log" if metric in {"spectral_norm", "alpha_ks"} else "linear",
            )
        axes[0, 1].set_ylim(bottom=0)
        plain_log(axes[1, 1])
        for ax in axes[-1]:
            ax.set_xlabel(LABELS["lr"])
            ax.xaxis.set_minor_locator(NullLocator())
        optimizers = present(run.config.optimizer for run in runs)
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
    check_runs(runs, None)
    settings = settings_of(runs)
    scales = present(run.config.feature_scale for run in runs)
    panels = [("alpha_hill", scales[0]), ("alignment", scales[0])]
    panels += [(metric, scale) for metric in ("test_loss", "ridge_train_loss", "kta") for scale in scales]
    if len(scales) == 1:
        panels.append(("spectral_norm", scales[0]))
    steps = [int(step) for run in runs for step in run.metrics.index if step > 0]
    with plt.rc_context(rc_params()):
        figure, axes = plt.subplots(
            len(panels) // 2, 2, figsize=(WIDTH, 0.9 + 1.42 * len(panels)), sharex=True
        )
        for ax, (metric, scale) in zip(axes.flat, panels, strict=True):
            looks = looks_in_turn()
            for label, group in settings.items():
                look = next(looks)
                one = [run for run in group if run.config.feature_scale == scale]
                if one:
                    trajectory(one, metric, ax=ax, label=label, **look)
            ax.set(xlabel="", ylabel=short_label(metric))
            if metric in ON_SCALE:
                ax.set_title(f"{scale} scale", fontsize=10.5)
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            if metric == "spectral_norm":
                ax.set_yscale("log")
                plain_log(ax)
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
        note_diverged(figure, runs)
        plt.close(figure)
    return figure


FIGURES: dict[str, Callable[[Sequence[Trajectory]], Figure]] = {
    "rate_map": rate_map,
    "along_steps": along_steps,
    "tail_controls": tail_controls,
    "overlap_maps": overlap_maps,
    "subspace_overlaps": subspace_overlaps,
}
