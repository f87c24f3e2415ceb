"""Where and how dense matrices are multiplied: two kernels at half the work of the general routines."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

_BLOCKS = 5  # 3/5 of the products of a full one; more blocks save little and run slower
_WORTH_BLOCKS = 256
_CHUNK = 2**18  # entries converted at a time,
_WIDTH = 128  # but at least so many columns: thinner products run slower


def gram(A: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The smaller of A^T A and A A^T.

    Only the blocks on and below the diagonal are multiplied, the rest is copied: torch has no
    symmetric product (syrk).

    Parameters
    ----------
    A : (n, m) tensor
    dtype : torch.dtype, optional
        Of the products and the result; default that of A.  A large A is converted a part at a
        time, so that no second copy of it is held.

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
    dtype = A.dtype if dtype is None else dtype
    size, length = rows.shape
    step = length if dtype == A.dtype else max(_WIDTH, _CHUNK // size)
    blocks = _BLOCKS if size >= _WORTH_BLOCKS else 1
    cuts = [size * i // blocks for i in range(blocks + 1)]
    result = A.new_empty((size, size), dtype=dtype)
    for begin in range(0, length, step):
        part = rows[:, begin : begin + step].to(dtype)
        for start, stop in pairwise(cuts):
            block = result[start:stop, :stop]
            if begin == 0:
                torch.matmul(part[start:stop], part[:stop].T, out=block)
            else:
                block.addmm_(part[start:stop], part[:stop].T)
    for start, stop in pairwise(cuts):
        result[:start, start:stop] = result[start:stop, :start].T
        # on some processors a product A A^T is symmetric up to rounding only
        diagonal = result[start:stop, start:stop]
        diagonal.copy_(diagonal.tril() + diagonal.tril(-1).T)
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


def usable_device(device: str | torch.device) -> torch.device:
    """The device, or a ValueError that says why nothing can be computed on it."""
    try:
        probe = torch.zeros(1, dtype=torch.float64, device=device)  # the measures need float64
        probe.item()  # "meta" makes tensors that hold nothing
        return probe.device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {error}") from error
