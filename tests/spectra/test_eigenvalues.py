"""Oracles: matrices built from known singular values, hand cases, NumPy's SVD, exact invariances."""

import math
from functools import partial

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import htlib as ht
from htlib.spectra.eigenvalues import alpha_weighted, log_alpha_norm
from htlib.spectra.nulls import NULLS
from htlib.spectra.vectors import SingularSystem
from tests import reference
from tests.refusals import refused

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
        pytest.param([1, 1e-12, 1e-12, 1e-12], id="rank one and tiny"),
        pytest.param([1, 1e-3, 1e-6, 1e-12], id="graded"),
        pytest.param([1, 1, 1e-6, 1e-6, 1e-6, 1e-6], id="beyond the Gram matrix"),
        pytest.param([1, 0.5], id="rank two"),
        pytest.param([3], id="rank one"),
        pytest.param([1, 1, 1.1e-5, 1.1e-5, 1.1e-5, 1.1e-5], id="at the limit of the Gram matrix"),
        pytest.param([0], id="zero"),
    ],
)
def test_ill_conditioned_and_rank_deficient(h, d, sigma):
    W = built(h, d, np.array(sigma, float))[0]
    expected = np.zeros(min(h, d))
    expected[: len(sigma)] = sorted(sigma, reverse=True)
    # A backward stable SVD errs by a few eps |W| in sigma.  The Gram matrix rounds sums of up to 9 products,
    # and an error in sigma^2 is 2 sigma times that in sigma: 1e-10 |W| at the limit.
    atol = max(h, d) * EPS / (2 * 1.1e-5) if sigma[-1] == 1.1e-5 else 1e-14
    np.testing.assert_allclose(np.sqrt(ht.esd(W))[::-1], expected, atol=atol)


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FLOATS += [getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name)]
INTEGERS = [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool]
EPS = np.finfo(float).eps


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
def test_every_precision_is_computed_in_float64(dtype):
    W = torch.from_numpy(4 * np.abs(gaussian(6, 4))).to(dtype)
    np.testing.assert_array_equal(ht.esd(W), ht.esd(W.double()))
    np.testing.assert_allclose(ht.esd(W), reference.esd(W.double().numpy()), rtol=1e-11, atol=1e-13)
    if dtype not in FLOATS[3:]:  # NumPy has the others
        np.testing.assert_array_equal(ht.esd(W.numpy()), ht.esd(W.double()))


VIEWS = {
    "transposed": lambda W: W.T,
    "rows": lambda W: W[::2],
    "columns": lambda W: W[:, 1::3],
    "window": lambda W: W[2:7, 3:9],
    "column-major": lambda W: W.T.contiguous().T,
    "one row": lambda W: W[:1].expand(5, -1),
    "one column": lambda W: W[:, :1].expand(-1, 20),
    "overlapping": lambda W: W.as_strided((5, 4), (1, 2)),
    "parameter": lambda W: torch.nn.Parameter(W, requires_grad=W.is_floating_point()),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_of_every_precision_are_accepted_and_left_alone(dtype, view):
    W = torch.from_numpy(gaussian(12, 9)).to(dtype)
    values = ht.esd(view(W))
    expected = reference.esd(view(W.double()).detach().numpy())
    # the Gram matrix errs by some eps of the largest eigenvalue
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=20 * EPS * values[-1])
    assert torch.equal(W.double(), torch.from_numpy(gaussian(12, 9)).to(dtype).double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("h", "d", "rank"), [(40, 30, 12), (30, 40, 1), (30, 30, 29), (120, 100, 7)])
def test_rank_deficient_products_have_exact_zeros(dtype, h, d, rank):
    """Products of small integers are exact in either precision, so that the rank is known."""
    rng = np.random.default_rng(0)
    W = rng.integers(-3, 4, (h, rank)) @ rng.integers(-3, 4, (rank, d))
    values = ht.esd(torch.from_numpy(W).to(dtype))
    np.testing.assert_array_equal(values[:-rank], 0)
    # the Gram matrix errs by some eps of the largest, at worst 1e3 times the smallest that is not zero
    np.testing.assert_allclose(values[-rank:], reference.esd(W.astype(float))[-rank:], rtol=1e-10)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 3), (3, 4)])
def test_the_zero_matrix_has_a_spectrum_of_zeros(dtype, shape):
    np.testing.assert_array_equal(ht.esd(torch.zeros(shape).to(dtype)), np.zeros(min(shape)))


EXPONENTS = {torch.float64: (-480, 480), torch.float32: (-120, 120), torch.bfloat16: (-120, 120)}
EXPONENTS[torch.float16] = (-8, 12)


