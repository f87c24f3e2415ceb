"""Estimate the exponent of a tail in every way that networks are ranked by, as one family.

An estimator is a function from ascending, positive eigenvalues to the exponent alpha of a density x^(-alpha).
They differ in the values that they use, and so much that an alpha means little without the name of its
estimator: for a square matrix of pure noise "median" gives 2.1, "peak-released" 6.2 and "top-fraction" 6.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.nulls import gaussian_esd
from htlib.spectra.power_law import PowerLawFit, fit_power_law, hill_alpha, positive_spectrum
from htlib.spectra.tail_index import moment_tail_index

Array = NDArray[np.float64]

_TOP = 10  # the top fraction is one in ten


@dataclass(frozen=True)
class Estimator:
    """Describe an estimator of the exponent of a tail.

    Attributes
    ----------
    name : str
        Its key in `ESTIMATORS`.
    label : str
        Its name in figures and tables.
    uses : str
        The values that it uses, and who uses it.
    exponent : callable
        A function from ascending, positive float64 values to alpha.
    """

    name: str
    label: str
    uses: str
    exponent: Callable[[Array], float]


def tail_exponent(eigenvalues: Tensor | ArrayLike, estimator: str = "median") -> float:
    """Estimate the exponent alpha of the tail of a spectrum.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.
    estimator : str
        A key of `htlib.spectra.estimators.ESTIMATORS`:

        - "median": `htlib.hill_alpha`, the upper half (TempBalance, Model Balancing, AlphaDecay);
        - "ks": `htlib.fit_power_law` at the threshold of the smallest KS distance;
        - "bounded": the same, with a law that ends at the largest value, so that alpha may be any number;
        - "peak": `htlib.fit_power_law` near the peak of the histogram;
        - "peak-released": the peak rule as the code of TempBalance, AlphaPruning, AlphaLoRA and FARMS
          computes it (`fit_released_peak`), with which their published values can be reproduced;
        - "top-fraction": the largest tenth of the values, the smallest of which is the threshold (AlphaQ);
        - "moments": 1 + 1 / xi by `htlib.moment_tail_index` on the same tenth; infinite where xi is not
          positive, that is, where the tail is lighter than every power law.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no such estimator, there are fewer than three values (thirty for those of a tenth), one is
        not positive and finite, or those that the estimator uses are equal to twelve digits.

    Examples
    --------
    >>> values = np.geomspace(1, 8, 31)  # the largest tenth: 8, 8 / 2^0.1 and 8 / 2^0.2
    >>> round(tail_exponent(values, "top-fraction"), 2), round(1 + 3 / math.log(2**0.3), 2)
    (15.43, 15.43)
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}; got {estimator!r}")
    return ESTIMATORS[estimator].exponent(positive_spectrum(eigenvalues))


def measure_noise(
    measure: str | Callable[[Array], float], h: int, d: int, n_replicates: int = 20, seed: int = 0
) -> Array:
    """Measure pure noise: the null beside which a measure of an (h, d) matrix is read.

    Parameters
    ----------
    measure : str or callable
        An estimator of `tail_exponent`, or any function of the ascending eigenvalues, such as `htlib.det_x`.
    h, d : int
        Shape of the matrix; the order does not matter.
    n_replicates : int
        Number of independent Gaussian matrices, at least 1.
    seed : int

    Returns
    -------
    (n_replicates,) float64 array
        One value per matrix.  Entries have the variance 1: divide the eigenvalues of W by the mean square of
        its entries, if the measure depends on their scale.

    Raises
    ------
    ValueError
        If h, d or n_replicates is below 1, or there is no such estimator.

    Examples
    --------
    >>> round(float(measure_noise("median", 600, 600).mean()), 1)
    2.1
    """
    if n_replicates < 1:
        raise ValueError(f"n_replicates must be at least 1; got {n_replicates}")
    rng = np.random.default_rng(seed)
    spectra = (gaussian_esd(h, d, rng) for _ in range(n_replicates))
    if isinstance(measure, str):
        return np.array([tail_exponent(values, measure) for values in spectra])
    return np.array([measure(values) for values in spectra], dtype=np.float64)


def fit_released_peak(eigenvalues: Tensor | ArrayLike) -> PowerLawFit:
    """Fit a power law with the peak rule of the released code, which lacks a lower bound.

    With the peak x* as in ``fit_power_law(..., "peak")``, the lower edge of the fullest of 100 bins of the
    logarithm, candidates for the threshold are all values from **log10(0.95 x*)** to 1.5 x*: the code of
    WeightWatcher, TempBalance, AlphaPruning, AlphaLoRA and FARMS compares values with the logarithm of the
    lower bound.  So it hardly binds, and depends on the unit of the weights.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.

    Returns
    -------
    PowerLawFit

    Raises
    ------
    ValueError
        As for `htlib.fit_power_law`.

    Examples
    --------
    >>> values = [1.0, 2.0, 4.0, 8.0]
    >>> fit_released_peak(values).xmin
    1.0
    """
    values = positive_spectrum(eigenvalues)
    counts, edges = np.histogram(np.log10(values), bins=100)
    peak = 10 ** edges[counts.argmax()]
    low = max(float(np.log10(0.95 * peak)), float(values[0]))  # a bound that is not positive leaves none out
    return fit_power_law(values, (low, 1.5 * float(peak)))


def _ks(values: Array) -> float:
    return fit_power_law(values).alpha


def _bounded(values: Array) -> float:
    return fit_power_law(values, xmax=float(values[-1])).alpha


def _top_fraction(values: Array) -> float:
    top = values[-_tenth(values) :]
    return fit_power_law(top, float(top[0])).alpha


def _moments(values: Array) -> float:
    xi = moment_tail_index(values, _tenth(values))
    return 1 + 1 / xi if xi > 0 else math.inf


def _tenth(values: Array) -> int:
    if len(values) < 3 * _TOP:
        raise ValueError(
            f"eigenvalues must hold at least {3 * _TOP} values for a tenth of them; got {len(values)}"
        )
    return len(values) // _TOP


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator("median", "Hill, median", "the upper half: TempBalance, the paper's code", hill_alpha),
        Estimator("ks", "KS", "from the best threshold on: WeightWatcher", _ks),
        Estimator("bounded", "KS, bounded", "the same, under a law that ends at the largest value", _bounded),
        Estimator(
            "peak",
            "peak",
            "from 0.95 to 1.5 times the peak on: the rule as described",
            lambda values: fit_power_law(values, "peak").alpha,
        ),
        Estimator(
            "peak-released",
            "peak, released",
            "from anywhere up to 1.5 times the peak on: the rule as computed by AlphaPruning and AlphaLoRA",
            lambda values: fit_released_peak(values).alpha,
        ),
        Estimator("top-fraction", "top 10 %", "the largest tenth: AlphaQ", _top_fraction),
        Estimator("moments", "moments", "the largest tenth, with a sign", _moments),
    )
}
