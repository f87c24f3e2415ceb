"""Oracles: singular vectors built in, hand cases, NumPy's SVD, Parseval's and Bessel's relations."""

import math

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.spectra.vectors import SingularSystem, principal_angles, without_top
from tests import reference
from tests.refusals import refused

SHAPES = [(5, 8), (7, 7), (9, 4), (1, 1), (1, 6), (6, 1)]


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def built(h, d, sigma, seed=1):
    """A matrix with these singular values, descending, and its singular vectors as columns."""
    U, V = (np.linalg.qr(gaussian(n, len(sigma), seed=seed + i))[0] for i, n in enumerate((h, d)))
    return U @ np.diag(sigma) @ V.T, U, V


FULL = pytest.mark.parametrize(("h", "d"), [(6, 9), (7, 7), (9, 6)])


@FULL
@pytest.mark.parametrize("sigma", [[5, 4, 3, 2, 1, 0.5], [1, 1e-12, 1e-12], [1, 1, 1.1e-5, 1.1e-5], [3], [0]])
def test_system_has_the_spectrum_of_the_matrix(h, d, sigma):
    W = built(h, d, np.array(sigma, float))[0]
    np.testing.assert_allclose(SingularSystem(W).eigenvalues, ht.esd(W), rtol=1e-4, atol=1e-28)


@pytest.mark.parametrize("convert", [torch.from_numpy, lambda W: torch.from_numpy(W).float(), np.asarray])
def test_system_keeps_what_it_was_given(convert):
    """Vectors come later than the values; training changes the weights in between."""
    W = convert(gaussian(5, 4))
    system, expected = SingularSystem(W), SingularSystem(gaussian(5, 4))
    W[:] = 0
    # float32 rounds the entries
    np.testing.assert_allclose(system.eigenvalues, expected.eigenvalues, rtol=1e-5)
    np.testing.assert_allclose((system.right(3).T @ expected.right(3)).abs(), np.eye(3), atol=1e-5)


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_system_recomposes_the_matrix(h, d):
    """W = sum of s_i u_i v_i^T, signs included, with orthonormal vectors."""
    W, k = gaussian(h, d), min(h, d)
    system = SingularSystem(W)
    U, V = system.left(k).numpy(), system.right(k).numpy()
    np.testing.assert_allclose(U * np.sqrt(system.eigenvalues[::-1]) @ V.T, W, atol=1e-12)
    for vectors in (U, V):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
    np.testing.assert_array_equal(system.right(1).numpy(), V[:, :1])


@FULL
def test_singular_vectors_stay_orthonormal_without_full_rank(h, d):
    """A full-batch gradient has rank n at most, so updates of n < min(h, d) samples come like this."""
    W = built(h, d, [3.0, 2.0])[0]
    system = SingularSystem(W)
    for vectors in (system.left(min(h, d)), system.right(min(h, d))):
        gram = (vectors.T @ vectors).numpy()
        norms = np.diag(gram)
        np.testing.assert_allclose(norms[:2], 1, rtol=1e-12)
        # beyond the rank: any orthonormal completion, or zero columns that overlap with nothing
        assert (np.isclose(norms, 1, atol=1e-10) | np.isclose(norms, 0, atol=1e-10)).all()
        np.testing.assert_allclose(gram, np.diag(norms), atol=1e-10)


