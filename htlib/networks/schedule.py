"""The rate of each step, and the order in which samples are seen."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from htlib.networks.config import NetworkConfig

_WARM_UP = 0.05  # part of the steps
_LAST = 0.1  # of the largest rate


def rate_of(config: NetworkConfig, step: int) -> float:
    """Return the rate of a step, from 1 on, over the largest rate."""
    if config.schedule == "constant":
        return 1.0
    rise = max(1, round(_WARM_UP * config.steps))
    if step <= rise:
        return step / rise
    along = (step - rise) / max(1, config.steps - rise)
    return _LAST + (1 - _LAST) * (1 + math.cos(math.pi * along)) / 2


def batches_of(n: int, batch: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield the places of batches out of n samples without end, in a new order for each epoch.

    Batches are full: what is left of an epoch is not seen in it.
    """
    while True:
        order = torch.from_numpy(rng.permutation(n))
        yield from order[: n - n % batch].split(batch)
