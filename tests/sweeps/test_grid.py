"""Oracles: itertools.product, and configurations written out by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

import htlib as ht
from htlib.sweeps.grid import expand, fields_of
from tests.sweeping import TINY


def settings(configs, *names):
    return [tuple(getattr(config, name) for name in names) for config in configs]


def test_seeds_are_innermost_and_the_last_field_turns_faster():
    grid = TINY | {"lr": [0.1, 1.0], "optimizer": ["adam", "gd"]}
    expected = list(itertools.product([0.1, 1.0], ["adam", "gd"], [0, 1, 2]))
    assert settings(expand(grid, 3), "lr", "optimizer", "seed") == expected


def test_the_rest_has_its_defaults():
    assert expand({"lr": 0.5}, 1) == [ht.ExperimentConfig(lr=0.5)]


def test_a_scalar_is_one_value():
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
        (2, [0, 1]),
        (np.int64(2), [0, 1]),
        ([7, 3], [7, 3]),
        (range(5, 7), [5, 6]),
        (np.array([1, 4]), [1, 4]),
        (iter([2, 1]), [2, 1]),
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


WRONG = [
    ({}, 1, ValueError, "grid is empty: name at least one field, for instance"),
    ([], 1, TypeError, "grid must map fields of ExperimentConfig to values, or be a list of such; got ["),
    ([{"lr": 1.0}, {}], 1, ValueError, "grid is empty"),
    ("lr", 1, TypeError, "values, or be a list of such; got 'lr'"),
    (5, 1, TypeError, "values, or be a list of such; got 5"),
    (None, 1, TypeError, "grid must map fields"),
    ([["lr", 1.0]], 1, TypeError, "grid must map fields"),
    ({"lr": []}, 1, ValueError, "grid['lr'] is empty: give at least one value"),
    ({"lr": np.array([])}, 1, ValueError, "grid['lr'] is empty"),
    (
        {"learning_rate": [1.0]},
        1,
        TypeError,
        "unknown field 'learning_rate' in grid; ExperimentConfig has n, d, h",
    ),
    ({"lr": 1.0, 3: 4}, 1, TypeError, "unknown field 3 in grid"),
    ([{"lr": 1.0}, {"LR": 1.0}], 1, TypeError, "unknown field 'LR' in grid"),
    ({"lr": [0.1, -1.0]}, 1, ValueError, "lr must be finite and not negative; got -1.0"),
    ({"lr": ["fast"]}, 1, TypeError, "lr must be a number, zero or more; got 'fast'"),
    ({"n": [40, 2.5]}, 1, TypeError, "n must be an integer, at least 1; got 2.5"),
    ({"h": 0}, 1, ValueError, "h must be an integer, at least 1; got 0"),
    ({"lr": float("nan")}, 1, ValueError, "lr must be finite and not negative; got nan"),
    (
        {"optimizer": ["adam", "sgd"]},
        1,
        ValueError,
        "optimizer must be one of adam, gd, signsgd, muon; got 'sgd'",
    ),
    (
        {"optimizer": ["adam", "gd"], "momentum": 0.5},
        1,
        ValueError,
        "momentum = 0.5 has no meaning for optimizer='adam'",
    ),
    ({"lr": 1.0, "seed": [1, 2]}, 1, ValueError, "grid must not hold 'seed'; give seeds="),
    ({"lr": 1.0}, 0, ValueError, "seeds must name at least one seed; got 0"),
    ({"lr": 1.0}, -3, ValueError, "seeds must name at least one seed; got -3"),
    ({"lr": 1.0}, [], ValueError, "seeds must name at least one seed; got []"),
    ({"lr": 1.0}, [0, -1], ValueError, "seed must be an integer, at least 0; got -1"),
    ({"lr": 1.0}, [0.5], TypeError, "seed must be an integer, at least 0; got 0.5"),
    ({"lr": 1.0}, 2.0, TypeError, "seeds must be a number of seeds or a list of them; got 2.0"),
    ({"lr": 1.0}, True, TypeError, "seeds must be a number of seeds or a list of them; got True"),
    ({"lr": 1.0}, "12", TypeError, "seeds must be a number of seeds or a list of them; got '12'"),
    ({"lr": 1.0}, None, TypeError, "seeds must be a number of seeds or a list of them; got None"),
    ({"lr": [0.1, 1.0, 0.1]}, 2, ValueError, "grid holds the same run twice: lr = 0.1, seed = 0"),
    ({"lr": [1, 1.0]}, 1, ValueError, "grid holds the same run twice: lr = 1.0, seed = 0"),
    ({"lr": 1.0}, [3, 3], ValueError, "grid holds the same run twice: lr = 1.0, seed = 3"),
    (
        [{"lr": 0.1}, {"lr": [0.1, 1.0], "steps": 10}],
        1,
        ValueError,
        "grid holds the same run twice: lr = 0.1, steps = 10, seed = 0",
    ),
]


@pytest.mark.parametrize(("grid", "seeds", "kind", "message"), WRONG)
def test_a_wrong_grid_is_refused_before_anything_runs(grid, seeds, kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr("htlib.sweeps.workers.compute", lambda *args: pytest.fail("computed"))
    for call in (ht.sweep, ht.sweep_runs):
        with pytest.raises(kind) as refusal:
            call(grid, seeds, tmp_path / "store", progress=False)
        assert message in str(refusal.value)
    assert not list(tmp_path.iterdir())
