"""Compute only the largest eigenvalues, of matrices that are too large for all."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.eigenvalues import as_matrix

Array = NDArray[np.float64]

_MORE = 10  # directions beyond those that are asked for


def leading_eigenvalues(
    W: Tensor | ArrayLike, k: int, *, n_iterations: int = 4, seed: int = 0
) -> tuple[Array, float]:
    """Compute the k largest eigenvalues of W^T W by randomized subspace iteration.

    Parameters
    ----------
    W : (h, d) tensor or array
    k : int
        At most min(h, d).
    n_iterations : int
        Products with W W^T; each sharpens the gaps between the singular values.
    seed : int
        Of the random directions that the iteration starts from.

    Returns
    -------
    (k,) float64 array
        Ascending, the end of `htlib.esd`.
    float
        Error: the largest of |W^T u - s v| / s over the k singular triplets.  W has a singular value as near
        to each s as that; it cannot tell that one was missed.

    Raises
    ------
    ValueError
        If k is not between 1 and min(h, d), or W is not a finite matrix.

    References
    ----------
    Halko, Martinsson & Tropp (2011), algorithm 4.4 with 5.1.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((300, 200)) + 3
    >>> values, error = leading_eigenvalues(W, 1)
    >>> abs(float(values[0] / np.linalg.norm(W, 2) ** 2) - 1) < error < 1e-6
    True
    """
    matrix = as_matrix(W)
    if not 1 <= k <= min(matrix.shape):
        raise ValueError(f"k must be between 1 and min(h, d) = {min(matrix.shape)}; got {k}")
    generator = torch.Generator().manual_seed(seed)
    width = min(k + _MORE, *matrix.shape)
    start = torch.randn(matrix.shape[1], width, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(matrix @ start.to(matrix.device))[0]
    for _ in range(n_iterations):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis)[0])[0]
    left, values, right = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    values, right = values[:k], right[:k]
    # the right vectors are exact for the left ones, so the residual is on the other side
    residual = torch.linalg.vector_norm(matrix @ right.T - (basis @ left[:, :k]) * values, dim=0)
    error = float((residual / values).max()) if values[-1] > 0 else 0.0
    return (values**2).flip(0).cpu().numpy(), error
