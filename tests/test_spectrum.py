"""Oracles: matrices built from known singular values, hand cases, NumPy's SVD, exact invariances."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import htlib as ht
from htlib.overlaps import SingularSystem, principal_angles, without_top

SHAPES = [(5, 8), (7, 7), (9, 4), (1, 1), (1, 6), (6, 1)]


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def orthogonal(size, seed):
    return np.linalg.qr(gaussian(size, size, seed=seed))[0]


def built(h, d, sigma, seed=1):
    """A matrix with these singular values, descending, and its singular vectors as columns."""
    U, V = orthogonal(h, seed)[:, : len(sigma)], orthogonal(d, seed + 1)[:, : len(sigma)]
    return U @ np.diag(sigma) @ V.T, U, V


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_esd_recovers_the_singular_values_built_in(h, d):
    sigma = np.arange(min(h, d), 0, -1.0)
    W = built(h, d, sigma)[0]
    values = ht.esd(W)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, sigma[::-1] ** 2, rtol=1e-12)  # rounding
    np.testing.assert_allclose(values, reference.esd(W), rtol=1e-12)


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_esd_does_not_change_under_rotation_and_transposition(h, d):
    W = gaussian(h, d)
    for other in (W.T, orthogonal(h, 1) @ W @ orthogonal(d, 2), W[::-1].copy(), -W):
        np.testing.assert_allclose(ht.esd(other), ht.esd(W), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ht.esd(3 * W), 9 * ht.esd(W), rtol=1e-12)
    assert not np.allclose(ht.esd(W + 0.1), ht.esd(W), rtol=1e-3)


matrices = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-1e3, 1e3)
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(W=matrices)
def test_esd_keeps_frobenius_norm_order_and_sign(W):
    """Closed form: the eigenvalues sum to |W|_F^2; checked on matrices full of zeros and repeats too."""
    values = ht.esd(W)
    assert len(values) == min(W.shape)
    assert (np.diff(values) >= 0).all()
    assert values[0] >= 0
    # float64 rounding at the scale of the largest eigenvalue
    assert values.sum() == pytest.approx((W**2).sum(), rel=1e-12, abs=1e-300)
    np.testing.assert_allclose(values, reference.esd(W), rtol=1e-5, atol=1e-12 * values[-1])


@pytest.mark.parametrize(("h", "d"), [(6, 9), (7, 7), (9, 6)])
@pytest.mark.parametrize(
    "sigma",
    [
        [1, 1e-12, 1e-12, 1e-12],
        [1, 1e-3, 1e-6, 1e-12],
        [1, 1, 1e-6, 1e-6, 1e-6, 1e-6],
        [1, 0.5],
        [3],
        [1, 1, 1.1e-5, 1.1e-5, 1.1e-5, 1.1e-5],
        [0],
    ],
    ids=[
        "rank one and tiny",
        "graded",
        "beyond the Gram matrix",
        "rank two",
        "rank one",
        "at the limit of the Gram matrix",
        "zero",
    ],
)
def test_ill_conditioned_and_rank_deficient(h, d, sigma):
    W = built(h, d, np.array(sigma, float))[0]
    expected = np.zeros(min(h, d))
    expected[: len(sigma)] = sorted(sigma, reverse=True)
    # a backward stable SVD errs by a few eps |W| in sigma; the Gram matrix, at ratio 1e-10, by 1e-11 |W|
    np.testing.assert_allclose(
        np.sqrt(ht.esd(W))[::-1], expected, atol=5e-11 if sigma[-1] == 1.1e-5 else 1e-14
    )
    np.testing.assert_allclose(SingularSystem(W).eigenvalues, ht.esd(W), rtol=1e-4, atol=1e-28)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32], ids=str)
def test_every_precision_is_computed_in_float64(dtype):
    W = torch.from_numpy(4 * gaussian(6, 4)).to(dtype)
    np.testing.assert_array_equal(ht.esd(W), ht.esd(W.double()))
    if dtype != torch.bfloat16:
        np.testing.assert_array_equal(ht.esd(W.numpy()), ht.esd(W.double()))


@pytest.mark.parametrize(
    "view",
    [
        lambda W: W.T,
        lambda W: W[::2],
        lambda W: W[:, ::3],
        lambda W: np.asfortranarray(W),
        lambda W: W[::-1],
        lambda W: np.broadcast_to(W[0], W.shape),
        lambda W: W.astype(">f8"),
    ],
    ids=["transposed", "rows", "columns", "fortran", "reversed", "read-only", "big-endian"],
)
def test_memory_layout_does_not_matter(view):
    W = view(gaussian(8, 6))
    expected = ht.esd(np.array(W, dtype=float, order="C"))
    np.testing.assert_allclose(ht.esd(W), expected, rtol=1e-12, atol=1e-28)
    y = np.array(gaussian(len(W)))
    assert ht.kernel_target_alignment(W, y) == pytest.approx(reference.kta(np.array(W, float), y))


def test_tensors_views_and_parameters_are_accepted_and_left_alone():
    W = torch.from_numpy(gaussian(8, 6))
    copy = W.clone()
    for view in (W.T, W[::2], W[:, 1:4], W[:1].expand(5, 6), torch.nn.Parameter(W)):
        np.testing.assert_allclose(ht.esd(view), reference.esd(view.detach().numpy()), rtol=1e-11, atol=1e-14)
    assert torch.equal(W, copy)
    assert ht.esd([[3, 0], [0, 2]]).tolist() == [4, 9]


@pytest.mark.parametrize("function", [ht.esd, SingularSystem, lambda W: ht.singular_vector_overlaps(W, W)])
@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.ones(3), r"^W must be a matrix, \(h, d\); got shape \(3,\)"),
        (np.ones((2, 2, 2)), r"^W must be a matrix, \(h, d\); got shape \(2, 2, 2\)"),
        (1.0, r"^W must be a matrix, \(h, d\); got shape \(\)"),
        (np.ones((0, 3)), r"^W is empty: its shape is \(0, 3\)"),
        (np.ones((3, 0)), r"^W is empty: its shape is \(3, 0\)"),
        ([[1.0, math.nan], [2.0, 3.0]], r"^W holds NaN or infinity in 1 of 4 entries"),
        ([[1.0, math.inf], [-math.inf, 3.0]], r"^W holds NaN or infinity in 2 of 4 entries"),
        (np.ones((2, 2), complex), r"^W must be real; got torch.complex128"),
        (np.full((2, 2), 1e200), r"overflow float64; rescale the matrix"),
    ],
)
def test_bad_matrix_is_refused(function, W, message):
    with pytest.raises(ValueError, match=message):
        function(W)


def test_stable_rank_and_entropy_by_hand():
    """Closed forms: p = (1/2, 1/4, 1/4) has entropy 1.5 ln 2; one eigenvalue 0; a flat spectrum 1."""
    values = [0.0, 2.0, 1.0, 1.0]
    assert ht.stable_rank(values) == 2
    assert ht.spectral_entropy(values) == pytest.approx(1.5 * math.log(2) / math.log(3), rel=1e-14)
    assert (ht.stable_rank([5.0]), ht.spectral_entropy([5.0]), ht.spectral_entropy([0.0, 5.0])) == (1, 0, 0)
    assert ht.spectral_entropy(np.ones(7)) == pytest.approx(1, rel=1e-14)
    W = gaussian(5, 8)
    assert ht.stable_rank(ht.esd(W)) == pytest.approx((np.linalg.norm(W) / np.linalg.norm(W, 2)) ** 2)


@pytest.mark.parametrize("measure", [ht.stable_rank, ht.spectral_entropy])
def test_measures_do_not_depend_on_order_or_scale(measure):
    values = np.array([4.0, 1.0, 9.0, 0.5])
    for other in (values[::-1], np.sort(values), 1e-30 * values, 1e30 * values, values.tolist()):
        assert measure(other) == pytest.approx(measure(values), rel=1e-13)


@pytest.mark.parametrize("measure", [ht.stable_rank, ht.spectral_entropy, ht.hill_alpha, ht.fit_power_law])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"^eigenvalues must be a non-empty 1-d array; got shape \(0,\)"),
        ([[1.0, 2.0]], r"^eigenvalues must be a non-empty 1-d array; got shape \(1, 2\)"),
        ([1.0, math.nan, 2.0, 3.0], r"^eigenvalues hold NaN or infinity in 1 of 4 entries"),
        ([1.0, math.inf, 2.0, 3.0], r"^eigenvalues hold NaN or infinity in 1 of 4 entries"),
        ([1.0, -1.0, 2.0, 3.0], r"^eigenvalues must not be negative; the smallest is -1"),
    ],
)
def test_bad_spectrum_is_refused(measure, values, message):
    with pytest.raises(ValueError, match=message):
        measure(values)


@pytest.mark.parametrize("measure", [ht.stable_rank, ht.spectral_entropy])
def test_zero_spectrum_is_refused(measure):
    with pytest.raises(ValueError, match=r"^eigenvalues must have a positive maximum"):
        measure([0.0, 0.0])


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


@pytest.mark.parametrize(("h", "d"), [(6, 9), (7, 7), (9, 6)])
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


@pytest.mark.parametrize(("h", "d"), [(6, 9), (7, 7), (9, 6)])
def test_overlaps_sum_to_one_over_a_full_basis(h, d):
    """Parseval on the smaller side, Bessel on the larger."""
    overlaps = ht.singular_vector_overlaps(gaussian(h, d), gaussian(h, d, seed=1))
    for side, size in ((overlaps.left, h), (overlaps.right, d)):
        for axis in (0, 1):
            if size == min(h, d):
                np.testing.assert_allclose(side.sum(axis), 1, rtol=1e-10)
            else:
                assert (side.sum(axis) < 1).all()


@pytest.mark.parametrize(("h", "d"), [(6, 9), (7, 7), (9, 6)])
def test_overlaps_obey_bessel_without_full_rank(h, d):
    deficient = built(h, d, [3.0, 2.0])[0]
    for pair in ((gaussian(h, d), deficient), (deficient, gaussian(h, d)), (deficient, deficient)):
        overlaps = ht.singular_vector_overlaps(*pair)
        for side in (overlaps.left, overlaps.right):
            assert side.sum(0).max() <= 1 + 1e-10
            assert side.sum(1).max() <= 1 + 1e-10
        assert max(overlaps.subspace(min(h, d))) <= 1 + 1e-10


def test_subspace_overlap_of_equal_orthogonal_and_random_spans():
    eye = np.eye(6)
    first, other = np.diag([6.0, 5, 4, 3, 2, 1]), np.diag([1.0, 2, 3, 4, 5, 6])
    assert ht.singular_vector_overlaps(first, first @ eye).subspace(3) == pytest.approx((1, 1))
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


@pytest.mark.parametrize(("h", "d"), [(6, 9), (7, 7), (9, 6)])
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
    with pytest.raises(ValueError, match=r"^W and M must have the same shape; got \(3, 4\) and \(4, 3\)"):
        ht.singular_vector_overlaps(W, W.T)
    with pytest.raises(ValueError, match=r"^M holds NaN"):
        ht.singular_vector_overlaps(W, np.nan * W)
    for k in (0, 4, -1):
        with pytest.raises(ValueError, match=rf"^k must be in 1\.\.3, .*got {k}"):
            ht.singular_vector_overlaps(W, W, k=k)
        with pytest.raises(ValueError, match=rf"^k must be in 1\.\.3; got {k}"):
            principal_angles(W, W, k)
        with pytest.raises(ValueError, match=rf"^k must be in 1\.\.3, .*got {k}"):
            ht.singular_vector_overlaps(W, W).subspace(k)
    with pytest.raises(ValueError, match=r"^side must be 'left' or 'right'; got 'top'"):
        principal_angles(W, W, 1, side="top")


def test_rounding_noise_of_a_rank_deficient_matrix_is_exactly_zero():
    """By hand: rank 2 with equal singular values is flat over its two directions."""
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 2)))[0]
    eigenvalues = ht.esd(Q @ Q.T)
    assert (eigenvalues[:98] == 0).all()
    assert eigenvalues[98:] == pytest.approx(1, rel=1e-12)
    assert ht.spectral_entropy(eigenvalues) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_spectra_may_be_tensors(dtype):
    values = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=dtype, requires_grad=True)
    assert ht.hill_alpha(values) == ht.hill_alpha([1.0, 2.0, 4.0, 8.0])
    assert ht.stable_rank(values) == 15 / 8
