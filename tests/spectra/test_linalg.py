"""Oracles: the full product, and LAPACK's full eigendecomposition."""

import numpy as np
import pytest
import torch

from htlib.spectra import linalg
from htlib.spectra.linalg import gram, top_eigenvector


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (400, 300), (300, 401), (256, 256)])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_gram_is_the_smaller_product_and_exactly_symmetric(shape, layout):
    A = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    A = A if layout == "rows" else A.T.contiguous().T
    expected = A.T @ A if shape[0] >= shape[1] else A @ A.T
    G = gram(A)
    assert torch.equal(G, G.T)
    torch.testing.assert_close(G, expected, rtol=1e-13, atol=1e-12)  # rounding of sums of 400 terms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        *[(1, (40, 7)), (9, (7, 40)), (2, (1, 9)), (1, (3, 3))],
        *[(150, (400, 300)), (150, (300, 401)), (150, (256, 256)), (10**5, (300, 401))],
    ],
)
def test_gram_in_float64_is_that_of_the_converted_matrix(monkeypatch, shape, columns, dtype):
    """So many columns at a time, the last part shorter; sides from 256 on are multiplied in blocks."""
    monkeypatch.setattr(linalg, "_CHUNK", columns * min(shape))
    A = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).to(dtype)
    expected = A.double().T @ A.double() if shape[0] >= shape[1] else A.double() @ A.double().T
    for matrix in (A, A.T.contiguous().T):
        G = gram(matrix, torch.float64)
        assert G.dtype == torch.float64
        assert torch.equal(G, G.T)
        # rounding of float64 sums of 400 terms; float32 sums would err by 1e-6
        torch.testing.assert_close(G, expected, rtol=1e-13, atol=1e-12)


def test_gram_keeps_the_precision_of_its_argument_by_default():
    A = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 20))).float()
    assert gram(A).dtype == torch.float32
    # 30 roundings of sums that reach ten and more, 1e-6 each at the most; the root of 30 times that
    torch.testing.assert_close(gram(A), A.T @ A, rtol=1e-5, atol=1e-5)


def spectrum_with(eigenvalues, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return torch.from_numpy(Q @ np.diag(eigenvalues) @ Q.T), torch.from_numpy(Q)


@pytest.mark.parametrize(
    ("second", "tolerance"),
    # rounding of the matrix, 1e-16, over the gap decides what any method can know of the vector
    [(0.0, 1e-13), (0.9, 1e-12), (1 - 1e-4, 1e-9), (1 - 1e-8, 1e-5)],
)
@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e120])
def test_top_eigenvector_is_the_planted_one(second, tolerance, scale):
    A, Q = spectrum_with(np.append(np.linspace(0, second, 60), 1.0) * scale)
    v = top_eigenvector(A, float(torch.linalg.eigvalsh(A)[-1]))
    assert abs(v.norm().item() - 1) < 1e-14
    assert (v @ Q[:, -1]).abs().item() > 1 - tolerance**2 - 1e-14


def test_top_eigenvector_of_a_repeated_eigenvalue_and_of_one_number():
    A, Q = spectrum_with([0.1, 0.2, 3.0, 3.0])
    v = top_eigenvector(A, 3.0)
    assert (Q[:, 2:].T @ v).norm().item() == pytest.approx(1, abs=1e-13)
    identity = torch.eye(5, dtype=torch.float64)
    assert top_eigenvector(identity, 1.0).norm().item() == pytest.approx(1)
    assert top_eigenvector(4 * identity[:1, :1], 4.0).abs().item() == 1


def test_top_eigenvector_when_the_start_is_all_but_orthogonal():
    """Diagonal matrices, one at a time: some entry of any fixed start is small."""
    for i in range(40):
        A = torch.diag(torch.linspace(0, 1, 40, dtype=torch.float64))
        A[i, i] = 2.0
        assert top_eigenvector(A, 2.0).abs().argmax().item() == i
