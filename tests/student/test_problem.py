"""Oracles: the setting of chapter 1; closed-form moments; identities between paired seeds."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import htlib as ht
from tests import global_generator

CONFIG = ht.ExperimentConfig(n=400, d=6, h=9, n_test=300, seed=3)
SETS = ("train", "probe", "test")
# E softplus(z) and E softplus(z)^2 by Gauss-Hermite quadrature, an oracle apart from htlib's own
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)
MEAN, SQUARE = (WEIGHTS / WEIGHTS.sum()) @ np.logaddexp(0, NODES)[:, None] ** [1, 2]


def arrays(problem):
    return {
        "teacher_direction": problem.teacher_direction,
        "hidden_weights": problem.hidden_weights,
        "readout_weights": problem.readout_weights,
        **{f"{s}.{f}": getattr(getattr(problem, s), f) for s in SETS for f in ("inputs", "targets")},
    }


def differences(first, second):
    first, second = arrays(first), arrays(second)
    return {name for name in first if not np.array_equal(first[name], second[name])}


def test_shapes_and_types():
    shapes = {name: array.shape for name, array in arrays(ht.make_problem(CONFIG)).items()}
    assert shapes == {
        "teacher_direction": (6,),
        "hidden_weights": (9, 6),
        "readout_weights": (9,),
        "train.inputs": (400, 6),
        "train.targets": (400,),
        "probe.inputs": (400, 6),
        "probe.targets": (400,),
        "test.inputs": (300, 6),
        "test.targets": (300,),
    }
    assert {array.dtype for array in arrays(ht.make_problem(CONFIG)).values()} == {np.dtype("float64")}


def test_targets_are_the_teachers_without_noise():
    problem = ht.make_problem(CONFIG.replace(noise_std=0))
    assert np.linalg.norm(problem.teacher_direction) == pytest.approx(1, abs=1e-14)
    for s in (problem.train, problem.probe, problem.test):
        expected = np.log1p(np.exp(s.inputs @ problem.teacher_direction))
        np.testing.assert_allclose(s.targets, expected, rtol=1e-13)


def test_noise_has_the_standard_deviation_asked_for():
    clean, noisy, noisier = (ht.make_problem(CONFIG.replace(n=5000, noise_std=s)) for s in (0, 0.5, 1))
    noise = noisy.train.targets - clean.train.targets
    # standard error .5 / sqrt(2 * 5000) = .005; three of them
    assert noise.std() == pytest.approx(0.5, abs=0.015)
    assert noise.mean() == pytest.approx(0, abs=3 * 0.5 / math.sqrt(5000))
    np.testing.assert_allclose(noisier.train.targets - clean.train.targets, 2 * noise, atol=1e-14)


def test_draws_are_standard_normal_and_independent():
    problem = ht.make_problem(CONFIG.replace(n=1000, d=40, h=50, n_test=1000))
    for x in (problem.hidden_weights, problem.train.inputs, problem.probe.inputs, problem.test.inputs):
        assert x.mean() == pytest.approx(0, abs=4 / math.sqrt(x.size))
        assert x.var() == pytest.approx(1, abs=4 * math.sqrt(2 / x.size))
    X, probe = problem.train.inputs, problem.probe.inputs
    # the sets are different draws: correlation within 4 standard errors of zero
    assert abs((X * probe).mean()) < 4 / math.sqrt(X.size)


def test_same_config_same_numbers_other_seed_others():
    assert not differences(ht.make_problem(CONFIG), ht.make_problem(CONFIG))
    everything = set(arrays(ht.make_problem(CONFIG)))
    assert differences(ht.make_problem(CONFIG), ht.make_problem(CONFIG.replace(seed=4))) == everything


def test_numbers_of_a_seed_are_the_ones_written_down():
    """Published numbers hang on these; never edit the literals.  (Six digits: BLAS may round the targets.)"""
    config = ht.ExperimentConfig(n=50, d=5, h=6, n_test=5)
    first = {name: array.flat[0] for name, array in arrays(ht.make_problem(config)).items()}
    assert first == pytest.approx(
        {
            "teacher_direction": 0.7080925840,
            "hidden_weights": 0.8050894724,
            "readout_weights": 0.9420990038,
            "train.inputs": -1.0371415602,
            "train.targets": 1.0557866223,
            "probe.inputs": -0.0500992873,
            "probe.targets": 1.9029192085,
            "test.inputs": -0.3910210649,
            "test.targets": 0.8479311182,
        },
        rel=1e-6,
    )
    for labels, target in (("shuffled", 0.6294921464), ("noise", 0.5754794078)):
        control = ht.make_problem(config.replace(labels=labels))
        assert control.train.targets[0] == pytest.approx(target, rel=1e-6)


def test_global_generators_are_neither_read_nor_moved():
    global_generator.seed(1)
    before = global_generator.state()
    first = ht.make_problem(CONFIG)
    np.testing.assert_array_equal(global_generator.state(), before)
    global_generator.seed(2)
    assert not differences(first, ht.make_problem(CONFIG))


@pytest.mark.parametrize("labels", ["real", "noise", "centred"])
def test_smaller_samples_are_prefixes(labels):
    """Paired seeds: the rows of n = 50 are the first 50 of n = 100; weights and test set are shared."""
    small, large = (ht.make_problem(CONFIG.replace(n=n, labels=labels)) for n in (50, 100))
    for name in ("train", "probe"):
        a, b = getattr(small, name), getattr(large, name)
        np.testing.assert_array_equal(a.inputs, b.inputs[:50])
        np.testing.assert_allclose(
            a.targets, b.targets[:50], rtol=1e-13, atol=1e-14
        )  # BLAS may block rows anew
    assert {n.split(".")[0] for n in differences(small, large)} == {"train", "probe"}


def test_same_seed_shares_the_data_across_widths_and_teachers():
    base = ht.make_problem(CONFIG)
    wide = ht.make_problem(CONFIG.replace(h=20))
    assert differences(base, wide) == {"hidden_weights", "readout_weights"}
    np.testing.assert_array_equal(wide.hidden_weights[:9], base.hidden_weights)
    assert differences(base, ht.make_problem(CONFIG.replace(teacher="relu"))) == {
        f"{s}.targets" for s in SETS
    }
    assert not differences(base, ht.make_problem(CONFIG.replace(lr=7, optimizer="gd", steps=1)))


@pytest.mark.parametrize("labels", ["shuffled", "noise"])
def test_label_controls_change_the_training_targets_alone(labels):
    real, control = ht.make_problem(CONFIG), ht.make_problem(CONFIG.replace(labels=labels))
    assert differences(real, control) == {"train.targets"}


def test_shuffled_labels_are_the_same_multiset():
    real, control = (ht.make_problem(CONFIG.replace(labels=name)).train for name in ("real", "shuffled"))
    np.testing.assert_array_equal(np.sort(real.targets), np.sort(control.targets))
    u = real.inputs @ ht.make_problem(CONFIG).teacher_direction
    assert np.corrcoef(u, real.targets)[0, 1] > 0.8
    assert abs(np.corrcoef(u, control.targets)[0, 1]) < 4 / math.sqrt(400)


def test_noise_labels_match_mean_and_variance():
    problem = ht.make_problem(CONFIG.replace(n=20_000, labels="noise", noise_std=0.5))
    y, variance = problem.train.targets, SQUARE - MEAN**2 + 0.25
    # three standard errors of a Gaussian sample
    assert y.mean() == pytest.approx(MEAN, abs=3 * math.sqrt(variance / 20_000))
    assert y.var() == pytest.approx(variance, rel=3 * math.sqrt(2 / 20_000))
    u = problem.train.inputs @ problem.teacher_direction
    assert abs(np.corrcoef(u, y)[0, 1]) < 3 / math.sqrt(20_000)


def test_centred_labels_lose_the_population_mean_in_all_sets():
    real, centred = (ht.make_problem(CONFIG.replace(labels=name)) for name in ("real", "centred"))
    for name in SETS:
        a, b = getattr(real, name), getattr(centred, name)
        np.testing.assert_allclose(a.targets - b.targets, MEAN, rtol=1e-9)
        np.testing.assert_array_equal(a.inputs, b.inputs)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (np.ones((3, 2)), np.ones(4), r"^targets must have shape \(3,\).*got \(4,\)"),
        (np.ones((3, 2)), np.ones((3, 1)), r"^targets must have shape \(3,\).*got \(3, 1\)"),
        (np.ones(3), np.ones(3), r"^inputs must be a non-empty \(n, d\) array; got shape \(3,\)"),
        (np.ones((0, 2)), np.ones(0), r"^inputs must be a non-empty \(n, d\) array; got shape \(0, 2\)"),
        (np.ones((3, 0)), np.ones(3), r"^inputs must be a non-empty \(n, d\) array; got shape \(3, 0\)"),
    ],
)
def test_dataset_refuses_shapes(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        ht.Dataset(inputs, targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_direction": np.ones(5)}, r"^teacher_direction must have shape \(6,\).*got \(5,\)"),
        ({"readout_weights": np.ones(8)}, r"^readout_weights must have shape \(9,\).*got \(8,\)"),
        ({"hidden_weights": np.ones(9)}, r"^hidden_weights must be a non-empty \(h, d\)"),
        ({"hidden_weights": np.ones((0, 6))}, r"^hidden_weights must be a non-empty \(h, d\)"),
        ({"test": ht.Dataset(np.ones((3, 5)), np.ones(3))}, r"^test.inputs must have shape \(3, 6\)"),
    ],
)
def test_problem_refuses_parts_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ht.make_problem(CONFIG), **change)


def test_problem_may_be_changed_with_replace():
    problem = ht.make_problem(CONFIG)
    changed = dataclasses.replace(problem, hidden_weights=2 * problem.hidden_weights)
    assert differences(problem, changed) == {"hidden_weights"}


def test_tensors_and_lists_are_taken_and_kept_as_arrays():
    config = ht.ExperimentConfig(n=20, d=6, h=8, n_test=10, steps=1)
    problem = ht.make_problem(config)
    weights = torch.from_numpy(problem.hidden_weights).requires_grad_()
    other = dataclasses.replace(
        problem, hidden_weights=weights, teacher_direction=problem.teacher_direction.tolist()
    )
    assert isinstance(other.hidden_weights, np.ndarray)
    assert ht.train(config, other).metrics.equals(ht.train(config, problem).metrics)
