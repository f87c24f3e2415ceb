"""Optimizers: each one a pure update of a matrix or vector of weights, found by name in `OPTIMIZERS`.

A new optimizer is a function, its entry here, and a line in tests/student/test_optimizers.py.  The choices
of `htlib.ExperimentConfig` and of the command line, the looks of the figures, the explorer's menus and the
law of its first step follow from the entry.

An update is a function ``(G, W, state, t, lr, **options) -> (W, state)`` of the gradient, the weights, what
`Optimizer.init` or the step before gave, the number of the step (the first is 1) and the rate.  It changes
nothing in place.  Its keyword-only arguments are the other fields of the configuration that it reads.
``t`` and ``lr`` are numbers, or float64 tensors in the graphs that a browser runs.  The sums use the kernels
of torch.optim's own steps on a CPU, so that they agree with them to the last digit.
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
    """One full-batch optimizer.

    Attributes
    ----------
    name, label : str
        In configurations, and for readers.
    color, marker : str
        Its look in figures: a colour of Okabe and Ito (see `htlib.figures.style`), and Matplotlib's marker.
    update : callable
        The step, as the head of this module describes it.
    n_state : int
        Number of tensors, each like the weights, that it hands from step to step.
    first_step : {"gradient", "sign"} or None
        Whether the first update is -lr times the gradient or its signs, for which there is a closed form of
        the spectrum; None if there is none.
    matrices_only : bool
        Whether it has no update for a vector, so that the readout stays as it is.
    in_page : bool
        Whether a page without Python runs it too, which carries at most two tensors from step to step.
    """

    name: str
    label: str
    color: str
    marker: str
    update: Callable[..., tuple[Tensor, State]]
    n_state: int = 1
    first_step: Literal["gradient", "sign"] | None = None
    matrices_only: bool = False
    in_page: bool = False

    @cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """Fields of `ExperimentConfig` that it reads besides ``lr``."""
        parameters = inspect.signature(self.update).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def init(self, W: Tensor) -> State:
        """The state before the first step: zeros."""
        return tuple(torch.zeros_like(W) for _ in range(self.n_state))

    def options(self, config: Any) -> dict[str, Any]:
        """Its hyperparameters by name, from the attributes of a configuration.

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
    """Kingma and Ba (2015), as torch.optim.Adam."""
    (m, v), (beta1, beta2) = state, _BETAS
    G = _penalised(G, W, weight_decay)
    m = torch.lerp(m, G, 1 - beta1)
    v = torch.addcmul(beta2 * v, G, G, value=1 - beta2)
    size, root = lr / (1 - beta1**t), (1 - beta2**t) ** 0.5
    return W - size * m / (v.sqrt() / root + adam_eps), (m, v)


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
    """Gradient descent, as torch.optim.SGD without dampening."""
    G = _penalised(G, W, weight_decay)
    step = G
    if momentum:
        state = (momentum * state[0] + G,)
        step = torch.add(G, state[0], alpha=momentum) if nesterov else state[0]
    return _moved(W, step, lr), state


def _signsgd(
    G: Tensor, W: Tensor, state: State, t: Any, lr: Any, *, weight_decay: float, momentum: float
) -> tuple[Tensor, State]:
    """Bernstein et al. (2018); with momentum it is their Signum, whose sum has the same signs as this one."""
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
    """Jordan et al. (2024), https://kellerjordan.github.io/posts/muon, as torch.optim.Muon.

    Momentum is a mean and weight decay is apart from the gradient.  The published code iterates in bfloat16
    for speed; this one does so in the precision of W, so that a run does not hang on that rounding.
    """
    mean = torch.lerp(state[0], G, 1 - momentum)
    step = _orthogonalised(torch.lerp(G, mean, momentum) if nesterov else mean)
    scale = math.sqrt(max(1, W.shape[0] / W.shape[1]))
    return _moved(W * (1 - lr * weight_decay), scale * step, lr), (mean,)


def _orthogonalised(G: Tensor) -> Tensor:
    """G with its singular values brought to between 0.68 and 1.21 by five of Muon's Newton-Schulz iterations.

    Each takes a singular value x to 3.4445 x - 4.775 x^3 + 2.0315 x^5, which is steep at zero; values that
    begin below two thousandths of the Frobenius norm stay smaller.
    """
    X = G.T if G.shape[0] > G.shape[1] else G
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (2.0315 * A @ A - 4.775 * A) @ X
    return X.T if G.shape[0] > G.shape[1] else X


def _penalised(G: Tensor, W: Tensor, weight_decay: float) -> Tensor:
    """The gradient with that of ``weight_decay |W|^2 / 2``."""
    return torch.add(G, W, alpha=weight_decay) if weight_decay else G


def _moved(W: Tensor, step: Tensor, lr: Any) -> Tensor:
    """W - lr step; torch's sum with a number may round once where a product and a sum round twice."""
    return W - lr * step if isinstance(lr, Tensor) else torch.add(W, step, alpha=-lr)


OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("adam", "Adam", "#D55E00", "o", _adam, n_state=2, first_step="sign", in_page=True),
        Optimizer("gd", "GD", "#0072B2", "s", _gd, first_step="gradient", in_page=True),
        Optimizer("signsgd", "SignSGD", "#009E73", "^", _signsgd, first_step="sign"),
        Optimizer("muon", "Muon", "#CC79A7", "D", _muon, matrices_only=True),
    )
}
HYPERPARAMETERS = frozenset(name for optimizer in OPTIMIZERS.values() for name in optimizer.hyperparameters)
