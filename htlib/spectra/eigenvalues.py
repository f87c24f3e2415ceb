"""Compute the spectrum of a weight matrix and its summary numbers: ranks, entropies, norms.

Conventions: W is (h, d).  The ESD is the ascending list of the min(h, d) values lambda_i = sigma_i(W)^2,
which are raw (some texts divide by h or d).  Everything is computed in float64 on the device of W.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra.linalg import gram

Array = NDArray[np.float64]

# Below this ratio of extreme eigenvalues the Gram matrix has lost the small ones to rounding
# (relative error eps / ratio), and the singular values are computed from W itself.
_GRAM_CONDITION = 1e-10
_COMPUTED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def esd(W: Tensor | ArrayLike) -> Array:
    """Compute the empirical spectral distribution: the eigenvalues of W^T W that are not zero by shape.

    Parameters
    ----------
    W : (h, d) tensor or array
        Any floating type, strides and device.

    Returns
    -------
    (min(h, d),) float64 array
        sigma_i(W)^2, ascending and raw: no 1/N factor.  Rounding noise is set to zero: for float64 where
        sigma_i is below max(h, d) eps sigma_1 (as in numpy.linalg.matrix_rank), for lower precisions where
        sigma_i^2 is below max(h, d) eps sigma_1^2; eps = 2.2e-16 in both.  If the positive values differ
        only by rounding of the entries, as those of an orthogonal matrix do, they are made equal.

    Raises
    ------
    ValueError
        If W is not a matrix, is empty or holds a value that is not finite.

    Examples
    --------
    >>> esd([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]).tolist()
    [4.0, 9.0]
    """
    matrix = as_matrix(W, dtype=None)
    eigenvalues = torch.linalg.eigvalsh(finite_gram(matrix))
    if is_ill_conditioned(eigenvalues):
        if matrix.dtype == torch.float64:
            eigenvalues = squares(torch.linalg.svdvals(matrix), matrix)
        else:  # what the Gram matrix lost lies below the precision of the entries themselves
            noise = max(matrix.shape) * torch.finfo(torch.float64).eps * eigenvalues[-1]
            eigenvalues = torch.where(eigenvalues > noise, eigenvalues, torch.zeros_like(eigenvalues))
    h, d = matrix.shape
    return equalised(eigenvalues.cpu().numpy(), h, d, torch.finfo(matrix.dtype).eps)


def equalised(eigenvalues: Array, h: int, d: int, eps: float) -> Array:
    """Return an ESD whose positive values, three or more, are made equal if rounding explains their spread.

    Let an (h, d) matrix have equal singular values, m = max(h, d) and k = min(h, d).  Rounding its entries to
    the precision eps spreads its eigenvalues by 1.2 eps sqrt(k / m) of their size.  Computing it by QR, in
    float32 if eps is larger, spreads them by up to 2 sqrt(m) times that precision.  (Both measured.)  Four
    times the sum is allowed for.  A Gaussian matrix has a spread of about 4 sqrt(k / m).
    """
    m, k = max(h, d), min(h, d)
    computed = min(eps, float(np.finfo(np.float32).eps))
    positive = eigenvalues > 0
    values = eigenvalues[positive]
    rounding = 4 * (1.2 * eps * np.sqrt(k / m) + 2 * computed * np.sqrt(m))
    if len(values) < 3 or np.ptp(values) > rounding * values.max():
        return eigenvalues
    return np.where(positive, values.mean(), 0.0)


def stable_rank(eigenvalues: Tensor | ArrayLike) -> float:
    """Divide the sum of the eigenvalues by the largest one: |W|_F^2 / |W|_2^2.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order.

    Returns
    -------
    float
        Between 1 and N.

    Examples
    --------
    >>> stable_rank([1.0, 1.0, 2.0])
    2.0
    """
    values = _nonzero(eigenvalues)
    return float((values / values[-1]).sum())


def effective_rank(eigenvalues: Tensor | ArrayLike) -> float:
    """Compute exp(entropy) of the normalised singular values (Roy & Vetterli 2007).

    It is exp(-sum p ln p) with p = sigma / sum sigma, sigma = sqrt(lambda).  (`spectral_entropy` normalises
    the eigenvalues instead, as WeightWatcher does.)

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order; zeros do not count.

    Returns
    -------
    float
        Between 1 and N: the number of equal singular values that have the same entropy.

    Raises
    ------
    ValueError
        If all eigenvalues are zero.

    Examples
    --------
    >>> round(effective_rank([4.0, 4.0, 0.0]), 12)
    2.0
    """
    return float(np.exp(_entropy(np.sqrt(_nonzero(eigenvalues)))))


def spectral_entropy(eigenvalues: Tensor | ArrayLike) -> float:
    """Divide the Shannon entropy of the normalised spectrum by ln(rank): 1 is flat, 0 is rank one.

    It is -sum p ln p / ln rank with p = lambda / sum lambda, as in WeightWatcher.

    Parameters
    ----------
    eigenvalues : (N,) array
        In any order; zeros do not count.

    Returns
    -------
    float
        In [0, 1]; 0 when only one eigenvalue is not zero.

    Examples
    --------
    >>> round(spectral_entropy([2.0, 2.0, 2.0]), 12)
    1.0
    """
    values = _nonzero(eigenvalues)
    return min(1.0, float(_entropy(values) / np.log(len(values)))) if len(values) > 1 else 0.0


def log_alpha_norm(eigenvalues: Tensor | ArrayLike, alpha: float) -> float:
    """Return log10 sum lambda^alpha, as in WeightWatcher (Martin, Peng & Mahoney 2021).

    The eigenvalues are raw.  No alpha is so large that the result overflows.
    """
    logs = np.log10(_nonzero(eigenvalues))
    return float(alpha * logs[-1] + np.log10(np.sum(10 ** (alpha * (logs - logs[-1])))))


def alpha_weighted(eigenvalues: Tensor | ArrayLike, alpha: float) -> float:
    """Return alpha log10 lambda_max, WeightWatcher's alpha-hat (Martin, Peng & Mahoney 2021)."""
    return float(alpha * np.log10(_nonzero(eigenvalues)[-1]))


