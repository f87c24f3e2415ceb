"""Oracles: the setting of chapter 1; closed-form moments; identities between paired seeds."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.student.problem import teacher_directions
from tests import global_generator
from tests.refusals import refused

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
    found = arrays(ht.make_problem(CONFIG))
    shapes = {"teacher_direction": (6,), "hidden_weights": (9, 6), "readout_weights": (9,)}
    for name, n in zip(SETS, (400, 400, 300), strict=True):
        shapes |= {f"{name}.inputs": (n, 6), f"{name}.targets": (n,)}
    assert {name: array.shape for name, array in found.items()} == shapes
    assert {array.dtype for array in found.values()} == {np.dtype("float64")}


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
        # BLAS may block rows anew
        np.testing.assert_allclose(a.targets, b.targets[:50], rtol=1e-13, atol=1e-14)
    assert {n.split(".")[0] for n in differences(small, large)} == {"train", "probe"}


TARGETS = {f"{name}.targets" for name in SETS}


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"h": 20}, {"hidden_weights", "readout_weights"}),
        ({"teacher": "relu"}, TARGETS),
        ({"labels": "centred"}, TARGETS),
        ({"labels": "shuffled"}, {"train.targets"}),
        ({"labels": "noise"}, {"train.targets"}),
        ({"lr": 7, "optimizer": "gd", "steps": 1}, set()),
    ],
    ids=lambda value: (
        str(value) if isinstance(value, dict) else ""
    ),  # the order of a set is not the same twice
)
def test_same_seed_shares_the_data_across_other_settings(fields, changed):
    base, other = ht.make_problem(CONFIG), ht.make_problem(CONFIG.replace(**fields))
    assert differences(base, other) == changed
    np.testing.assert_array_equal(other.hidden_weights[:9], base.hidden_weights)


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
        difference = getattr(real, name).targets - getattr(centred, name).targets
        np.testing.assert_allclose(difference, MEAN, rtol=1e-9)


@pytest.mark.parametrize(
    ("inputs", "targets", "named"),
    [
        ((3, 2), 4, ("targets must", "(3,)", "(4,)")),
        ((3, 2), (3, 1), ("targets must", "(3,)", "(3, 1)")),
        (3, 3, ("inputs must", "non-empty (n, d)", "(3,)")),
        ((0, 2), 0, ("inputs must", "non-empty (n, d)", "(0, 2)")),
        ((3, 0), 3, ("inputs must", "non-empty (n, d)", "(3, 0)")),
    ],
)
def test_dataset_refuses_shapes(inputs, targets, named):
    with refused(*named):
        ht.Dataset(np.ones(inputs), np.ones(targets))


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("teacher_direction", np.ones(5), ("(6,)", "(5,)")),
        ("readout_weights", np.ones(8), ("(9,)", "(8,)")),
        ("hidden_weights", np.ones(9), ("non-empty (h, d)",)),
        ("hidden_weights", np.ones((0, 6)), ("non-empty (h, d)",)),
        ("test", ht.Dataset(np.ones((3, 5)), np.ones(3)), ("inputs must", "(3, 6)")),
    ],
)
def test_problem_refuses_parts_that_do_not_fit(name, value, named):
    with refused(name, *named):
        dataclasses.replace(ht.make_problem(CONFIG), **{name: value})


def test_tensors_and_lists_are_taken_and_kept_as_arrays():
    problem = ht.make_problem(CONFIG)
    weights = 2 * torch.from_numpy(problem.hidden_weights).requires_grad_()
    direction = problem.teacher_direction.tolist()
    other = dataclasses.replace(problem, hidden_weights=weights, teacher_direction=direction)
    assert {type(array) for array in arrays(other).values()} == {np.ndarray}
    assert differences(problem, other) == {"hidden_weights"}
    np.testing.assert_array_equal(other.hidden_weights, 2 * problem.hidden_weights)


@pytest.mark.parametrize(("n", "d"), [(60, 20), (20, 60), (30, 30)])
def test_whitened_inputs_have_equal_singular_values_and_decide_the_targets(n, d):
    config = ht.ExperimentConfig(n=n, d=d, h=9, n_test=30, noise_std=0, inputs="whitened")
    problem, plain = ht.make_problem(config), ht.make_problem(config.replace(inputs="gaussian"))
    X = problem.train.inputs
    gram = X.T @ X if n >= d else X @ X.T
    np.testing.assert_allclose(gram, max(n, d) * np.eye(min(n, d)), atol=1e-10 * n * d)
    np.testing.assert_allclose(
        problem.train.targets, np.log1p(np.exp(X @ problem.teacher_direction)), rtol=1e-12
    )
    # of all matrices with those singular values the nearest: <X, X0> is the sum of the singular values of X0
    largest = math.sqrt(max(n, d)) * np.linalg.svd(plain.train.inputs, compute_uv=False).sum()
    assert (X * plain.train.inputs).sum() == pytest.approx(largest)
    changed = {"train.inputs", "train.targets"}
    assert differences(problem, plain) == changed


def test_signs_of_the_readout_are_those_of_the_draw():
    signs, plain = ht.make_problem(CONFIG.replace(readout="signs")), ht.make_problem(CONFIG)
    assert differences(signs, plain) == {"readout_weights"}
    np.testing.assert_array_equal(signs.readout_weights, np.sign(plain.readout_weights))


def test_a_teacher_of_higher_rank_is_a_sum_along_orthonormal_directions():
    config = CONFIG.replace(noise_std=0, teacher_rank=3, teacher_decay=2.0)
    problem, directions = ht.make_problem(config), teacher_directions(config)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-14)
    np.testing.assert_array_equal(directions[:, 0], ht.make_problem(CONFIG).teacher_direction)
    np.testing.assert_array_equal(directions[:, 0], problem.teacher_direction)
    weights = np.array([1, 1 / 4, 1 / 9]) / math.sqrt(1 + 1 / 16 + 1 / 81)
    expected = sum(
        w * np.log1p(np.exp(problem.test.inputs @ beta))
        for w, beta in zip(weights, directions.T, strict=True)
    )
    np.testing.assert_allclose(problem.test.targets, expected, rtol=1e-12)
    # the controls of the labels keep their mean and variance: standard errors .01 of 20,000 samples
    many = config.replace(n=20_000, noise_std=0.3)
    real, noise, centred = (
        ht.make_problem(many.replace(labels=labels)).train.targets for labels in ("real", "noise", "centred")
    )
    assert noise.mean() == pytest.approx(real.mean(), abs=0.03)
    assert noise.std() == pytest.approx(real.std(), abs=0.03)
    assert centred.mean() == pytest.approx(0, abs=0.03)
