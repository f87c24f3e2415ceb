"""Scalar functions of the teacher and the student, found by name in `ACTIVATIONS` and `TEACHERS`.

Every function acts elementwise on a torch tensor.  ``value_and_derivative`` computes both at once because
training needs both and, for tanh, the derivative costs nothing once the value is known.

To add a function, write an entry in a registry, its name in `htlib.student.config` and a line in
tests/student/test_functions.py.  The choices, the explorer's menus and its measure of saturation, and the
functions that the closed forms accept all follow from them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.integrate import quad
from torch import Tensor

_HERMITE = re.compile(r"hermite([1-9]\d?)")


@dataclass(frozen=True)
class ScalarFunction:
    """A named function R -> R with its derivative."""

    name: str
    value: Callable[[Tensor], Tensor]
    value_and_derivative: Callable[[Tensor], tuple[Tensor, Tensor]]
    odd: bool = False  # f(-u) = -f(u), which the closed forms require of an activation
    bound: float | None = None  # supremum of |f|; None if f is not bounded

    def derivative(self, u: Tensor) -> Tensor:
        """Compute f'(u); the derivative of relu at 0 is 0, as in PyTorch."""
        return self.value_and_derivative(u)[1]


def get_activation(name: str) -> ScalarFunction:
    """Find an activation of the student in `ACTIVATIONS`; an unknown name is a ValueError."""
    if str(name) not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]


def get_teacher(name: str) -> ScalarFunction:
    """Find a link function of the teacher; an unknown name is a ValueError.

    The name is one of `TEACHERS` or ``hermite<k>`` with k from 1 to 99: the probabilists' Hermite polynomial
    of degree k over sqrt(k!), so that E f(z)^2 = 1 for a standard normal z.

    Examples
    --------
    >>> get_teacher("hermite2").value(torch.tensor([1.0, 3.0])) * math.sqrt(2)
    tensor([0., 8.])
    """
    if str(name) in TEACHERS:
        return TEACHERS[name]
    match = _HERMITE.fullmatch(str(name))
    if match is None:
        raise ValueError(f"teacher must be one of {EVERY_TEACHER}; got {name!r}")
    return _hermite(int(match.group(1)))


def gaussian_mean(f: Callable[[Tensor], Tensor]) -> float:
    """Compute E f(z) for a standard normal z; f acts elementwise on float64 tensors.

    The adaptive quadrature is split at the origin, which keeps functions with a kink there (relu) exact to
    about 1e-10.
    """

    def integrand(z: float) -> float:
        value = f(torch.tensor(z, dtype=torch.float64)).item()
        return value * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    return sum(float(quad(integrand, a, b, epsabs=1e-12)[0]) for a, b in ((-20, 0), (0, 20)))


def _tanh(u: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.tanh(u)
    return z, 1 - z * z


def _relu(u: Tensor) -> tuple[Tensor, Tensor]:
    return torch.relu(u), (u > 0).to(u.dtype)


def _erf(u: Tensor) -> tuple[Tensor, Tensor]:
    return torch.erf(u), (2 / math.sqrt(math.pi)) * torch.exp(-u * u)


def _gelu(u: Tensor) -> tuple[Tensor, Tensor]:
    cdf = torch.special.ndtr(u)
    return u * cdf, cdf + u * torch.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)


def _arctan(u: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arctan(u), 1 / (1 + u * u)


def _softplus(u: Tensor) -> tuple[Tensor, Tensor]:
    return _softplus_value(u), torch.sigmoid(u)


def _softplus_value(u: Tensor) -> Tensor:
    return torch.logaddexp(u, torch.zeros_like(u))  # exact: torch's softplus becomes linear at 20


def _hermite(degree: int) -> ScalarFunction:
    """Make He_k / sqrt(k!) by the three-term recurrence; its derivative is sqrt(k) times degree k - 1."""

    def both(u: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = torch.ones_like(u), u
        for k in range(1, degree):
            lower, upper = upper, (u * upper - math.sqrt(k) * lower) / math.sqrt(k + 1)
        return upper, math.sqrt(degree) * lower

    return ScalarFunction(f"hermite{degree}", lambda u: both(u)[0], both, odd=degree % 2 == 1)


def _by_name(*functions: ScalarFunction) -> dict[str, ScalarFunction]:
    return {function.name: function for function in functions}


ACTIVATIONS = _by_name(
    ScalarFunction("tanh", torch.tanh, _tanh, odd=True, bound=1),
    ScalarFunction("relu", torch.relu, _relu),
    ScalarFunction("erf", torch.erf, _erf, odd=True, bound=1),
    ScalarFunction("gelu", torch.nn.functional.gelu, _gelu),  # the exact form, with erf
    ScalarFunction("arctan", torch.arctan, _arctan, odd=True, bound=math.pi / 2),
)
TEACHERS = _by_name(  # the explorer's menu, in pages without Python, too: ONNX must know their operations
    ScalarFunction("softplus", _softplus_value, _softplus),
    ACTIVATIONS["relu"],
    ScalarFunction("identity", torch.clone, lambda u: (u.clone(), torch.ones_like(u)), odd=True),
    _hermite(2),
    _hermite(3),
)
EVERY_TEACHER = f"{', '.join(TEACHERS)}, or hermite1 to hermite99"
