"""Effects: the answers of an experiment's runs to a question, as numbers per seed.

An effect is a function under `effect`.  It takes the runs and keyword arguments, and returns an (n_seeds, k)
array with one row per seed in ascending order; k is 1 except in `prediction_error`, `change_at` and `onset`.
Seeds are paired: a difference is taken within a seed.  The claims of the book (`htlib.ledger.claims`) name
these functions and give their arguments.  An argument is a *setting*, which picks runs
(`htlib.ledger.settings`), a text or a number.

A measure is a column of a run's metrics or a member of `htlib.ledger.measures.MEASURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from htlib.ledger.measures import read
from htlib.ledger.settings import Setting, chosen, grouped, law_of, matching, shape_of, step_of
from htlib.spectra.phases import phase
from htlib.student.config import ExperimentConfig
from htlib.student.probes import SHOWN
from htlib.student.run import Trajectory
from htlib.theory.stability import drawn_edge

Array = NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Array])

EFFECTS: dict[str, Callable[..., Array]] = {}


def effect(function: F) -> F:
    """Register a function as an effect, so that the checks of a ledger can name it."""
    EFFECTS[function.__name__] = function
    return function


@effect
def value(runs: Sequence[Trajectory], *, measure: str, of: Setting) -> Array:
    """Return a measure of a setting."""
    return _measured(runs, measure, of)[:, None]


@effect
def difference(runs: Sequence[Trajectory], *, measure: str, of: Setting, minus: Setting) -> Array:
    """Return a measure of one setting, minus that of another."""
    return (_measured(runs, measure, of) - _measured(runs, measure, minus))[:, None]


@effect
def share(runs: Sequence[Trajectory], *, measure: str, of: Setting, whole: Setting) -> Array:
    """Return the change of a measure from the start in one setting, divided by its change in another.

    The share is 1 if both change alike.
    """
    return (_change(runs, measure, of) / _change(runs, measure, whole))[:, None]


@effect
def change_of_change(runs: Sequence[Trajectory], *, measure: str, of: Setting, minus: Setting) -> Array:
    """Return the change of a measure from the start in one setting, minus its change in another."""
    return (_change(runs, measure, of) - _change(runs, measure, minus))[:, None]


@effect
def critical_rate(runs: Sequence[Trajectory], *, of: Setting, over: Setting | str) -> Array:
    """Return the rate at which the alignment first crosses half its peak, over that of another setting.

    With over = "prediction", the other rate is that of the predicted alignment at the same rates.
    """
    curves = grouped(runs, of, "lr")
    if over == "prediction":
        law = law_of(curves[0][0])  # the same for all seeds
        others = half_peak_rate([(run.config.lr, law(run.config.lr).alignment) for run in curves[0]])
    elif isinstance(over, str):
        raise ValueError(f"over must be 'prediction' or a setting; got {over!r}")
    else:
        others = _crossings(grouped(runs, over, "lr"))
    return (_crossings(curves) / others)[:, None]


@effect
def critical_slope(runs: Sequence[Trajectory], *, of: Setting) -> Array:
    """Fit the exponent k of the critical rate ~ d^k over the shapes that were run."""
    sizes = sorted({run.config.d for run in runs})
    if len(sizes) < 2:
        raise ValueError("critical_slope needs runs at two or more d")
    logs = np.log([_crossings(grouped(runs, {**of, "d": d}, "lr")) for d in sizes])  # (n_sizes, n_seeds)
    return np.polyfit(np.log(sizes), logs, 1)[0][:, None]


@effect
def prediction_error(
    runs: Sequence[Trajectory], *, measure: str, of: Setting, beyond: float = 0.0, upto: float = math.inf
) -> Array:
    """Return measured minus predicted values after one step, one column per shape and rate of the setting.

    The error of the spectral norm is relative, that of the alignment is absolute.  Only rates from `beyond`
    to `upto` times the predicted critical rate count.  The prediction uses the |a| that the seed has drawn.
    """
    if measure not in ("spectral_norm", "alignment"):
        raise ValueError(f"measure must be spectral_norm or alignment, which are predicted; got {measure!r}")
    columns: list[Array] = []
    shapes = {shape_of(run) for run in matching(runs, of, "lr")}
    for n, d, h in sorted(shapes):
        curves = grouped(runs, {**of, "n": n, "d": d, "h": h}, "lr")
        laws = [law_of(curve[0], drawn=True) for curve in curves]
        critical = law_of(curves[0][0]).critical_lr
        for at_rate in zip(*curves, strict=True):
            lr = at_rate[0].config.lr
            if beyond <= lr / critical <= upto:
                expected = np.array([getattr(law(lr), measure) for law in laws])
                error = np.array([run.metrics[measure][1] for run in at_rate]) - expected
                columns.append(error / expected if measure == "spectral_norm" else error)
    if not columns:
        raise ValueError(f"no rate lies between {beyond:g} and {upto:g} times the critical one")
    return np.stack(columns, axis=1)


@effect
def rank_correlation(runs: Sequence[Trajectory], *, x: str, y: str, of: Setting, along: str) -> Array:
    """Compute Spearman's correlation of two measures along the steps (from the first on) or along a field.

    If a heavier tail comes with a lower loss, x = "alpha_hill" and y = "test_loss" give a positive value.
    """
    for name in (x, y):
        if name not in SHOWN:
            raise ValueError(f"x and y must be one of {', '.join(SHOWN)}; got {name!r}")
    if along == "step":
        tables = [run.metrics.loc[1:] for run in chosen(runs, of)]
    else:
        tables = [pd.concat([r.metrics.tail(1) for r in curve]) for curve in grouped(runs, of, along)]
    pairs = [(table[x], table[y]) for table in tables]
    # Spearman's coefficient is that of Pearson for the ranks
    return np.array([[np.corrcoef(rankdata(left), rankdata(right))[0, 1]] for left, right in pairs])


@effect
def change_at(runs: Sequence[Trajectory], *, measure: str, where: Setting, step: float, at: float) -> Array:
    """Return the change of a measure from the start at a multiple of the edge of stability, per setting.

    There is one column for each setting among the runs that have the values of `where`; other fields are
    free.  The edge is the predicted critical rate of gradient descent with the |a| that the seed has drawn
    (`htlib.predict_sharpness`), and the change is interpolated linearly in the log rate.
    """
    columns: list[list[float]] = []
    for curves in _settings(runs, where):
        columns.append([])
        for curve in curves:
            rates, changes = _againstdrawn_edge(curve, measure, int(step))
            if not rates[0] <= math.log(at) <= rates[-1]:
                raise ValueError(
                    f"at = {at:g} lies outside the rates of seed {curve[0].config.seed}, "
                    f"{math.exp(rates[0]):.3g} to {math.exp(rates[-1]):.3g} times the edge: run more"
                )
            columns[-1].append(float(np.interp(math.log(at), rates, changes)))
    return np.array(columns).T


@effect
def onset(
    runs: Sequence[Trajectory],
    *,
    measure: str,
    where: Setting,
    step: float,
    fall: float,
    over: str = "stability",
) -> Array:
    """Return the rate at which a measure has fallen by some amount, over a critical rate, per setting.

    Settings and the edge of stability are those of `change_at`; over = "spike" is the rate at which one step
    makes a spike.  A measure that has fallen further at the smallest rate, or not so far at the largest,
    counts as that rate.
    """
    if over not in ("stability", "spike"):
        raise ValueError(f"over must be 'stability' or 'spike'; got {over!r}")
    columns: list[list[float]] = []
    for curves in _settings(runs, where):
        columns.append([])
        for curve in curves:
            rates, changes = _againstdrawn_edge(curve, measure, int(step))
            rate = _first_below(rates, changes, -fall)
            if over == "spike":
                first = curve[0].config
                rate += math.log(drawn_edge(first) / law_of(curve[0], drawn=True).critical_lr)
            columns[-1].append(math.exp(rate))
    return np.array(columns).T


@effect
def onset_spread(
    runs: Sequence[Trajectory], *, measure: str, where: Setting, step: float, fall: float, over: str
) -> Array:
    """Return the largest `onset` of all settings over the smallest."""
    found = onset(runs, measure=measure, where=where, step=step, fall=fall, over=over)
    return (found.max(axis=1) / found.min(axis=1))[:, None]


@effect
def onset_over_overshoot(
    runs: Sequence[Trajectory], *, measure: str, where: Setting, step: float, fall: float
) -> Array:
    """Return the rate at which a measure has fallen by some amount, over that of an overshooting first step.

    The first step overshoots if the training loss after it exceeds that before.  Both rates are interpolated
    among the runs; those of the first step are runs with ``steps = 1``.
    """
    late = _settings([run for run in runs if run.config.steps > 1], where)
    early = _settings([run for run in runs if run.config.steps == 1], where)
    columns: list[list[float]] = []
    for curves, firsts in zip(late, early, strict=True):
        columns.append([])
        for curve, first in zip(curves, firsts, strict=True):
            rates = np.log([run.config.lr for run in curve])
            changes = np.array([read(r, measure, int(step)) - read(r, measure, 0) for r in curve])
            losses = np.array([run.metrics.train_loss[1] / run.metrics.train_loss[0] for run in first])
            overshoot = _first_below(np.log([run.config.lr for run in first]), -np.log(losses), 0.0)
            columns[-1].append(math.exp(_first_below(rates, changes, -fall) - overshoot))
    return np.array(columns).T


@effect
def sharpness_error(runs: Sequence[Trajectory], *, where: Setting) -> Array:
    """Return the relative error of the predicted edge of stability at the start, one column per setting.

    The prediction is that of `htlib.predict_sharpness` with the readout that the seed has drawn; the measured
    edge is 2 over the largest eigenvalue of the whole Hessian.
    """
    return np.array(
        [
            [drawn_edge(run.config) / (run.config.lr / run.metrics.sharpness[0]) - 1 for (run,) in curves]
            for curves in _settings(runs, where)
        ]
    ).T


@effect
def ridge_risk_error(
    runs: Sequence[Trajectory], *, where: Setting, ridge_lambda: float | str, upto: float = math.inf
) -> Array:
    """Return the relative error of the predicted test loss after one step and refit, one column per setting.

    The ridge parameter is a number, or "best": then the lowest predicted loss is compared with that at the
    parameter of lowest mean test loss among those that were run.  Only rates up to `upto` times the predicted
    critical rate count.  The prediction (`htlib.OneStepLaw.ridge_risk`) uses the |a| that the seed has drawn.
    """
    if isinstance(ridge_lambda, str) and ridge_lambda != "best":
        raise ValueError(f"ridge_lambda must be a number or 'best'; got {ridge_lambda!r}")
    columns: list[Array] = []
    found: dict[ExperimentConfig, list[Trajectory]] = {}
    for run in runs:
        if all(getattr(run.config, name) == wish for name, wish in where.items()):
            plain = run.config.replace(seed=0, ridge_lambda=ExperimentConfig.ridge_lambda)
            found.setdefault(plain, []).append(run)
    for setting, group in found.items():
        if setting.lr > upto * law_of(group[0], labels="real").critical_lr:
            continue
        same = {"lr": setting.lr, "optimizer": setting.optimizer, "activation": setting.activation}
        same |= {"feature_scale": setting.feature_scale, "labels": setting.labels}
        measured = _measured(group, "test_loss", {**same, "ridge_lambda": ridge_lambda})
        first = {run.config.seed: run for run in group}
        risks = [
            law_of(first[seed], drawn=True).ridge_risk(setting.lr, setting.feature_scale)
            for seed in sorted(first)
        ]
        expected = [risk.best if ridge_lambda == "best" else float(risk(ridge_lambda)) for risk in risks]
        columns.append(measured / np.array(expected) - 1)
    if not columns:
        raise ValueError(f"where = {dict(where)} and upto = {upto:g} pick no run")
    return np.stack(columns, axis=1)


@effect
def inside_minus_outside(
    runs: Sequence[Trajectory], *, measure: str, x: str, low: float, high: float, of: Setting, along: str
) -> Array:
    """Return the mean of a measure where another, x, lies between two numbers, minus its mean where not.

    Runs differ in the field `along`, and are looked at at their last step.  A seed that has runs only inside
    or only outside is a ValueError.
    """
    rows: list[list[float]] = []
    for curve in grouped(runs, of, along):
        inside = [low < read(run, x, run.config.steps) < high for run in curve]
        values = np.array([read(run, measure, run.config.steps) for run in curve])
        if all(inside) or not any(inside):
            raise ValueError(
                f"{x} must lie in ({low:g}, {high:g}) for some runs of a seed and not for all; seed "
                f"{curve[0].config.seed} has {'all' if all(inside) else 'none'} there"
            )
        rows.append([float(values[inside].mean() - values[~np.array(inside)].mean())])
    return np.array(rows)


@effect
def phases_seen(runs: Sequence[Trajectory], *, where: Setting) -> Array:
    """Return the number of phases (`htlib.spectra.phases`) that occur at any rate and step, per seed."""
    seen: dict[int, set[str]] = {}
    for run in runs:
        if all(getattr(run.config, name) == wish for name, wish in where.items()):
            shape = run.config.h, run.config.d
            seen.setdefault(run.config.seed, set()).update(
                phase(run.esd(k), *shape) for k in run.metrics.index
            )
    if not seen:
        raise ValueError(f"where = {dict(where)} picks no run")
    return np.array([[float(len(seen[seed]))] for seed in sorted(seen)])


def half_peak_rate(curve: Sequence[tuple[float, float]]) -> float:
    """Find the rate at which a curve first crosses half its peak, by interpolation linear in the log rate.

    The curve consists of points (rate, height), ascending in the rate.  A first point above half the peak is
    a ValueError.

    Examples
    --------
    >>> half_peak_rate([(1.0, 0.0), (4.0, 0.2), (16.0, 0.4)])
    4.0
    """
    rates, heights = np.log([lr for lr, _ in curve]), np.array([height for _, height in curve])
    half = heights.max() / 2
    k = int((heights > half).argmax())
    if k == 0:
        raise ValueError(f"the alignment exceeds half its peak at the smallest rate already, {curve[0][0]:g}")
    part = (half - heights[k - 1]) / (heights[k] - heights[k - 1])
    return float(np.exp(rates[k - 1] + part * (rates[k] - rates[k - 1])))


def _settings(runs: Sequence[Trajectory], where: Setting) -> list[list[list[Trajectory]]]:
    """Group runs by setting, in their order, and by seed; each group is a curve along the rate."""
    found: dict[ExperimentConfig, dict[int, list[Trajectory]]] = {}
    for run in runs:
        if all(getattr(run.config, name) == wish for name, wish in where.items()):
            setting = found.setdefault(run.config.replace(lr=1.0, seed=0), {})
            setting.setdefault(run.config.seed, []).append(run)
    if not found:
        raise ValueError(f"where = {dict(where)} picks no run")
    return [
        [sorted(seeds[seed], key=lambda run: run.config.lr) for seed in sorted(seeds)]
        for seeds in found.values()
    ]


def _againstdrawn_edge(curve: Sequence[Trajectory], measure: str, step: int) -> tuple[Array, Array]:
    """Return the logs of a curve's rates over the edge of stability, and the changes of a measure."""
    rates = np.log([run.config.lr / drawn_edge(run.config) for run in curve])
    changes = [read(run, measure, step_of(run, {"step": step})) - read(run, measure, 0) for run in curve]
    return rates, np.array(changes)


def _first_below(x: Array, y: Array, level: float) -> float:
    """Return the x at which y first falls below a level, by linear interpolation; else an end of x."""
    k = int((y < level).argmax())
    if not y[k] < level:
        return float(x[-1])
    return float(x[0] if k == 0 else np.interp(-level, [-y[k - 1], -y[k]], [x[k - 1], x[k]]))


def _change(runs: Sequence[Trajectory], measure: str, setting: Setting) -> Array:
    """Compute the (n_seeds,) changes of a measure from the start."""
    return _measured(runs, measure, setting) - _measured(runs, measure, {**setting, "step": 0})


def _measured(runs: Sequence[Trajectory], name: str, setting: Setting) -> Array:
    """Compute the (n_seeds,) values of a measure."""
    return np.array([read(run, name, step_of(run, setting)) for run in chosen(runs, setting)])


def _crossings(curves: list[list[Trajectory]]) -> Array:
    return np.array(
        [half_peak_rate([(r.config.lr, r.metrics.alignment[1]) for r in curve]) for curve in curves]
    )
