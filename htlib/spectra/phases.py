"""Name the phase of a spectrum, by a rule whose thresholds were fixed before any run was looked at.

The names are those of the "5+1 phases" of Martin & Mahoney (2021), which they tell apart by eye.  The rule is
ours, and does not depend on the scale of a matrix:

rank collapse   a tenth of the eigenvalues are below 1e-4 of their 90 % quantile; else
heavy-tailed    PL_Alpha_Hill without the three largest values is below that of noise by 0.3 or more; else
bulk decay      it is below by 0.05 or more; else
random          no eigenvalue lies beyond the edge of the fitted noise; else
bleeding out    the largest is less than 1.2 times the edge; else
bulk + spikes
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from htlib.spectra.eigenvalues import as_spectrum
from htlib.spectra.noise import MarchenkoPastur
from htlib.spectra.power_law import hill_alpha
from htlib.spectra.spikes import fit_marchenko_pastur

PHASES = ("random", "bleeding out", "bulk + spikes", "bulk decay", "heavy-tailed", "rank collapse")

FEWEST = 10  # eigenvalues that a phase needs

_EMPTY, _SHARE, _QUANTILE = 1e-4, 0.1, 0.9
_HEAVY, _DECAY = 0.3, 0.05
_FAR = 1.2
_TOP = 3  # values that do not count as bulk


def phase(eigenvalues: Tensor | ArrayLike, h: int, d: int) -> str:
    """Return the phase of the raw ESD of an (h, d) matrix, one of `PHASES`.

    Raises
    ------
    ValueError
        If there are fewer than ten eigenvalues, or all are zero.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((300, 200))
    >>> phase(np.linalg.svd(W, compute_uv=False) ** 2, 300, 200)
    'random'
    >>> W[0] += 9
    >>> phase(np.linalg.svd(W, compute_uv=False) ** 2, 300, 200)
    'bulk + spikes'
    """
    values = as_spectrum(eigenvalues)
    if len(values) < FEWEST or not values[-1] > 0:
        raise ValueError(
            f"eigenvalues must be at least ten and not all zero; got {len(values)}, of which the largest is "
            f"{values[-1]:.3g}"
        )
    if np.quantile(values, _SHARE) < _EMPTY * np.quantile(values, _QUANTILE):
        return "rank collapse"
    fall = _of_noise(h, d) - hill_alpha(values[:-_TOP])
    if fall >= _DECAY:
        return "heavy-tailed" if fall >= _HEAVY else "bulk decay"
    fit = fit_marchenko_pastur(values, h, d)
    if not fit.n_spikes:
        return "random"
    return "bleeding out" if values[-1] < _FAR * fit.edge else "bulk + spikes"


@lru_cache
def _of_noise(h: int, d: int) -> float:
    """Return PL_Alpha_Hill of noise without its largest values."""
    count = min(h, d)
    return hill_alpha(MarchenkoPastur.of_gaussian_esd(h, d).ppf((np.arange(count) + 0.5) / count)[:-_TOP])
