"""Oracles: places of windows worked out by hand, a loop of decompositions, the shape of noise."""

import numpy as np
import pytest
import torch

import htlib as ht
from tests.refusals import refused

BY_HAND = [  # shape, side, ratio, positions, reach_edge, rows and columns where windows begin
    ((12, 9), 4, 1.0, 3, False, [0, 4, 8], [0, 2, 4]),  # the last column is missed
    ((12, 9), 4, 1.0, 3, True, [0, 4, 8], [0, 2, 5]),
    ((5, 5), 4, 1.0, 9, False, [0, 1], [0, 1]),  # no room for more
    ((5, 5), 4, 1.0, 9, True, [0, 1], [0, 1]),
    ((12, 9), 3, 2.0, 4, False, [0, 3, 6, 9], [0, 1, 2, 3]),
    ((12, 9), 5, 0.5, 2, False, [0, 7], [0, 7]),  # 5 x 2
    ((12, 9), 12, 0.75, 9, False, [0], [0]),
    ((12, 9), 4, 1.0, 1, False, [0], [0]),
]


@pytest.mark.parametrize(("shape", "side", "ratio", "positions", "reach_edge", "rows", "columns"), BY_HAND)
def test_windows_by_hand(shape, side, ratio, positions, reach_edge, rows, columns):
    W = np.random.default_rng(0).standard_normal(shape)
    width = int(side * ratio)
    expected = [
        np.linalg.svd(W[i : i + side, j : j + width], compute_uv=False)[::-1] ** 2
        for i in rows
        for j in columns
    ]
    options = {"positions": positions, "reach_edge": reach_edge}
    each = ht.spectrum_windows(W, side, ratio, pool=False, **options)
    assert each == pytest.approx(np.array(expected), rel=1e-6, abs=1e-9)
    pooled = ht.spectrum_windows(W, side, ratio, **options)
    assert np.array_equal(pooled, np.sort(each, axis=None))


def test_a_layer_of_a_language_model_misses_eight_rows_and_columns():
    """By hand: steps of 2096 // 9 = 232 and 9008 // 9 = 1000; here a tenth of the size."""
    W = torch.zeros(409, 1100)
    W[:, :] = torch.randn(409, 1100, generator=torch.Generator().manual_seed(0))
    marked = W.clone()
    marked[-2:] += 100  # 209 // 9 = 23, 9 * 23 + 200 = 407
    same = ht.spectrum_windows(W, 200, positions=10)
    assert len(same) == 100 * 200
    assert np.array_equal(ht.spectrum_windows(marked, 200, positions=10), same)
    assert not np.array_equal(ht.spectrum_windows(marked, 200, positions=10, reach_edge=True), same)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_windows_as_one_by_one(dtype, threads):
    """Oracle: `htlib.esd` of every window; 81 windows need several parts."""
    W = torch.randn(90, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        each = ht.spectrum_windows(W, 20, pool=False)
    finally:
        torch.set_num_threads(before)
    windows = [W[i : i + 20, j : j + 20] for i in range(0, 65, 8) for j in range(0, 41, 5)]
    assert each == pytest.approx(np.array([ht.esd(window) for window in windows]), rel=1e-8, abs=1e-9)


def test_zeros_are_zero():
    """A window of rank one has one eigenvalue that is not zero; its Gram matrix is only near that."""
    W = np.outer(np.arange(1.0, 31.0), np.sqrt(np.arange(1.0, 21.0)))
    each = ht.spectrum_windows(W, 10, positions=3, pool=False)
    assert (each[:, :-1] == 0).all()
    assert each[0, -1] == pytest.approx((np.arange(1, 11) ** 2).sum() * np.arange(1, 11).sum())


def test_windows_remove_the_shape_of_noise():
    """All give the 2.12 of a square, less .02 by the size of 60.  The whole matrices do not agree."""
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal(shape) for shape in ((120, 120), (480, 120), (120, 960))]
    for W in matrices:
        assert ht.hill_alpha(ht.spectrum_windows(W, 60, positions=5)) == pytest.approx(2.10, abs=0.04)
    whole = [ht.hill_alpha(ht.esd(W)) for W in matrices]
    assert whole[2] - whole[0] > 1.5


def test_what_is_refused():
    W = np.ones((6, 4))
    with refused("side = 5 and ratio = 1 make windows of 5 x 5", "6 x 4", "choose a smaller"):
        ht.spectrum_windows(W, 5)
    for options, message in (
        ({"side": 0}, "side must be at least 1; got 0"),
        ({"side": 2, "ratio": 0.4}, "int(ratio * side) must be at least 1; got 0"),
        ({"side": 2, "positions": 0}, "positions must be at least 1; got 0"),
    ):
        with refused(message):
            ht.spectrum_windows(W, **options)
    with refused("W must be a matrix"):
        ht.spectrum_windows(W[0], 2)
    with refused("the squared singular values overflow float64"):
        ht.spectrum_windows(1e200 * W, 2)
