"""Singular values and vectors of a weight matrix: ESD, ranks, overlaps, angles.

Conventions: W is (h, d); the ESD is the ascending list of lambda_i = sigma_i(W)^2, min(h, d) values,
raw (some texts divide by h or d).  Everything is computed in float64 on the device of W.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import subspace_angles
from torch import Tensor

from htlib.linalg import gram, top_eigenvector

Array = NDArray[np.float64]

# Below this ratio of extreme eigenvalues the Gram matrix has lost the small ones to rounding
# (relative error eps / ratio), and the singular values are taken from W itself.
_GRAM_CONDITION = 1e-10


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Squared inner products of singular vectors of two matrices, in descending order.

    Attributes
    ----------
    left, right : (k, k) float64 array
        Row i belongs to the first matrix, column j to the second.
    """

    left: Array
    right: Array

    def subspace(self, k: int) -> tuple[float, float]:
        """Mean squared cosine between the leading k-dimensional subspaces, (left, right).

        1 for equal subspaces; for random ones it is k/h on the left and k/d on the right.
        """
        if not 1 <= k <= len(self.left):
            raise ValueError(f"k must be in 1..{len(self.left)}, the vectors kept; got {k}")
        return float(self.left[:k, :k].sum() / k), float(self.right[:k, :k].sum() / k)


class SingularSystem:
    """Singular values and vectors of one matrix; vectors are computed when first asked for.

    Parameters
    ----------
    W : (h, d) tensor or array

    Attributes
    ----------
    eigenvalues : (min(h, d),) float64 array
        The ESD, ascending.
    """

    def __init__(self, W: Tensor | ArrayLike, name: str = "W") -> None:
        matrix = as_matrix(W, name)
        # training changes W in place; a conversion has copied it already
        self._W = matrix.clone() if isinstance(W, Tensor) and W.dtype == matrix.dtype else matrix
        self._gram = _finite_gram(self._W)
        eigenvalues = torch.linalg.eigvalsh(self._gram)
        self._exact = _ill_conditioned(eigenvalues)
        if self._exact:
            eigenvalues = _squares(torch.linalg.svdvals(self._W), self._W)
        self.eigenvalues: Array = eigenvalues.cpu().numpy()

    def right(self, k: int) -> Tensor:
        """The k leading right singular vectors as columns, (d, k), largest first."""
        return self._vectors(k, right=True)

    def left(self, k: int) -> Tensor:
        """The k leading left singular vectors as columns, (h, k), largest first."""
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
        """All left and right vectors as columns, ascending; without need, only of the smaller side."""
        if self._exact:
            U, _, Vh = torch.linalg.svd(self._W, full_matrices=False)
            return U.flip(1), Vh.T.flip(1)
        basis = torch.linalg.eigh(self._gram)[1]
        return (None, basis) if _is_tall(self._W) else (basis, None)


def esd(W: Tensor | ArrayLike) -> Array:
    """Empirical spectral distribution: the eigenvalues of W^T W that are not zero by shape.

    Parameters
    ----------
    W : (h, d) tensor or array
        Any floating type; computed in float64.

    Returns
    -------
    (min(h, d),) float64 array
        sigma_i(W)^2, ascending and raw: no 1/N factor.  Zero where sigma_i is rounding noise,
        below max(h, d) eps sigma_1 (as in numpy.linalg.matrix_rank).

    Raises
    ------
    ValueError
        If W is not a matrix, is empty or holds a value that is not finite.

    Examples
    --------
    >>> esd([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]).tolist()
    [4.0, 9.0]
    """
    W = as_matrix(W)
    eigenvalues = torch.linalg.eigvalsh(_finite_gram(W))
    if _ill_conditioned(eigenvalues):
        eigenvalues = _squares(torch.linalg.svdvals(W), W)
    return eigenvalues.cpu().numpy()


def stable_rank(eigenvalues: Tensor | ArrayLike) -> float:
    """Sum of the eigenvalues over the largest: |W|_F^2 / |W|_2^2.

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
    values = as_spectrum(eigenvalues)
    if values[-1] <= 0:
        raise ValueError("eigenvalues must have a positive maximum; this is the spectrum of a zero matrix")
    return float(values.sum() / values[-1])


def spectral_entropy(eigenvalues: Tensor | ArrayLike) -> float:
    """Shannon entropy of the normalised spectrum over ln(rank): 1 is flat, 0 is rank one.

    -sum p ln p / ln rank with p = lambda / sum lambda, as in WeightWatcher.

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
    values = as_spectrum(eigenvalues)
    if values[-1] <= 0:
        raise ValueError("eigenvalues must have a positive maximum; this is the spectrum of a zero matrix")
    p = values / values.sum()
    p = p[p > 0]
    return min(1.0, float(-(p * np.log(p)).sum() / np.log(len(p)))) if len(p) > 1 else 0.0


