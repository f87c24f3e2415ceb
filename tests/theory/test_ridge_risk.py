"""Oracles: ridge regression on fresh samples, a solvable case by hand, and limits that are known exactly.

A test loss scatters by 1 to 2 % from draw to draw at these sizes, half of which is the test set's.
"""

import math

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.student.functions import ACTIVATIONS, gaussian_mean, get_teacher
from htlib.student.readout import ridge_path
from htlib.student.start import prepare
from htlib.theory.one_step import one_step_law
from tests.refusals import refused

SHAPE = {"n": 600, "d": 300, "h": 450}
LAMBDAS = (0.1, 1.0, 10.0)


def measured(config, lr, seeds=(0, 1, 2)):
    """The test losses of ridge regression on the features after one step, mean over seeds."""
    losses = []
    for seed in seeds:
        start = prepare(config.replace(seed=seed))
        G, beta = start.gradient.double(), start.teacher_direction.double()
        W = start.hidden_weights.double() - lr * (torch.sign(G) if config.optimizer == "adam" else G)
        draw = torch.Generator().manual_seed(seed)
        features, targets = [], []
        for size in (config.n, 10_000):
            X = torch.randn(size, config.d, generator=draw, dtype=torch.float64)
            noise = torch.randn(size, generator=draw, dtype=torch.float64)
            Z = ACTIVATIONS[config.activation].value(X @ W.T / math.sqrt(config.d))
            features.append(Z / math.sqrt(config.h))
            targets.append(get_teacher(config.teacher).value(X @ beta) + config.noise_std * noise)
        fits = ridge_path(features[0], targets[0], LAMBDAS)[0]
        losses.append(((features[1] @ fits - targets[1][:, None]) ** 2).mean(dim=0).numpy())
    return np.mean(losses, axis=0)


@pytest.mark.parametrize(
    ("optimizer", "lr", "activation", "teacher"),
    [
        ("adam", 0.0, "tanh", "softplus"),
        ("adam", 0.3, "tanh", "softplus"),
        ("adam", 3.0, "erf", "softplus"),
        ("gd", 1500.0, "tanh", "softplus"),
        ("gd", 10_000.0, "arctan", "relu"),
    ],
)
def test_it_is_the_loss_of_ridge_regression(optimizer, lr, activation, teacher):
    fields = {"optimizer": optimizer, "activation": activation, "teacher": teacher}
    risk = one_step_law(**SHAPE, **fields).ridge_risk(lr)
    found = measured(ht.ExperimentConfig(**SHAPE, **fields, n_test=20, steps=1), lr)
    assert risk(LAMBDAS) == pytest.approx(found, rel=0.04)
    assert risk.best == pytest.approx(min(risk(np.geomspace(1e-3, 1e3, 400))), rel=1e-3)


def test_a_wrong_rate_or_labels_that_the_step_did_not_see_are_told_apart():
    """The control of the test above: the step's gain is ten times its tolerance at the largest lambda."""
    config = ht.ExperimentConfig(n=1200, d=300, h=450, optimizer="gd", n_test=20, steps=1)
    law = one_step_law(n=1200, d=300, h=450, optimizer="gd")
    shuffled = one_step_law(n=1200, d=300, h=450, optimizer="gd", labels="shuffled")
    found = measured(config, 2000.0)[1]
    right, start, blind = (
        float(risk(1.0))
        for risk in (law.ridge_risk(2000.0), law.ridge_risk(0.0), shuffled.ridge_risk(2000.0))
    )
    assert abs(found / right - 1) < 0.5 * min(abs(found / start - 1), abs(found / blind - 1))


def test_linear_features_of_a_linear_teacher_with_many_samples_leave_the_noise():
    """At the released code's scale tanh is nearly linear; h > d linear features hold all of <beta, x>."""
    law = one_step_law(n=100_000, d=40, h=400, teacher="identity", noise_std=0.5)
    best = law.ridge_risk(0.0, "released-code").best
    assert best == pytest.approx(0.25 * (1 + 40 / 100_000), rel=2e-3)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_a_large_ridge_parameter_predicts_zero(optimizer):
    law = one_step_law(**SHAPE, optimizer=optimizer)
    square = gaussian_mean(lambda z: get_teacher("softplus").value(z) ** 2) + 0.3**2
    risk = law.ridge_risk(law.critical_lr)
    assert float(risk(1e4)) == pytest.approx(square, rel=1e-3)
    assert risk.lambdas[0] < 1e-6
    assert (np.diff(risk.lambdas) > 0).all()


def test_no_row_of_the_target_lies_along_an_even_teacher():
    """Odd features know nothing of an even teacher: no refit beats predicting zero, E y^2 = 1 + noise."""
    law = one_step_law(**SHAPE, teacher="hermite2")
    assert law.ridge_risk(1.0).best == pytest.approx(1 + 0.3**2, rel=1e-3)


def test_arguments_that_have_no_meaning_are_refused():
    law = one_step_law(n=20, d=10, h=10)
    with refused("feature_scale must", "paper, released-code", "'half'"):
        law.ridge_risk(1.0, "half")
    with refused("ridge_lambda must", "positive", "0.0"):
        law.ridge_risk(1.0)(0.0)
    with refused("lr must", error=ValueError):
        law.ridge_risk(-1.0)
    with refused("h and d must"):
        one_step_law(n=20, d=1, h=10).ridge_risk(1.0)
