"""Oracle: by hand, or the functions of the package whose numbers a message carries."""

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.explorer.messages import (
    estimated_saturation,
    final,
    noise_of,
    one_step,
    packed,
    saturation,
    snapshot_message,
    unstable_lr,
)
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.theory.one_step import law_of_config


def test_saturation_by_hand() -> None:
    W = torch.tensor([[4.0, 4.0], [-4.0, -4.0], [1.0, 0.0], [0.0, 0.0]])
    X = torch.tensor([[1.0, 1.0], [0.0, 0.0]])  # pre-activations 8 / sqrt 2, -8 / sqrt 2, .7, 0; all 0
    assert saturation(W, X, "tanh") == saturation(W, X, "erf") == 2 / 8
    assert saturation(W, X, "relu") is None


def test_numbers_that_are_not_finite_are_null_and_only_the_last_point_has_arrays():
    metrics = {"a": 3.0, "b": np.nan}
    points = [snapshot_message(step, metrics, np.array([1.0, 2.0]), None) for step in (3, 4)]
    first, last = packed(points, [[0.5]])
    assert first == {
        **{"step": 3, "metrics": {"a": 3.0, "b": None}, "saturation": None},
        **{"eigenvalues": None, "overlaps": None},
    }
    assert (last["eigenvalues"], last["overlaps"]) == ([1.0, 2.0], [[0.5]])
    assert packed([], None) == []
    assert final("done", 4) == {"type": "done", "step": 4, "message": None}


def test_the_noise_is_the_law_of_the_start():
    noise = noise_of(90, 60)
    law = ht.MarchenkoPastur.of_gaussian_esd(90, 60)
    np.testing.assert_allclose(noise["density"], law.pdf(noise["x"]))
    assert noise["edge"] == largest_eigenvalue_quantile(90, 60)
    assert law.support[0] < noise["x"][0] < noise["x"][-1] <= law.support[1]


@pytest.mark.parametrize("fields", [{"labels": "noise"}, {"labels": "centred"}, {"activation": "relu"}])
def test_without_theory_there_is_no_prediction(fields):
    config = ht.ExperimentConfig(n=60, d=20, h=30)
    assert one_step(config) is not None
    assert one_step(config.replace(**fields)) is None


@pytest.mark.parametrize(
    ("optimizer", "share", "h"), [("adam", 0.3, 30), ("adam", 30.0, 30), ("gd", 30.0, 30), ("gd", 0.3, 20)]
)
def test_the_bulk_after_one_step_is_its_law(optimizer, share, h):
    """A square matrix has a bulk down to zero, which a logarithmic axis does not show."""
    config = ht.ExperimentConfig(n=60, d=20, h=h, optimizer=optimizer, steps=1, labels="shuffled")
    law = law_of_config(config)
    lr = share * law.critical_lr
    found = one_step(config.replace(lr=lr))["bulk"]
    bulk = law.bulk(lr)
    assert found["edge"] == bulk.edge
    assert bulk.size == (19 if share > 1 else 20)
    x, density = np.array(found["x"]), np.array(found["density"])
    inside = density > 0  # all but the ends of intervals
    assert np.count_nonzero(~inside) == 2 * len(bulk.support)
    np.testing.assert_allclose(density[inside], bulk.pdf(x[inside]) * bulk.size / 20)
    assert (np.diff(x) >= 0).all()
    assert x[-1] == pytest.approx(bulk.edge)
    assert np.trapezoid(density, x) == pytest.approx(bulk.size / 20, abs=0.01)


def test_the_bulk_comes_only_with_one_step_and_if_there_is_one():
    config = ht.ExperimentConfig(n=60, d=20, h=30, steps=1)
    assert one_step(config)["bulk"] is not None
    assert [one_step(config.replace(steps=steps))["bulk"] for steps in (0, 2)] == [None, None]
    assert one_step(config.replace(d=1))["bulk"] is None


def test_the_unstable_rate_is_that_of_htlib():
    config = ht.ExperimentConfig(n=60, d=20, h=30, n_test=9, optimizer="gd", lr=3.0, seed=5)
    assert unstable_lr(config) == one_step(config)["unstable_lr"] == 2 / ht.predict_sharpness(config)
    with_momentum = unstable_lr(config.replace(momentum=0.5))
    assert with_momentum == pytest.approx(3 / ht.predict_sharpness(config))
    adam = config.replace(optimizer="adam")
    assert (
        unstable_lr(adam) == one_step(adam)["unstable_lr"] == ht.stability(adam.replace(seed=0)).critical_lr
    )
    # a large problem would keep the first message waiting for the overshoot, but not for the closed form
    large = config.replace(n=3000, d=200, h=300)
    assert one_step(large.replace(optimizer="adam"))["unstable_lr"] is None
    assert one_step(large)["unstable_lr"] == 2 / ht.predict_sharpness(large)


def test_the_estimate_of_saturation_is_right_for_rows_of_equal_norm():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((60, 40))
    W *= np.sqrt(40 * 3) / np.linalg.norm(W, axis=1, keepdims=True)  # pre-activations of variance 3
    X = torch.tensor(rng.standard_normal((5000, 40)))
    share = estimated_saturation(ht.esd(W), 60, 40, "tanh")
    # 300,000 activations, of which those of a sample depend on each other
    assert share == pytest.approx(saturation(torch.tensor(W), X, "tanh"), abs=0.005)
    assert estimated_saturation(ht.esd(W), 60, 40, "relu") is None


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.01), ("adam", 1.0), ("adam", 316.0), ("gd", 1e4)])
def test_the_estimate_of_saturation_is_near_for_trained_weights(optimizer, lr):
    config = ht.ExperimentConfig(n=200, d=100, h=150, n_test=9, optimizer=optimizer, lr=lr, steps=3)
    problem = ht.make_problem(config)
    run = ht.train(config, problem, progress=False, keep_weights=True)
    X = torch.tensor(problem.train.inputs)
    for step, W in run.weights.items():
        expected = saturation(torch.tensor(W, dtype=X.dtype), X, "tanh")
        share = estimated_saturation(run.esd(step), config.h, config.d, "tanh")
        assert share == pytest.approx(expected, abs=0.15)
