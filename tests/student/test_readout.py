"""Oracles: SciPy least squares on the augmented system, the explicit inverse, the explicit hat matrix; the
kernel formed in full (reference.py) and exact invariances."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg

import htlib as ht
from htlib.spectra.linalg import gram
from htlib.student import readout
from tests import reference
from tests.refusals import refused

SHAPES = [(30, 12), (12, 12), (12, 30), (1, 5), (5, 1), (1, 1)]
LAMBDAS = [1e-4, 0.01, 1.0, 100.0]


def sample(n, h, seed=0):
    rng = np.random.default_rng(seed)
    F, y = np.tanh(rng.standard_normal((n, h))) / math.sqrt(h), rng.standard_normal(n)
    return F, y, torch.from_numpy(F), torch.from_numpy(y)


def augmented(F, y, lam):
    """argmin |F a - y|^2 + p |a|^2 as a least-squares problem of its own."""
    n, h = F.shape
    A = np.vstack([F, math.sqrt(lam * n / h) * np.eye(h)])
    return linalg.lstsq(A, np.concatenate([y, np.zeros(h)]))[0]


@pytest.mark.parametrize(("n", "h"), SHAPES)
def test_ridge_and_its_path_are_least_squares_of_the_augmented_system(n, h):
    F, y, F_, y_ = sample(n, h)
    path, _ = readout.ridge_path(F_, y_, LAMBDAS)
    for j, lam in enumerate(LAMBDAS):
        expected = augmented(F, y, lam)
        given = readout.ridge(F_, y_, lam, gram_matrix=gram(F_))
        for found in (reference.ridge(F, y, lam), readout.ridge(F_, y_, lam), given, path[:, j]):
            # rounding times the condition number, at most 1e4 here
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("n", "h"), [(30, 12), (12, 12), (12, 30)])
def test_gcv_is_that_of_the_explicit_hat_matrix(n, h):
    """Golub, Heath & Wahba (1979): n RSS / tr(I - H)^2, H = F (F^T F + p I)^{-1} F^T written out."""
    # The inverse rounds by its condition number, and so do the trace and H y; little is left of n and of y
    # where the fit all but interpolates, and both are squared.
    F, y, F_, y_ = sample(n, h)
    _, gcv = readout.ridge_path(F_, y_, LAMBDAS)
    for j, lam in enumerate(LAMBDAS):
        A = F.T @ F + lam * n / h * np.eye(h)
        hat = F @ np.linalg.inv(A) @ F.T
        rounding = 4 * np.finfo(float).eps * np.linalg.cond(A)
        residual, left = y - hat @ y, n - np.trace(hat)
        lost = n / left + np.linalg.norm(y) / np.linalg.norm(residual)
        expected = n * residual @ residual / left**2
        assert gcv[j] == pytest.approx(expected, rel=2 * rounding * lost)


def test_gcv_is_leave_one_out_where_leverages_are_equal():
    """For a circulant F every sample has the same leverage; then GCV is the leave-one-out error itself."""
    column = np.random.default_rng(5).standard_normal(12)
    F, y = linalg.circulant(column), np.random.default_rng(6).standard_normal(12)
    lam = 0.5
    errors = []
    for i in range(12):
        keep = np.arange(12) != i
        # the penalty p = lambda n / h of the full sample, kept while one sample is left out
        A = np.vstack([F[keep], math.sqrt(lam) * np.eye(12)])
        a = linalg.lstsq(A, np.concatenate([y[keep], np.zeros(12)]))[0]
        errors.append((F[i] @ a - y[i]) ** 2)
    _, gcv = readout.ridge_path(torch.from_numpy(F), torch.from_numpy(y), [lam])
    assert gcv[0] == pytest.approx(np.mean(errors), rel=1e-10)


def test_gcv_finds_a_useful_lambda():
    """Little noise on a linear target wants little shrinkage, pure noise wants all of it."""
    F, noise, F_, _ = sample(200, 20)
    signal = F @ np.full(20, 5.0)
    lambdas = np.logspace(-6, 4, 21)
    assert readout.ridge_path(F_, torch.from_numpy(signal + 1e-3 * noise), lambdas)[1].argmin() < 8
    assert readout.ridge_path(F_, torch.from_numpy(noise - noise.mean()), lambdas)[1].argmin() > 12


@pytest.mark.parametrize(("n", "h"), [(40, 30), (30, 40)])
@pytest.mark.parametrize("scale", [1e6, 1e8, 1e12])
def test_huge_features_of_low_rank_still_give_the_ridge_fit(n, h, scale):
    """The penalty drowns in rounding: least squares on the rank-5 column space by QR of its exact factor."""
    rng = np.random.default_rng(0)
    left, right, y = rng.standard_normal((n, 5)), rng.standard_normal((5, h)), rng.standard_normal(n)
    Q = np.linalg.qr(left)[0]
    best = np.mean((y - Q @ (Q.T @ y)) ** 2)
    F, y_ = torch.from_numpy(scale * (left @ right)), torch.from_numpy(y)
    # three digits: |F a_hat| is the product of factors 1e12 and 1e-12
    for fit in (readout.ridge(F, y_, 0.01), readout.ridge_path(F, y_, [0.01])[0][:, 0]):
        assert (F @ fit - y_).square().mean().item() == pytest.approx(best, rel=5e-3)


def test_failed_cholesky_falls_back():
    """By hand: all features equal to c, penalty lost in rounding, so the prediction is the mean of y."""
    F, y = torch.full((6, 4), 2.0**40, dtype=torch.float64), torch.arange(6, dtype=torch.float64)
    assert torch.linalg.cholesky_ex(gram(F) + 0.015 * torch.eye(4)).info.item() > 0
    prediction = F @ readout.ridge(F, y, 0.01)
    np.testing.assert_allclose(prediction, 2.5, rtol=1e-6)  # coefficients cancel at 2^40 * 1e-16


def test_arguments_are_left_alone():
    F, y, F_, y_ = sample(9, 5)
    G = gram(F_)
    before = G.clone()
    readout.ridge(F_, y_, 1.0, gram_matrix=G)
    readout.ridge_path(F_, y_, [1.0])
    assert torch.equal(G, before)
    np.testing.assert_array_equal(F_, F)
    np.testing.assert_array_equal(y_, y)


@pytest.mark.parametrize("lam", [0.0, -1.0, math.nan, math.inf])
def test_bad_lambda_is_refused(lam):
    _, _, F, y = sample(5, 3)
    with refused("ridge_lambda", "positive and finite", lam):
        readout.ridge(F, y, lam)
    with refused("", "positive and finite", lam):
        readout.ridge_path(F, y, [1.0, lam])


def test_bad_shapes_are_refused():
    _, _, F, y = sample(5, 3)
    with refused("y must", "per row of F", "(5, 3)", "(4,)"):
        readout.ridge(F, y[:4], 1.0)
    with refused("y must", "per row of F"):
        readout.ridge_path(F[0], y, [1.0])
    for lambdas in ([], [[1.0]]):
        with refused("lambdas must", "non-empty list"):
            readout.ridge_path(F, y, lambdas)


def test_an_interpolating_fit_is_never_chosen():
    """GCV is 0 / 0 where the degrees of freedom reach n."""
    identity = torch.eye(3, dtype=torch.float64)
    _, gcv = readout.ridge_path(identity, identity.sum(0), [0.1, 1e-20])
    assert gcv[1] == np.inf
    assert gcv.argmin() == 0


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(("n", "h"), [(9, 4), (6, 6), (4, 9), (1, 3), (3, 1), (1, 1)])
def test_kta_is_that_of_the_formed_kernel(n, h):
    Z, y = gaussian(n, h), gaussian(n, seed=1)
    expected = reference.kta(Z, y)
    assert ht.kernel_target_alignment(Z, y) == pytest.approx(expected, rel=1e-12)
    assert ht.kernel_target_alignment(torch.from_numpy(Z), y.tolist()) == pytest.approx(expected, rel=1e-12)
    for product in (Z.T @ Z, Z @ Z.T):
        given = ht.kernel_target_alignment(Z, y, gram=torch.from_numpy(product))
        assert given == pytest.approx(expected, rel=1e-12)


def test_kta_of_identical_kernels_is_one_and_of_orthogonal_ones_zero():
    y = gaussian(7)
    assert ht.kernel_target_alignment(y[:, None], y) == pytest.approx(1, abs=1e-14)
    assert ht.kernel_target_alignment(np.outer(y, [1, -2, 3]), y) == pytest.approx(1, abs=1e-14)
    orthogonal = gaussian(7, 3, seed=1)
    orthogonal -= np.outer(y, y @ orthogonal) / (y @ y)
    assert ht.kernel_target_alignment(orthogonal, y) == pytest.approx(0, abs=1e-14)
    # Z = I: K = I, so <K, yy^T> = |y|^2, |K| = sqrt n and KTA = 1/sqrt n for any y
    assert ht.kernel_target_alignment(np.eye(16), gaussian(16)) == pytest.approx(0.25, rel=1e-14)


def test_kta_does_not_depend_on_scale_rotation_or_order():
    Z, y = gaussian(8, 5), gaussian(8, seed=1)
    expected = reference.kta(Z, y)
    for scale in (1e-100, 1e-60, -3.0, 1e60, 1e100):  # weights of a diverging run pass through such scales
        assert ht.kernel_target_alignment(scale * Z, y) == pytest.approx(expected, rel=1e-10)
        assert ht.kernel_target_alignment(Z, scale * y) == pytest.approx(expected, rel=1e-10)
    rotation, order = np.linalg.qr(gaussian(5, 5, seed=2))[0], np.random.default_rng(3).permutation(8)
    assert ht.kernel_target_alignment(Z @ rotation, y) == pytest.approx(expected, rel=1e-12)
    assert ht.kernel_target_alignment(Z[order], y[order]) == pytest.approx(expected, rel=1e-12)
    assert ht.kernel_target_alignment(Z[order], y) != pytest.approx(expected, rel=1e-3)


ONES, UNDEFINED = np.ones((3, 2)), ("", "Z or y", "zero or not finite")


@pytest.mark.parametrize(
    ("Z", "y", "named"),
    [
        (ONES, np.ones(2), ("y must", "(3,)", "per row of Z", "(2,)")),
        (ONES, np.ones((3, 1)), ("y must", "(3,)", "(3, 1)")),
        (np.ones(3), np.ones(3), ("Z must", "matrix")),
        (np.ones((0, 2)), np.ones(0), ("Z", "empty")),
        (np.nan * ONES, np.ones(3), ("Z", "NaN or infinity", "6 of 6")),
        (ONES, np.array([1, np.nan, 1]), UNDEFINED),
        (ONES, np.array([1, np.inf, 1]), UNDEFINED),
        (0 * ONES, np.ones(3), UNDEFINED),
        (ONES, np.zeros(3), UNDEFINED),
    ],
)
def test_kta_refuses(Z, y, named):
    with refused(*named):
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
        with refused("v and beta", "one length", np.shape(v), np.shape(beta)):
            ht.teacher_alignment(v, beta)
