"""Multiply and factorise dense matrices on a device: two kernels do half the work of general routines."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

_BLOCKS = 5  # so 3/5 of the products are computed; more blocks save little and run slower
_WORTH_BLOCKS = 256
_CHUNK = 2**18  # entries that are converted at a time,
_WIDTH = 128  # but at least this many columns: thinner products run slower


def gram(A: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Compute the smaller of A^T A and A A^T, exactly symmetric.

    Only the blocks on and below the diagonal are multiplied, and the rest is copied: torch has no symmetric
    product (syrk).  Products and result have `dtype`, by default that of A; a large A is converted in
    parts, so that no second copy of it is held.
    """
    rows = A.T if A.shape[0] >= A.shape[1] else A
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
        # on some processors a product A A^T is symmetric only up to rounding
        diagonal = result[start:stop, start:stop]
        diagonal.copy_(diagonal.tril() + diagonal.tril(-1).T)
    return result


def top_eigenvector(A: Tensor, eigenvalue: float) -> Tensor:
    """Compute the unit eigenvector of a positive semi-definite float64 matrix at its largest eigenvalue.

    The eigenvalue must be known to rounding.  Inverse iteration then takes a third of the time of a full
    eigendecomposition.  If the eigenvalue is not simple, the result is any unit vector of its eigenspace.
    """
    size = len(A)
    # The shift is just above the spectrum: near enough to converge in three steps, too far for a zero pivot.
    shift = eigenvalue * (1 + 8 * size * torch.finfo(A.dtype).eps)
    shifted = -A
    shifted.diagonal().add_(shift)
    factor, pivots = torch.linalg.lu_factor(shifted)
    # If the fixed start is orthogonal to the eigenvector, rounding supplies the missing component.
    v = torch.cos(torch.arange(size, dtype=A.dtype, device=A.device) ** 2)
    for _ in range(3):
        v = torch.linalg.lu_solve(factor, pivots, (v / v.norm())[:, None])[:, 0]
    return v / v.norm()


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device; raise ValueError with the reason if nothing can be computed on it."""
    try:
        probe = torch.zeros(1, dtype=torch.float64, device=device)  # the measures need float64
        probe.item()  # fails on "meta", whose tensors hold no values
        return probe.device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {error}") from error
