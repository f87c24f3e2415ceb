"""Oracles: the Marchenko-Pastur law at rate 0, trained and drawn weights, quantities that are known exactly.

A trained bulk of N eigenvalues lies within about ln N / N of its law.  Its largest eigenvalue scatters by the
width of the Tracy-Widom law, 1 to 2 % of s_2 here, and with the largest residuals and readouts.
"""

import dataclasses
import math

import numpy as np
import pytest

import htlib as ht
from htlib.spectra.noise import MarchenkoPastur
from htlib.student.start import prepare
from htlib.theory.one_step import one_step_law
from tests.refusals import refused

SHAPE = {"n": 800, "d": 400, "h": 600}
WIDE = {"n": 500, "d": 600, "h": 300}  # fewer samples and fewer rows than columns
BOTH = pytest.mark.parametrize("optimizer", ["adam", "gd"])
SHAPES = pytest.mark.parametrize("shape", [SHAPE, WIDE], ids=["tall", "wide"])


def bulk_and_problem(shape, optimizer, lr, seed):
    config = ht.ExperimentConfig(**shape, n_test=20, seed=seed)
    start = prepare(config)
    G = start.gradient.double().numpy()
    W = start.hidden_weights.double().numpy() - lr * (np.sign(G) if optimizer == "adam" else G)
    return ht.esd(W)[:-1], ht.make_problem(config)


def distance(values, law):
    """The Kolmogorov distance."""
    steps = np.arange(len(values) + 1) / len(values)
    fitted = law.cdf(values)
    return max((steps[1:] - fitted).max(), (fitted - steps[:-1]).max())


@BOTH
@SHAPES
def test_before_the_step_the_bulk_is_noise(optimizer, shape):
    law, known = (
        one_step_law(optimizer=optimizer, **shape).bulk(0.0),
        MarchenkoPastur.of_gaussian_esd(shape["h"], shape["d"]),
    )
    assert law.support[0] == pytest.approx(known.support, rel=1e-6)
    assert law.size == min(shape["h"], shape["d"])


@BOTH
@SHAPES
def test_trained_bulks_follow_the_law(optimizer, shape):
    law = one_step_law(optimizer=optimizer, **shape)
    for multiple in (3, 30, 300):
        lr = multiple * law.critical_lr
        expected = law.bulk(lr)
        rows = []
        for seed in (10, 11):
            values, problem = bulk_and_problem(shape, optimizer, lr, seed)
            given = law.bulk(lr, problem)
            assert expected.size == given.size == len(values)
            rows.append(
                (
                    distance(values, given),
                    distance(values, expected),
                    math.sqrt(given.largest_quantile() / values[-1]) - 1,
                    math.sqrt(expected.largest_quantile() / values[-1]) - 1,
                    given.hill_alpha() - ht.hill_alpha(values),
                    expected.hill_alpha() - ht.hill_alpha(values),
                )
            )
        tolerances = (0.025, 0.04, 0.04, 0.08, 0.03, 0.04)
        assert (np.abs(np.mean(rows, axis=0)) < tolerances).all()


def test_independent_signs_miss_the_edge():
    """The negative control: at large rates the bulk of `sample` ends too early."""
    law = one_step_law(**SHAPE)
    lr = 5.0
    values = np.mean([bulk_and_problem(SHAPE, "adam", lr, seed)[0][-1] for seed in range(3)])
    drawn = np.mean([ht.esd(law.sample(lr, seed)[0])[-2] for seed in range(3)])
    assert math.sqrt(drawn / values) < 0.9
    assert math.sqrt(law.bulk(lr).largest_quantile() / values) == pytest.approx(1, abs=0.05)


@BOTH
def test_large_rates_have_a_limit(optimizer):
    law = one_step_law(optimizer=optimizer, **SHAPE)
    limit, far = law.bulk(math.inf), law.bulk(1e4 * law.critical_lr)
    assert far.edge / (1e4 * law.critical_lr) ** 2 == pytest.approx(limit.edge, rel=2e-3)
    assert far.hill_alpha() == pytest.approx(limit.hill_alpha(), abs=0.01)
    # a pure number: four times larger in all sides, with finer quantiles of the residuals
    larger = one_step_law(optimizer=optimizer, **{name: 4 * size for name, size in SHAPE.items()})
    assert larger.bulk(math.inf).hill_alpha() == pytest.approx(limit.hill_alpha(), abs=0.02)


@BOTH
def test_a_bulk_only_grows(optimizer):
    law = one_step_law(optimizer=optimizer, **SHAPE)
    edges = [law.bulk(m * law.critical_lr).edge for m in (1.1, 2, 4, 8, 16)]
    assert (np.diff(edges) > 0).all()


@BOTH
def test_the_mean_eigenvalue_is_that_of_the_variances(optimizer):
    """E |noise|^2 is exact: per entry v1 r^2 / n times the step's factor, or 1 - E p^2 for signs."""
    law = one_step_law(optimizer=optimizer, **SHAPE)
    lr, known, (n, d, h) = 20 * law.critical_lr, law.constants, SHAPE.values()
    noise = 4 / (h * d) * known.slope_variance * known.residual / n
    if optimizer == "adam":
        noise = 1 - law.gain / (h * d)
    mean = law.bulk(lr).quantiles().sum() / (h * d)
    assert mean == pytest.approx(1 + lr**2 * noise, rel=0.02)


def test_adam_and_signs_have_one_bulk():
    adam, signs = (one_step_law(optimizer=name, **SHAPE).bulk(1.0) for name in ("adam", "signsgd"))
    assert adam.edge == signs.edge


def test_labels_do_not_shape_the_bulk_of_gradient_descent():
    real, shuffled = (one_step_law(optimizer="gd", labels=labels, **SHAPE) for labels in ("real", "shuffled"))
    assert real.bulk(1e5).edge == pytest.approx(shuffled.bulk(1e5).edge, rel=1e-3)


def test_other_functions_have_bulks():
    for teacher in ("relu", "identity", "hermite3"):
        for activation in ("erf", "arctan"):
            law = one_step_law(teacher=teacher, activation=activation, **SHAPE)
            assert law.bulk(1.0).edge > law.bulk(0.1).edge


@BOTH
def test_problems_are_kept_apart(optimizer):
    law = one_step_law(optimizer=optimizer, **SHAPE)
    problem = ht.make_problem(ht.ExperimentConfig(**SHAPE, n_test=20))
    louder = dataclasses.replace(
        problem, train=ht.Dataset(problem.train.inputs, problem.train.targets * np.linspace(0, 4, 800) ** 4)
    )
    lr = 50 * law.critical_lr
    assert law.bulk(lr, louder).edge > 1.2 * law.bulk(lr, problem).edge


def test_bad_arguments_are_named():
    law = one_step_law(**SHAPE)
    with refused("lr must", "finite and not negative", "-1"):
        law.bulk(-1.0)
    with refused("problem must have hidden_weights of shape (600, 400)", "(5, 4)", "Make the law"):
        law.bulk(1.0, ht.make_problem(ht.ExperimentConfig(n=6, d=4, h=5, n_test=2)))
    with refused("h and d must be at least 2", "1"):
        one_step_law(h=1).bulk(1.0)
