"""Oracles: quadrature with another rule, closed forms, the length of g in an actual gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest

from htlib import ExperimentConfig
from htlib.student.start import prepare
from htlib.theory.gradient import gradient_constants


def test_the_constants_of_tanh_and_softplus():
    """Quadrature with another rule, 200 Gauss-Hermite nodes."""
    x, w = np.polynomial.hermite_e.hermegauss(200)
    w = w / w.sum()
    known = gradient_constants(ExperimentConfig())
    slope = 1 - np.tanh(x) ** 2
    assert known.mean_slope == pytest.approx(w @ slope, rel=1e-6)
    assert known.slope_variance == pytest.approx(w @ slope**2 - (w @ slope) ** 2, rel=1e-5)
    assert known.teacher_slope == pytest.approx(0.5, rel=1e-9)  # sigmoid(z) + sigmoid(-z) = 1
    residual = w @ np.logaddexp(0, x) ** 2 + 0.3**2 + w @ np.tanh(x) ** 2
    assert known.residual == pytest.approx(residual, rel=1e-6)
    assert known.sampling == pytest.approx(residual * 1000 / 2000, rel=1e-6)


def test_the_echo_by_parts():
    """E z s s' = E (z^2 - 1) s^2 / 2."""
    x, w = np.polynomial.hermite_e.hermegauss(200)
    w = w / w.sum()
    known = gradient_constants(ExperimentConfig())
    assert known.echo == pytest.approx(w @ ((x**2 - 1) * np.tanh(x) ** 2) / 2 - known.mean_slope**2, rel=1e-5)


def test_the_echo_is_in_an_actual_gradient():
    """The regression of the noise of the rows on -a_j S w_j / sqrt(hd); it scatters by 4 % at this size."""
    config = ExperimentConfig(n=1000, d=400, h=600, n_test=20)
    known, found = gradient_constants(config), []
    for seed in range(3):
        start = prepare(config.replace(seed=seed))
        tensors = (start.gradient, start.hidden_weights, start.readout_weights, *start.train)
        G, W, a, X, y = (tensor.double().numpy() for tensor in tensors)
        g = X.T @ (y - np.tanh(X @ W.T / math.sqrt(400)) @ a / math.sqrt(600)) / 1000
        noise = -G * math.sqrt(400 * 600) / (2 * a[:, None]) - known.mean_slope * g
        own = -a[:, None] / math.sqrt(400 * 600) * (W @ (X.T @ X / 1000))
        found.append((noise * own).sum() / (own**2).sum())
    assert np.mean(found) == pytest.approx(known.echo, rel=0.12)


def test_the_mean_slope_of_erf_in_closed_form():
    known = gradient_constants(ExperimentConfig(activation="erf", teacher="identity"))
    assert known.mean_slope == pytest.approx(2 / math.sqrt(3 * math.pi))
    assert known.teacher_slope == pytest.approx(1.0)


def test_the_length_of_g_is_that_of_an_actual_gradient():
    """g = X^T (y - f) / n from the data; |g| scatters by 3 % at this size, four seeds."""
    config = ExperimentConfig(n=1000, d=500, h=750, n_test=20)
    lengths = []
    for seed in range(4):
        start = prepare(config.replace(seed=seed))
        a, G = start.readout_weights.double().numpy(), start.gradient.double().numpy()
        known = gradient_constants(config, readout_norm=float(np.linalg.norm(a)))
        # -G is 2 mu_1 / sqrt(h d) a g^T and noise that a averages away
        g = -(a @ G) / (a @ a) * math.sqrt(config.h * config.d) / (2 * known.mean_slope)
        lengths.append(np.linalg.norm(g) / known.length)
    assert np.mean(lengths) == pytest.approx(1.0, abs=0.06)
