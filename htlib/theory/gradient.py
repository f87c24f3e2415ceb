"""Gaussian means that decide the first gradient of the student.

At Gaussian weights the mean of the gradient is one outer product a g^T, up to a factor.  A few means over a
standard normal give the length and the parts of g (the book's appendix, sections A and B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from htlib.student.config import ExperimentConfig
from htlib.student.functions import ACTIVATIONS, gaussian_mean, get_teacher


@dataclass(frozen=True)
class GradientConstants:
    """Gaussian means that decide the first gradient, for an odd activation s and a teacher t."""

    mean_slope: float  # mu_1 = E s'(z)
    slope_variance: float  # v_1 = Var s'(z)
    teacher_slope: float  # c_1 = E t'(z), the part of the teacher that one step sees; 0 without true labels
    residual: float  # r^2 = E y^2 + E f^2, the mean squared residual at the start
    readout: float  # |a| / sqrt(h)
    noiseless: float  # |g|^2 for infinitely many samples
    sampling: float  # the rest of |g|^2, r^2 d / n: the noise of n samples, summed over d directions
    output: float  # E f^2, the part of r^2 that is the student's own
    echo: float  # chi = E z s(z) s'(z) - mu_1^2: how much of its own row of W0 the noise of a row contains
    config: ExperimentConfig = field(compare=False, repr=False)  # whose sizes and functions these belong to

    @property
    def length(self) -> float:
        """|g| of the right vector g of the mean gradient.

        The parts of g come from the teacher, the sampling noise and the student itself.
        """
        return math.sqrt(self.noiseless + self.sampling)


def gradient_constants(
    config: ExperimentConfig, labels: str = "real", readout_norm: float | None = None
) -> GradientConstants:
    """Compute the constants for the sizes, noise, teacher and activation of an experiment.

    Labels are "real" or "shuffled"; one step can see no part of shuffled labels.  The norm |a| of the readout
    is by default sqrt(h), its root mean square.  Other labels, an activation that is not odd, or a norm that
    is not positive are a ValueError.

    Examples
    --------
    >>> known = gradient_constants(ExperimentConfig())
    >>> round(known.mean_slope, 4), round(known.residual, 4), round(known.length, 3)
    (0.6057, 1.4055, 1.149)
    """
    if not ACTIVATIONS[config.activation].odd:
        odd = " or ".join(name for name, function in ACTIVATIONS.items() if function.odd)
        raise ValueError(
            f"activation must be odd ({odd}) for a prediction; got {config.activation!r}, "
            "whose gradient has a term of full rank that depends on the draw of the readout"
        )
    if labels not in ("real", "shuffled"):
        raise ValueError(f"labels must be real or shuffled; got {labels!r}")
    if readout_norm is not None and not (math.isfinite(readout_norm) and readout_norm > 0):
        raise ValueError(f"readout_norm must be positive and finite; got {readout_norm}")
    readout = 1.0 if readout_norm is None else readout_norm / math.sqrt(config.h)
    means = _means(config.teacher, config.activation)
    output = readout**2 * means.student_square
    residual = means.teacher_square + config.noise_std**2 + output
    slope = means.teacher_slope if labels == "real" else 0.0
    return GradientConstants(
        mean_slope=means.student_slope,
        slope_variance=means.student_slope_square - means.student_slope**2,
        teacher_slope=slope,
        residual=residual,
        readout=readout,
        noiseless=slope**2 + (means.student_slope * readout) ** 2,
        sampling=residual * config.d / config.n,
        output=output,
        echo=means.student_echo - means.student_slope**2,
        config=config,
    )


class _Means(NamedTuple):
    """Means over a standard normal of the squares and slopes of activation and teacher."""

    student_square: float
    student_slope: float
    student_slope_square: float
    student_echo: float  # E z s(z) s'(z)
    teacher_square: float
    teacher_slope: float


@lru_cache  # the quadrature takes ten milliseconds and does not depend on the sizes
def _means(teacher: str, activation: str) -> _Means:
    student, link = ACTIVATIONS[activation], get_teacher(teacher)
    return _Means(
        student_square=gaussian_mean(lambda z: student.value(z) ** 2),
        student_slope=gaussian_mean(student.derivative),
        student_slope_square=gaussian_mean(lambda z: student.derivative(z) ** 2),
        student_echo=gaussian_mean(lambda z: z * student.value(z) * student.derivative(z)),
        teacher_square=gaussian_mean(lambda z: link.value(z) ** 2),
        teacher_slope=gaussian_mean(link.derivative),
    )
