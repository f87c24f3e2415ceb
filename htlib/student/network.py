"""The two-layer student f(x) = a^T sigma(W x / sqrt d) / sqrt h, and its full-batch gradient."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from htlib.student.functions import ScalarFunction


def features(
    W: Float[Tensor, "h d"],
    X: Float[Tensor, "n d"],
    activation: ScalarFunction,
    input_scale: float | Tensor | None = None,
) -> Float[Tensor, "n h"]:
    """Return the hidden activations sigma(input_scale X W^T); the default scale is that of training."""
    return activation.value(_preactivations(W, X, input_scale))


def predict(
    W: Float[Tensor, "h d"], a: Float[Tensor, " h"], X: Float[Tensor, "n d"], activation: ScalarFunction
) -> Float[Tensor, " n"]:
    """Return the student's output a^T sigma(W x / sqrt d) / sqrt h for every row of X."""
    return features(W, X, activation) @ a / math.sqrt(len(a))


def loss(
    W: Float[Tensor, "h d"],
    a: Float[Tensor, " h"],
    X: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    activation: ScalarFunction,
) -> float:
    """Return the mean squared error of the student on (X, y)."""
    return (predict(W, a, X, activation) - y).square().mean().item()


def loss_and_gradient(
    W: Float[Tensor, "h d"],
    a: Float[Tensor, " h"],
    X: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    activation: ScalarFunction,
) -> tuple[Float[Tensor, ""], Float[Tensor, "h d"], Float[Tensor, " h"]]:
    """Return the mean squared error (without a factor 1/2) and its derivatives with respect to W and a.

    The closed form uses no autograd, so that it can be exported.  With r = f(X) - y and U = X W^T / sqrt(d),
    dL/dW = 2 / (n sqrt(h d)) diag(a) sigma'(U)^T diag(r) X and dL/da = 2 / (n sqrt h) sigma(U)^T r.
    """
    n, d = X.shape
    h = len(a)
    Z, slope = activation.value_and_derivative(_preactivations(W, X, None))  # both (n, h)
    residual = Z @ a / math.sqrt(h) - y
    # r and a multiply the small factors, never the (n, h) array between them
    G = slope.T @ (X * residual[:, None])
    G *= (2 / (n * math.sqrt(h * d))) * a[:, None]
    return residual.square().mean(), G, Z.T @ residual * (2 / (n * math.sqrt(h)))


def _preactivations(
    W: Float[Tensor, "h d"], X: Float[Tensor, "n d"], input_scale: float | Tensor | None
) -> Float[Tensor, "n h"]:
    scale = 1 / math.sqrt(X.shape[1]) if input_scale is None else input_scale
    return torch.matmul(X, W.T).mul_(scale)
