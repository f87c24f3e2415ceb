"""Effects: what the runs of an experiment say about a question, as numbers per seed.

Every function takes the runs and returns an (n_seeds, k) array, a row per seed in ascending order; k is 1
but for `prediction_error`.  Seeds are paired: a difference is taken within a seed.  The claims of the book
(`htlib.ledger.claims`) name these functions and their arguments.

Which runs an effect looks at is said by *settings* (`htlib.ledger.settings`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from htlib.ledger.settings import Setting, chosen, grouped, law_of, matching, shape_of, step_of
from htlib.student.probes import METRICS
from htlib.student.run import Trajectory

Array = NDArray[np.float64]


def value(runs: Sequence[Trajectory], *, measure: str, of: Setting) -> Array:
    """A measure of a setting."""
    return _measured(runs, measure, of)[:, None]


def difference(runs: Sequence[Trajectory], *, measure: str, of: Setting, minus: Setting) -> Array:
    """A measure of one setting minus that of another."""
    return (_measured(runs, measure, of) - _measured(runs, measure, minus))[:, None]


def share(runs: Sequence[Trajectory], *, measure: str, of: Setting, whole: Setting) -> Array:
    """Change of a measure from the start in one setting, over that in another: 1 if they change alike."""
    return (_change(runs, measure, of) / _change(runs, measure, whole))[:, None]


def change_of_change(runs: Sequence[Trajectory], *, measure: str, of: Setting, minus: Setting) -> Array:
    """Change of a measure from the start in one setting, minus that in another."""
    return (_change(runs, measure, of) - _change(runs, measure, minus))[:, None]


def critical_rate(runs: Sequence[Trajectory], *, of: Setting, over: Setting | str) -> Array:
    """Rate at which the alignment first crosses half its peak, over another setting's.

    With over = "prediction", over the same crossing of the predicted alignment at the same rates.
    """
    curves = grouped(runs, of, "lr")
    if over == "prediction":
        laws = [law_of(curve[0]) for curve in curves]
        others = np.array(
            [
                half_peak_rate([(r.config.lr, law(r.config.lr).alignment) for r in curve])
                for law, curve in zip(laws, curves, strict=True)
            ]
        )
    elif isinstance(over, str):
        raise ValueError(f"over must be 'prediction' or a setting; got {over!r}")
    else:
        others = _crossings(grouped(runs, over, "lr"))
    return (_crossings(curves) / others)[:, None]


def critical_slope(runs: Sequence[Trajectory], *, of: Setting) -> Array:
    """Exponent k of the critical rate ~ d^k, over the shapes that were run."""
    sizes = sorted({run.config.d for run in runs})
    if len(sizes) < 2:
        raise ValueError("critical_slope needs runs at two or more d")
    logs = np.log([_crossings(grouped(runs, {**of, "d": d}, "lr")) for d in sizes])  # (n_sizes, n_seeds)
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


def rank_correlation(runs: Sequence[Trajectory], *, x: str, y: str, of: Setting, along: str) -> Array:
    """Spearman's rank correlation of two measures along the steps (from the first on) or along a field.

    For a heavier tail that goes with a lower loss, x = "alpha_hill" and y = "test_loss" give a positive one.
    """
    for name in (x, y):
        if name not in METRICS:
            raise ValueError(f"x and y must be one of {', '.join(METRICS)}; got {name!r}")
    if along == "step":
        tables = [run.metrics.loc[1:] for run in chosen(runs, of)]
    else:
        tables = [pd.concat([r.metrics.tail(1) for r in curve]) for curve in grouped(runs, of, along)]
    pairs = [(table[x], table[y]) for table in tables]
    # Spearman's coefficient is Pearson's of the ranks
    return np.array([[np.corrcoef(rankdata(left), rankdata(right))[0, 1]] for left, right in pairs])


def half_peak_rate(curve: Sequence[tuple[float, float]]) -> float:
    """Rate at which a curve first crosses half its peak, linear in log rate between its points.

    Parameters
    ----------
    curve : sequence of (rate, height)
        Ascending in the rate.

    Raises
    ------
    ValueError
        If the first point is above half the peak.

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


def _change(runs: Sequence[Trajectory], measure: str, setting: Setting) -> Array:
    """(n_seeds,) changes of a measure from the start."""
    return _measured(runs, measure, setting) - _measured(runs, measure, {**setting, "step": 0})


def _measured(runs: Sequence[Trajectory], measure: str, setting: Setting) -> Array:
    """(n_seeds,) values of a measure."""
    if measure not in METRICS and measure not in _DERIVED:
        raise ValueError(f"measure must be one of {', '.join((*METRICS, *_DERIVED))}; got {measure!r}")
    values: list[float] = []
    for run in chosen(runs, setting):
        at = step_of(run, setting)
        values.append(
            _DERIVED[measure](run, at) if measure in _DERIVED else float(run.metrics.loc[at, measure])
        )
    return np.array(values)


def _crossings(curves: list[list[Trajectory]]) -> Array:
    return np.array(
        [half_peak_rate([(r.config.lr, r.metrics.alignment[1]) for r in curve]) for curve in curves]
    )
