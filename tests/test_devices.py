"""Oracle: the same call on the CPU.  In float64 both differ by rounding only, so a sum that is taken of the
wrong array, or a generator of another device, is seen.  Skipped where torch finds no GPU."""

import numpy as np
import pandas as pd
import pytest
import torch

import htlib as ht
from htlib.spectra.leading import leading_eigenvalues

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")

SMALL = ht.ExperimentConfig(n=400, d=150, h=200, n_test=100, steps=3, lr=0.1, dtype="float64", probe_every=1)
VARIANTS = {
    "adam": {},
    "gd": {"optimizer": "gd", "lr": 30.0, "momentum": 0.5, "nesterov": True},
    "signsgd": {"optimizer": "signsgd"},
    "muon": {"optimizer": "muon"},
    "decay": {"optimizer": "gd", "lr": 30.0, "weight_decay": 0.01, "lr_decay": 0.9},
    "wide": {"d": 200, "h": 150},
    "normalized": {"normalize_weights": True},
    "readout": {"train_readout": True, "readout": "signs"},
    "batches": {"batch_size": 64},
    "shuffled labels": {"labels": "shuffled"},
    "teacher of rank 3": {"teacher_rank": 3},
    "whitened": {"inputs": "whitened"},
    "sharpness": {"probe_sharpness": True, "optimizer": "gd", "lr": 30.0},
    "relu, tuned ridge": {"activation": "relu", "ridge_lambda": 0.1},
    "without the top": {"update": "no-top"},
}


def assert_close(ours, theirs, rtol):
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.nanmax(np.abs(theirs)))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_training(changes):
    config = SMALL.replace(**changes)
    cpu, gpu = (
        ht.train(config, device=device, keep_overlaps=True, keep_weights=True, progress=False)
        for device in ("cpu", "cuda")
    )
    for step, W in cpu.weights.items():
        assert_close(gpu.weights[step], W, 1e-8)
    assert_close(gpu.eigenvalues, cpu.eigenvalues, 1e-8)
    for column in cpu.metrics:
        assert_close(gpu.metrics[column], cpu.metrics[column], 1e-4 if column == "sharpness" else 1e-6)
    for step, overlaps in cpu.overlaps.items():
        for name in ("before", "after"):
            ours, theirs = getattr(gpu.overlaps[step], name), getattr(overlaps, name)
            assert_close(ours.right[:1, :1], theirs.right[:1, :1], 1e-5)


def test_a_sweep_and_its_store(tmp_path):
    grid = {
        "n": 100,
        "d": 40,
        "h": 60,
        "n_test": 50,
        "steps": 2,
        "lr": [0.1, 1.0],
        "optimizer": ["adam", "gd"],
    }
    grid["dtype"] = "float64"
    cpu = ht.sweep(grid, 2, tmp_path / "cpu", progress=False)
    gpu = ht.sweep(grid, 2, tmp_path / "gpu", device="cuda", progress=False)
    pd.testing.assert_frame_equal(gpu, cpu, rtol=1e-6, atol=1e-9, check_exact=False)
    again = ht.sweep(grid, 2, tmp_path / "gpu", progress=False)  # a run from another device counts
    pd.testing.assert_frame_equal(again, gpu, check_exact=True)


@pytest.fixture(scope="module")
def layers():
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(2.5, (300, 200)).astype(np.float32)
    arrays = {"noise": rng.standard_normal((400, 300)), "heavy": heavy, "wide": heavy.T, "kernel": heavy}
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    tensors["kernel"] = tensors["kernel"].reshape(300, 50, 2, 2)
    return tensors


@pytest.mark.parametrize("options", [{}, {"null": None, "compare": True}, {"top": 20}], ids=str)
def test_analyze(layers, options):
    cpu, gpu = (ht.analyze(layers, device=device, progress=False, **options) for device in ("cpu", "cuda"))
    pd.testing.assert_frame_equal(gpu, cpu, rtol=1e-6, atol=1e-9, check_exact=False)
    assert gpu.attrs["skipped"] == cpu.attrs["skipped"]


def test_compare_models(layers):
    after = {name: W + 0.1 * W.flip(0) + 0.5 for name, W in layers.items()}
    tables = [ht.compare_models(layers, after, device=name, progress=False) for name in ("cuda", "cpu")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-5, atol=1e-7, check_exact=False)


@pytest.mark.parametrize("null", ["shuffle", "profile"])
def test_nulls_draw_on_the_device(layers, null):
    """Its generator has other numbers, so only the spread is the same."""
    W = layers["heavy"]
    cpu, gpu = (ht.null_distribution(W.to(device), null, 60, seed=1) for device in ("cpu", "cuda"))
    means = [null.replicates["alpha_hill"] for null in (cpu, gpu)]
    error = np.sqrt(sum(values.var() / len(values) for values in means))
    assert abs(means[0].mean() - means[1].mean()) < 4 * error


@pytest.mark.parametrize("name", ["noise", "heavy", "wide"])
def test_functions_of_one_matrix(layers, name):
    W, on_device = layers[name], layers[name].cuda()
    for call in (
        ht.esd,
        lambda W: ht.spectrum_windows(W, 50),
        lambda W: leading_eigenvalues(W, 5)[0],
        lambda W: ht.singular_vector_overlaps(W, W + W.abs(), 1).right,
        lambda W: ht.principal_angles(W, W + W.abs(), 1),
    ):
        assert_close(call(on_device), call(W), 1e-7)
