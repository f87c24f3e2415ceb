"""Divide learning rates, sparsity, experts or bits among units by one number each.

A rule takes `Units` in ascending order of their values, and options, and returns one number per unit.  Equal
values are ordered by size, and then by name from the last to the first, so that the order of the rows that
they come from never counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]

_EQUAL = 1e-12  # relative spread that rounding explains


@dataclass(frozen=True, eq=False)
class Units:
    """The layers or blocks among which a rule divides, in ascending order of `value`."""

    name: Sequence[str]
    value: Array  # finite
    size: Array  # number of entries of the weights, positive
    variance: Array | None = None  # mean square of the entries, where the table has norms


Rule = Callable[..., NDArray[Any]]


def linear(
    units: Units,
    *,
    low: float = 0.5,
    high: float = 1.5,
    least_spread: float = 0.0,
    mean: float | None = None,
) -> Array:
    """Return multipliers between low and high, linear in the value."""
    if not 0 <= low <= high < math.inf:
        raise ValueError(f"low and high must be finite with 0 <= low <= high; got {low} and {high}")
    return _with_mean(_stretched(units.value, low, high, least_spread), units.size, mean)


def sigmoid(
    units: Units, *, tau: float = 10.0, above: float = 1.0, below: float = 2.0, mean: float | None = None
) -> Array:
    """Return multipliers 10^(s (1 / (1 + exp(-tau (value - mean value))) - 1/2)), s = above or below."""
    for name, given in (("tau", tau), ("above", above), ("below", below)):
        if not 0 <= given < math.inf:
            raise ValueError(f"{name} must be finite and not negative; got {given}")
    if _are_equal(units.value):
        return _with_mean(np.ones(len(units.value)), units.size, mean)
    distance = units.value - units.value.mean()
    multiplier = 10 ** (np.where(distance > 0, above, below) * (expit(tau * distance) - 0.5))
    return _with_mean(multiplier, units.size, mean)


def sparsity(
    units: Units, *, target: float, spread: float = 0.3, cap: float = 1.0, least_spread: float = 0.0
) -> Array:
    """Return shares of zeros between 0 and cap; their mean weighted by size is the target."""
    if not 0 < cap <= 1:
        raise ValueError(f"cap must be above 0 and at most 1; got {cap}")
    if not 0 <= target <= cap:
        raise ValueError(f"target must be from 0 to cap = {cap}; got {target}")
    if not 0 <= spread <= 1:
        raise ValueError(f"spread must be from 0 to 1; got {spread}")
    ratio = _stretched(units.value, 1 - spread, 1 + spread, least_spread)
    share = np.full(len(ratio), float(cap))
    total = target * units.size.sum()
    # The units that reach the cap are the last ones, as ratios ascend: find the first split that holds.
    for n_free in range(len(ratio), 0, -1):
        size, own = units.size[:n_free], ratio[:n_free]
        rest = max(total - cap * units.size[n_free:].sum(), 0.0)
        weight = (size * own).sum()
        share[:n_free] = own * (rest / weight) if weight > 0 else rest / size.sum()
        if share[n_free - 1] <= cap:
            break
        share[n_free - 1] = cap
    return share


def experts(units: Units, *, total: int, power: float = 2.5, least: int = 1) -> NDArray[np.int64]:
    """Return whole numbers that sum to the total, proportional to value^power, and at least `least`."""
    _check_whole("total", total)
    _check_whole("least", least)
    if not 0 <= power < math.inf:
        raise ValueError(f"power must be finite and not negative; got {power}")
    count = len(units.value)
    if least < 0 or total < least * count:
        raise ValueError(f"total must be at least {least} for each of {count} units; got {total}")
    _check_sign(units, "experts", units.value < 0, "negative")
    largest = units.value[-1]
    weight = (units.value / largest) ** power if largest > 0 else np.ones(count)
    quota = np.full(count, float(least))
    # The units that are raised to `least` are the first ones.
    for n_raised in range(count):
        own = weight[n_raised:]
        quota[n_raised:] = own / own.sum() * (total - least * n_raised)
        if quota[n_raised] >= least:
            break
        quota[n_raised] = least
    number = np.floor(quota * (1 + _EQUAL)).astype(np.int64)
    remainder = np.round(quota - number, 9)  # equal quotas differ by rounding
    # The last of equal remainders is the largest unit.
    first = np.lexsort((np.arange(count), remainder))[::-1]
    number[first[: total - int(number.sum())]] += 1
    return number


def bits(
    units: Units,
    *,
    mean_bits: float,
    choices: Sequence[float] = (2, 3, 4),
    gamma: float = 1.0,
    variance: bool = False,
) -> NDArray[Any]:
    """Return bit widths that make sum of size (median / value)^gamma variance 4^(-bits) small."""
    widths = np.unique(np.asarray(list(choices), dtype=np.float64))
    if not len(widths) or not np.isfinite(widths).all() or widths[0] <= 0:
        raise ValueError(f"choices must be positive numbers of bits; got {choices!r}")
    if not widths[0] <= mean_bits < math.inf:
        raise ValueError(f"mean_bits must be at least the smallest choice, {widths[0]:g}; got {mean_bits}")
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be finite and not negative; got {gamma}")
    _check_sign(units, "bits", units.value <= 0, "not positive")
    weight = (np.median(units.value) / units.value) ** gamma
    if variance:
        if units.variance is None:
            raise ValueError("variance = True needs the column frobenius_norm, which htlib.analyze writes")
        weight = weight * units.variance
    # Equal units take a step together; each step's gain per entry and bit falls from width to width.
    distinct, group = np.unique(weight, return_inverse=True)
    size = np.bincount(group, weights=units.size)
    gain = -np.diff(4.0**-widths) / np.diff(widths)
    steps = sorted(
        ((w * g, g, index, level) for index, w in enumerate(distinct) for level, g in enumerate(gain)),
        reverse=True,
    )
    left = (mean_bits * (1 + _EQUAL) - widths[0]) * size.sum()
    chosen = np.zeros(len(distinct), dtype=np.intp)
    for _, _, index, level in steps:
        cost = size[index] * (widths[level + 1] - widths[level])
        if cost > left:  # a lighter one that still fits must not overtake it
            break
        left -= cost
        chosen[index] = level + 1
    result = widths[chosen[group]]
    return result.astype(np.int64) if (widths == np.round(widths)).all() else result


RULES: dict[str, Rule] = {
    "linear": linear,
    "sigmoid": sigmoid,
    "sparsity": sparsity,
    "experts": experts,
    "bits": bits,
}


def _are_equal(ascending: Array) -> bool:
    return ascending[-1] - ascending[0] <= _EQUAL * np.abs(ascending[[0, -1]]).max()


def _stretched(ascending: Array, low: float, high: float, least_spread: float) -> Array:
    """Map the smallest value to low and the largest to high; equal values to 1."""
    if not 0 <= least_spread < math.inf:
        raise ValueError(f"least_spread must be finite and not negative; got {least_spread}")
    if _are_equal(ascending):
        return np.ones(len(ascending))
    spread = ascending[-1] - ascending[0]
    place = (ascending - ascending[0]) / spread
    multiplier = np.clip(low + (high - low) * place, low, high)
    multiplier[place == 1] = high
    return multiplier if spread >= least_spread else 1 + (multiplier - 1) * (spread / least_spread)


def _with_mean(multiplier: Array, size: Array, mean: float | None) -> Array:
    if mean is None:
        return multiplier
    if not 0 < mean < math.inf:
        raise ValueError(f"mean must be positive and finite; got {mean}")
    return multiplier * (mean / np.average(multiplier, weights=size))


def _check_whole(name: str, value: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a whole number; got {value!r}")


def _check_sign(units: Units, rule: str, wrong: NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"column must be positive for the rule {rule!r}; {units.name[first]} has {units.value[first]:g},"
            f" which is {what}: htlib.with_controls(matched=True) gives such columns positive values"
        )
