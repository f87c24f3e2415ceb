"""Effects: what the runs of an experiment say about a question, as numbers per seed.

Every function takes the runs and returns an (n_seeds, k) array, a row per seed in ascending order; k is 1
but for `prediction_error`.  Seeds are paired: a difference is taken within a seed.  The claims of the book
(`htlib.claims`) name these functions and their arguments.

A *setting* picks one run per seed: a mapping from fields of `ExperimentConfig` to values, where numbers may
be "min" or "max" (of what was run), ``lr`` may be "2 x critical" (the run nearest to that multiple of the
predicted critical rate) and ``ridge_lambda`` may be "best" (the lowest mean test loss).  Fields that decide
no size and are not named have their defaults.  ``step`` is the step looked at, by default the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from htlib.comparisons import compare_distributions
from htlib.config import ExperimentConfig
from htlib.heavy_tail import fit_power_law
from htlib.probes import METRICS
from htlib.problem import stream
from htlib.records import Trajectory
from htlib.theory import OneStepLaw, one_step_law

Array = NDArray[np.float64]
Setting = Mapping[str, Any]

# Fields that a setting need not name: sizes, and what only says how the run was measured.
_FREE = frozenset({"n", "d", "h", "n_test", "steps", "probe_every", "seed"})
_DEFAULTS = ExperimentConfig().to_dict()


def value(runs: Sequence[Trajectory], *, measure: str, of: Setting) -> Array:
    """A measure of a setting."""
    return _measured(runs, measure, of)[:, None]


def difference(runs: Sequence[Trajectory], *, measure: str, of: Setting, minus: Setting) -> Array:
    """A measure of one setting minus that of another."""
    return (_measured(runs, measure, of) - _measured(runs, measure, minus))[:, None]


def share(runs: Sequence[Trajectory], *, measure: str, of: Setting, whole: Setting) -> Array:
    """Change of a measure from the start in one setting, over that in another: 1 if they change alike."""
    part, all_of_it = (
        _measured(runs, measure, setting) - _measured(runs, measure, {**setting, "step": 0})
        for setting in (of, whole)
    )
    return (part / all_of_it)[:, None]


def change_of_change(runs: Sequence[Trajectory], *, measure: str, of: Setting, minus: Setting) -> Array:
    """Change of a measure from the start in one setting, minus that in another."""
    changes = [
        _measured(runs, measure, setting) - _measured(runs, measure, {**setting, "step": 0})
        for setting in (of, minus)
    ]
    return (changes[0] - changes[1])[:, None]


def critical_rate(runs: Sequence[Trajectory], *, of: Setting, over: Setting | str) -> Array:
    """Rate at which the alignment first crosses half its peak, over another setting's.

    With over = "prediction", over the same crossing of the predicted alignment at the same rates.
    """
    curves = _grouped(runs, of, "lr")
    if over == "prediction":
        laws = [_law(curve[0]) for curve in curves]
        others = np.array(
            [
                _crossing([(r.config.lr, law(r.config.lr).alignment) for r in curve])
                for law, curve in zip(laws, curves, strict=True)
            ]
        )
    elif isinstance(over, str):
        raise ValueError(f"over must be 'prediction' or a setting; got {over!r}")
    else:
        others = _crossings(_grouped(runs, over, "lr"))
    return (_crossings(curves) / others)[:, None]


def critical_slope(runs: Sequence[Trajectory], *, of: Setting) -> Array:
    """Exponent k of the critical rate ~ d^k, over the shapes that were run."""
    sizes = sorted({run.config.d for run in runs})
    if len(sizes) < 2:
        raise ValueError("critical_slope needs runs at two or more d")
    logs = np.log([_crossings(_grouped(runs, {**of, "d": d}, "lr")) for d in sizes])  # (n_sizes, n_seeds)
    return np.polyfit(np.log(sizes), logs, 1)[0][:, None]


def prediction_error(
    runs: Sequence[Trajectory], *, measure: str, of: Setting, beyond: float = 0.0, upto: float = math.inf
) -> Array:
    """Measured minus predicted after one step, a column per shape and rate.

    Of the spectral norm as a part of it; of the alignment as it is.  Only rates from `beyond` to `upto`
    times the predicted critical one count.  The prediction is that for the |a| which the seed has drawn.
    """
    columns: list[Array] = []
    shapes = {(r.config.n, r.config.d, r.config.h) for curve in _grouped(runs, of, "lr") for r in curve}
    for n, d, h in sorted(shapes):
        curves = _grouped(runs, {**of, "n": n, "d": d, "h": h}, "lr")
        laws = [_law(curve[0], drawn=True) for curve in curves]
        critical = _law(curves[0][0]).critical_lr
        for at_rate in zip(*curves, strict=True):
            lr = at_rate[0].config.lr
            if beyond <= lr / critical <= upto:
                expected = np.array([getattr(law(lr), measure) for law in laws])
                error = np.array([run.metrics[measure][1] for run in at_rate]) - expected
                columns.append(error / expected if measure == "spectral_norm" else error)
    return np.stack(columns, axis=1)


def rank_correlation(runs: Sequence[Trajectory], *, x: str, y: str, of: Setting, along: str) -> Array:
    """Spearman's rank correlation of two measures along the steps (from the first on) or along a field.

    For a heavier tail that goes with a lower loss, x = "alpha_hill" and y = "test_loss" give a positive one.
    """
    if along == "step":
        tables = [run.metrics.loc[1:] for run in _chosen(runs, of)]
    else:
        tables = [pd.concat([r.metrics.tail(1) for r in curve]) for curve in _grouped(runs, of, along)]
    pairs = [(table[x], table[y]) for table in tables]
    # Spearman's coefficient is Pearson's of the ranks
    return np.array([[np.corrcoef(rankdata(left), rankdata(right))[0, 1]] for left, right in pairs])


EFFECTS: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (
        *(value, difference, share, change_of_change),
        *(critical_rate, critical_slope, prediction_error, rank_correlation),
    )
}


def _second_over_first(run: Trajectory, step: int) -> float:
    """s_2 / s_1."""
    values = run.esd(step)
    return math.sqrt(values[-2] / values[-1])


def _tail_spread(run: Trajectory, step: int) -> float:
    """ln of second over eleventh eigenvalue, over what it is in a power law of the Hill exponent.

    For independent values of density exponent alpha the expectation is sum_{k=2}^{10} 1 / (k (alpha - 1)).
    """
    values = run.esd(step)
    expected = sum(1 / k for k in range(2, 11)) / (run.metrics.alpha_hill[step] - 1)
    return math.log(values[-2] / values[-11]) / expected


def _cutoff_p(run: Trajectory, step: int) -> float:
    """p-value of the power law fitted by KS against one with a cutoff, as if values were independent."""
    values = run.esd(step)
    return float(compare_distributions(values, fit_power_law(values)).p_value["truncated_power_law"])


def _overlap(run: Trajectory, step: int) -> float:
    """Mean squared cosine of the d/10 leading right directions of the update and of the weights after it."""
    k = min(len(run.overlaps[step].after.right), max(1, run.config.d // 10))
    return run.overlaps[step].after.subspace(k)[1]


_DERIVED: dict[str, Callable[[Trajectory, int], float]] = {
    "second_over_first": _second_over_first,
    "tail_spread": _tail_spread,
    "cutoff_p": _cutoff_p,
    "overlap": _overlap,
}


def _measured(runs: Sequence[Trajectory], measure: str, setting: Setting) -> Array:
    """(n_seeds,) values of a measure."""
    if measure not in METRICS and measure not in _DERIVED:
        raise ValueError(f"measure must be one of {', '.join((*METRICS, *_DERIVED))}; got {measure!r}")
    step = setting.get("step", "last")
    values: list[float] = []
    for run in _chosen(runs, setting):
        at = run.config.steps if step == "last" else step
        if at not in run.metrics.index:
            raise ValueError(f"step {at} of seed {run.config.seed} was not measured, or the run diverged")
        values.append(
            _DERIVED[measure](run, at) if measure in _DERIVED else float(run.metrics.loc[at, measure])
        )
    return np.array(values)


def _chosen(runs: Sequence[Trajectory], setting: Setting) -> list[Trajectory]:
    """The one run per seed that a setting picks, by seed."""
    groups = _grouped(runs, setting)
    if {len(group) for group in groups} != {1}:
        raise ValueError(
            f"setting {dict(setting)} must pick one run per seed; it picks {[len(group) for group in groups]}"
        )
    return [group[0] for group in groups]


def _grouped(runs: Sequence[Trajectory], setting: Setting, varied: str = "") -> list[list[Trajectory]]:
    """The runs that a setting picks, a list per seed, ascending in the field that is left to vary."""
    wanted = {name: wish for name, wish in setting.items() if name != "step"}
    if unknown := sorted(wanted.keys() - _DEFAULTS.keys()):
        raise ValueError(f"unknown field {unknown[0]!r} in setting {dict(setting)}")
    fixed = {name: default for name, default in _DEFAULTS.items() if name not in _FREE} | wanted
    fixed.pop(varied, None)
    words = {k: v for k, v in fixed.items() if isinstance(v, str) and not isinstance(_DEFAULTS[k], str)}
    found = [r for r in runs if all(getattr(r.config, k) == v for k, v in fixed.items() if k not in words)]
    for name, word in words.items():
        found = _said(found, name, word, setting)
    groups: dict[int, list[Trajectory]] = {seed: [] for seed in sorted({r.config.seed for r in runs})}
    for run in sorted(found, key=lambda r: getattr(r.config, varied)) if varied else found:
        groups[run.config.seed].append(run)
    return list(groups.values())


def _said(runs: list[Trajectory], name: str, word: str, setting: Setting) -> list[Trajectory]:
    """Those runs whose field is what the word says of it."""
    values = sorted({getattr(run.config, name) for run in runs})
    if not values:
        return []
    if word in ("min", "max"):
        chosen = values[0] if word == "min" else values[-1]
    elif name == "lr" and word.endswith(" x critical"):
        goal = float(word.removesuffix(" x critical")) * _law(runs[0]).critical_lr
        chosen = min(values, key=lambda lr: abs(math.log(lr / goal)))
    elif name == "ridge_lambda" and word == "best":
        losses = [_measured(runs, "test_loss", {**setting, name: candidate}).mean() for candidate in values]
        chosen = values[int(np.argmin(losses))]
    else:
        raise ValueError(f"{name} must be a number or a word that this module explains; got {word!r}")
    return [run for run in runs if getattr(run.config, name) == chosen]


def _crossings(curves: list[list[Trajectory]]) -> Array:
    return np.array([_crossing([(r.config.lr, r.metrics.alignment[1]) for r in curve]) for curve in curves])


def _crossing(curve: list[tuple[float, float]]) -> float:
    """Rate at which a curve first crosses half its peak, linear in log rate between points."""
    rates, heights = np.log([lr for lr, _ in curve]), np.array([height for _, height in curve])
    half = heights.max() / 2
    k = int((heights > half).argmax())
    if k == 0:
        raise ValueError(f"the alignment exceeds half its peak at the smallest rate already, {curve[0][0]:g}")
    part = (half - heights[k - 1]) / (heights[k] - heights[k - 1])
    return float(np.exp(rates[k - 1] + part * (rates[k] - rates[k - 1])))


def _law(run: Trajectory, *, drawn: bool = False) -> OneStepLaw:
    """The prediction for a run; if asked for that of the |a| which its seed has drawn."""
    config = run.config
    names = ("n", "d", "h", "noise_std", "optimizer", "teacher", "activation")
    a = stream(config.seed, "readout").standard_normal(config.h) if drawn else None
    return one_step_law(
        **{name: getattr(config, name) for name in names},
        labels="real" if config.labels == "real" else "shuffled",
        readout_norm=None if a is None else float(np.linalg.norm(a)),
    )
