"""Oracles: matrices that are made to be in a phase."""

import numpy as np
import pytest

from htlib import esd
from htlib.spectra.phases import PHASES, phase
from tests.refusals import refused

H, D = 300, 200


def made(name, rng):
    W = rng.standard_normal((H, D))
    if name in ("bleeding out", "bulk + spikes"):
        theta2 = {"bleeding out": 2.0, "bulk + spikes": 20.0}[name] * np.sqrt(H * D)
        u, v = (x / np.linalg.norm(x) for x in (rng.standard_normal(H), rng.standard_normal(D)))
        return W + np.sqrt(theta2) * np.outer(u, v)
    if name == "bulk decay":
        return W * np.exp(0.25 * rng.standard_normal(D))
    if name == "heavy-tailed":
        return rng.standard_t(1.5, (H, D))
    if name == "rank collapse":
        return W[:, :100] @ rng.standard_normal((100, D)) + 1e-4 * W
    return W


@pytest.mark.parametrize("scale", [1e-3, 1e4])
@pytest.mark.parametrize("name", PHASES)
def test_each_phase_is_found_at_any_scale_and_in_either_orientation(name, scale):
    for seed in range(5):
        W = scale * made(name, np.random.default_rng(seed))
        assert phase(esd(W), H, D) == phase(esd(W.T), D, H) == name


def test_noise_with_a_few_values_or_none_is_refused():
    with refused("", "ten", "got 9", error=ValueError):
        phase(np.ones(9), 9, 20)
    with refused("", "not all zero", error=ValueError):
        phase(np.zeros(12), 12, 20)
