"""A spectrum as text, for a terminal."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

_BLOCKS, _LETTERS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"


def spectrum_lines(eigenvalues: NDArray[np.float64], edge: float, width: int = 64) -> list[str]:
    """Draw the positive eigenvalues as a row of bars on a log axis, with the edge of noise below it.

    The height of a bar is the logarithm of 1 + its count, so that a single eigenvalue is seen.
    """
    values = eigenvalues[eigenvalues > 0]
    low, high = float(values.min()), max(float(values.max()), edge) * 1.05
    counts, bins = np.histogram(values, np.geomspace(low, high, width + 1))
    heights = np.log1p(counts) / np.log1p(counts.max())
    marks = _marks()
    bars = "".join(marks[math.ceil(height * (len(marks) - 1))] for height in heights)
    at = int(np.searchsorted(bins, edge)) - 1
    beyond = int((values > edge).sum())
    note = f"noise ends at {edge:.4g}; {beyond} of {len(eigenvalues)} eigenvalues lie beyond"
    pointer = f"{note} ^".rjust(at + 1) if at > len(note) else f"{' ' * at}^ {note}"
    return [bars.rstrip(), f"{low:<{width - 8}.3g}{high:>8.3g}", pointer]


def _marks() -> str:
    """Return bars of growing height that standard output can show."""
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _LETTERS
    return _BLOCKS
