"""How far two routes to one float32 number may lie apart; libraries and processors add in other orders."""

from __future__ import annotations

import numpy as np

import htlib as ht
from htlib.student.problem import Problem

EPS = float(np.finfo(np.float32).eps)


def rounding(config: ht.ExperimentConfig, step: int = 0) -> float:
    """Relative error of a number of this step: a rounding for each term of the sums over d, h and n."""
    # Roundings err in both directions, so that they add up as the square root of their number.  A run at a
    # rate where training contracts hands on those of the steps before as they are.
    return EPS * ((config.n + config.d + config.h) * (1 + step)) ** 0.5


def loss_error(config: ht.ExperimentConfig, problem: Problem, loss: float, step: int = 0) -> float:
    """The difference that two routes to a loss may have."""
    # The loss is a mean of r^2, and r is the difference of outputs and targets: it errs by their rounding, at
    # the size of the targets, or of the outputs where these are larger, and r^2 by 2 r times that.
    size = max(float(np.sqrt(np.mean(problem.train.targets**2))), loss**0.5)
    return 2 * loss**0.5 * size * rounding(config, step)
