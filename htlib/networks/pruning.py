"""Prune the inner weights of a network by magnitude, by a share for each that a column decides."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.networks.config import Pruning
from htlib.networks.methods import allocated
from htlib.networks.models import Unit

_CAP = 0.95  # of a sparsity: no layer is emptied


def sparsities(table: pd.DataFrame, reading: Pruning, seed: int) -> NDArray[np.float64]:
    """Return the sparsity of each unit: those of AlphaPruning with the column of the reading for alpha.

    Their mean weighted by the number of entries is `reading.sparsity`.
    """
    return allocated(table, "alphapruning", reading.pruned_by, seed, target=reading.sparsity, cap=_CAP)


def prune(units: Sequence[Unit], given: NDArray[np.float64]) -> None:
    """Set the smallest entries of each unit to zero, in place, by these sparsities."""
    for unit, sparsity in zip(units, given, strict=True):
        weight = unit.weight.data.view(-1)
        weight[weight.abs().topk(round(sparsity * len(weight)), largest=False, sorted=False).indices] = 0.0


@contextmanager
def pruned(units: Sequence[Unit], given: NDArray[np.float64]) -> Generator[None]:
    """Prune for a while; afterwards the weights are as before."""
    kept = [unit.weight.detach().clone() for unit in units]
    prune(units, given)
    try:
        yield
    finally:
        for unit, weight in zip(units, kept, strict=True):
            unit.weight.data.copy_(weight)
