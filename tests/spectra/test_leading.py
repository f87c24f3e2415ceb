"""Oracle: NumPy's singular values."""

import numpy as np
import pytest

from htlib.spectra.leading import leading_eigenvalues
from tests.refusals import refused


@pytest.mark.parametrize("shape", [(400, 150), (150, 400), (90, 90)])
@pytest.mark.parametrize("k", [1, 8, 90])
def test_the_stated_error_holds(shape, k):
    rng = np.random.default_rng(k)
    W = rng.standard_normal(shape) * rng.pareto(2, shape[1])
    found, error = leading_eigenvalues(W, k, seed=k)
    expected = np.linalg.svd(W, compute_uv=False)[:k][::-1]
    assert np.all(np.diff(found) >= 0)
    assert np.allclose(np.sqrt(found), expected, rtol=max(error, 1e-10), atol=0)
    assert error < 0.2


def test_a_gap_makes_it_exact_and_a_seed_the_same():
    rng = np.random.default_rng(0)
    W = np.outer(rng.standard_normal(300), rng.standard_normal(200)) * 10 + rng.standard_normal((300, 200))
    (value,), error = leading_eigenvalues(W, 1)
    assert error < 1e-9
    assert value == pytest.approx(np.linalg.norm(W, 2) ** 2, rel=1e-12)
    assert leading_eigenvalues(W, 1) == ([value], error)


@pytest.mark.parametrize("k", [0, 21])
def test_more_values_than_there_are(k):
    with refused("", "k must be between 1 and min(h, d) = 20", f"got {k}", error=ValueError):
        leading_eigenvalues(np.ones((30, 20)), k)
