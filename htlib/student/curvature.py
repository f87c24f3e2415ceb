"""The curvature of the stage-1 loss in W: products with its Hessian, and largest eigenvalues from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from htlib.student.functions import ScalarFunction
from htlib.student.network import loss_and_gradient

Product = Callable[[Tensor], Tensor]


def hessian_product(W: Tensor, a: Tensor, X: Tensor, y: Tensor, activation: ScalarFunction) -> Product:
    """Return the product of (h, d) arrays with the Hessian, the derivative of the closed-form gradient."""
    state = W.detach().clone().requires_grad_()
    gradient = loss_and_gradient(state, a, X, y, activation)[1]
    # the Hessian is symmetric, so that a vector-Jacobian product is the product
    return lambda V: torch.autograd.grad(gradient, state, V, retain_graph=True)[0]


def divided(product: Product, by: Tensor | None) -> Product:
    """Return the product with P^-1/2 H P^-1/2 for the product with H and the diagonal of P."""
    if by is None:
        return product
    root = by.sqrt()
    return lambda V: product(V / root) / root


def largest_eigenvalue(product: Product, like: Tensor, tolerance: float) -> float:
    """Return the largest eigenvalue of a symmetric operator on arrays like this one, by Lanczos iteration.

    The product is computed in the precision and on the device of that array.
    """

    def apply(v: NDArray[np.float64]) -> NDArray[np.float64]:
        V = torch.tensor(v, dtype=like.dtype, device=like.device).reshape(like.shape)
        return product(V).reshape(-1).double().cpu().numpy()

    size = math.prod(like.shape)
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)  # pyright: ignore
    return top_of(operator, np.random.default_rng(0).standard_normal(size), tolerance)


def top_of(matrix: Any, v0: NDArray[np.float64], tolerance: float) -> float:
    """Return the largest eigenvalue of a symmetric matrix or operator; of a 1 x 1 one, its entry."""
    if matrix.shape == (1, 1):
        return float((matrix @ np.ones(1))[0])
    values = eigsh(matrix, 1, which="LA", v0=v0, tol=tolerance)[0]  # pyright: ignore[reportArgumentType]
    return float(values[0])
