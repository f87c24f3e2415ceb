"""Two more measures that networks are judged by, each with what it gives for pure noise.

"det X" counts the leading eigenvalues whose product is one; a correlation trap is an eigenvalue that noise of
the same entries would still have beyond the edge.  Both are WeightWatcher's (``detX_num``, ``num_traps``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.eigenvalues import as_matrix, as_spectrum
from htlib.spectra.nulls import NULLS, gaussian_esd
from htlib.spectra.spikes import fit_marchenko_pastur


@dataclass(frozen=True, eq=False)
class CorrelationTraps:
    """Hold the numbers of eigenvalues beyond the noise edge, of one matrix whose entries were shuffled.

    Attributes
    ----------
    counts : (n_replicates,) int array
        One number per shuffle of the entries.
    noise : (n_replicates,) int array
        The same for Gaussian matrices of that shape: the null.
    """

    counts: NDArray[np.intp]
    noise: NDArray[np.intp]


def det_x(eigenvalues: Tensor | ArrayLike) -> int:
    """Count the leading eigenvalues whose product comes down to one: WeightWatcher's ``detX_num``.

    The eigenvalues are divided by their mean.  From the largest on, their product rises above one and falls
    again; the count is of those up to and including the first that brings it below one.  WeightWatcher
    multiplies, which overflows where more than about 2800 values are large, and then reports all N; here
    logarithms are added.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.

    Returns
    -------
    int
        From 2 to N.  Values that are all equal give N.  Noise has a large one: 0.73 N for a square matrix
        and 0.82 N at the ratio 1/2, so compare with ``htlib.measure_noise(det_x, h, d)``.

    Raises
    ------
    ValueError
        If the eigenvalues are not a spectrum, or all are zero.

    Examples
    --------
    >>> det_x([0.1, 0.2, 0.5, 3.2])
    3
    """
    values = as_spectrum(eigenvalues)[::-1]
    if values[0] <= 0:
        raise ValueError("eigenvalues must have a positive maximum; this is the spectrum of a zero matrix")
    with np.errstate(divide="ignore"):  # an eigenvalue of zero ends every product
        logs = np.cumsum(np.log(values / values[0]) - np.log(np.mean(values / values[0])))
    below = logs < -1e-12 * len(values)
    return int(below.argmax()) + 1 if below.any() else len(values)


def correlation_traps(W: Tensor | ArrayLike, n_replicates: int = 10, seed: int = 0) -> CorrelationTraps:
    """Count the eigenvalues beyond the noise edge that remain when the entries of W are shuffled.

    A shuffle destroys every correlation and keeps the entries, so what remains comes from a few entries that
    are much larger than the rest.  WeightWatcher calls that a correlation trap (``num_traps``, by one
    unseeded shuffle, and by a fit of a density); here the edge is the 99 % quantile of
    `htlib.fit_marchenko_pastur`, so one shuffle of noise in a hundred has a trap.

    Parameters
    ----------
    W : (h, d) tensor or array
    n_replicates : int
        Number of shuffles, and of Gaussian matrices, at least 1.
    seed : int

    Returns
    -------
    CorrelationTraps

    Raises
    ------
    ValueError
        If W is not a finite matrix, at least half of its spectrum is zero, or n_replicates is below 1.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((60, 40))
    >>> W[3, 5] = 40.0
    >>> correlation_traps(W, n_replicates=4).counts.tolist()
    [1, 1, 1, 1]
    """
    matrix = as_matrix(W, dtype=None)
    if n_replicates < 1:
        raise ValueError(f"n_replicates must be at least 1; got {n_replicates}")
    h, d = matrix.shape
    rng = np.random.default_rng(seed)
    shuffled = [NULLS["shuffle"](matrix, rng) for _ in range(n_replicates)]
    noise = [gaussian_esd(h, d, rng) for _ in range(n_replicates)]
    counts = [
        [fit_marchenko_pastur(values, h, d).n_spikes for values in spectra] for spectra in (shuffled, noise)
    ]
    return CorrelationTraps(np.array(counts[0], dtype=np.intp), np.array(counts[1], dtype=np.intp))
