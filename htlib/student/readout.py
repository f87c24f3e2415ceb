"""Stage 2: the readout refitted by ridge regression, and how much features and weights know of the teacher.

Convention: a_hat = (F^T F + p I)^{-1} F^T y with the penalty p = lambda n / h and features
F = Z / sqrt(h), as in the code of arXiv 2406.04657.  (Others call p or p / n the ridge parameter.)
With fewer samples than features the same a_hat comes from the n x n kernel, F^T (F F^T + p I)^{-1} y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from torch import Tensor

from htlib.spectra import linalg
from htlib.spectra.eigenvalues import as_matrix, as_tensor

Array = NDArray[np.float64]

_THREADED = 256  # rows from which on a Cholesky factorisation is worth threads


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Ridge fits along a list of lambdas.

    Attributes
    ----------
    lambdas : (k,) float64 array
    coefficients : (h, k) tensor
        a_hat for each lambda.
    train_loss : (k,) float64 array
        Mean squared error on the fitted sample.
    degrees_of_freedom : (k,) float64 array
        Trace of the hat matrix.
    gcv : (k,) float64 array
        Generalised cross-validation score, n RSS / (n - df)^2 (Golub, Heath & Wahba 1979).
    """

    lambdas: Array
    coefficients: Tensor
    train_loss: Array
    degrees_of_freedom: Array
    gcv: Array


def ridge(F: Tensor, y: Tensor, ridge_lambda: float, *, gram_matrix: Tensor | None = None) -> Tensor:
    """Ridge coefficients at one lambda, by Cholesky.

    Parameters
    ----------
    F : (n, h) float64 tensor
        Features, already divided by sqrt(h).
    y : (n,) float64 tensor
    ridge_lambda : float
        Positive; the penalty is ``ridge_lambda * n / h``.
    gram_matrix : tensor, optional
        ``gram(F)`` if it is at hand.

    Returns
    -------
    (h,) float64 tensor
    """
    penalty = _penalty(F, y, ridge_lambda)
    A = (linalg.gram(F) if gram_matrix is None else gram_matrix).clone()
    A.diagonal().add_(penalty)
    # Huge features (relu, diverging) drown the penalty in rounding; Cholesky may not even notice.
    lost = penalty < _rounding(A)
    tall = F.shape[0] >= F.shape[1]
    solution = None if lost else _solve_in_place(A, F.T @ y if tall else y)
    if solution is None:
        return ridge_path(F, y, [ridge_lambda], gram_matrix=gram_matrix).coefficients[:, 0]
    return solution if tall else F.T @ solution


