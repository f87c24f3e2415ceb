"""Oracles: SciPy, torch autograd, closed-form Gaussian integrals, constants to four digits."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from htlib.student import config, functions
from htlib.student.config import CHOICES, ExperimentConfig
from htlib.student.functions import gaussian_mean, get_activation, get_teacher
from tests.refusals import refused

HERMITE = {f"hermite{k}": k for k in (1, 2, 3, 4, 7, 12)}
ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda u: np.maximum(u, 0),
    "erf": special.erf,
    "gelu": lambda u: u * special.ndtr(u),
    "arctan": np.arctan,
}
TEACHERS = {
    "softplus": lambda u: np.logaddexp(0, u),
    "relu": ACTIVATIONS["relu"],
    "identity": lambda u: u,
    **{
        name: lambda u, k=k: special.eval_hermitenorm(k, u) / math.sqrt(math.factorial(k))
        for name, k in HERMITE.items()
    },
}
CASES = [(get_activation, name, f) for name, f in ACTIVATIONS.items()]
CASES += [(get_teacher, name, f) for name, f in TEACHERS.items()]
EACH = pytest.mark.parametrize(("get", "name", "oracle"), CASES)
GRID = np.linspace(-4, 4, 201)


@EACH
def test_value_is_scipys(get, name, oracle):
    function, u = get(name), torch.from_numpy(GRID.copy())
    expected = oracle(GRID)
    # elementary functions agree to a few ulp; degree-12 polynomials cancel at the scale of their maximum
    np.testing.assert_allclose(function.value(u), expected, rtol=1e-13, atol=1e-14 * np.abs(expected).max())
    torch.testing.assert_close(function.value_and_derivative(u)[0], function.value(u), rtol=1e-14, atol=1e-14)
    assert function.name == name
    np.testing.assert_array_equal(u, GRID)  # the argument is not changed


@EACH
def test_derivative_is_autograds(get, name, oracle):
    u = torch.from_numpy(GRID.copy()).requires_grad_()
    (expected,) = torch.autograd.grad(get(name).value(u).sum(), u)
    actual = get(name).derivative(u.detach())
    # rounding, at the scale of the largest slope
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13 * float(expected.abs().max()))


def test_every_member_has_its_line():
    assert ACTIVATIONS.keys() == functions.ACTIVATIONS.keys()
    assert TEACHERS.keys() >= functions.TEACHERS.keys()


def test_a_configuration_takes_what_the_registries_have():
    assert CHOICES["activation"] == tuple(functions.ACTIVATIONS)
    assert tuple(functions.TEACHERS) == config.TEACHERS
    for name in (*TEACHERS, "hermite1", "hermite99"):
        assert ExperimentConfig(teacher=name).teacher == get_teacher(name).name


@EACH
def test_symmetry_and_bound_are_those_declared(get, name, oracle):
    function, far = get(name), np.array([-1e6, 1e6])
    assert function.odd == np.allclose(oracle(-GRID), -oracle(GRID), rtol=1e-12)
    largest = np.abs(oracle(far)).max()
    if function.bound is None:
        assert largest > 1e5
    else:
        assert np.abs(oracle(GRID)).max() <= function.bound
        assert largest == pytest.approx(function.bound, rel=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_finite_where_float32_saturates(name):
    function = get_activation(name)
    value, slope = function.value_and_derivative(torch.tensor([-1e30, -1e10, 0.0, 1e10, 1e30]))
    assert value.isfinite().all()
    ends = [0, 0] if function.bound else [1, 1]  # the others grow like the identity on the right
    at_zero = 0 if name == "relu" else slope[2]  # the kink of relu
    np.testing.assert_allclose(slope, [0, 0, at_zero, *ends], atol=1e-15)


def test_softplus_is_exact_far_out():
    """Closed form: softplus(u) - u = log1p(e^-u), e^-u far left; torch's own turns linear at u = 20."""
    u = torch.tensor([-700.0, -40.0, 25.0], dtype=torch.float64)
    value = get_teacher("softplus").value(u)
    expected = [math.exp(-700), math.exp(-40), 25 + math.log1p(math.exp(-25))]
    np.testing.assert_allclose(value, expected, rtol=1e-14)


@pytest.mark.parametrize("name", HERMITE)
def test_hermite_is_normalised_and_centred(name):
    """Closed form: orthonormality under the standard normal law, checked by Gauss-Hermite quadrature."""
    z, w = special.roots_hermitenorm(40)  # exact for the degrees here
    f = get_teacher(name).value(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(w @ np.stack([f, f**2], 1) / w.sum(), [0, 1], atol=1e-10)


def test_gaussian_mean_closed_forms():
    """E relu = 1/sqrt(2 pi), E relu^2 = 1/2, E z^4 = 3, E cos z = e^{-1/2}."""
    means = [gaussian_mean(f) for f in (torch.relu, lambda z: torch.relu(z) ** 2, lambda z: z**4, torch.cos)]
    np.testing.assert_allclose(means, [1 / math.sqrt(2 * math.pi), 0.5, 3, math.exp(-0.5)], rtol=1e-10)


def test_constants_of_theory():
    """mu1, v1, E sigma^2, r^2 and c1 of the book's appendix, to four digits."""
    tanh, softplus = get_activation("tanh"), get_teacher("softplus")
    mu1 = gaussian_mean(tanh.derivative)
    v1 = gaussian_mean(lambda z: tanh.derivative(z) ** 2) - mu1**2
    energy = gaussian_mean(lambda z: tanh.value(z) ** 2)
    r2 = gaussian_mean(lambda z: softplus.value(z) ** 2) + 0.3**2 + energy
    c1 = gaussian_mean(softplus.derivative)
    np.testing.assert_allclose([mu1, v1, energy, r2, c1], [0.6057, 0.0975, 0.3943, 1.4055, 0.5], atol=5e-5)


@pytest.mark.parametrize("name", ["sigmoid", "", "Tanh", None, 3, ["tanh"]])
def test_unknown_activation_is_named(name):
    with refused("activation must", "tanh, ", repr(name), error=(TypeError, ValueError)):
        get_activation(name)


@pytest.mark.parametrize(
    "name", ["cube", "", "hermite", "hermite0", "hermite-1", "hermite2.5", "hermite100", None, 3, ["relu"]]
)
def test_unknown_teacher_is_named(name):
    with refused("teacher must", "softplus, ", repr(name), error=(TypeError, ValueError)):
        get_teacher(name)
