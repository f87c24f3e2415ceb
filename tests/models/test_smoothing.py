"""Oracles: truncated sums of NumPy's singular value decomposition."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import htlib as ht


def truncated(W, count, keep):
    U, s, V = np.linalg.svd(np.asarray(W, dtype=np.float64), full_matrices=False)
    s = np.where((np.arange(len(s)) < count) == (keep == "leading"), s, 0)
    return (U * s) @ V


@pytest.mark.parametrize("keep", ["leading", "rest"])
def test_a_part_of_each_matrix_stays_and_the_model_is_not_changed(keep):
    torch.manual_seed(0)
    module = nn.ModuleDict(
        {"fc": nn.Linear(30, 20), "conv": nn.Conv2d(12, 16, 3), "attn": nn.MultiheadAttention(16, 2)}
    )
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    smoothed = ht.smooth(module, 4, keep)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert np.allclose(smoothed["fc.weight"], truncated(before["fc.weight"], 4, keep), atol=1e-6)
    for i in range(3):
        expected = truncated(before["conv.weight"][:, :, i, 1], 4, keep)
        assert np.allclose(smoothed["conv.weight"][:, :, i, 1], expected, atol=1e-6)
    for part, expected in zip(
        smoothed["attn.in_proj_weight"].chunk(3), before["attn.in_proj_weight"].chunk(3), strict=True
    ):
        assert np.allclose(part, truncated(expected, 4, keep), atol=1e-6)
    assert torch.equal(smoothed["fc.bias"], before["fc.bias"])
    module.load_state_dict(smoothed)


def test_the_edge_parts_signal_from_noise():
    rng = np.random.default_rng(0)
    u, v = np.linalg.qr(rng.standard_normal((120, 2)))[0], np.linalg.qr(rng.standard_normal((80, 2)))[0]
    signal = 60 * u @ v.T
    smoothed = ht.smooth({"w": signal + rng.standard_normal((120, 80)), "none": np.ones((20, 20))})
    assert np.linalg.matrix_rank(smoothed["w"].numpy()) == 2
    # two directions of strength 60 in noise of norm 20: a tenth of their norm is noise
    assert np.linalg.norm(smoothed["w"].numpy() - signal) < 0.4 * np.linalg.norm(signal)
    assert torch.equal(smoothed["none"], torch.ones(20, 20, dtype=torch.float64))


def test_wrong_arguments():
    for options in ({"rank": -1}, {"rank": "mp"}, {"rank": 1.5}, {"keep": "tail"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ht.smooth({"w": np.eye(20)}, **options)
    with pytest.raises(ValueError, match="a part of weight"):
        ht.smooth(weight_norm(nn.Linear(20, 30)), 3)
