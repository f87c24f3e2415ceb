"""Grids: every combination of some fields of a configuration, checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from htlib.student.config import ExperimentConfig

T = TypeVar("T")
Grid: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def expand(grid: Grid, seeds: int | Iterable[int], config: type[T] = ExperimentConfig) -> list[T]:
    """List every configuration of a grid, checked; the seeds of a setting follow each other.

    The configurations are of one of the kinds of `htlib.sweeps.kinds`.

    A TypeError or ValueError names the field, the value and the remedy.

    Examples
    --------
    >>> [(c.lr, c.seed) for c in expand({"lr": [0.1, 1.0]}, seeds=2)]
    [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    """
    configs: list[Any] = []
    chosen = _seeds(seeds)
    for one in _grids(grid, config):
        values = {name: _values(name, given) for name, given in one.items()}
        for setting in itertools.product(*values.values()):
            base: Any = config(**dict(zip(values, setting, strict=True)))
            configs += [base.replace(seed=seed) for seed in chosen]
    seen = set[Any]()
    for one in configs:
        if one in seen:
            names = fields_of(grid)
            setting = ", ".join(f"{name} = {getattr(one, name)!r}" for name in (*names, "seed"))
            raise ValueError(f"grid holds the same run twice: {setting}")
        seen.add(one)
    return configs


def fields_of(grid: Grid) -> list[str]:
    """List the fields that any of the grids names, in order of first appearance."""
    return list(dict.fromkeys(name for one in _listed(grid) for name in one))


def _listed(grid: Any) -> list[Any]:
    return [grid] if isinstance(grid, Mapping) or not isinstance(grid, Iterable) else list(grid)


def _grids(grid: Grid, config: type[Any]) -> list[Mapping[str, Any]]:
    items = _listed(grid)
    if not items or not all(isinstance(one, Mapping) for one in items):
        raise TypeError(
            f"grid must map fields of {config.__name__} to values, or be a list of such; got {grid!r}"
        )
    known = [field.name for field in dataclasses.fields(config)]
    grids: list[Mapping[str, Any]] = items
    for one in grids:
        if not one:
            raise ValueError('grid is empty: name at least one field, for instance {"lr": [0.1, 1.0]}')
        if "seed" in one:
            raise ValueError("grid must not hold 'seed'; give seeds=")
        for name in one:
            if name not in known:
                raise TypeError(f"unknown field {name!r} in grid; {config.__name__} has {', '.join(known)}")
    return grids


def _values(name: str, given: Any) -> list[Any]:
    if isinstance(given, np.ndarray) and given.ndim == 0:
        given = given[()]  # a scalar, which has no items
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [given.item() if isinstance(given, np.generic) else given]
    values = [v.item() if isinstance(v, np.generic) else v for v in given]
    if not values:
        raise ValueError(f"grid[{name!r}] is empty: give at least one value")
    return values


def _seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, (bool, str)) or not isinstance(seeds, (int, np.integer, Iterable)):
        raise TypeError(f"seeds must be a number of seeds or a list of them; got {seeds!r}")
    values = list(range(int(seeds))) if isinstance(seeds, (int, np.integer)) else list(seeds)
    if not values:
        raise ValueError(f"seeds must name at least one seed; got {seeds!r}")
    return values