def as_matrix(W: Tensor | ArrayLike, name: str = "W", dtype: torch.dtype | None = torch.float64) -> Tensor:
    """Return W as a finite real matrix on its own device; raise ValueError if it is not one.

    With `dtype` None the floating types that torch computes with stay as they are.
    """
    matrix = as_tensor(W)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be a matrix, (h, d); got shape {tuple(matrix.shape)}")
    if matrix.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {tuple(matrix.shape)}")
    if matrix.is_complex():
        raise ValueError(f"{name} must be real; got {matrix.dtype}")
    if dtype is None:
        dtype = matrix.dtype if matrix.dtype in _COMPUTED else torch.float64
    matrix = matrix.to(dtype)
    if not torch.isfinite(matrix.sum()):  # one cheap pass if all entries are finite
        bad = int((~torch.isfinite(matrix)).sum())
        if bad:
            raise ValueError(f"{name} holds NaN or infinity in {bad} of {matrix.numel()} entries")
    return matrix


def as_tensor(array: Tensor | ArrayLike) -> Tensor:
    """Detach a tensor, or copy an array of any layout or byte order, read-only or not, into one.

    Types of other packages that torch lacks, as NumPy's bfloat16 of ml_dtypes, become float64.
    """
    if isinstance(array, Tensor):
        return array.detach()
    if np.ma.is_masked(array):
        raise ValueError(f"array has {np.ma.count_masked(array)} masked entries: fill or drop them first")
    copy = np.array(array)
    if copy.dtype.kind == "V":
        copy = copy.astype(np.float64)
    return torch.from_numpy(copy.astype(copy.dtype.newbyteorder("=")))


def as_spectrum(eigenvalues: Tensor | ArrayLike) -> Array:
    """Sort eigenvalues into a float64 array, ascending, without the masked ones of a masked array.

    Raise ValueError if one is negative or not finite.
    """
    if isinstance(eigenvalues, Tensor):
        eigenvalues = eigenvalues.detach().to("cpu", torch.float64).numpy()
    if isinstance(eigenvalues, np.ma.MaskedArray) and eigenvalues.ndim == 1:
        eigenvalues = eigenvalues.compressed()
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"eigenvalues must be a non-empty 1-d array; got shape {values.shape}")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"eigenvalues hold NaN or infinity in {bad} of {values.size} entries")
    if (values < 0).any():
        raise ValueError(f"eigenvalues must not be negative; the smallest is {values.min():.6g}")
    return np.sort(values)


def _nonzero(eigenvalues: Tensor | ArrayLike) -> Array:
    values = as_spectrum(eigenvalues)
    if values[-1] <= 0:
        raise ValueError("eigenvalues must have a positive maximum; this is the spectrum of a zero matrix")
    return values[values > 0]


def _entropy(weights: Array) -> float:
    p = weights / weights[-1]  # their sum does not overflow
    p = p / p.sum()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def finite_gram(W: Tensor) -> Tensor:
    """Return the smaller of W^T W and W W^T in float64; raise ValueError if it overflows."""
    product = gram(W, torch.float64)
    if not torch.isfinite(product.diagonal().max()):  # no entry exceeds the largest diagonal one
        raise ValueError("the squared singular values overflow float64; rescale the matrix")
    return product


def is_ill_conditioned(eigenvalues: Tensor) -> bool:
    """Return True if the Gram matrix with these ascending eigenvalues lost the smallest to rounding."""
    return bool(eigenvalues[0] < _GRAM_CONDITION * eigenvalues[-1])


def squares(s: Tensor, W: Tensor) -> Tensor:
    """Turn the descending singular values of W into ascending eigenvalues; set rounding noise to zero."""
    noise = max(W.shape) * torch.finfo(W.dtype).eps * s[0]
    return torch.where(s > noise, s, torch.zeros_like(s)).flip(0) ** 2