def test_overlaps_by_hand():
    """W = diag(3, 2) R^T turns the right vectors by 30 degrees and leaves the left ones."""
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    W, M = np.diag([3.0, 2.0]) @ np.array([[c, s], [-s, c]]), np.diag([1.0, 5.0])
    overlaps = ht.singular_vector_overlaps(W, M)
    # M's leading vector is e_2; row i of W, column j of M
    np.testing.assert_allclose(overlaps.left, [[0, 1], [1, 0]], atol=1e-15)
    np.testing.assert_allclose(overlaps.right, [[s * s, c * c], [c * c, s * s]], atol=1e-15)
    turned = ht.singular_vector_overlaps(W.T, M)
    np.testing.assert_allclose(turned.left, overlaps.right, atol=1e-15)
    np.testing.assert_allclose(turned.right, overlaps.left, atol=1e-15)


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_overlaps_are_those_of_the_vectors_built_in(h, d):
    k = min(h, d)
    sigma = np.arange(k, 0, -1.0)
    (W, U, V), (M, P, Q) = built(h, d, sigma), built(h, d, sigma**2, seed=5)
    overlaps = ht.singular_vector_overlaps(torch.from_numpy(W), M)
    np.testing.assert_allclose(overlaps.left, (U.T @ P) ** 2, atol=1e-12)
    np.testing.assert_allclose(overlaps.right, (V.T @ Q) ** 2, atol=1e-12)
    part = ht.singular_vector_overlaps(W, M, k=max(1, k // 2))
    np.testing.assert_allclose(part.left, overlaps.left[: len(part.left), : len(part.left)], atol=1e-12)
    own = ht.singular_vector_overlaps(W, W)
    np.testing.assert_allclose([own.left, own.right], [np.eye(k)] * 2, atol=1e-12)


@FULL
def test_overlaps_sum_to_one_over_a_full_basis(h, d):
    """Parseval on the smaller side, Bessel on the larger."""
    overlaps = ht.singular_vector_overlaps(gaussian(h, d), gaussian(h, d, seed=1))
    for side, size in ((overlaps.left, h), (overlaps.right, d)):
        for axis in (0, 1):
            if size == min(h, d):
                np.testing.assert_allclose(side.sum(axis), 1, rtol=1e-10)
            else:
                assert (side.sum(axis) < 1).all()


@FULL
def test_overlaps_obey_bessel_without_full_rank(h, d):
    deficient = built(h, d, [3.0, 2.0])[0]
    for pair in ((gaussian(h, d), deficient), (deficient, gaussian(h, d)), (deficient, deficient)):
        overlaps = ht.singular_vector_overlaps(*pair)
        for side in (overlaps.left, overlaps.right):
            assert side.sum(0).max() <= 1 + 1e-10
            assert side.sum(1).max() <= 1 + 1e-10
        assert max(overlaps.subspace(min(h, d))) <= 1 + 1e-10


def test_subspace_overlap_of_equal_orthogonal_and_random_spans():
    first, other = np.diag([6.0, 5, 4, 3, 2, 1]), np.diag([1.0, 2, 3, 4, 5, 6])
    assert ht.singular_vector_overlaps(first, first).subspace(3) == pytest.approx((1, 1))
    assert ht.singular_vector_overlaps(first, other).subspace(3) == pytest.approx((0, 0))
    # by symmetry k/h and k/d; the spread of a mean of k^2 = 400 terms is about 5 % of it
    left, right = ht.singular_vector_overlaps(gaussian(100, 50), gaussian(100, 50, seed=1)).subspace(20)
    assert left == pytest.approx(0.2, rel=0.2)
    assert right == pytest.approx(0.4, rel=0.2)


def test_principal_angles_by_hand():
    """The plane of e1, e2 against that of e1 and e2 turned by .3 towards e3: angles .3 and 0."""
    turn = np.array([[1, 0, 0], [0, math.cos(0.3), -math.sin(0.3)], [0, math.sin(0.3), math.cos(0.3)]])
    W = np.diag([3.0, 2.0, 1.0])
    np.testing.assert_allclose(principal_angles(W, W @ turn.T, 2), [0.3, 0], atol=1e-12)
    np.testing.assert_allclose(principal_angles(W, W @ turn.T, 2, side="left"), [0, 0], atol=1e-12)
    np.testing.assert_allclose(principal_angles(W, turn @ W, 2, side="left"), [0.3, 0], atol=1e-12)
    np.testing.assert_allclose(principal_angles(W, W @ turn.T, 3), 0, atol=1e-12)


@FULL
def test_principal_angles_agree_with_the_overlaps(h, d):
    """Identity: the mean of cos^2 over principal angles is the subspace overlap."""
    W, M = gaussian(h, d), gaussian(h, d, seed=1)
    means = [np.mean(np.cos(principal_angles(W, M, 3, side)) ** 2) for side in ("left", "right")]
    np.testing.assert_allclose(means, ht.singular_vector_overlaps(W, M).subspace(3), rtol=1e-10)


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_without_top_is_the_svd_less_its_first_term(h, d):
    M = gaussian(h, d)
    np.testing.assert_allclose(without_top(torch.from_numpy(M)), reference.without_top(M), atol=1e-13)
    assert without_top(torch.from_numpy(M).float()).dtype == torch.float32


def test_bad_arguments_of_comparisons_are_refused():
    W = gaussian(3, 4)
    with refused("W and M", "shape", W.shape, W.T.shape):
        ht.singular_vector_overlaps(W, W.T)
    with refused("M", "NaN"):
        ht.singular_vector_overlaps(W, np.nan * W)
    overlaps = ht.singular_vector_overlaps
    for compare in (overlaps, principal_angles, lambda W, M, k: overlaps(W, M).subspace(k)):
        for k in (0, 4, -1):
            with refused("k", "1..3", k):
                compare(W, W, k)
    with refused("side", "'left'", "'right'", "'top'"):
        principal_angles(W, W, 1, side="top")
