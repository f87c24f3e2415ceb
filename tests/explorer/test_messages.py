"""Oracle: by hand, or the functions of the package whose numbers a message carries."""

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.explorer.messages import (
    final,
    noise_of,
    one_step,
    packed,
    saturation,
    snapshot_message,
)
from htlib.spectra.noise import largest_eigenvalue_quantile


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
