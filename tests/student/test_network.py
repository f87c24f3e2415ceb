"""Oracles: torch autograd on torch's own activations, the loop of reference.py, finite differences."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import htlib as ht
from htlib.student import network
from htlib.student.functions import get_activation
from tests import reference

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.nn.functional.relu,
    "erf": torch.erf,
    "gelu": torch.nn.functional.gelu,
}
TEACHERS = ["softplus", "relu", "identity", "hermite1", "hermite2", "hermite3"]


def parts(teacher="softplus", n=23, d=7, h=11):
    """W, a, X, y of a small problem as float64 tensors."""
    problem = ht.make_problem(ht.ExperimentConfig(n=n, d=d, h=h, n_test=5, teacher=teacher, seed=1))
    arrays = (problem.hidden_weights, problem.readout_weights, problem.train.inputs, problem.train.targets)
    return tuple(torch.from_numpy(x) for x in arrays)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("teacher", TEACHERS)
def test_gradient_is_autograds(activation, teacher):
    W, a, X, y = parts(teacher)
    leaves = W.clone().requires_grad_(), a.clone().requires_grad_()
    f = ACTIVATIONS[activation](X @ leaves[0].T / math.sqrt(7)) @ leaves[1] / math.sqrt(11)
    loss = torch.nn.functional.mse_loss(f, y)
    expected = torch.autograd.grad(loss, leaves)
    mse, hidden, readout = network.loss_and_gradient(W, a, X, y, get_activation(activation))
    # float64 rounding of sums over 23 samples
    assert mse.item() == pytest.approx(loss.item(), rel=1e-13)
    torch.testing.assert_close(hidden, expected[0], rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(readout, expected[1], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("n", "d", "h"), [(9, 4, 6), (9, 5, 5), (9, 6, 4), (1, 1, 1), (3, 1, 5), (3, 5, 1)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_everything_agrees_with_the_loop_over_samples(n, d, h, activation):
    W, a, X, y = parts(n=n, d=d, h=h)
    sigma = get_activation(activation)
    arrays = [x.numpy() for x in (W, a, X, y)]
    Z = reference.features(arrays[0], arrays[2], activation)
    np.testing.assert_allclose(network.features(W, X, sigma), Z, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        network.predict(W, a, X, sigma), Z @ arrays[1] / math.sqrt(h), rtol=1e-11, atol=1e-15
    )
    loss = reference.student_loss(*arrays, activation)
    mse, hidden, readout = network.loss_and_gradient(W, a, X, y, sigma)
    assert network.loss(W, a, X, y, sigma) == pytest.approx(loss, rel=1e-12)
    assert mse.item() == pytest.approx(loss, rel=1e-12)
    dW, da = reference.gradients(*arrays, activation)
    np.testing.assert_allclose(hidden, dW, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(readout, da, rtol=1e-10, atol=1e-14)


def test_reference_gradient_is_the_finite_difference():
    """The oracle's oracle: central differences, error about step^2 = 1e-10 plus rounding 1e-16 / 1e-5."""
    W, a, X, y = (x.numpy() for x in parts(n=9, d=3, h=4))
    dW, da = reference.gradients(W, a, X, y, "gelu")
    for array, gradient in ((W, dW), (a, da)):
        for index in np.ndindex(array.shape):
            losses = []
            for step in (1e-5, -1e-5):
                array[index] += step
                losses.append(reference.student_loss(W, a, X, y, "gelu"))
                array[index] -= step
            assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(gradient[index], rel=1e-7, abs=1e-9)


def test_features_at_the_released_codes_scale():
    W, _, X, _ = parts()
    Z = network.features(W, X, get_activation("tanh"), 1 / 7)
    np.testing.assert_allclose(
        Z, reference.features(W.numpy(), X.numpy(), "tanh", "released-code"), rtol=1e-12
    )
    assert not torch.allclose(Z, network.features(W, X, get_activation("tanh")), rtol=0.1)


def test_arguments_are_left_alone():
    tensors = parts()
    copies = [x.clone() for x in tensors]
    network.loss_and_gradient(*tensors, get_activation("tanh"))
    network.features(tensors[0], tensors[2], get_activation("relu"))
    assert all(torch.equal(x, y) for x, y in zip(tensors, copies, strict=True))


def test_shapes_in_signatures_are_checked_here():
    """conftest.py checks jaxtyping's shapes in this module; a wrong one must not pass."""
    W, a, X, y = parts()
    with pytest.raises(TypeCheckError):
        network.predict(W, a[:-1], X, get_activation("tanh"))
    with pytest.raises(TypeCheckError):
        network.loss_and_gradient(W, a, X, y[:-1], get_activation("tanh"))
    with pytest.raises(TypeCheckError):
        network.features(W.T.contiguous(), X, get_activation("tanh"))
