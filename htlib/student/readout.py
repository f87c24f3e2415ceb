"""Stage 2: the readout refitted by ridge regression.

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
from scipy import linalg
from torch import Tensor

from htlib.spectra.linalg import gram

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

    @property
    def best(self) -> int:
        """Index of the lambda with the smallest GCV score."""
        return int(self.gcv.argmin())


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
    A = (gram(F) if gram_matrix is None else gram_matrix).clone()
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
    G = gram(F) if gram_matrix is None else gram_matrix
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


def _solve_in_place(A: Tensor, b: Tensor) -> Tensor | None:
    """Solution of A x = b by Cholesky, None where A is not positive definite.  A is overwritten."""
    # SciPy makes none of the copies that torch makes, but where both use threads (not for small matrices)
    # those get in each other's way.
    if A.device.type == "cpu" and (torch.get_num_threads() == 1 or len(A) < _THREADED):
        try:
            factor = linalg.cho_factor(A.numpy().T, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError:
            return None
        return torch.from_numpy(linalg.cho_solve(factor, b.numpy(), check_finite=False))
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