def singular_vector_overlaps(W: Tensor | ArrayLike, M: Tensor | ArrayLike, k: int | None = None) -> Overlaps:
    """Squared inner products between the singular vectors of two matrices of one shape.

    Parameters
    ----------
    W, M : (h, d) tensor or array
        For instance the weights and the update.
    k : int, optional
        How many leading vectors; default all min(h, d).

    Returns
    -------
    Overlaps
        ``left`` and ``right``, (k, k) each; row i is the i-th vector of W, column j of M.

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
    """`singular_vector_overlaps` of two matrices that are factorised already."""
    most = len(first.eigenvalues)
    k = most if k is None else k
    if not 1 <= k <= most:
        raise ValueError(f"k must be in 1..{most}, the smaller side of the matrices; got {k}")
    left = (first.left(k).T @ second.left(k)).square()
    right = (first.right(k).T @ second.right(k)).square()
    return Overlaps(left.cpu().numpy(), right.cpu().numpy())


def principal_angles(W: Tensor | ArrayLike, M: Tensor | ArrayLike, k: int, side: str = "right") -> Array:
    """Angles between the spans of the k leading singular vectors of two matrices.

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
    """M less its leading rank-one part sigma_1 u_1 v_1^T, in the precision of M."""
    v = SingularSystem(M, "M").right(1).to(M.dtype)
    return M - (M @ v) @ v.T


def as_matrix(W: Tensor | ArrayLike, name: str = "W") -> Tensor:
    """W in float64 on its own device, or a ValueError that says what is wrong with it."""
    matrix = W.detach() if isinstance(W, Tensor) else as_tensor(W)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be a matrix, (h, d); got shape {tuple(matrix.shape)}")
    if matrix.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {tuple(matrix.shape)}")
    if matrix.is_complex():
        raise ValueError(f"{name} must be real; got {matrix.dtype}")
    matrix = matrix.to(torch.float64)
    if not torch.isfinite(matrix.sum()):  # one cheap pass when all is well
        bad = int((~torch.isfinite(matrix)).sum())
        if bad:
            raise ValueError(f"{name} holds NaN or infinity in {bad} of {matrix.numel()} entries")
    return matrix


def as_tensor(array: ArrayLike) -> Tensor:
    """An array of any layout or byte order, read-only or not, as a tensor of its own."""
    copy = np.array(array)
    return torch.from_numpy(copy.astype(copy.dtype.newbyteorder("=")))


def as_spectrum(eigenvalues: Tensor | ArrayLike) -> Array:
    """Eigenvalues as an ascending float64 array, or a ValueError that says what is wrong."""
    if isinstance(eigenvalues, Tensor):
        eigenvalues = eigenvalues.detach().to("cpu", torch.float64).numpy()
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"eigenvalues must be a non-empty 1-d array; got shape {values.shape}")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"eigenvalues hold NaN or infinity in {bad} of {values.size} entries")
    if (values < 0).any():
        raise ValueError(f"eigenvalues must not be negative; the smallest is {values.min():.6g}")
    return np.sort(values)


def _same_shape(W: Tensor | ArrayLike, M: Tensor | ArrayLike) -> tuple[SingularSystem, SingularSystem]:
    first, second = as_matrix(W, "W"), as_matrix(M, "M")
    if first.shape != second.shape:
        raise ValueError(
            f"W and M must have the same shape; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return SingularSystem(first), SingularSystem(second, "M")


def _is_tall(W: Tensor) -> bool:
    return W.shape[0] >= W.shape[1]


def _finite_gram(W: Tensor) -> Tensor:
    product = gram(W)
    if not torch.isfinite(product.diagonal().max()):  # no entry exceeds the largest diagonal one
        raise ValueError("the squared singular values overflow float64; rescale the matrix")
    return product


def _ill_conditioned(eigenvalues: Tensor) -> bool:
    return bool(eigenvalues[0] < _GRAM_CONDITION * eigenvalues[-1])


def _squares(s: Tensor, W: Tensor) -> Tensor:
    """Descending singular values as ascending eigenvalues, rounding noise set to zero."""
    noise = max(W.shape) * torch.finfo(W.dtype).eps * s[0]
    return torch.where(s > noise, s, torch.zeros_like(s)).flip(0) ** 2


def _normalised(columns: Tensor) -> Tensor:
    """Columns at unit length; a zero column stays zero, so that its overlaps are zero."""
    norms = columns.norm(dim=0)
    return columns / torch.where(norms > 0, norms, torch.ones_like(norms))
