"""Oracles: which run is meant, worked out by hand."""

from __future__ import annotations

import pytest

from htlib.ledger.effects import critical_rate, value
from htlib.ledger.settings import matching
from htlib.theory.one_step import one_step_law
from tests.ledgers import run
from tests.refusals import refused


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
    with refused("", "best ridge_lambda is 1, an end"):
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
    with refused("", "must name n, d and h"):
        value(runs, measure="kta", of={"lr": "2 x critical"})
    with refused("", "lr = 5 x critical"):
        value(runs, measure="kta", of={"d": "max", "lr": "5 x critical"})


def test_a_curve_must_not_mix_shapes():
    points = ((1.0, 0.0), (4.0, 0.2), (16.0, 0.4))
    runs = [run(0, lr=lr, d=d, alignment=[0, y]) for d in (10, 20) for lr, y in points]
    with refused("", "a run per seed and lr"):
        critical_rate(runs, of={}, over="prediction")
    runs = [run(0, lr=lr, alignment=[0, lr], labels="centred") for lr in (1.0, 2.0, 4.0)]
    with refused("", "centred labels", "not predicted"):
        critical_rate(runs, of={"labels": "centred"}, over="prediction")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"lr": 5.0}, ("one run per seed",)),
        ({}, ("one run per seed",)),
        ({"rate": 1.0}, ("unknown field 'rate'",)),
        ({"d": 10, "lr": "largest"}, ("lr must", "a number or a word")),
        ({"d": 10, "lr": 1.0, "step": 7}, ("step 7 of seed 0",)),
    ],
)
def test_settings_that_pick_no_run_are_named(setting, named):
    runs = [run(s, lr=lr, d=d) for s in (0, 1) for lr, d in ((1.0, 10), (2.0, 10), (1.0, 20))]
    with refused("", *named):
        value(runs, measure="kta", of=setting)


def test_the_smallest_batch_is_not_the_full_one():
    runs = [run(0, n=40, batch_size=size) for size in (None, 20, 4)]
    assert [r.config.batch_size for r in matching(runs, {"batch_size": "min"})] == [4]