@pytest.mark.parametrize("dtype", EXPONENTS, ids=str)
def test_huge_and_tiny_scales(dtype):
    """A power of two is exact, also where the sum of the entries overflows their own precision."""
    W = torch.from_numpy(np.abs(gaussian(40, 30))).to(dtype)
    W = W.clamp(min=0.25)  # float16 has no digits left for less at 2^-8 of it
    for exponent in EXPONENTS[dtype]:
        np.testing.assert_allclose(ht.esd(W * 2.0**exponent) / 4.0**exponent, ht.esd(W), rtol=1e-11)


@pytest.mark.parametrize("shape", [(3000, 20), (20, 3000), (1, 3000), (3000, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_long_matrices(shape, dtype):
    W = torch.from_numpy(gaussian(*shape)).to(dtype)
    expected = np.linalg.svd(W.double().numpy(), compute_uv=False)[::-1] ** 2
    np.testing.assert_allclose(ht.esd(W), expected, rtol=1e-12)  # sums of 3000 terms


LAYOUTS = {
    "transposed": lambda W: W.T,
    "rows": lambda W: W[::2],
    "columns": lambda W: W[:, ::3],
    "fortran": np.asfortranarray,
    "reversed": lambda W: W[::-1],
    "read-only": lambda W: np.broadcast_to(W[0], W.shape),
    "big-endian": lambda W: W.astype(">f8"),
}


@pytest.mark.parametrize("view", LAYOUTS.values(), ids=LAYOUTS)
def test_memory_layout_does_not_matter(view):
    W = view(gaussian(8, 6))
    expected = ht.esd(np.array(W, dtype=float, order="C"))
    np.testing.assert_allclose(ht.esd(W), expected, rtol=1e-12, atol=1e-28)
    y = np.array(gaussian(len(W)))
    assert ht.kernel_target_alignment(W, y) == pytest.approx(reference.kta(np.array(W, float), y))
    assert ht.esd([[3, 0], [0, 2]]).tolist() == [4, 9]


@pytest.mark.parametrize(
    "function",
    [ht.esd, SingularSystem, lambda W: ht.singular_vector_overlaps(W, W)]
    + [partial(ht.null_distribution, null=null) for null in NULLS],
)
@pytest.mark.parametrize(
    ("W", "named"),
    [
        (np.ones(3), ("W", "(h, d)", "(3,)")),
        (np.ones((2, 2, 2)), ("W", "(h, d)", "(2, 2, 2)")),
        (1.0, ("W", "(h, d)", "()")),
        (np.ones((0, 3)), ("W", "(0, 3)")),
        (np.ones((3, 0)), ("W", "(3, 0)")),
        ([[1.0, math.nan], [2.0, 3.0]], ("W", "NaN", "1 of 4")),
        ([[1.0, math.inf], [-math.inf, 3.0]], ("W", "infinity", "2 of 4")),
        (np.ones((2, 2), complex), ("W", "real", "complex128")),
        (np.full((2, 2), 1e200), ("", "float64", "rescale")),
    ],
)
def test_bad_matrix_is_refused(function, W, named):
    with refused(*named):
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


def test_effective_rank_by_hand():
    """Roy & Vetterli (2007): singular values 2, 1, 1 have entropy 1.5 ln 2, so 2^1.5; k equal ones have k."""
    assert ht.effective_rank([1.0, 0.0, 4.0, 1.0]) == pytest.approx(2**1.5, rel=1e-14)
    for k in (1, 2, 7):
        assert ht.effective_rank([0.0] * 3 + [5.0] * k) == pytest.approx(k, rel=1e-14)
    sigma = np.linalg.svd(gaussian(5, 8), compute_uv=False)
    p = sigma / sigma.sum()
    assert ht.effective_rank(sigma**2) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-13)
    assert ht.effective_rank([1e-320, 1e308]) == 1


def test_norms_of_weightwatcher_by_hand():
    """alpha log10 lambda_max and log10 sum lambda^alpha; zeros add nothing."""
    values = np.array([100.0, 0.0, 1.0, 10.0])
    assert alpha_weighted(values, 2.5) == pytest.approx(5, rel=1e-15)
    assert log_alpha_norm(values, 2.0) == pytest.approx(math.log10(1 + 100 + 10000), rel=1e-14)
    assert log_alpha_norm(values, 1.0) == pytest.approx(math.log10(values.sum()), rel=1e-14)
    assert log_alpha_norm(values, 0.0) == pytest.approx(math.log10(3), rel=1e-14)
    # 10^2000 overflows; two equal values add log10 2
    assert log_alpha_norm([1e200, 1e200], 10.0) == pytest.approx(2000 + math.log10(2), rel=1e-14)
    assert log_alpha_norm([1e-200, 1e-200], 10.0) == pytest.approx(-2000 + math.log10(2), rel=1e-14)
    for function in (alpha_weighted, log_alpha_norm):
        with refused("eigenvalues", "positive maximum"):
            function([0.0, 0.0], 2.0)


@pytest.mark.parametrize("measure", [ht.stable_rank, ht.spectral_entropy, ht.effective_rank])
def test_measures_do_not_depend_on_order_or_scale(measure):
    values = np.array([4.0, 1.0, 9.0, 0.5])
    for other in (values[::-1], np.sort(values), 1e-30 * values, 1e30 * values, values.tolist()):
        assert measure(other) == pytest.approx(measure(values), rel=1e-13)


RANKS = [ht.stable_rank, ht.spectral_entropy, ht.effective_rank, ht.spectrum_measures]
OTHERS = [lambda x: log_alpha_norm(x, 2.0), ht.hill_alpha, ht.fit_power_law]
BAD = [
    ([], ("1-d", "(0,)")),
    ([[1.0, 2.0]], ("1-d", "(1, 2)")),
    ([1.0, math.nan, 2.0, 3.0], ("NaN", "1 of 4")),
    ([1.0, math.inf, 2.0, 3.0], ("infinity", "1 of 4")),
    ([1.0, -1.0, 2.0, 3.0], ("negative", "-1")),
]
ZERO = ([0.0, 0.0, 0.0, 0.0], ("positive maximum",))


@pytest.mark.parametrize(
    ("measure", "values", "named"),
    [*((f, *case) for f in RANKS + OTHERS for case in BAD), *((f, *ZERO) for f in RANKS)],
)
def test_bad_spectrum_is_refused(measure, values, named):
    with refused("eigenvalues", *named):
        measure(values)


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


class Foreign:
    """An array of another package, as jax and h5py have them: it offers only __array__."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self._values, dtype=dtype)


def test_arrays_of_other_packages_are_read():
    W, values = gaussian(6, 4), np.array([1.0, 2.0, 4.0, 8.0])
    np.testing.assert_array_equal(ht.esd(Foreign(W)), ht.esd(W))
    assert ht.hill_alpha(Foreign(values)) == ht.hill_alpha(values)
    half = torch.from_numpy(W).bfloat16()
    np.testing.assert_array_equal(ht.esd(W.astype(ml_dtypes.bfloat16)), ht.esd(half.double()))
    assert ht.hill_alpha(values.astype(ml_dtypes.bfloat16)) == ht.hill_alpha(values)


def test_masked_entries_are_not_used():
    """The estimate of the others; a matrix cannot do without an entry."""
    values = np.append(np.full(50, 1e-9), np.random.default_rng(0).pareto(1.5, 300) + 1)
    masked = np.ma.masked_less(values, 1)
    assert ht.hill_alpha(masked) == ht.hill_alpha(values[50:]) != ht.hill_alpha(values)
    assert ht.fit_power_law(masked) == ht.fit_power_law(values[50:])
    with refused("array", "2 masked", "fill"):
        ht.esd(np.ma.masked_greater(np.arange(12.0).reshape(3, 4), 9))
    np.testing.assert_array_equal(ht.esd(np.ma.array(gaussian(4, 3))), ht.esd(gaussian(4, 3)))


ORTHOGONAL = [(10, 10), (450, 300), (64, 900), (2000, 12)]


@pytest.mark.parametrize("dtype", FLOATS[:4], ids=str)
@pytest.mark.parametrize("shape", ORTHOGONAL)
def test_spectra_equal_up_to_rounding_are_equal(dtype, shape):
    """Orthogonal matrices, computed in float32 at least and rounded; of Gaussian ones nothing changes."""
    torch.manual_seed(0)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    W = torch.nn.init.orthogonal_(torch.empty(shape, dtype=exact)).to(dtype)
    values = ht.esd(3 * W)
    assert np.ptp(values) == 0
    assert values[0] == pytest.approx(9, rel=2 * torch.finfo(dtype).eps)
    measures = ht.spectrum_measures(values)
    assert math.isnan(measures.alpha_ks)
    assert math.isnan(measures.alpha_hill)
    dead = torch.cat([W, torch.zeros(shape[0], 1).to(dtype)], dim=1)
    assert len(set(ht.esd(dead)[-min(shape) :])) == 1
    # negative control: the spread of noise is not rounding, nor is a spread of a tenth of the entries
    noise = torch.randn(shape).to(dtype)
    assert np.ptp(ht.esd(noise)) > 0
    assert np.ptp(ht.esd(W * torch.linspace(1, 1.1, shape[1]).to(dtype))) > 0


def test_exponents_of_values_equal_to_twelve_digits():
    values = 3 + 1e-14 * np.arange(9)
    assert ht.hill_alpha(values) == math.inf
    assert (ht.hill_plot(values).alpha == math.inf).all()
    assert math.isnan(ht.spectrum_measures(values).alpha_ks)
    with refused("eigenvalues", "equal to 3"):
        ht.fit_power_law(values)
    assert ht.hill_alpha(3 + 1e-9 * np.arange(9)) < 1e10
