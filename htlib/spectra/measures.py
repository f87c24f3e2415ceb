"""Compute all numbers of one spectrum, as `htlib.analyze` and the nulls report them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from numpy.typing import ArrayLike
from torch import Tensor

from htlib.spectra.eigenvalues import (
    alpha_weighted,
    as_spectrum,
    effective_rank,
    log_alpha_norm,
    spectral_entropy,
    stable_rank,
)
from htlib.spectra.power_law import fit_power_law, has_spread, hill_alpha


@dataclass(frozen=True)
class SpectrumMeasures:
    """Hold the numbers of one spectrum; a number that is not defined is NaN.

    There is no exponent where fewer than three values are positive or all of them are equal to twelve digits.

    Attributes
    ----------
    alpha_hill : float
        `htlib.hill_alpha`.
    alpha_ks, alpha_error, ks_distance, ks_xmin, n_tail
        From `htlib.fit_power_law` at its KS threshold, ``ks_xmin``.
    spectral_norm, frobenius_norm : float
        Norms of the matrix.
    stable_rank, effective_rank, entropy : float
        `htlib.stable_rank`, `htlib.effective_rank`, `htlib.spectral_entropy`.
    alpha_weighted, log_alpha_norm : float
        WeightWatcher's measures, with alpha_ks.
    """

    alpha_hill: float
    alpha_ks: float
    alpha_error: float
    ks_distance: float
    ks_xmin: float
    n_tail: int
    spectral_norm: float
    frobenius_norm: float
    stable_rank: float
    effective_rank: float
    entropy: float
    alpha_weighted: float
    log_alpha_norm: float

    def as_dict(self) -> dict[str, float]:
        """Return a dictionary from name to value."""
        return asdict(self)


def spectrum_measures(
    eigenvalues: Tensor | ArrayLike,
    xmin: str | float | tuple[float, float] = "ks",
    xmax: float | None = None,
) -> SpectrumMeasures:
    """Measure a spectrum.

    Parameters
    ----------
    eigenvalues : (N,) array
        Raw ESD in any order; zeros are left out of the fits.
    xmin, xmax
        Of the power-law fit, as for `htlib.fit_power_law`.

    Returns
    -------
    SpectrumMeasures

    Raises
    ------
    ValueError
        If an eigenvalue is negative or not finite, or all are zero.

    Examples
    --------
    >>> measures = spectrum_measures([1.0, 2.0, 4.0, 8.0])
    >>> measures.stable_rank, round(measures.alpha_hill, 4)
    (1.875, 3.8854)
    """
    values = as_spectrum(eigenvalues)
    positive = values[values > 0]
    fits = len(positive) >= 3 and has_spread(positive)
    fit = fit_power_law(positive, xmin, xmax) if fits else None
    return SpectrumMeasures(
        alpha_hill=hill_alpha(positive) if fits else math.nan,
        alpha_ks=fit.alpha if fit else math.nan,
        alpha_error=fit.alpha_error if fit else math.nan,
        ks_distance=fit.ks_distance if fit else math.nan,
        ks_xmin=fit.xmin if fit else math.nan,
        n_tail=fit.n_tail if fit else 0,
        spectral_norm=math.sqrt(values[-1]),
        frobenius_norm=math.sqrt(values.sum()),
        stable_rank=stable_rank(values),
        effective_rank=effective_rank(values),
        entropy=spectral_entropy(values),
        alpha_weighted=alpha_weighted(positive, fit.alpha) if fit else math.nan,
        log_alpha_norm=log_alpha_norm(positive, fit.alpha) if fit else math.nan,
    )