def ridge_path(
    F: Tensor, y: Tensor, lambdas: Sequence[float] | ArrayLike, *, gram_matrix: Tensor | None = None
) -> RidgePath:
    """Ridge fits for many lambdas from one eigendecomposition, with their GCV scores.

    Parameters
    ----------
    F : (n, h) float64 tensor
        Features, already divided by sqrt(h).
    y : (n,) float64 tensor
    lambdas : sequence of k floats
        Each positive; the penalty is ``lambda * n / h``.
    gram_matrix : tensor, optional
        ``gram(F)`` if it is at hand.

    Returns
    -------
    RidgePath

    Raises
    ------
    ValueError
        If a lambda is not positive, or y does not have one value per row of F.

    Examples
    --------
    >>> F = torch.eye(2, dtype=torch.float64)
    >>> ridge_path(F, torch.ones(2, dtype=torch.float64), [1.0]).coefficients.tolist()
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
    shrink[(s2 + penalties) < _rounding(G)] = 0  # directions that hold rounding noise alone
    if F.shape[0] >= F.shape[1]:
        coefficients = V @ (shrink * (V.T @ (F.T @ y))[:, None])
    else:
        coefficients = F.T @ (V @ (shrink * (V.T @ y)[:, None]))
    rss = (F @ coefficients - y[:, None]).square().sum(dim=0)
    df = (s2 * shrink).sum(dim=0)
    gcv = n * rss / (n - df) ** 2
    return RidgePath(
        lambdas=values,
        coefficients=coefficients,
        train_loss=(rss / n).cpu().numpy(),
        degrees_of_freedom=df.cpu().numpy(),
        # an interpolating fit (df = n) says nothing about new samples: 0 / 0
        gcv=torch.where(n - df > 1e-9 * n, gcv, math.inf).cpu().numpy(),
    )


def mean_squared_error(F: Tensor, y: Tensor, coefficients: Tensor) -> float:
    """Mean of (F a - y)^2."""
    return (F @ coefficients - y).square().mean().item()


def kernel_target_alignment(
    Z: Tensor | ArrayLike, y: Tensor | ArrayLike, *, gram: Tensor | None = None
) -> float:
    """Alignment of the kernel K = Z Z^T with the targets.

    KTA = <K, y y^T> / (|K|_F |y y^T|_F) (Cristianini et al. 2001), uncentred.  K is never formed:
    the numerator is |Z^T y|^2, and |K|_F is the norm of the smaller of Z Z^T and Z^T Z.

    Parameters
    ----------
    Z : (n, h) tensor or array
        Features, a row per sample.
    y : (n,) tensor or array
        Targets.
    gram : tensor, optional
        Z^T Z or Z Z^T if it is at hand, to save computing it.

    Returns
    -------
    float
        In [0, 1]; unchanged when Z or y is rescaled.

    Raises
    ------
    ValueError
        If y does not have one value per row of Z, or Z or y is zero.

    Examples
    --------
    >>> kernel_target_alignment([[1.0], [-2.0]], [3.0, -6.0])
    1.0
    """
    Z = as_matrix(Z, "Z")
    y = (y.detach() if isinstance(y, Tensor) else as_tensor(y)).to(Z)
    if y.shape != Z.shape[:1]:
        raise ValueError(f"y must have shape ({len(Z)},), one target per row of Z; got {tuple(y.shape)}")
    if gram is None:
        gram = linalg.gram(Z)
    # scales taken out first, so that no power under- or overflows
    scale_Z, scale_y = gram.diagonal().max().sqrt(), y.abs().max()
    if not (0 < scale_Z < math.inf and 0 < scale_y < math.inf):
        raise ValueError("the alignment is not defined where Z or y is zero or not finite")
    y = y / scale_y
    numerator = (Z.T @ y / scale_Z).square().sum()
    size = gram.norm()
    in_range = 1e-140 < size < 1e140  # its square, too, is a normal number
    size = size / scale_Z**2 if in_range else (gram / scale_Z / scale_Z).norm()
    return min(1.0, float(numerator / (size * y.square().sum())))


def teacher_alignment(v: Tensor | ArrayLike, beta: Tensor | ArrayLike) -> float:
    """Absolute cosine between a direction of the weights and the teacher's.

    Parameters
    ----------
    v : (d,) tensor or array
        For instance the leading right singular vector of W.
    beta : (d,) tensor or array

    Returns
    -------
    float
        In [0, 1]; about sqrt(2 / (pi d)) for a random direction.
    """
    v, beta = ((x.detach() if isinstance(x, Tensor) else as_tensor(x)).double().cpu() for x in (v, beta))
    if v.ndim != 1 or v.shape != beta.shape:
        raise ValueError(
            f"v and beta must be vectors of one length; got shapes {tuple(v.shape)} and {tuple(beta.shape)}"
        )
    if not (v.any() and beta.any()):
        raise ValueError("the alignment is not defined where v or beta is zero")
    return min(1.0, float((v @ beta).abs() / (v.norm() * beta.norm())))


def _solve_in_place(A: Tensor, b: Tensor) -> Tensor | None:
    """Solution of A x = b by Cholesky, None where A is not positive definite.  A is overwritten."""
    # SciPy makes none of the copies that torch makes, but where both use threads (not for small matrices)
    # those get in each other's way.
    if A.device.type == "cpu" and (torch.get_num_threads() == 1 or len(A) < _THREADED):
        try:
            factor = cho_factor(A.numpy().T, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return torch.from_numpy(cho_solve(factor, b.numpy(), check_finite=False))
    factor, info = torch.linalg.cholesky_ex(A)
    return None if info.item() else torch.cholesky_solve(b[:, None], factor)[:, 0]


def _penalty(F: Tensor, y: Tensor, ridge_lambda: float) -> float:
    if F.ndim != 2 or y.shape != F.shape[:1]:
        raise ValueError(f"y must have one value per row of F; got F {tuple(F.shape)} and y {tuple(y.shape)}")
    if not (ridge_lambda > 0 and math.isfinite(ridge_lambda)):
        raise ValueError(f"ridge_lambda must be positive and finite; got {ridge_lambda}")
    return ridge_lambda * F.shape[0] / F.shape[1]


def _rounding(G: Tensor) -> float:
    """Size below which eigenvalues of a positive semi-definite matrix are rounding noise."""
    return len(G) * torch.finfo(G.dtype).eps * float(G.diagonal().sum())
