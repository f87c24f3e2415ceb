"""Columns that an allocation must beat: noise of the same shapes, a permutation, depth, the mean."""

from __future__ import annotations

import numpy as np
import pandas as pd

from htlib.models.allocation_rows import Array, By, Rows, numbers


def with_controls(
    table: pd.DataFrame, column: str = "alpha_hill", *, by: By = "row", matched: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Add columns that an allocation must beat before a spectrum deserves the credit.

    Parameters
    ----------
    table : DataFrame
        As for `allocate`; "noise" and "excess" need the column ``<column>_null``, and "z" needs
        ``<column>_z``, which `htlib.analyze` writes for alpha_hill.  Without them these three are missing.
    column : str
        The column that is controlled.
    by : {"row", "tensor", "block"} or callable
        The units of the allocation: values are averaged over each first.
    matched : bool
        Give each control the values of `column`, in the control's order (units that are equal in a control
        share the mean of theirs).  Then only the order of the units differs, not the range, and all values
        are positive if those of the column are.
    seed : int
        Seed of the permutation.

    Returns
    -------
    DataFrame
        The table, with the columns

        - ``noise``: the mean over noise of the layer's shape;
        - ``excess``: the column minus ``noise``;
        - ``z``: the z-score against that noise;
        - ``permuted``: the column, permuted over the units;
        - ``depth``: 1, 2, ... in the order of the table;
        - ``uniform``: the mean;
        - ``reversed``: largest plus smallest value minus the column.

    Examples
    --------
    >>> table = pd.DataFrame({"name": ["a", "b", "c"], "shape": [(4, 5)] * 3, "alpha_hill": [2.0, 2.5, 4.0]})
    >>> with_controls(table)[["depth", "uniform", "reversed"]].iloc[0].round(2).tolist()
    [1.0, 2.83, 4.0]
    >>> with_controls(table, matched=True).depth.tolist()
    [2.0, 2.5, 4.0]
    """
    rows = Rows.of(table, column, by)
    rows.check_values(np.ones(len(rows.name), dtype=bool))
    unit_of_row = pd.factorize(np.array(rows.unit, dtype=object))[0]  # in the order of the table

    def averaged(values: Array) -> Array:
        return np.bincount(unit_of_row, weights=values) / np.bincount(unit_of_row)

    value = averaged(rows.value)
    controls: dict[str, Array] = {}
    if f"{column}_null" in table:
        noise = averaged(numbers(table, f"{column}_null"))
        controls |= {"noise": noise, "excess": value - noise}
    if f"{column}_z" in table:
        controls["z"] = averaged(numbers(table, f"{column}_z"))
    controls |= {
        "permuted": np.random.default_rng(seed).permutation(value),
        "depth": np.arange(1.0, len(value) + 1),
        "uniform": np.full(len(value), value.mean()),
        "reversed": value.max() + value.min() - value,
    }
    if matched:
        controls = {name: _matched(control, value) for name, control in controls.items()}
    return table.assign(**{name: control[unit_of_row] for name, control in controls.items()})


def _matched(control: Array, value: Array) -> Array:
    """Give the sorted values to the control's order; ties share a mean."""
    _, inverse = np.unique(control, return_inverse=True)
    shares = np.empty(len(value))
    shares[np.argsort(inverse, kind="stable")] = np.sort(value)
    return (np.bincount(inverse, weights=shares) / np.bincount(inverse))[inverse]
