"""Oracles: runs of networks with chosen numbers, and their differences by hand."""

import numpy as np
import pytest

import htlib as ht
from htlib.ledger.controls import EFFECTS, against_controls, network_difference, network_value
from htlib.networks.config import NetworkConfig
from htlib.networks.run import assemble
from tests.refusals import refused

UNITS = (["a", "b"], [(8, 8), (8, 4)], [1, 1])


def run(seed, accuracy, alpha=(2.0, 2.5), **fields):
    """A run of one step, with a chosen accuracy and exponents of its two layers at the end; noise is 2.5."""
    metrics = np.array([[2.3, 2.3, 0.1, 0.0], [1.0, 1 - accuracy, accuracy, 0.1]])
    layers = np.array([[2.5, 2.5, 0.0, 3.0, 1.0]] * 2 + [[a, 2.5, -1.0, 3.0, 1.0] for a in alpha])
    config = NetworkConfig(seed=seed, steps=1, **fields)
    return assemble(config, np.array([0, 1]), metrics, UNITS, layers, "", {}, {})


BALANCED = {"method": "tempbalance"}
SEEDS = range(5)
NONE = [run(s, 0.5 + 0.1 * s) for s in SEEDS]
ALPHA = [run(s, 0.6 + 0.1 * s + 0.01 * (-1) ** s, **BALANCED) for s in SEEDS]
PERMUTED = [run(s, 0.6 + 0.1 * s - 0.01 * (-1) ** s, column="permuted", **BALANCED) for s in SEEDS]
DEPTH = [run(s, 0.8 + 0.1 * s + 0.01 * (-1) ** s, column="depth", **BALANCED) for s in SEEDS]
RUNS = [*NONE, *ALPHA, *PERMUTED, *DEPTH]


def test_differences_are_within_the_seeds():
    """The seeds differ by .1, the settings by .1 +- .01: a difference between means would not see it."""
    found = network_difference(RUNS, measure="accuracy", of=BALANCED, minus={})
    assert found.shape == (5, 1)
    assert found[:, 0] == pytest.approx([0.11, 0.09, 0.11, 0.09, 0.11])
    loss = network_difference(RUNS, measure="test_loss", of=BALANCED, minus={})
    assert loss == pytest.approx(-found)
    assert network_value(NONE, measure="excess", of={}) == pytest.approx(np.full((5, 1), -0.25))


def test_effects_are_registered():
    assert {"network_value", "network_difference", "difference"} <= EFFECTS.keys()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"colour": 1}, ["unknown field 'colour'"]),
        ({"method": "alphadecay"}, ["setting", "must pick one run per seed", "[]"]),
    ],
)
def test_a_setting_picks_one_run_per_seed(setting, message):
    with refused(*message):
        network_value(RUNS, measure="accuracy", of=setting)


def test_a_setting_that_picks_two_is_refused():
    with refused("setting {}", "[0, 0, 1, 2, 3, 4]"):
        network_value([*NONE, run(0, 0.5, lr=0.5)], measure="accuracy", of={})


def test_each_control_beside_alpha():
    """By hand: helps beyond none, a tie with permuted, harms beside depth."""
    table = against_controls(RUNS, "accuracy").set_index("against")
    assert table.result.to_dict() == {"none": "helps", "permuted": "tie", "depth": "harms"}
    assert table.difference["none"] == pytest.approx(0.102)
    assert table.difference["permuted"] == pytest.approx(0.004)
    assert (table.low <= table.difference).all()
    assert (table.n_seeds == 5).all()
    loss = against_controls(RUNS, "test_loss").set_index("against")  # lower is better
    assert loss.result.to_dict() == table.result.to_dict()


def test_settings_are_compared_with_their_like():
    other = [run(s, 0.9, fraction=0.5) for s in SEEDS]
    other += [run(s, 0.1, fraction=0.5, **BALANCED) for s in SEEDS]
    table = against_controls([*RUNS, *other], "accuracy").set_index(["fraction", "against"])
    assert table.result[(0.5, "none")] == "harms"
    assert table.result[(1.0, "none")] == "helps"


def test_pruned_networks_are_compared_at_their_sparsity():
    pruned = [
        run(s, 0.5 + 0.1 * s + gain + 0.001 * (-1) ** s * (by == "alpha"), pruned_by=by, sparsity=0.5)
        for s in SEEDS
        for by, gain in (("alpha", 0.05), ("uniform", 0.0))
    ]
    table = against_controls([*NONE, *pruned], "accuracy")
    assert table[["method", "against", "result"]].values.tolist() == [["pruning", "uniform", "helps"]]


def test_refuses_other_measures_and_runs_without_alpha():
    with refused("measure must be one of test_loss, accuracy", "'excess'"):
        against_controls(RUNS, "excess")
    with refused("no run is allocated by alpha"):
        against_controls(NONE, "accuracy")
    assert ht.against_controls is against_controls
