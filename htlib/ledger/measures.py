"""Measures: numbers of a run at a step that an effect can compare.

A measure is a column of the run's metrics, or a function under `measure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from htlib.spectra.power_law import hill_alpha
from htlib.student.probes import SHOWN
from htlib.student.run import Trajectory

Array = NDArray[np.float64]
Measure = Callable[[Trajectory, int], float]

MEASURES: dict[str, Measure] = {}


def measure(function: Measure) -> Measure:
    """Register a function of a run and a step as a measure, so that effects can use it."""
    MEASURES[function.__name__] = function
    return function


@measure
def second_over_first(run: Trajectory, step: int) -> float:
    """Return s_2 / s_1."""
    values = run.esd(step)
    return math.sqrt(values[-2] / values[-1])


@measure
def alpha_hill_without_top(run: Trajectory, step: int) -> float:
    """Return PL_Alpha_Hill of a spectrum without its three largest values."""
    return hill_alpha(run.esd(step)[:-3])


@measure
def tail_spread_hill(run: Trajectory, step: int) -> float:
    """Return the spread of the tail, divided by that of a power law with PL_Alpha_Hill."""
    return _tail_spread(run.esd(step), run.metrics.alpha_hill[step])


@measure
def tail_spread_ks(run: Trajectory, step: int) -> float:
    """Return the spread of the tail, divided by that of a power law with PL_Alpha_KS."""
    return _tail_spread(run.esd(step), run.metrics.alpha_ks[step])


@measure
def overlap(run: Trajectory, step: int) -> float:
    """Return the overlap of the update with the weights after it.

    It is the mean squared cosine between their d/10 leading right directions.
    """
    k = min(len(run.overlaps[step].after.right), max(1, run.config.d // 10))
    return run.overlaps[step].after.subspace(k)[1]


def read(run: Trajectory, name: str, step: int) -> float:
    """Return the value of a measure of a run at a step; an unknown name is a ValueError."""
    if name not in SHOWN and name not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join((*SHOWN, *MEASURES))}; got {name!r}")
    return MEASURES[name](run, step) if name in MEASURES else float(run.metrics.loc[step, name])


def _tail_spread(values: Array, alpha: float) -> float:
    """Divide ln(second over eleventh eigenvalue) by its value in a power law of density exponent alpha.

    For independent values that is sum_{k=2}^{10} 1 / (k (alpha - 1)).
    """
    return math.log(values[-2] / values[-11]) * (alpha - 1) / sum(1 / k for k in range(2, 11))
