"""Compare singular vectors of weight matrices: overlaps, angles of subspaces, the leading rank-one part.

Conventions: W is (h, d); vectors are columns in descending order of their singular values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import subspace_angles
from torch import Tensor

from htlib.spectra.eigenvalues import as_matrix, finite_gram, is_ill_conditioned, squares
from htlib.spectra.linalg import top_eigenvector

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Hold the squared inner products of singular vectors of two matrices, in descending order.

    Attributes
    ----------
    left, right : (k, k) float64 array
        Row i belongs to the first matrix, column j to the second.
    """

    left: Array
    right: Array

    def subspace(self, k: int) -> tuple[float, float]:
        """Return the mean squared cosine between the leading k-dimensional subspaces, (left, right).

        It is 1 for equal subspaces; for random ones it is k/h on the left and k/d on the right.
        """
        if not 1 <= k <= len(self.left):
            raise ValueError(f"k must be in 1..{len(self.left)}, the vectors kept; got {k}")
        return float(self.left[:k, :k].sum() / k), float(self.right[:k, :k].sum() / k)


class SingularSystem:
    """Hold the ascending ESD, `eigenvalues`, of one matrix; compute singular vectors when first used."""

    def __init__(self, W: Tensor | ArrayLike, name: str = "W") -> None:
        matrix = as_matrix(W, name)
        # training changes W in place, so copy it unless a conversion has copied it already
        self._W = matrix.clone() if isinstance(W, Tensor) and W.dtype == matrix.dtype else matrix
        self._gram = finite_gram(self._W)
        eigenvalues = torch.linalg.eigvalsh(self._gram)
        self._exact = is_ill_conditioned(eigenvalues)
        if self._exact:
            eigenvalues = squares(torch.linalg.svdvals(self._W), self._W)
        self.eigenvalues: Array = eigenvalues.cpu().numpy()

    def right(self, k: int) -> Tensor:
        """Return the k leading right singular vectors as columns, (d, k)."""
        return self._vectors(k, right=True)

    def left(self, k: int) -> Tensor:
        """Return the k leading left singular vectors as columns, (h, k)."""
        return self._vectors(k, right=False)

    def _vectors(self, k: int, *, right: bool) -> Tensor:
        if k == 1 and self.eigenvalues[-1] > 0 and "_bases" not in self.__dict__:
            small = top_eigenvector(self._gram, float(self.eigenvalues[-1]))[:, None]
        else:
            left_basis, right_basis = self._bases
            basis = right_basis if right else left_basis
            if basis is not None:
                return basis[:, -k:].flip(1)
            small = next(b for b in self._bases if b is not None)[:, -k:].flip(1)
        if right == _is_tall(self._W):
            return small
        # the larger side follows from the smaller
        return _normalised(self._W.T @ small if right else self._W @ small)

    @cached_property
    def _bases(self) -> tuple[Tensor | None, Tensor | None]:
        """Compute all left and right vectors as ascending columns; the larger side is None if not needed."""
        if self._exact:
            U, _, Vh = torch.linalg.svd(self._W, full_matrices=False)
            return U.flip(1), Vh.T.flip(1)
        basis = torch.linalg.eigh(self._gram)[1]
        return (None, basis) if _is_tall(self._W) else (basis, None)


def singular_vector_overlaps(W: Tensor | ArrayLike, M: Tensor | ArrayLike, k: int | None = None) -> Overlaps:
    """Compute the squared inner products between the singular vectors of two matrices of one shape.

    Parameters
    ----------
    W, M : (h, d) tensor or array
        For instance the weights and the update.
    k : int, optional
        Number of leading vectors; by default all min(h, d).

    Returns
    -------
    Overlaps
        Row i belongs to the i-th vector of W, column j to the j-th vector of M.

    Raises
    ------
    ValueError
        If the shapes differ, or k is out of range.

    Examples
    --------
    >>> singular_vector_overlaps([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]).right.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    first, second = _same_shape(W, M)
    return overlaps_of(first, second, k)


def overlaps_of(first: SingularSystem, second: SingularSystem, k: int | None = None) -> Overlaps:
    """Compute `singular_vector_overlaps` of two matrices that are already factorised."""
    most = len(first.eigenvalues)
    k = most if k is None else k
    if not 1 <= k <= most:
        raise ValueError(f"k must be in 1..{most}, the smaller side of the matrices; got {k}")
    left = (first.left(k).T @ second.left(k)).square()
    right = (first.right(k).T @ second.right(k)).square()
    return Overlaps(left.cpu().numpy(), right.cpu().numpy())


def principal_angles(W: Tensor | ArrayLike, M: Tensor | ArrayLike, k: int, side: str = "right") -> Array:
    """Compute the angles between the spans of the k leading singular vectors of two matrices.

    Parameters
    ----------
    W, M : (h, d) tensor or array
    k : int
    side : {"right", "left"}

    Returns
    -------
    (k,) float64 array
        In radians, descending, by `scipy.linalg.subspace_angles`.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right'; got {side!r}")
    first, second = _same_shape(W, M)
    if not 1 <= k <= len(first.eigenvalues):
        raise ValueError(f"k must be in 1..{len(first.eigenvalues)}; got {k}")
    A, B = (getattr(system, side)(k).cpu().numpy() for system in (first, second))
    return np.asarray(subspace_angles(A, B))


def without_top(M: Tensor) -> Tensor:
    """Subtract from M its leading rank-one part sigma_1 u_1 v_1^T, in the precision of M."""
    v = SingularSystem(M, "M").right(1).to(M.dtype)
    return M - (M @ v) @ v.T


def _same_shape(W: Tensor | ArrayLike, M: Tensor | ArrayLike) -> tuple[SingularSystem, SingularSystem]:
    first, second = as_matrix(W, "W"), as_matrix(M, "M")
    if first.shape != second.shape:
        raise ValueError(
            f"W and M must have the same shape; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return SingularSystem(first), SingularSystem(second, "M")


def _is_tall(W: Tensor) -> bool:
    return W.shape[0] >= W.shape[1]


def _normalised(columns: Tensor) -> Tensor:
    """Scale columns to unit length; a zero column stays zero, so that its overlaps are zero."""
    norms = columns.norm(dim=0)
    return columns / torch.where(norms > 0, norms, torch.ones_like(norms))
