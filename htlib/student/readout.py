"""Stage 2: the readout refitted by ridge regression, and how well features and weights match the teacher.

Convention: a_hat = (F^T F + p I)^{-1} F^T y with the penalty p = lambda n / h and the features
F = Z / sqrt(h), as in the code of arXiv 2406.04657.  (Others call p or p / n the ridge parameter.)
With fewer samples than features the same a_hat is computed from the n x n kernel, F^T (F F^T + p I)^{-1} y.

F is an (n, h) float64 tensor that is already divided by sqrt(h); y has the shape (n,).  A ridge parameter
must be positive and y must have one value per row of F, or else a ValueError is raised.  ``gram_matrix`` is
``gram(F)``, if the caller has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra import linalg
from htlib.spectra.eigenvalues import as_matrix, as_tensor

Array = NDArray[np.float64]


def ridge(F: Tensor, y: Tensor, ridge_lambda: float, *, gram_matrix: Tensor | None = None) -> Tensor:
    """Compute the ridge coefficients, (h,), at one lambda, by Cholesky."""
    penalty = _penalty(F, y, ridge_lambda)
    A = (linalg.gram(F) if gram_matrix is None else gram_matrix).clone()
    A.diagonal().add_(penalty)
    # With huge features (relu, diverging) the penalty is lost in rounding, and Cholesky may still succeed.
    lost = penalty < _rounding(A)
    tall = F.shape[0] >= F.shape[1]
    factor, failed = torch.linalg.cholesky_ex(A)
    if lost or failed:
        return ridge_path(F, y, [ridge_lambda], gram_matrix=gram_matrix)[0][:, 0]
    solution = torch.cholesky_solve((F.T @ y if tall else y)[:, None], factor)[:, 0]
    return solution if tall else F.T @ solution


def ridge_path(
    F: Tensor, y: Tensor, lambdas: Sequence[float] | ArrayLike, *, gram_matrix: Tensor | None = None
) -> tuple[Tensor, Array]:
    """Compute ridge coefficients, (h, k), for k lambdas from one eigendecomposition, with their GCV scores.

    A score is n RSS / (n - df)^2, df the trace of the hat matrix (Golub, Heath & Wahba 1979).

    Examples
    --------
    >>> F = torch.eye(2, dtype=torch.float64)
    >>> ridge_path(F, torch.ones(2, dtype=torch.float64), [1.0])[0].tolist()
    [[0.5], [0.5]]
    """
    values = np.asarray(lambdas, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"lambdas must be a non-empty list of numbers; got shape {values.shape}")
    penalties = torch.tensor([_penalty(F, y, float(v)) for v in values], dtype=F.dtype, device=F.device)
    n = len(F)
    G = linalg.gram(F) if gram_matrix is None else gram_matrix
    s2, V = torch.linalg.eigh(G)
    s2 = s2.clamp_min(0)[:, None]  # (m, 1)
    shrink = 1 / (s2 + penalties)  # (m, k)
    shrink[(s2 + penalties) < _rounding(G)] = 0  # directions that hold only rounding noise
    if F.shape[0] >= F.shape[1]:
        coefficients = V @ (shrink * (V.T @ (F.T @ y))[:, None])
    else:
        coefficients = F.T @ (V @ (shrink * (V.T @ y)[:, None]))
    rss = (F @ coefficients - y[:, None]).square().sum(dim=0)
    df = (s2 * shrink).sum(dim=0)
    gcv = n * rss / (n - df) ** 2
    # an interpolating fit (df = n) has the undefined score 0 / 0
    return coefficients, torch.where(n - df > 1e-9 * n, gcv, math.inf).cpu().numpy()


def kernel_target_alignment(
    Z: Tensor | ArrayLike, y: Tensor | ArrayLike, *, gram: Tensor | None = None
) -> float:
    """Compute the alignment of the kernel K = Z Z^T with the targets.

    KTA = <K, y y^T> / (|K|_F |y y^T|_F) (Cristianini et al. 2001), uncentred.  K is never formed:
    the numerator is |Z^T y|^2, and |K|_F is the norm of the smaller of Z Z^T and Z^T Z.

    Parameters
    ----------
    Z : (n, h) tensor or array
        Features, one row per sample.
    y : (n,) tensor or array
        Targets.
    gram : tensor, optional
        Z^T Z or Z Z^T, if the caller has it; otherwise it is computed.

    Returns
    -------
    float
        In [0, 1]; unchanged when Z or y is rescaled.

    Raises
    ------
    ValueError
        If y does not have one value per row of Z, or Z or y is zero or not finite.

    Examples
    --------
    >>> kernel_target_alignment([[1.0], [-2.0]], [3.0, -6.0])
    1.0
    """
    Z = as_matrix(Z, "Z")
    y = as_tensor(y).to(Z)
    if y.shape != Z.shape[:1]:
        raise ValueError(f"y must have shape ({len(Z)},), one target per row of Z; got {tuple(y.shape)}")
    if gram is None:
        gram = linalg.gram(Z)
    # scales are divided out first, so that no power under- or overflows
    scale_Z, scale_y = gram.diagonal().max().sqrt(), y.abs().max()
    if not (0 < scale_Z < math.inf and 0 < scale_y < math.inf):
        raise ValueError("the alignment is not defined where Z or y is zero or not finite")
    y = y / scale_y
    numerator = (Z.T @ y / scale_Z).square().sum()
    size = gram.norm()
    in_range = 1e-140 < size < 1e140  # so that its square is a normal number, too
    size = size / scale_Z**2 if in_range else (gram / scale_Z / scale_Z).norm()
    return min(1.0, float(numerator / (size * y.square().sum())))


def teacher_alignment(v: Tensor | ArrayLike, beta: Tensor | ArrayLike) -> float:
    """Compute the absolute cosine between a direction of the weights and that of the teacher.

    Parameters
    ----------
    v : (d,) tensor or array
        For instance the leading right singular vector of W.
    beta : (d,) tensor or array

    Returns
    -------
    float
        In [0, 1]; about sqrt(2 / (pi d)) for a random direction.

    Raises
    ------
    ValueError
        If the lengths differ, or v or beta is zero.
    """
    v, beta = (as_tensor(x).double().cpu() for x in (v, beta))
    if v.ndim != 1 or v.shape != beta.shape:
        raise ValueError(
            f"v and beta must be vectors of one length; got shapes {tuple(v.shape)} and {tuple(beta.shape)}"
        )
    if not (v.any() and beta.any()):
        raise ValueError("the alignment is not defined where v or beta is zero")
    return min(1.0, float((v @ beta).abs() / (v.norm() * beta.norm())))


def _penalty(F: Tensor, y: Tensor, ridge_lambda: float) -> float:
    if F.ndim != 2 or y.shape != F.shape[:1]:
        raise ValueError(f"y must have one value per row of F; got F {tuple(F.shape)} and y {tuple(y.shape)}")
    if not (ridge_lambda > 0 and math.isfinite(ridge_lambda)):
        raise ValueError(f"ridge_lambda must be positive and finite; got {ridge_lambda}")
    return ridge_lambda * F.shape[0] / F.shape[1]


def _rounding(G: Tensor) -> float:
    """Return the size below which eigenvalues of a positive semi-definite matrix are rounding noise."""
    return len(G) * torch.finfo(G.dtype).eps * float(G.diagonal().sum())
