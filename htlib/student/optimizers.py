"""Optimizers: each is a pure update of a matrix or vector of weights, found by name in `OPTIMIZERS`.

To add an optimizer, write a function, its entry here, a line in `HYPERPARAMETERS` of `htlib.student.config`
and one in tests/student/test_optimizers.py.  The choices of `htlib.ExperimentConfig` and of the command line,
the looks of the figures, the explorer's menus and the law of its first step follow from them.

An update is a function ``(G, W, state, t, lr, **options) -> (W, state)``.  It takes the gradient, the
weights, the state that `Optimizer.init` or the step before returned, the number of the step (the first is 1)
and the rate, and it changes nothing in place.  Its keyword-only arguments are the other fields of the
configuration that it reads.  ``t`` and ``lr`` are numbers, or float64 tensors in the graphs that a browser
runs.  Sums are made by the functions that torch.optim itself uses on a CPU, so that both agree to the last
digit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

State = tuple[Tensor, ...]

_BETAS = (0.9, 0.999)  # the defaults of torch.optim.Adam


@dataclass(frozen=True)
class Optimizer:
    """One full-batch optimizer."""

    name: str  # in configurations
    label: str  # for readers
    color: str  # in figures, one of the colours of Okabe and Ito (`htlib.figures.style`)
    marker: str  # in figures, as Matplotlib names it
    update: Callable[..., tuple[Tensor, State]]  # see the head of this module
    n_state: int = 1  # number of tensors, each shaped like the weights, that it keeps between steps
    # The first update is -lr times the gradient or its signs, which have a closed form; None: neither.
    first_step: Literal["gradient", "sign"] | None = None
    # (state, t, **options) -> what divides the gradient in its update (None: nothing), and the value of lr
    # times the largest eigenvalue of the Hessian, so divided, beyond which it is unstable; None: not known
    edge: Callable[..., tuple[Tensor | None, float]] | None = None
    matrices_only: bool = False  # it cannot update a vector, so that the readout stays as it is

    @cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """The fields of `ExperimentConfig` that it reads besides ``lr``."""
        parameters = inspect.signature(self.update).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def init(self, W: Tensor) -> State:
        """Return the state before the first step, which is zero."""
        return tuple(torch.zeros_like(W) for _ in range(self.n_state))

    def options(self, config: Any) -> dict[str, Any]:
        """Read its hyperparameters, by name, from the attributes of a configuration.

        Examples
        --------
        >>> from htlib import ExperimentConfig
        >>> OPTIMIZERS["adam"].options(ExperimentConfig(weight_decay=0.1))
        {'weight_decay': 0.1, 'adam_eps': 1e-08}
        """
        return {name: getattr(config, name) for name in self.hyperparameters}


def _adam(
    G: Tensor, W: Tensor, state: State, t: Any, lr: Any, *, weight_decay: float, adam_eps: float
) -> tuple[Tensor, State]:
    """Take a step of Adam (Kingma and Ba 2015), as torch.optim.Adam does."""
    (m, v), (beta1, beta2) = state, _BETAS
    G = _penalised(G, W, weight_decay)
    m = torch.lerp(m, G, 1 - beta1)
    v = torch.addcmul(beta2 * v, G, G, value=1 - beta2)
    size, root = lr / (1 - beta1**t), (1 - beta2**t) ** 0.5
    return W - size * m / (v.sqrt() / root + adam_eps), (m, v)


def _edge_of_adam(
    state: State, t: int, *, weight_decay: float, adam_eps: float
) -> tuple[Tensor | None, float]:
    """Return the denominator and the edge of stability of Adam (Cohen et al. 2022, equation 2).

    Near a minimum its denominator is constant, and what remains is a gradient descent with the momentum of a
    running mean.
    """
    beta1, beta2 = _BETAS
    return (state[1] / (1 - beta2**t)).sqrt() + adam_eps, (2 + 2 * beta1) / (1 - beta1)


def _gd(
    G: Tensor,
    W: Tensor,
    state: State,
    t: Any,
    lr: Any,
    *,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> tuple[Tensor, State]:
    """Take a step of gradient descent, as torch.optim.SGD does without dampening."""
    G = _penalised(G, W, weight_decay)
    step = G
    if momentum:
        state = (momentum * state[0] + G,)
        step = torch.add(G, state[0], alpha=momentum) if nesterov else state[0]
    return _moved(W, step, lr), state


def _edge_of_gd(
    state: State, t: int, *, weight_decay: float, momentum: float, nesterov: bool
) -> tuple[Tensor | None, float]:
    return None, 2 * (1 + momentum) / ((1 + 2 * momentum) if nesterov else 1)


def _signsgd(
    G: Tensor, W: Tensor, state: State, t: Any, lr: Any, *, weight_decay: float, momentum: float
) -> tuple[Tensor, State]:
    """Take a step of SignSGD (Bernstein et al. 2018), or of their Signum if there is momentum.

    Signum averages the gradients; this sum has the same signs.
    """
    state = (momentum * state[0] + _penalised(G, W, weight_decay),)
    return _moved(W, torch.sign(state[0]), lr), state


def _muon(
    G: Tensor,
    W: Tensor,
    state: State,
    t: Any,
    lr: Any,
    *,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> tuple[Tensor, State]:
    """Take a step of Muon (Jordan et al. 2024), as torch.optim.Muon does.

    Momentum is a running mean, and weight decay is kept apart from the gradient.  The published code
    (https://kellerjordan.github.io/posts/muon) iterates in bfloat16 for speed; this one uses the precision of
    W, so that a run does not depend on that rounding.
    """
    mean = torch.lerp(state[0], G, 1 - momentum)
    step = _orthogonalised(torch.lerp(G, mean, momentum) if nesterov else mean)
    scale = math.sqrt(max(1, W.shape[0] / W.shape[1]))
    return _moved(W * (1 - lr * weight_decay), scale * step, lr), (mean,)


def _orthogonalised(G: Tensor) -> Tensor:
    """Bring the singular values of G to between 0.68 and 1.21 by five of Muon's Newton-Schulz iterations.

    Each iteration takes a singular value x to 3.4445 x - 4.775 x^3 + 2.0315 x^5, which is steep at zero;
    values that begin below two thousandths of the Frobenius norm stay smaller.
    """
    X = G.T if G.shape[0] > G.shape[1] else G
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (2.0315 * A @ A - 4.775 * A) @ X
    return X.T if G.shape[0] > G.shape[1] else X


def _penalised(G: Tensor, W: Tensor, weight_decay: float) -> Tensor:
    """Add the gradient of ``weight_decay |W|^2 / 2``."""
    return torch.add(G, W, alpha=weight_decay) if weight_decay else G


def _moved(W: Tensor, step: Tensor, lr: Any) -> Tensor:
    """Compute W - lr step.

    For a number lr, torch.add may round once where a product and a difference round twice.
    """
    return W - lr * step if isinstance(lr, Tensor) else torch.add(W, step, alpha=-lr)


OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("adam", "Adam", "#D55E00", "o", _adam, 2, "sign", _edge_of_adam),
        Optimizer("gd", "GD", "#0072B2", "s", _gd, 1, "gradient", _edge_of_gd),
        Optimizer("signsgd", "SignSGD", "#009E73", "^", _signsgd, first_step="sign"),
        Optimizer("muon", "Muon", "#CC79A7", "D", _muon, matrices_only=True),
    )
}
HYPERPARAMETERS = frozenset(name for optimizer in OPTIMIZERS.values() for name in optimizer.hyperparameters)
