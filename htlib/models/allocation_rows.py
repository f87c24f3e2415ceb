"""The rows of a table as an allocation needs them: units, values, sizes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.models.allocation_rules import Units
from htlib.models.layers import PARTS

Array = NDArray[np.float64]
By = str | Callable[[str], str]

_BLOCK = re.compile(r"^(?:.*?[./_])??\d+(?=[./]|$)")
_PART = re.compile(rf"\[({'|'.join(PARTS)})\]$")


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table as an allocation needs them."""

    name: list[str]
    unit: list[str]
    value: Array
    size: Array
    rank: Array  # the number of eigenvalues
    column: str
    variance: Array | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, column: str, by: By) -> Rows:
        if not isinstance(table, pd.DataFrame):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"table must be a DataFrame, such as htlib.analyze makes; got {type(table).__name__}"
            )
        if missing := [name for name in ("name", "shape", column) if name not in table]:
            raise ValueError(
                f"table must have the column {missing[0]!r}; it has {', '.join(map(str, table))}"
            )
        if not len(table):
            raise ValueError("table must have a row; it is empty")
        names = [str(name) for name in table["name"]]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"table must have each name once; {twice!r} is there {names.count(twice)} times")
        shapes = [_shape(shape, name) for name, shape in zip(names, table["shape"], strict=True)]
        counts = numbers(table, "n_matrices") if "n_matrices" in table else np.ones(len(names))
        size = np.array([float(math.prod(shape)) for shape in shapes]) * counts
        rank = np.array([float(min(shape)) for shape in shapes]) * counts
        norms = numbers(table, "frobenius_norm") if "frobenius_norm" in table else None
        variance = None if norms is None else norms**2 / size
        return cls(
            names, [_unit(name, by) for name in names], numbers(table, column), size, rank, column, variance
        )

    def check_values(self, taken: NDArray[np.bool_]) -> None:
        wrong = np.flatnonzero(taken & ~np.isfinite(self.value))
        if len(wrong):
            which = ", ".join(self.name[i] for i in wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            raise ValueError(
                f"column {self.column!r} must be finite; it is {self.value[wrong[0]]} at {which}: drop these"
                " rows, or take another column"
            )

    def units(self, taken: NDArray[np.bool_]) -> tuple[Units, NDArray[np.intp]]:
        """Return the units of the rows taken, in ascending order, and the place of each row's unit."""
        rows = np.flatnonzero(taken)
        names, unit = np.unique(np.array(self.unit, dtype=object)[rows], return_inverse=True)
        # Sums over sorted rows do not depend on the order of the table.
        order = np.lexsort((self.size[rows], self.value[rows], unit))
        rows, own = rows[order], unit[order]
        count = np.bincount(own)
        first = np.searchsorted(own, np.arange(len(names)))
        lowest = self.value[rows][first]  # of equal values the mean is exactly their value
        value = lowest + np.bincount(own, weights=self.value[rows] - lowest[own]) / count
        size = np.bincount(own, weights=self.size[rows])
        variance = None
        if self.variance is not None:
            variance = np.bincount(own, weights=self.variance[rows] * self.size[rows]) / size
        # Equal units stand by size, and by name from the last to the first: see `experts`.
        ascending = np.lexsort((-np.arange(len(names)), size, value))
        place = np.empty(len(names), dtype=np.intp)
        place[ascending] = np.arange(len(names))
        units = Units(
            [str(names[i]) for i in ascending],
            value[ascending],
            size[ascending].astype(np.float64),
            None if variance is None else variance[ascending],
        )
        return units, place[unit]


def block_of(name: str) -> str | None:
    """Return the block that a layer's name begins with: all up to its first number, or None without one.

    Examples
    --------
    >>> block_of("encoder.layer.3.attention.self.query.weight"), block_of("lm_head.weight")
    ('encoder.layer.3', None)
    """
    match = _BLOCK.match(_PART.sub("", name))
    return match[0] if match else None


def tensor_of_row(name: str) -> str:
    """Return the name of the tensor that a row of a table is a part of.

    Examples
    --------
    >>> tensor_of_row("lstm.weight_ih_l0[forget]")
    'lstm.weight_ih_l0'
    """
    return _PART.sub("", name)


def numbers(table: pd.DataFrame, column: str) -> Array:
    """Return a column as numbers, or raise ValueError with its name."""
    try:
        return table[column].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {column!r} must be numbers: {error}") from error


def _unit(name: str, by: By) -> str:
    if callable(by):
        return str(by(name))
    if by == "row":
        return name
    if by == "tensor":
        return tensor_of_row(name)
    if by == "block":
        return block_of(name) or tensor_of_row(name)
    raise ValueError(f"by must be 'row', 'tensor', 'block' or a function of a name; got {by!r}")


def _shape(given: Any, name: str) -> tuple[int, ...]:
    """Read a shape as a table or its CSV file has it: a sequence of numbers, or a text of one."""
    try:
        value = ast.literal_eval(given.replace("x", ",")) if isinstance(given, str) else given
        shape = (int(value),) if np.ndim(value) == 0 else tuple(int(side) for side in value)
    except (ValueError, SyntaxError, TypeError):
        shape = ()
    if not shape or min(shape) < 1:
        raise ValueError(f"shape must be positive whole numbers such as (384, 1536); {name} has {given!r}")
    return shape
