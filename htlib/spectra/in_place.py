"""Compute the spectrum of a matrix on the CPU without copies, for layers of models.

BLAS' symmetric product and LAPACK's dsyevr overwrite one Gram matrix and read only half of it.  For the
layers of a transformer this takes 0.6 to 0.7 of the time and half of the memory of `htlib.esd`, which works
on any device and decides the stored numbers of runs.  SciPy's calls keep the interpreter, so threads that
compute side by side take others.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigvalsh
from scipy.linalg.blas import dsyrk  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from htlib.spectra.eigenvalues import equalised, esd, is_ill_conditioned

Array = NDArray[np.float64]

_LARGE = 128  # singular values; smaller matrices take no time
_CHUNK = 2**18  # entries that are converted to float64 at a time,
_WIDTH = 128  # but at least so many columns


def esd_in_place(W: Tensor) -> Array:
    """Compute `htlib.esd` of a matrix up to rounding, 1e-13 of the values; errors are the same."""
    h, d = W.shape
    if min(h, d) < _LARGE or W.device.type != "cpu" or W.dtype == torch.float64:  # esd has an SVD for float64
        return esd(W)
    product = _half_of_gram(W.detach())
    if not np.isfinite(product.diagonal().max()):
        return esd(W)  # it raises the error
    values = eigvalsh(product, lower=False, overwrite_a=True, check_finite=False, driver="evr")
    return _spectrum(values, W)


def esd_beside(W: Tensor) -> Array:
    """Compute the same as `esd_in_place` by calls during which other threads run.

    These are NumPy's product and torch's eigenvalues; by itself it takes a sixth more time, and more memory.
    """
    if min(W.shape) < _LARGE or W.device.type != "cpu" or W.dtype == torch.float64:
        return esd(W)
    rows = W.detach().double().numpy()
    product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    if not np.isfinite(product.diagonal().max()):
        return esd(W)
    return _spectrum(torch.linalg.eigvalsh(torch.from_numpy(product)).numpy(), W)


def _spectrum(values: Array, W: Tensor) -> Array:
    """Return eigenvalues of a Gram matrix without what is only rounding."""
    if is_ill_conditioned(torch.from_numpy(values)):
        values[values <= max(W.shape) * np.finfo(np.float64).eps * values[-1]] = 0
    h, d = W.shape
    return equalised(values, h, d, torch.finfo(W.dtype).eps)


def _half_of_gram(W: Tensor) -> Array:
    """Return the smaller of W^T W and W W^T on and above the diagonal, columns first, and zeros below."""
    size, length = sorted(W.shape)
    wide = W.shape[0] < W.shape[1]
    result = np.zeros((size, size), order="F")
    step = max(_WIDTH, _CHUNK // size)
    for begin in range(0, length, step):
        part = W[:, begin : begin + step] if wide else W[begin : begin + step]
        rows = part.double().contiguous().numpy()  # dsyrk takes columns first: the transpose, without a copy
        result = dsyrk(1.0, rows.T, trans=wide, beta=1.0, c=result, overwrite_c=True)
    return result
