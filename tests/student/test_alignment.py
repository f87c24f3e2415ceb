"""Oracles: the kernel formed in full (reference.py), hand cases, exact invariances."""

import math

import numpy as np
import pytest
import torch

import htlib as ht
from tests import reference


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("n", "h"), [(9, 4), (6, 6), (4, 9), (1, 3), (3, 1), (1, 1)])
def test_kta_is_that_of_the_formed_kernel(n, h):
    Z, y = gaussian(n, h), gaussian(n, seed=1)
    expected = reference.kta(Z, y)
    assert ht.kernel_target_alignment(Z, y) == pytest.approx(expected, rel=1e-12)
    assert ht.kernel_target_alignment(torch.from_numpy(Z), y.tolist()) == pytest.approx(expected, rel=1e-12)
    for gram in (Z.T @ Z, Z @ Z.T):
        given = ht.kernel_target_alignment(Z, y, gram=torch.from_numpy(gram))
        assert given == pytest.approx(expected, rel=1e-12)


def test_kta_of_identical_kernels_is_one_and_of_orthogonal_ones_zero():
    y = gaussian(7)
    assert ht.kernel_target_alignment(y[:, None], y) == pytest.approx(1, abs=1e-14)
    assert ht.kernel_target_alignment(np.outer(y, [1, -2, 3]), y) == pytest.approx(1, abs=1e-14)
    orthogonal = gaussian(7, 3, seed=1)
    orthogonal -= np.outer(y, y @ orthogonal) / (y @ y)
    assert ht.kernel_target_alignment(orthogonal, y) == pytest.approx(0, abs=1e-14)


def test_kta_of_white_features_by_hand():
    """Z = I: K = I, so <K, yy^T> = |y|^2, |K| = sqrt n and KTA = 1/sqrt n for any y."""
    assert ht.kernel_target_alignment(np.eye(16), gaussian(16)) == pytest.approx(0.25, rel=1e-14)


@pytest.mark.parametrize("scale", [1e-100, 1e-60, -3.0, 1e60, 1e100])
def test_kta_does_not_depend_on_scale(scale):
    """Weights of a diverging run pass through such scales."""
    Z, y = gaussian(8, 5), gaussian(8, seed=1)
    expected = reference.kta(Z, y)
    assert ht.kernel_target_alignment(scale * Z, y) == pytest.approx(expected, rel=1e-10)
    assert ht.kernel_target_alignment(Z, scale * y) == pytest.approx(expected, rel=1e-10)


def test_kta_does_not_depend_on_rotation_or_order():
    Z, y = gaussian(8, 5), gaussian(8, seed=1)
    rotation, order = np.linalg.qr(gaussian(5, 5, seed=2))[0], np.random.default_rng(3).permutation(8)
    assert ht.kernel_target_alignment(Z @ rotation, y) == pytest.approx(reference.kta(Z, y), rel=1e-12)
    assert ht.kernel_target_alignment(Z[order], y[order]) == pytest.approx(reference.kta(Z, y), rel=1e-12)
    assert ht.kernel_target_alignment(Z[order], y) != pytest.approx(reference.kta(Z, y), rel=1e-3)


@pytest.mark.parametrize(
    ("Z", "y", "message"),
    [
        (np.ones((3, 2)), np.ones(2), r"^y must have shape \(3,\), one target per row of Z; got \(2,\)"),
        (np.ones((3, 2)), np.ones((3, 1)), r"^y must have shape \(3,\).*got \(3, 1\)"),
        (np.ones(3), np.ones(3), r"^Z must be a matrix"),
        (np.ones((0, 2)), np.ones(0), r"^Z is empty"),
        (np.full((3, 2), np.nan), np.ones(3), r"^Z holds NaN or infinity in 6 of 6"),
        (np.ones((3, 2)), np.array([1, np.nan, 1]), r"where Z or y is zero or not finite"),
        (np.ones((3, 2)), np.array([1, np.inf, 1]), r"where Z or y is zero or not finite"),
        (np.zeros((3, 2)), np.ones(3), r"where Z or y is zero or not finite"),
        (np.ones((3, 2)), np.zeros(3), r"where Z or y is zero or not finite"),
    ],
)
def test_kta_refuses(Z, y, message):
    with pytest.raises(ValueError, match=message):
        ht.kernel_target_alignment(Z, y)


def test_teacher_alignment_by_hand():
    v = np.array([3.0, 4.0])
    assert ht.teacher_alignment(v, [1.0, 0.0]) == pytest.approx(0.6, rel=1e-15)
    assert ht.teacher_alignment(-7 * v, torch.tensor([0.0, 2.0])) == pytest.approx(0.8, rel=1e-15)
    assert ht.teacher_alignment(v, [-4.0, 3.0]) == pytest.approx(0, abs=1e-15)
    assert ht.teacher_alignment(torch.nn.Parameter(torch.ones(3)), np.ones(3)) == pytest.approx(1)


def test_teacher_alignment_of_random_directions():
    """E |<v, beta>| = sqrt(2 / (pi d)); 2000 draws leave .76 / sqrt(2000) = 1.7 % of it."""
    d = 100
    values = [ht.teacher_alignment(v, np.eye(d)[0]) for v in gaussian(2000, d)]
    assert np.mean(values) == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=0.05)


def test_teacher_alignment_refuses_shapes():
    for v, beta in ((np.ones(2), np.ones(3)), (np.ones((2, 1)), np.ones((2, 1))), (1.0, 1.0)):
        with pytest.raises(ValueError, match=r"^v and beta must be vectors of one length; got shapes"):
            ht.teacher_alignment(v, beta)
