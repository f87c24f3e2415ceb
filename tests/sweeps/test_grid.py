"""Oracles: itertools.product, and configurations written out by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

import htlib as ht
from htlib.sweeps.grid import expand, fields_of
from tests.refusals import refused
from tests.sweeping import TINY


def settings(configs, *names):
    return [tuple(getattr(config, name) for name in names) for config in configs]


def test_seeds_are_innermost_and_the_last_field_turns_faster():
    grid = TINY | {"lr": [0.1, 1.0], "optimizer": ["adam", "gd"]}
    expected = list(itertools.product([0.1, 1.0], ["adam", "gd"], [0, 1, 2]))
    assert settings(expand(grid, 3), "lr", "optimizer", "seed") == expected


def test_a_scalar_is_one_value_and_the_rest_has_its_defaults():
    grid = {"lr": 0.1, "optimizer": "gd", "lr_decay": None, "normalize_weights": True}
    assert expand(grid, [4]) == [ht.ExperimentConfig(lr=0.1, optimizer="gd", normalize_weights=True, seed=4)]


@pytest.mark.parametrize(
    "values",
    [
        (0.25, 4.0),
        np.array([0.25, 4.0]),
        np.array([0.25, 4.0], dtype=np.float32),
        [np.float64(0.25), np.float32(4.0)],
        pd.Series([0.25, 4.0], index=[5, 6]),
        (value for value in (0.25, 4.0)),
    ],
    ids=["tuple", "array", "float32", "scalars", "series", "generator"],
)
def test_values_may_come_in_any_iterable(values):
    configs = expand({"lr": values}, 1)
    assert configs == [ht.ExperimentConfig(lr=0.25), ht.ExperimentConfig(lr=4.0)]
    assert all(type(config.lr) is float for config in configs)


def test_numpy_values_give_the_digest_of_plain_ones():
    grid = {"n": np.arange(40, 42), "normalize_weights": np.array([True]), "teacher": np.array(["relu"])}
    plain = [ht.ExperimentConfig(n=n, normalize_weights=True, teacher="relu") for n in (40, 41)]
    assert [c.digest() for c in expand(grid, 1)] == [c.digest() for c in plain]
    assert expand({"n": np.int64(40), "lr": np.array(0.5)}, 1) == [ht.ExperimentConfig(n=40, lr=0.5)]


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        *[(2, [0, 1]), (np.int64(2), [0, 1]), ([7, 3], [7, 3])],
        *[(range(5, 7), [5, 6]), (np.array([1, 4]), [1, 4]), (iter([2, 1]), [2, 1])],
    ],
)
def test_seeds_are_a_number_or_a_list_for_every_setting(seeds, expected):
    configs = expand({"lr": [0.1, 1.0]}, seeds)
    assert settings(configs, "lr", "seed") == list(itertools.product([0.1, 1.0], expected))


def test_a_union_of_grids_is_one_after_the_other():
    grids = [{"optimizer": "adam", "lr": [0.1, 1.0]}, {"optimizer": "gd", "lr": 5.0, "momentum": 0.5}]
    assert settings(expand(grids, 1), "optimizer", "lr", "momentum") == [
        ("adam", 0.1, 0.0),
        ("adam", 1.0, 0.0),
        ("gd", 5.0, 0.5),
    ]
    assert fields_of(grids) == ["optimizer", "lr", "momentum"]
    assert fields_of(grids[::-1]) == ["optimizer", "lr", "momentum"]
    assert fields_of(grids[0]) == ["optimizer", "lr"]


TYPE, SEEDS = ("grid must map fields",), ("seeds must", "number of seeds or a list")
TWICE = ("grid", "same run twice")
WRONG_GRIDS = [
    ({}, ValueError, ("grid is empty", "at least one field")),
    ([{"lr": 1.0}, {}], ValueError, ("grid is empty",)),
    ([], TypeError, (*TYPE, "[]")),
    ("lr", TypeError, (*TYPE, "'lr'")),
    (5, TypeError, (*TYPE, 5)),
    (None, TypeError, TYPE),
    ([["lr", 1.0]], TypeError, TYPE),
    ({"lr": []}, ValueError, ("grid['lr'] is empty", "at least one value")),
    ({"lr": np.array([])}, ValueError, ("grid['lr'] is empty",)),
    ({"learning_rate": [1.0]}, TypeError, ("unknown field 'learning_rate' in grid", "n, d, h")),
    ({"lr": 1.0, 3: 4}, TypeError, ("unknown field 3 in grid",)),
    ([{"lr": 1.0}, {"LR": 1.0}], TypeError, ("unknown field 'LR' in grid",)),
    ({"lr": [0.1, -1.0]}, ValueError, ("lr must", "not negative", -1.0)),
    ({"lr": ["fast"]}, TypeError, ("lr must", "number", "'fast'")),
    ({"n": [40, 2.5]}, TypeError, ("n must", "integer, at least 1", 2.5)),
    ({"h": 0}, ValueError, ("h must", "integer, at least 1", 0)),
    ({"lr": float("nan")}, ValueError, ("lr must", "finite", "nan")),
    ({"optimizer": ["adam", "sgd"]}, ValueError, ("optimizer must", "adam, gd, signsgd, muon", "'sgd'")),
    ({"optimizer": ["adam", "gd"], "momentum": 0.5}, ValueError, ("momentum = 0.5", "optimizer='adam'")),
    ({"lr": 1.0, "seed": [1, 2]}, ValueError, ("grid must not hold 'seed'", "seeds=")),
    ({"lr": [0.1, 1.0, 0.1]}, ValueError, (*TWICE, "lr = 0.1, seed = 0")),
    ({"lr": [1, 1.0]}, ValueError, (*TWICE, "lr = 1.0, seed = 0")),
    ([{"lr": 0.1}, {"lr": [0.1, 1.0], "steps": 10}], ValueError, (*TWICE, "lr = 0.1, steps = 10, seed = 0")),
]
WRONG_SEEDS = [
    *((seeds, ValueError, ("seeds must", "at least one seed", seeds)) for seeds in (0, -3, [])),
    *(([0, seed], error, ("seed must", 0, seed)) for seed, error in ((-1, ValueError), (0.5, TypeError))),
    *((seeds, TypeError, (*SEEDS, repr(seeds))) for seeds in (2.0, True, "12", None)),
    ([3, 3], ValueError, (*TWICE, "lr = 1.0, seed = 3")),
]


@pytest.mark.parametrize(
    ("grid", "seeds", "error", "named"),
    [
        *((grid, 1, error, named) for grid, error, named in WRONG_GRIDS),
        *(({"lr": 1.0}, seeds, error, named) for seeds, error, named in WRONG_SEEDS),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(grid, seeds, error, named, tmp_path, monkeypatch):
    monkeypatch.setattr("htlib.sweeps.workers.compute", lambda *args: pytest.fail("computed"))
    for call in (ht.sweep, ht.sweep_runs):
        with refused(*named, error=error):
            call(grid, seeds, tmp_path / "store", progress=False)
    assert not list(tmp_path.iterdir())
