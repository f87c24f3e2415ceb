"""Oracles: which run is meant, worked out by hand."""

from __future__ import annotations

import pytest

from htlib.ledger.effects import critical_rate, value
from htlib.theory.one_step import one_step_law
from tests.ledgers import run


def test_min_max_best_and_multiples_of_the_critical_rate():
    critical = one_step_law().critical_lr
    rates = [0.5 * critical, 2.1 * critical, 30 * critical]
    runs = [run(s, lr=lr, kta=[0, lr]) for s in (0, 1) for lr in rates]
    for word, lr in (("min", rates[0]), ("max", rates[2]), ("2 x critical", rates[1])):
        assert value(runs, measure="kta", of={"lr": word}).tolist() == [[lr], [lr]]
    # at each end of the grid one seed does well, in the middle both do
    losses = {0.1: (3, 1), 1.0: (1, 2), 10.0: (2, 2)}
    ridge = [run(s, ridge_lambda=k, test_loss=[5, v[s]]) for k, v in losses.items() for s in (0, 1)]
    best = value(ridge, measure="test_loss", of={"ridge_lambda": "best"})
    assert best.tolist() == [[1.0], [2.0]]
    with pytest.raises(ValueError, match="the best ridge_lambda is 1, an end of what was run"):
        value(ridge[2:], measure="test_loss", of={"ridge_lambda": "best"})


def test_a_multiple_of_the_critical_rate_is_that_of_the_shape_and_of_real_labels():
    """Two shapes in either order, and shuffled labels, whose own critical rate is another."""
    shapes = ({"n": 200, "d": 100, "h": 150}, {"n": 2000, "d": 1000, "h": 1500})
    runs = []
    for shape in shapes:
        critical = one_step_law(**shape).critical_lr
        for lr in (2.05 * critical, 10 * critical):
            for labels in ("real", "shuffled"):
                runs += [run(s, lr=lr, kta=[0, lr], labels=labels, **shape) for s in (0, 1)]
    for given in (runs, runs[::-1]):
        for labels in ("real", "shuffled"):
            setting = {"d": "max", "lr": "2 x critical", "labels": labels}
            expected = 2.05 * one_step_law(**shapes[1]).critical_lr
            assert value(given, measure="kta", of=setting) == pytest.approx(expected)
    with pytest.raises(ValueError, match="must name n, d and h"):
        value(runs, measure="kta", of={"lr": "2 x critical"})
    with pytest.raises(ValueError, match="no run is near lr = 5 x critical"):
        value(runs, measure="kta", of={"d": "max", "lr": "5 x critical"})


def test_a_curve_must_not_mix_shapes():
    runs = [
        run(0, lr=lr, d=d, alignment=[0, y])
        for d in (10, 20)
        for lr, y in ((1.0, 0.0), (4.0, 0.2), (16.0, 0.4))
    ]
    with pytest.raises(ValueError, match="must pick a run per seed and lr"):
        critical_rate(runs, of={}, over="prediction")
    with pytest.raises(ValueError, match="centred labels are not predicted"):
        critical_rate(
            [run(0, lr=lr, alignment=[0, lr], labels="centred") for lr in (1.0, 2.0, 4.0)],
            of={"labels": "centred"},
            over="prediction",
        )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"lr": 5.0}, "must pick one run per seed; it picks"),
        ({}, "must pick one run per seed; it picks"),
        ({"rate": 1.0}, "unknown field 'rate'"),
        ({"lr": "largest"}, "lr must be a number or a word"),
        ({"lr": 1.0, "step": 7}, "step 7 of seed 0 was not measured"),
    ],
)
def test_settings_that_pick_no_run_are_named(setting, message):
    runs = [run(s, lr=lr, d=d) for s in (0, 1) for lr, d in ((1.0, 10), (2.0, 10), (1.0, 20))]
    setting = {"d": 10, **setting} if setting.get("lr") in (1.0, "largest") else setting
    with pytest.raises(ValueError, match=message):
        value(runs, measure="kta", of=setting)
