"""Whole figures of sweeps: runs in, Figure out."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from htlib.records import Trajectory


def draw(name: str, runs: Sequence[Trajectory]) -> Figure:
    raise NotImplementedError(name)
