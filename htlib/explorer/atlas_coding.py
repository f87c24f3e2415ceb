"""Numbers as 16-bit words: scales with a stated error, and spectra as broken lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Words = NDArray[np.uint16]

_NOT_FINITE, _LAST_WORD = 65535, 65533
TOLERANCE_STEPS = 1.5  # knots have whole values: coarser ones bend the line, finer ones cost bytes
_LONGEST_GAP = 255


@dataclass(frozen=True)
class Scale:
    """Words and what they mean: low + step * word, the logarithm of the value if `log`."""

    log: bool
    low: float
    step: float

    @classmethod
    def fit(cls, values: Array, error: float, *, log: bool) -> Scale:
        """As coarse as a largest error allows, relative if `log`; coarser where 16 bits are too few."""
        unit = cls(log, 0.0, 1.0).positions(values)
        finite = unit[np.isfinite(unit)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        return cls(log, low, max(2 * (math.log1p(error) if log else error), (high - low) / _LAST_WORD))

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Scale:
        return cls(entry["log"], entry["low"], entry["step"])

    def positions(self, values: Array) -> Array:
        """The words before rounding."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((np.log(values) if self.log else values) - self.low) / self.step

    def words(self, values: Array) -> Words:
        positions = self.positions(values)
        finite = np.isfinite(positions)
        return np.where(finite, np.rint(np.where(finite, positions, 0)), _NOT_FINITE).astype(np.uint16)

    def values(self, words: NDArray[Any]) -> Array:
        """NaN for words that mean no number."""
        words = np.asarray(words, dtype=np.float64)
        values = self.low + self.step * np.where(words > _LAST_WORD, np.nan, words)
        return np.exp(values) if self.log else values


def knots_of(spectrum: Array) -> tuple[Words, Words]:
    """A broken line within the tolerance of every point: the gaps between its knots and their heights.

    From a knot the line goes as far as one through a whole height still passes all points on the way.
    """
    tolerance, last = TOLERANCE_STEPS, len(spectrum) - 1
    rank, height = 0, round(float(spectrum[0]))
    gaps, heights = [0], [height]
    while rank < last:
        ahead = spectrum[rank + 1 : rank + 1 + _LONGEST_GAP] - height
        gap = np.arange(1, len(ahead) + 1)
        # not below 0: the line rises as eigenvalues do
        lowest = np.ceil(np.maximum.accumulate(np.maximum(ahead - tolerance, 0) / gap) * gap - 1e-9)
        highest = np.floor(np.minimum.accumulate((ahead + tolerance) / gap) * gap + 1e-9)
        at = int(np.flatnonzero(lowest <= highest)[-1])
        height += int(np.clip(np.rint(ahead[at]), lowest[at], highest[at]))
        rank += at + 1
        gaps.append(at + 1)
        heights.append(height)
    return np.array(gaps, dtype=np.uint16), np.array(heights, dtype=np.uint16)


def spectra_of(largest: Array, knots: Sequence[tuple[Words, Words]], bulk: Scale) -> Array:
    """All eigenvalues, ascending, from the largest ones and the knots of the others."""
    rows: list[Array] = []
    for top, (gaps, heights) in zip(largest, knots, strict=True):
        ranks = np.cumsum(gaps, dtype=np.int64)
        line = np.interp(np.arange(ranks[-1] + 1), ranks, heights.astype(np.float64))
        rows.append(np.concatenate([np.minimum(bulk.values(line), top[:1].min(initial=np.inf)), top]))
    return np.array(rows)


def largest_error(decoded: Array, values: Array, *, relative: bool = True) -> float:
    """Over what is a number in both."""
    error = np.abs(decoded - values) / (np.abs(values) if relative else 1)
    finite = error[np.isfinite(error)]
    return float(finite.max()) if finite.size else 0.0


def summed(differences: Words) -> Words:
    """What `numpy.diff` took apart, modulo 2^16 as it did."""
    return np.cumsum(differences, axis=-1, dtype=np.uint16)
