"""Effects: what the runs of an experiment say about a question, as numbers per seed.

Every function takes the runs and returns an (n_seeds, k) array, a row per seed in ascending order; k is 1
but for `prediction_error`.  Seeds are paired: a difference is taken within a seed.  The claims of the book
(`htlib.claims`) name these functions and their arguments.

A *setting* picks one run per seed: a mapping from fields of `ExperimentConfig` to values.  Numbers may be
"min" or "max" (of what was run).  ``lr`` may be "2 x critical": a run within ten per cent of that multiple
of the critical rate predicted for real labels.  ``ridge_lambda`` may be "best": that of the lowest mean test
loss, which must not be an end of what was run.  A size that is not named is free, any other field that is
not named has its default.  ``step`` is the step looked at, by default the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from htlib.config import ExperimentConfig
from htlib.probes import METRICS
from htlib.problem import stream
from htlib.records import Trajectory
from htlib.theory import OneStepLaw, one_step_law

Array = NDArray[np.float64]
Setting = Mapping[str, Any]

_SIZES = ("n", "d", "h")
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
    """Measured minus predicted after one step, a column per shape and rate of the setting.

    Of the spectral norm as a part of it; of the alignment as it is.  Only rates from `beyond` to `upto`
    times the predicted critical one count.  The prediction is that for the |a| which the seed has drawn.
    """
    if measure not in ("spectral_norm", "alignment"):
        raise ValueError(f"measure must be spectral_norm or alignment, which are predicted; got {measure!r}")
    columns: list[Array] = []
    shapes = {_shape(run) for run in _matching(runs, of, "lr")}
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
    if not columns:
        raise ValueError(f"no rate lies between {beyond:g} and {upto:g} times the critical one")
    return np.stack(columns, axis=1)


def rank_correlation(runs: Sequence[Trajectory], *, x: str, y: str, of: Setting, along: str) -> Array:
    """Spearman's rank correlation of two measures along the steps (from the first on) or along a field.

    For a heavier tail that goes with a lower loss, x = "alpha_hill" and y = "test_loss" give a positive one.
    """
    for name in (x, y):
        if name not in METRICS:
            raise ValueError(f"x and y must be one of {', '.join(METRICS)}; got {name!r}")
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


def _tail_spread(exponent: str) -> Callable[[Trajectory, int], float]:
    def spread(run: Trajectory, step: int) -> float:
        """ln of second over eleventh eigenvalue, over what it is in a power law of the exponent.

        For independent values of density exponent alpha that is sum_{k=2}^{10} 1 / (k (alpha - 1)).
        """
        values, alpha = run.esd(step), float(run.metrics[exponent].loc[step])
        return math.log(values[-2] / values[-11]) * (alpha - 1) / sum(1 / k for k in range(2, 11))

    return spread


def _overlap(run: Trajectory, step: int) -> float:
    """Mean squared cosine of the d/10 leading right directions of the update and of the weights after it."""
    k = min(len(run.overlaps[step].after.right), max(1, run.config.d // 10))
    return run.overlaps[step].after.subspace(k)[1]


_DERIVED: dict[str, Callable[[Trajectory, int], float]] = {
    "second_over_first": _second_over_first,
    "tail_spread_hill": _tail_spread("alpha_hill"),
    "tail_spread_ks": _tail_spread("alpha_ks"),
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
    return [group[0] for group in _grouped(runs, setting)]


def _grouped(runs: Sequence[Trajectory], setting: Setting, varied: str = "") -> list[list[Trajectory]]:
    """The runs that a setting picks, a list per seed: one run, or one for each value of the varied field."""
    found = _matching(runs, setting, varied)
    values = sorted({getattr(run.config, varied) for run in found}) if varied else [None]
    groups: dict[int, list[Trajectory]] = {seed: [] for seed in sorted({r.config.seed for r in runs})}
    for run in sorted(found, key=lambda r: getattr(r.config, varied)) if varied else found:
        groups[run.config.seed].append(run)
    numbers = [len(group) for group in groups.values()]
    if not values or set(numbers) != {len(values)}:
        each = f"a run per seed and {varied}" if varied else "one run per seed"
        raise ValueError(f"setting {dict(setting)} must pick {each}; it picks {numbers}")
    return list(groups.values())


def _matching(runs: Sequence[Trajectory], setting: Setting, varied: str = "") -> list[Trajectory]:
    """All runs that fit a setting, whatever the varied field."""
    wanted = {name: wish for name, wish in setting.items() if name != "step"}
    names = [*_DEFAULTS]
    if unknown := [name for name in (*wanted, *([varied] if varied else [])) if name not in names]:
        raise ValueError(f"unknown field {unknown[0]!r} in setting {dict(setting)}")
    fixed = {name: default for name, default in _DEFAULTS.items() if name not in _FREE} | wanted
    fixed.pop(varied, None)
    words = {k: v for k, v in fixed.items() if isinstance(v, str) and not isinstance(_DEFAULTS[k], str)}
    found = [r for r in runs if all(getattr(r.config, k) == v for k, v in fixed.items() if k not in words)]
    # sizes first: the critical rate depends on them
    for name in sorted(words, key=lambda name: name not in _SIZES):
        found = _said(found, name, words[name], setting)
    return found


def _said(runs: list[Trajectory], name: str, word: str, setting: Setting) -> list[Trajectory]:
    """Those runs whose field is what the word says of it."""
    values = sorted({getattr(run.config, name) for run in runs})
    if not values:
        return []
    if word in ("min", "max"):
        chosen = values[0] if word == "min" else values[-1]
    elif name == "lr" and word.endswith(" x critical"):
        if len({_shape(run) for run in runs}) > 1:
            raise ValueError(
                f"setting {dict(setting)} must name n, d and h: the critical rate depends on them"
            )
        goal = float(word.removesuffix(" x critical")) * _law(runs[0], labels="real").critical_lr
        chosen = min(values, key=lambda lr: abs(math.log(lr / goal)))
        if not 0.9 < chosen / goal < 1.1:
            raise ValueError(f"no run is near lr = {word}, {goal:.4g}; the nearest is {chosen:g}")
    elif name == "ridge_lambda" and word == "best":
        losses = [_measured(runs, "test_loss", {**setting, name: candidate}).mean() for candidate in values]
        best = int(np.argmin(losses))
        if best in (0, len(values) - 1):
            raise ValueError(f"the best ridge_lambda is {values[best]:g}, an end of what was run: run more")
        chosen = values[best]
    else:
        raise ValueError(f"{name} must be a number or a word that this module explains; got {word!r}")
    return [run for run in runs if getattr(run.config, name) == chosen]


def _shape(run: Trajectory) -> tuple[int, int, int]:
    return run.config.n, run.config.d, run.config.h


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


def _law(run: Trajectory, *, drawn: bool = False, labels: str = "") -> OneStepLaw:
    """The prediction for a run, or for other labels; if asked for, given the |a| that its seed has drawn."""
    config = run.config
    if config.labels == "centred":
        raise ValueError("centred labels are not predicted")
    known = "real" if config.labels == "real" else "shuffled"
    names = ("n", "d", "h", "noise_std", "optimizer", "teacher", "activation")
    a = stream(config.seed, "readout").standard_normal(config.h) if drawn else None
    return one_step_law(
        **{name: getattr(config, name) for name in names},
        labels=labels or known,
        readout_norm=None if a is None else float(np.linalg.norm(a)),
    )
