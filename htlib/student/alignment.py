"""How much the features and the weights know of the teacher."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike
from torch import Tensor

from htlib.spectra import linalg
from htlib.spectra.eigenvalues import as_matrix, as_tensor


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
