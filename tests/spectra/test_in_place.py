"""Oracle: `esd`, on matrices of full rank, of low rank, with equal singular values, and with dead columns."""

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.spectra.in_place import esd_beside, esd_in_place
from tests.refusals import refused

MAKERS = {
    "full": torch.clone,
    "low rank": lambda W: W[:, :40] @ W[:40],
    "orthogonal": lambda W: torch.linalg.qr(W)[0],
    "dead": lambda W: W * (torch.arange(W.shape[1]) > 30),
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("shape", [(170, 140), (140, 3900), (130, 130), (60, 40)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_values_are_those_of_esd_and_the_matrix_stays(make, dtype, shape):
    W = make(torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    before, expected = W.clone(), ht.esd(W)
    for given in (W, W.T, torch.nn.Parameter(W)):
        for found in (esd_in_place(given), esd_beside(given)):
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-13 * expected[-1])
            assert np.array_equal(found > 0, expected > 0)
    assert torch.equal(W, before)


@pytest.mark.parametrize("function", [esd_in_place, esd_beside])
def test_errors_are_those_of_esd(function):
    W = torch.full((150, 140), 1e30)
    W[0, 0] = torch.inf
    with refused("", "NaN or infinity in 1"):
        function(W)
