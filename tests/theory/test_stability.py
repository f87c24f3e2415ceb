"""Oracles: dense matrices of second derivatives by autograd, and training itself beside its limit."""

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.student.start import prepare
from htlib.theory.stability import predict_sharpness, stability
from tests.refusals import refused

SMALL = ht.ExperimentConfig(n=50, d=9, h=12, n_test=20, optimizer="gd", dtype="float64")


def dense(config, W):
    """The Hessian and the Gauss-Newton matrix of the mean squared error, by autograd."""
    start = prepare(config)
    X, y = start.train

    def outputs(flat):
        U = X @ flat.reshape(W.shape).T / config.d**0.5
        return start.activation.value(U) @ start.readout_weights / config.h**0.5

    flat = W.reshape(-1)
    J = torch.autograd.functional.jacobian(outputs, flat)
    H = torch.autograd.functional.hessian(lambda w: (outputs(w) - y).square().mean(), flat)
    return H, 2 / config.n * J.T @ J


@pytest.mark.parametrize("activation", ["tanh", "erf", "arctan"])
@pytest.mark.parametrize("shape", [(50, 9, 12), (20, 16, 6)])
def test_curvatures_are_those_of_dense_matrices(shape, activation):
    n, d, h = shape
    config = SMALL.replace(n=n, d=d, h=h, activation=activation)
    for W in (prepare(config).hidden_weights, torch.randn(h, d, dtype=torch.float64)):
        H, G = dense(config, W)
        P = torch.rand(h, d, dtype=torch.float64) + 0.5
        found = stability(config.replace(optimizer="adam"), weights=W.numpy(), denominator=P.numpy())
        assert found.sharpness == pytest.approx(torch.linalg.eigvalsh(G)[-1].item(), rel=1e-4)
        assert found.hessian == pytest.approx(torch.linalg.eigvalsh(H)[-1].item(), rel=1e-4)
        root = P.reshape(-1).sqrt()
        preconditioned = torch.linalg.eigvalsh(H / root / root[:, None])[-1].item()
        assert found.late_critical_lr == pytest.approx(38 / preconditioned, rel=1e-4)


def test_many_samples_are_not_made_into_a_matrix(monkeypatch):
    expected = stability(SMALL).sharpness
    monkeypatch.setattr("htlib.theory.stability._DENSE", 10)
    assert stability(SMALL).sharpness == pytest.approx(expected, rel=1e-4)


def test_labels_do_not_enter_the_sharpness():
    values = {stability(SMALL.replace(labels=labels)).sharpness for labels in ("real", "shuffled", "noise")}
    assert max(values) - min(values) < 1e-9 * max(values)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.5, True)])
def test_a_quadratic_loss_is_stable_just_below_the_critical_rate(momentum, nesterov):
    """A quadratic loss falls for ever below the limit, and explodes above it."""
    config = SMALL.replace(momentum=momentum, nesterov=nesterov, steps=400, probe_every=400)
    limit = 2 * (1 + momentum) / ((1 + 2 * momentum) if nesterov else 1)
    found = stability(config)
    assert found.critical_lr == pytest.approx(limit / found.sharpness, rel=1e-12)
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 12))
    H = A.T @ A
    sharpness = np.linalg.eigvalsh(H)[-1]
    for factor, falls in ((0.99, True), (1.01, False)):
        w, velocity = rng.standard_normal(12), np.zeros(12)
        for _ in range(3000):
            g = H @ w
            velocity = momentum * velocity + g
            w = w - factor * limit / sharpness * (g + momentum * velocity if nesterov else velocity)
        assert (np.linalg.norm(w) < 1) == falls


@pytest.mark.parametrize("optimizer", ["adam", "signsgd"])
def test_the_first_step_overshoots_beyond_the_critical_rate(optimizer):
    config = SMALL.replace(optimizer=optimizer, steps=1)
    critical = stability(config).critical_lr
    for factor, lower in ((0.95, True), (1.05, False)):
        losses = ht.train(config.replace(lr=factor * critical), progress=False).metrics.train_loss
        assert (losses[1] < losses[0]) == lower


def test_wrong_states_are_named():
    with refused("", "weights must have the shape (12, 9)", "(3, 3)", error=ValueError):
        stability(SMALL, weights=np.ones((3, 3)))
    with refused("", "weights holds NaN", error=ValueError):
        stability(SMALL, weights=np.full((12, 9), np.nan))
    with refused("", "denominator must be positive", "-1", error=ValueError):
        stability(SMALL.replace(optimizer="adam"), denominator=-np.ones((12, 9)))
    with refused("", "denominator has no meaning for optimizer='gd'", error=ValueError):
        stability(SMALL, denominator=np.ones((12, 9)))


@pytest.mark.parametrize("readout", ["gaussian", "signs"])
@pytest.mark.parametrize(
    ("inputs", "activation", "n", "h"),
    [
        ("gaussian", "tanh", 600, 450),
        ("gaussian", "relu", 600, 450),
        ("gaussian", "gelu", 1200, 150),
        ("whitened", "tanh", 1200, 450),
        ("whitened", "arctan", 600, 900),
    ],
)
def test_the_predicted_sharpness_is_near_the_measured_one(inputs, activation, n, h, readout):
    """The mean over three seeds lies within 4 %: 3 % of the formula, and the spread at d = 300."""
    ratios = []
    for seed in range(3):
        config = ht.ExperimentConfig(
            n=n, d=300, h=h, activation=activation, inputs=inputs, readout=readout, optimizer="gd", seed=seed
        )
        problem = ht.make_problem(config.replace(n_test=1))
        measured = stability(config.replace(n_test=1), problem).sharpness
        ratios.append(measured / predict_sharpness(config, readout=problem.readout_weights))
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)


def test_the_prediction_scales_with_the_squared_readout():
    whole = predict_sharpness(SMALL, readout=np.ones(12))
    assert predict_sharpness(SMALL, readout=np.full(12, 3.0)) == pytest.approx(9 * whole, rel=1e-12)
    assert predict_sharpness(SMALL) == pytest.approx(whole, rel=1e-12)


def test_a_sharpness_without_a_formula_is_refused():
    with refused("inputs", "'whitened'", "'relu'", error=ValueError):
        predict_sharpness(SMALL.replace(inputs="whitened", activation="relu"))
    with refused("inputs", "n >= d", "n = 8", error=ValueError):
        predict_sharpness(SMALL.replace(inputs="whitened", n=8))
    for wrong in (np.ones(11), np.zeros(12)):
        with refused("readout", "(12,)", error=ValueError):
            predict_sharpness(SMALL, readout=wrong)
