"""Oracles: reference.py's formulas, the functions that a probe combines, closed-form edges."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.spectra.vectors import SingularSystem
from htlib.student import probes
from htlib.student.functions import get_activation
from tests import reference

TANH = get_activation("tanh")


def snapshot(n=40, d=8, h=12, n_test=30, **fields):
    """Config, problem, W and the two samples in float64."""
    config = ht.ExperimentConfig(n=n, d=d, h=h, n_test=n_test, dtype="float64", seed=2, **fields)
    problem = ht.make_problem(config)
    samples = [
        probes.as_samples(s.inputs, s.targets, torch.float64, torch.device("cpu"))
        for s in (problem.probe, problem.test)
    ]
    return config, problem, torch.from_numpy(problem.hidden_weights), *samples


def stage_two(config, W, probe, test, **changes):
    arguments = {
        "activation": get_activation(config.activation),
        "feature_scale": config.feature_scale,
        "ridge_lambda": config.ridge_lambda,
    }
    return probes.stage_two(W, probe, test, **(arguments | changes))


@pytest.mark.parametrize(("n", "d", "h"), [(40, 8, 12), (12, 8, 40), (20, 9, 20), (15, 12, 5)])
@pytest.mark.parametrize("scale", ["paper", "released-code"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "erf", "gelu"])
def test_measures_are_those_of_the_formulas(n, d, h, scale, activation):
    config, problem, W, probe, test = snapshot(n, d, h, feature_scale=scale, activation=activation)
    expected = reference.state(W.numpy(), problem.readout_weights, problem, config.to_dict())
    system = SingularSystem(W)
    direction = torch.from_numpy(problem.teacher_direction)
    measured = dataclasses.asdict(stage_two(config, W, probe, test)) | dataclasses.asdict(
        probes.spectral_measures(system, direction, largest_eigenvalue_quantile(h, d))
    )
    # float64 against float64; the explicit inverse of the reference loses digits at small penalties
    assert measured == pytest.approx({k: expected.metrics[k] for k in measured}, rel=1e-6)
    assert set(measured) | {"train_loss"} == set(probes.METRICS)


def test_metrics_are_the_contract():
    assert probes.METRICS == (
        "train_loss",
        "ridge_train_loss",
        "test_loss",
        "kta",
        "alignment",
        "alpha_hill",
        "alpha_ks",
        "ks_distance",
        "ks_xmin",
        "stable_rank",
        "spectral_norm",
        "n_outliers",
    )


@pytest.mark.parametrize("scale", ["paper", "released-code"])
def test_trained_readout_is_used_at_the_scale_of_training(scale):
    config, problem, W, probe, test = snapshot(feature_scale=scale)
    a = torch.from_numpy(problem.readout_weights)
    result = stage_two(config, W, probe, test, trained_readout=a)
    losses = [
        reference.student_loss(W.numpy(), a.numpy(), s.inputs, s.targets, "tanh")
        for s in (problem.probe, problem.test)
    ]
    assert [result.ridge_train_loss, result.test_loss] == pytest.approx(losses, rel=1e-12)
    assert result.kta == stage_two(config, W, probe, test).kta


@pytest.mark.parametrize("scale", ["paper", "released-code"])
@pytest.mark.parametrize(("n", "h"), [(40, 12), (12, 40)])
def test_lambda_path_is_stage_two_at_every_lambda(n, h, scale):
    config, _, W, probe, test = snapshot(n=n, h=h, feature_scale=scale)
    lambdas = [1e-3, 0.01, 1.0]
    settings = {"activation": TANH, "feature_scale": scale}
    for weights in (W, W.numpy()):
        path = probes.lambda_path(weights, probe, test, lambdas=lambdas, **settings)
        for j, lam in enumerate(lambdas):
            single = stage_two(config, W, probe, test, ridge_lambda=lam)
            assert path.ridge_train_loss[j] == pytest.approx(single.ridge_train_loss, rel=1e-6)
            assert path.test_loss[j] == pytest.approx(single.test_loss, rel=1e-6)
        assert path.kta == pytest.approx(single.kta, rel=1e-12)
        assert path.best == path.gcv.argmin()


@pytest.mark.parametrize("factor", [0, 1e200], ids=["zero features", "features that overflow"])
def test_lambda_path_is_stage_two_without_an_alignment_too(factor):
    config, _, W, probe, test = snapshot(activation="relu")
    single = stage_two(config, factor * W, probe, test)
    settings = {"activation": get_activation("relu"), "feature_scale": "paper"}
    path = probes.lambda_path(factor * W, probe, test, lambdas=[0.01], **settings)
    assert [path.ridge_train_loss[0], path.test_loss[0], path.kta] == pytest.approx(
        [single.ridge_train_loss, single.test_loss, single.kta], nan_ok=True
    )


def test_float32_features_give_float64_measures():
    """Float32 rounds features to 6e-8; losses and KTA follow within 1e-5, far inside the 0.5 % asked for."""
    config, _, W, probe, test = snapshot()
    single = [probes.Samples(s.inputs.float(), s.targets.float()) for s in (probe, test)]
    measured = dataclasses.asdict(stage_two(config, W.float(), *single))
    assert measured == pytest.approx(dataclasses.asdict(stage_two(config, W, probe, test)), rel=1e-5)
    assert probes.probe_features(W.float(), single[0].inputs, TANH, "paper").dtype == torch.float64


def test_features_that_overflow_have_infinite_losses():
    config, _, W, probe, test = snapshot(activation="relu")
    single = [probes.Samples(s.inputs.float(), s.targets.float()) for s in (probe, test)]
    result = stage_two(config, 1e38 * W.float(), *single)
    assert (result.ridge_train_loss, result.test_loss) == (math.inf, math.inf)
    assert math.isnan(result.kta)


def test_zero_features_have_no_alignment():
    """Closed form: the ridge readout of zero features is zero, so the losses are mean squares of y."""
    config, problem, W, probe, test = snapshot()
    result = stage_two(config, 0 * W, probe, test)
    expected = [np.mean(s.targets**2) for s in (problem.probe, problem.test)]
    assert [result.ridge_train_loss, result.test_loss] == pytest.approx(expected, rel=1e-14)
    assert math.isnan(result.kta)


def spectral(W, edge=np.inf):
    direction = torch.eye(W.shape[1], dtype=torch.float64)[0]
    return probes.spectral_measures(SingularSystem(W), direction, edge)


def test_alphas_are_missing_without_a_tail():
    for W in (np.diag([2.0, 1.0]), np.diag([2.0, 1.0, 0.0]), np.eye(4), [[1.0, 2.0, 3.0]]):
        measures = spectral(np.asarray(W))
        for name in ("alpha_hill", "alpha_ks", "ks_distance", "ks_xmin"):
            assert math.isnan(getattr(measures, name))
        assert measures.stable_rank >= 1


def test_zero_eigenvalues_do_not_enter_the_alphas():
    nonzero = np.diag([4.0, 3.0, 2.0, 1.0])
    padded = np.diag([4.0, 3.0, 2.0, 1.0, 0.0, 0.0])
    assert spectral(padded) == spectral(nonzero)


def test_spectral_measures_by_hand():
    measures = spectral(np.diag([3.0, 2.0, 1.0])[:, [1, 0, 2]], edge=3.9)
    assert (measures.spectral_norm, measures.n_outliers, measures.alignment) == pytest.approx((3, 2, 0))
    assert measures.stable_rank == pytest.approx(14 / 9)
    assert spectral(np.diag([3.0, 2.0, 1.0])).alignment == pytest.approx(1)
