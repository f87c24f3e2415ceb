"""Two dense kernels that every probe needs, at half the work of the general routines."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCKS = 5  # 3/5 of the products of a full one; more blocks save little and run slower
_WORTH_BLOCKS = 256


def gram(A: Tensor) -> Tensor:
    """The smaller of A^T A and A A^T.

    Only the blocks on and below the diagonal are multiplied, the rest is copied: torch has no
    symmetric product (syrk).

    Parameters
    ----------
    A : (n, m) tensor

    Returns
    -------
    (min(n, m), min(n, m)) tensor
        Exactly symmetric.

    Examples
    --------
    >>> gram(torch.tensor([[1.0, 2.0], [0.0, 1.0], [0.0, 0.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """
    rows = A.T if A.shape[0] >= A.shape[1] else A  # of the result
    size = len(rows)
    blocks = _BLOCKS if size >= _WORTH_BLOCKS else 1
    result = A.new_empty(size, size)
    for i in range(blocks):
        start, stop = size * i // blocks, size * (i + 1) // blocks
        torch.matmul(rows[start:stop], rows[:stop].T, out=result[start:stop, :stop])
        result[:start, start:stop] = result[start:stop, :start].T
    return result


def top_eigenvector(A: Tensor, eigenvalue: float) -> Tensor:
    """Eigenvector of the largest eigenvalue of a positive semi-definite matrix, by inverse iteration.

    A third of the time of a full eigendecomposition when all eigenvalues are known already.

    Parameters
    ----------
    A : (m, m) float64 tensor
    eigenvalue : float
        Its largest eigenvalue, to rounding.

    Returns
    -------
    (m,) tensor
        Of unit length; any unit vector of the eigenspace if the eigenvalue is not simple.
    """
    size = len(A)
    # Just above the spectrum: close enough to converge in three steps, too far for a zero pivot.
    shift = eigenvalue * (1 + 8 * size * torch.finfo(A.dtype).eps)
    shifted = -A
    shifted.diagonal().add_(shift)
    factor, pivots = torch.linalg.lu_factor(shifted)
    # No choice of fixed start is orthogonal to every eigenvector; rounding supplies what is missing.
    v = torch.cos(torch.arange(size, dtype=A.dtype, device=A.device) ** 2)
    for _ in range(3):
        v = torch.linalg.lu_solve(factor, pivots, (v / v.norm())[:, None])[:, 0]
    return v / v.norm()
