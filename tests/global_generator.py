"""NumPy's global generator, which nothing of the library may read or move, for the tests that watch it."""

# ruff: noqa: NPY002  the rule forbids this generator, which is just what is watched

from __future__ import annotations

import numpy as np


def seed(number: int) -> None:
    """Set it, so that who reads it gets other numbers."""
    np.random.seed(number)


def state() -> np.ndarray:
    """A copy of its state, which moves when anybody draws."""
    return np.random.get_state()[1].copy()
