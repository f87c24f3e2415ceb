"""Oracles: closed forms, direct eigenvalues of the excess Gram matrix, spectra of trained and drawn weights.

Tolerances are three to four standard errors of the mean over the seeds at the sizes used.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import htlib as ht
from htlib.spectra import spikes as spiked
from htlib.student.start import prepare
from htlib.theory.one_step import law_of_config, one_step_law
from tests.refusals import refused

SHAPE = {"n": 1000, "d": 500, "h": 750}
BOTH = pytest.mark.parametrize("optimizer", ["adam", "gd"])  # signs and the gradient


def top(W, direction):
    """Largest singular value, and the cosine of its right vector with a direction."""
    _, s, right = np.linalg.svd(W, full_matrices=False)
    return s[0], abs(right[0] @ direction)


@pytest.fixture(scope="module")
def starts():
    return [prepare(ht.ExperimentConfig(**SHAPE, n_test=20, seed=seed)) for seed in range(4)]


def stepped(start, optimizer, lr):
    G = start.gradient.double().numpy()
    return start.hidden_weights.double().numpy() - lr * (np.sign(G) if optimizer == "adam" else G)


@BOTH
def test_the_strength_is_the_larger_eigenvalue_of_the_excess_gram_matrix(optimizer):
    law = one_step_law(optimizer=optimizer, **SHAPE)
    for lr in (0.3, 1.0, 2.0, 20.0):
        rate = lr * law.critical_lr
        row, cross = law.gain * rate**2 - 2 * law.drag * rate, law.cross * rate
        excess = np.array([[row, -cross], [-cross, 0.0]])
        assert law.strength(rate) ** 2 == pytest.approx(max(0.0, np.linalg.eigvalsh(excess)[-1]))


@BOTH
def test_at_the_critical_rate_the_spike_is_as_strong_as_the_noise(optimizer):
    law = one_step_law(optimizer=optimizer, **SHAPE)
    assert law.strength(law.critical_lr) ** 2 == pytest.approx(math.sqrt(SHAPE["h"] * SHAPE["d"]))
    edge = math.sqrt(SHAPE["h"]) + math.sqrt(SHAPE["d"])
    below, above = law(0.999 * law.critical_lr), law(1.001 * law.critical_lr)
    assert (below.has_outlier, below.spectral_norm, below.alignment) == (False, pytest.approx(edge), 0.0)
    assert above.has_outlier
    assert above.spectral_norm == pytest.approx(edge, rel=1e-4)


def test_critical_rates_scale_as_predicted():
    """At fixed n/d and h/d: Adam as (h d)^(-1/4), gradient descent as d.  Exact in the closed form."""
    small, large = ({name: k * size for name, size in SHAPE.items()} for k in (1, 4))
    adam = [one_step_law(**shape).critical_lr for shape in (small, large)]
    gd = [one_step_law(optimizer="gd", **shape).critical_lr for shape in (small, large)]
    assert adam[1] / adam[0] == pytest.approx(0.5)
    assert gd[1] / gd[0] == pytest.approx(4.0)


def test_ceilings_in_closed_form():
    law = one_step_law(optimizer="gd")
    known = law.constants
    assert law.ceiling == pytest.approx(known.teacher_slope / known.length)
    many = one_step_law(optimizer="gd", n=10**9)
    assert many.ceiling == pytest.approx(0.5 / math.hypot(0.5, known.mean_slope), rel=1e-5)
    # taking the signs of a Gaussian vector costs sqrt(2/pi), if there is no other noise
    assert one_step_law(n=10**9).ceiling == pytest.approx(math.sqrt(2 / math.pi) * many.ceiling, rel=1e-3)
    assert law(1e9).alignment == pytest.approx(law.ceiling, rel=1e-4)


# Gradient descent feels the 3 % by which |g| scatters at this n.
@pytest.mark.parametrize(("optimizer", "tolerance"), [("adam", 0.025), ("gd", 0.05)])
def test_trained_weights_follow_the_prediction(optimizer, tolerance, starts):
    for multiple, width in ((1.3, 0.06), (2.0, 0.04), (30.0, 0.04)):
        errors = []
        for start in starts:
            a = float(start.readout_weights.norm())
            law = one_step_law(optimizer=optimizer, readout_norm=a, **SHAPE)
            lr = multiple * law.critical_lr
            norm, cosine = top(stepped(start, optimizer, lr), start.teacher_direction.double().numpy())
            errors.append((norm / law(lr).spectral_norm - 1, cosine - law(lr).alignment))
        norm_error, alignment_error = np.mean(errors, axis=0)
        assert abs(norm_error) < tolerance
        assert abs(alignment_error) < width


def test_a_spike_taken_as_independent_of_the_start_misses(starts):
    """The negative control: near the transition the correlation with W0 decides."""
    law = one_step_law(**SHAPE)
    lr = 1.6 * law.critical_lr
    found = np.mean([top(stepped(start, "adam", lr), np.zeros(500))[0] for start in starts])
    naive = math.sqrt(spiked.outlier_eigenvalue(math.sqrt(law.gain) * lr, SHAPE["h"], SHAPE["d"]))
    assert abs(found / law(lr).spectral_norm - 1) < 0.01
    assert naive / found > 1.05


def test_the_first_step_of_signs_is_adams():
    adam, signs = (one_step_law(optimizer=optimizer, **SHAPE) for optimizer in ("adam", "signsgd"))
    assert dataclasses.replace(signs, optimizer="adam") == adam
    np.testing.assert_array_equal(signs.sample(1.0, seed=0)[0], adam.sample(1.0, seed=0)[0])


@BOTH
def test_shuffled_labels_leave_the_spike_and_take_the_alignment(optimizer):
    real = one_step_law(optimizer=optimizer, **SHAPE)
    control = one_step_law(optimizer=optimizer, labels="shuffled", **SHAPE)
    lr = 10 * real.critical_lr
    assert control(lr).alignment == 0
    assert 0.8 < control(lr).spectral_norm / real(lr).spectral_norm < 1


@BOTH
def test_drawn_weights_follow_the_prediction(optimizer):
    law = one_step_law(optimizer=optimizer, n=800, d=400, h=600)
    lr = 3 * law.critical_lr
    draws = [law.sample(lr, seed) for seed in range(4)]
    norms, cosines = np.transpose([top(*draw) for draw in draws])
    assert norms.mean() == pytest.approx(law(lr).spectral_norm, rel=0.05)
    assert cosines.mean() == pytest.approx(law(lr).alignment, abs=0.05)


def test_a_drawn_adam_step_has_entries_of_one_size():
    law = one_step_law(n=80, d=40, h=60)
    moved = law.sample(0.5, seed=3)[0] - law.sample(0.0, seed=3)[0]
    assert np.abs(moved) == pytest.approx(0.5)
    assert np.linalg.norm(law.sample(0.5, seed=3)[1]) == pytest.approx(1.0)


def test_drawn_exponents_are_those_of_trained_weights(starts):
    """PL_Alpha_Hill scatters by about .01 over seeds at this size; noise has 2.45."""
    law = one_step_law(**SHAPE)
    for lr in (1.0, 10.0):
        drawn = np.mean([ht.hill_alpha(ht.esd(law.sample(lr, seed)[0])) for seed in range(3)])
        trained = np.mean([ht.hill_alpha(ht.esd(stepped(start, "adam", lr))) for start in starts])
        assert drawn == pytest.approx(trained, abs=0.04)
        assert drawn < 2.4


sides, optimizers = st.integers(1, 5000), st.sampled_from(["adam", "gd", "signsgd"])


@given(sides, sides, sides, optimizers, st.floats(0, 1e4), st.floats(0, 3))
def test_a_prediction_is_always_possible(n, d, h, optimizer, lr, noise_std):
    setting = {"n": n, "d": d, "h": h, "optimizer": optimizer, "noise_std": noise_std}
    law = one_step_law(**setting)
    found = law(lr)
    assert ht.predict_one_step(lr=lr, **setting) == found
    assert found.spectral_norm >= 0.999 * (math.sqrt(h) + math.sqrt(d))
    assert 0 <= found.alignment <= 1
    assert found.critical_lr > 0
    assert found.has_outlier == (lr > law.critical_lr) or math.isclose(lr, law.critical_lr, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *(("activation", value, "odd") for value in ("relu", "gelu")),
        ("activation", "sine", "one of"),
        ("teacher", "cubic", "one of"),
        ("optimizer", "sgd", "one of"),
        ("optimizer", "muon", "for a prediction"),
        ("labels", "noise", "real or shuffled"),
        ("n", 0, "integer, at least 1"),
        *(("noise_std", value, "finite and not negative") for value in (-1.0, math.nan)),
        ("readout_norm", 0.0, "positive"),
    ],
)
def test_bad_arguments_are_named(name, value, allowed):
    with refused(f"{name} must", allowed, value):
        one_step_law(**{name: value})


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": 0.1},
        {"update": "shuffled"},
        {"inputs": "whitened"},
        {"readout": "signs"},
        {"teacher_rank": 2},
        {"batch_size": 10},
        {"optimizer": "gd", "momentum": 0.5, "nesterov": True},
    ],
    ids=str,
)
def test_what_changes_the_first_step_and_is_not_in_the_law_is_refused(change):
    *_, (name, value) = change.items()
    with refused(f"{name} must be", "for a prediction", value):
        law_of_config(ht.ExperimentConfig(**change))


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, 1e160])
def test_bad_rates_are_named(lr):
    law = one_step_law(n=20, d=10, h=15)
    for call in (law, lambda rate: law.sample(rate, seed=0)):
        with refused("lr must", "at most 1e" if lr == 1e160 else "finite and not negative", f"{lr:g}"):
            call(lr)
