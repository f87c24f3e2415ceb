"""The two-layer student f(x) = a^T sigma(W x / sqrt d) / sqrt h, and its full-batch gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from htlib.student.functions import ScalarFunction


@dataclass(frozen=True)
class LossGradient:
    """Mean squared error of the student and its gradient.

    Attributes
    ----------
    loss : float
        Mean of (f(x) - y)^2 over the samples, without a factor 1/2.
    hidden : (h, d) tensor
        Derivative with respect to W.
    readout : (h,) tensor
        Derivative with respect to a.
    """

    loss: float
    hidden: Float[Tensor, "h d"]
    readout: Float[Tensor, " h"]


def features(
    W: Float[Tensor, "h d"],
    X: Float[Tensor, "n d"],
    activation: ScalarFunction,
    input_scale: float | Tensor | None = None,
) -> Float[Tensor, "n h"]:
    """Hidden activations Z = sigma(input_scale * X W^T).

    Parameters
    ----------
    W : (h, d) tensor
    X : (n, d) tensor
    activation : ScalarFunction
    input_scale : float or scalar tensor, optional
        Default 1 / sqrt(d), the scale of training.

    Returns
    -------
    (n, h) tensor
    """
    return activation.value(_preactivations(W, X, input_scale))


def predict(
    W: Float[Tensor, "h d"], a: Float[Tensor, " h"], X: Float[Tensor, "n d"], activation: ScalarFunction
) -> Float[Tensor, " n"]:
    """Output of the student, a^T sigma(W x / sqrt d) / sqrt h, for every row of X."""
    return features(W, X, activation) @ a / math.sqrt(len(a))


def loss(
    W: Float[Tensor, "h d"],
    a: Float[Tensor, " h"],
    X: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    activation: ScalarFunction,
) -> float:
    """Mean squared error of the student on (X, y)."""
    return (predict(W, a, X, activation) - y).square().mean().item()


def loss_and_gradient(
    W: Float[Tensor, "h d"],
    a: Float[Tensor, " h"],
    X: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    activation: ScalarFunction,
) -> LossGradient:
    """Mean squared error and its gradient in closed form: two matrix products, no autograd.

    With r = f(X) - y and U = X W^T / sqrt(d),
    dL/dW = 2 / (n sqrt(h d)) diag(a) sigma'(U)^T diag(r) X and dL/da = 2 / (n sqrt h) sigma(U)^T r.

    Parameters
    ----------
    W : (h, d) tensor
    a : (h,) tensor
    X : (n, d) tensor
    y : (n,) tensor
    activation : ScalarFunction

    Returns
    -------
    LossGradient
    """
    loss, hidden, readout = loss_and_gradient_tensors(W, a, X, y, activation)
    return LossGradient(loss.item(), hidden, readout)


def loss_and_gradient_tensors(
    W: Float[Tensor, "h d"],
    a: Float[Tensor, " h"],
    X: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    activation: ScalarFunction,
) -> tuple[Float[Tensor, ""], Float[Tensor, "h d"], Float[Tensor, " h"]]:
    """`loss_and_gradient` without leaving torch, so that it can be exported: loss, hidden, readout."""
    n, d = X.shape
    h = len(a)
    Z, slope = activation.value_and_derivative(_preactivations(W, X, None))  # both (n, h)
    residual = Z @ a / math.sqrt(h) - y
    # r and a scale the small factors, never the (n, h) array between them
    G = slope.T @ (X * residual[:, None])
    G *= (2 / (n * math.sqrt(h * d))) * a[:, None]
    return residual.square().mean(), G, Z.T @ residual * (2 / (n * math.sqrt(h)))


def _preactivations(
    W: Float[Tensor, "h d"], X: Float[Tensor, "n d"], input_scale: float | Tensor | None
) -> Float[Tensor, "n h"]:
    scale = 1 / math.sqrt(X.shape[1]) if input_scale is None else input_scale
    return torch.matmul(X, W.T).mul_(scale)
