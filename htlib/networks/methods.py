"""Measure the inner weights of a network, and allocate rates, decay or sparsity to them by their exponents.

The methods are presets of `htlib.allocate`.  Their controls change only what stands in the place of alpha:
the columns of `htlib.models.controls.with_controls`, which get the values of alpha, so that only the order
of the layers differs; and "mean", with which all layers get the mean of what alpha gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.models.allocation import PRESETS, allocate
from htlib.models.allocation_rows import block_of
from htlib.models.controls import with_controls
from htlib.networks.models import Unit
from htlib.spectra.eigenvalues import esd
from htlib.spectra.nulls import gaussian_esd
from htlib.spectra.power_law import hill_alpha

_REPLICATES = 30  # noise matrices per shape


def measure_units(units: Sequence[Unit]) -> pd.DataFrame:
    """Measure the inner weights of a network.

    Returns
    -------
    DataFrame
        One row per unit, with the columns of `htlib.analyze` that an allocation needs: name, shape,
        n_matrices (whose spectra are pooled), alpha_hill, alpha_hill_null (its mean over Gaussian noise of
        this shape), alpha_hill_z, stable_rank (the mean over the matrices).
    """
    rows = list[dict[str, Any]]()
    for unit in units:
        matrices = unit.matrices
        values = [esd(matrix) for matrix in matrices]
        count, h, d = matrices.shape
        mean, spread = noise_alpha(h, d, count)
        alpha = hill_alpha(np.concatenate(values))
        rows.append(
            {
                "name": unit.name,
                "shape": (h, d),
                "n_matrices": count,
                "alpha_hill": alpha,
                "alpha_hill_null": mean,
                "alpha_hill_z": (alpha - mean) / spread,
                "stable_rank": float(np.mean([v.sum() / v[-1] for v in values])),
            }
        )
    return pd.DataFrame(rows)


@cache
def noise_alpha(h: int, d: int, count: int = 1) -> tuple[float, float]:
    """Return mean and standard deviation of PL_Alpha_Hill over noise: count matrices (h, d), pooled."""
    rng = np.random.default_rng([*sorted((h, d)), count])
    draws = [
        hill_alpha(np.concatenate([gaussian_esd(h, d, rng) for _ in range(count)]))
        for _ in range(_REPLICATES)
    ]
    return float(np.mean(draws)), float(np.std(draws, ddof=1))


def allocated(
    table: pd.DataFrame, preset: str, column: str, seed: int, **options: Any
) -> NDArray[np.float64]:
    """Return what a published system gives each row of `measure_units`, with a column in the place of alpha.

    Parameters
    ----------
    table : DataFrame
    preset : str
        A member of `htlib.models.allocation.PRESETS`; its rule is applied to all rows.
    column : str
        A member of `htlib.networks.config.COLUMNS`.
    seed : int
        Draws the permutation.
    **options
        Of the rule, beside those of the preset.

    Returns
    -------
    (n_units,) array
    """
    system = PRESETS[preset]
    name = "alpha_hill" if column in ("alpha", "mean") else column
    if name not in table:
        units = [(block_of(unit) if system.by == "block" else unit) for unit in table["name"]]
        order = _seed_of_derangement(len(set(units)), seed)
        table = with_controls(table, by=system.by, matched=True, seed=order)
    given = allocate(table, system.rule, column=name, by=system.by, **{**system.options, **options})
    values = given.to_numpy(np.float64)
    return np.full(len(values), values.mean()) if column == "mean" else values


def _seed_of_derangement(n: int, seed: int) -> int:
    """Return a seed whose permutation of n leaves nothing in its place; another seed gives another one."""
    candidate = 1000 * seed
    while n > 1 and (np.random.default_rng(candidate).permutation(n) == np.arange(n)).any():
        candidate += 1
    return candidate
