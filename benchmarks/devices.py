"""The same calls on the CPU and on another device of torch: how far their numbers differ, and their times.

    python -m benchmarks.devices [DEVICE] [PART ...]     parts: train rates analyze; DEVICE: cuda

Times are medians, the first call is a warm-up; the CPU computes with all its cores, a sweep with one worker
for each.  Trainings are compared twice: in float64, where differences are those of the order of sums, and in
float32, the precision of all experiments, where a training that amplifies rounding shows it.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

import htlib as ht

T = TypeVar("T")

REPEATS = 3
SETTINGS = {"adam": 0.1, "gd": 2000.0}


def train(device: str) -> None:
    """Ten steps, measured at each, at a small size and at the paper's; at four times these, at the ends."""
    for n, d, h in ((400, 200, 300), (2000, 1000, 1500), (8000, 4000, 6000)):
        for optimizer, lr in SETTINGS.items():
            every, repeats = (1, REPEATS) if d <= 1000 else (10, 1)
            config = ht.ExperimentConfig(
                n=n, d=d, h=h, n_test=n, optimizer=optimizer, lr=lr, steps=10, probe_every=every
            )
            report(
                f"train, {optimizer} at rate {lr:g}, n = {n}, d = {d}, h = {h}",
                partial(trained, config),
                device,
                repeats,
            )
            if d <= 1000:
                for dtype in ("float64", "float32"):
                    print(f"    {dtype}: {differences(config.replace(dtype=dtype), device)}")


def trained(config: ht.ExperimentConfig, device: str) -> ht.Trajectory:
    """Train from the draw of the data on: the kept start of the last call is not used."""
    return ht.train(config, ht.make_problem(config), device=device, progress=False)


def differences(config: ht.ExperimentConfig, device: str) -> str:
    """Return the largest differences from the CPU over all steps."""
    ours, theirs = (trained(config, name) for name in (device, "cpu"))
    largest = theirs.eigenvalues.max(axis=1, keepdims=True)
    eigenvalues = np.max(np.abs(ours.eigenvalues - theirs.eigenvalues) / largest)
    relative = (ours.metrics / theirs.metrics - 1).abs().max()
    names = ("train_loss", "test_loss", "kta", "alignment", "alpha_hill")
    parts = [f"{name} {relative[name]:.0e}" for name in names if name in relative]
    return f"eigenvalues {eigenvalues:.0e} of the largest, relative {', '.join(parts)}"


def rates(device: str) -> None:
    """Eighteen rates of two optimizers at the sizes of the paper, as in `benchmarks.sweeps`."""
    lr = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 2e3, 3e3]
    for steps in (1, 10):
        grid = {"optimizer": ["adam", "gd"], "lr": lr, "n_test": 200, "steps": steps, "probe_every": steps}
        ours, theirs = report(f"sweep, 18 settings, {steps} steps", partial(swept, grid), device, 2)
        hill = (ours.alpha_hill - theirs.alpha_hill).abs().groupby(ours.lr).max()
        print(
            "    difference of alpha_hill by rate: " + ", ".join(f"{k:g}: {v:.0e}" for k, v in hill.items())
        )
        print("    " + "; ".join(theirs.attrs["notes"]))


def swept(grid: dict, device: str) -> pd.DataFrame:
    """Compute all runs, and store them."""
    with tempfile.TemporaryDirectory() as store:
        return ht.sweep(grid, 1, store, device=device, progress=False)


def analyze(device: str) -> None:
    """Layers of a transformer and larger ones, without and with a null."""
    rng = torch.Generator().manual_seed(0)
    cases = {"12 layers of 768 x 3072": (12, 768, 3072), "4 layers of 4096 x 4096": (4, 4096, 4096)}
    for title, (count, *shape) in cases.items():
        model = {str(i): torch.randn(*shape, generator=rng) for i in range(count)}
        for layer in model.values():
            layer[: len(layer) // 4] *= 3  # no bulk of one variance
        for null in (None, "gaussian"):
            call = partial(analyzed, model, null)
            tables = report(f"analyze, {title}, null {null}", call, device, REPEATS if null is None else 1)
            ours, theirs = (table.select_dtypes("number") for table in tables)
            relative = (ours / theirs - 1).abs().max()
            print(f"    largest relative difference {relative.max():.0e} ({relative.idxmax()})")


def analyzed(model: dict, null: str | None, device: str) -> pd.DataFrame:
    """Measure all layers."""
    return ht.analyze(model, device=device, null=null, n_replicates=5, progress=False)


def report(title: str, call: Callable[[str], T], device: str, repeats: int) -> tuple[T, T]:
    """Print the median seconds of a call on both devices; return its last results."""
    times, results = {device: [], "cpu": []}, {}
    for _ in range(repeats + 1):
        for name, values in times.items():
            began = time.perf_counter()
            results[name] = call(name)
            values.append(time.perf_counter() - began)
    ours, cpu = (statistics.median(values[1:]) for values in times.values())
    print(f"{title}: {device} {ours:.3f} s, cpu {cpu:.3f} s, {cpu / ours:.1f} times", flush=True)
    return results[device], results["cpu"]


PARTS = {part.__name__: part for part in (train, rates, analyze)}


def main(device: str = "cuda", *parts: str) -> None:
    """Measure the named parts, or all parts."""
    if device == "cuda" and not torch.cuda.is_available():
        print("another device: not measured, torch finds no GPU here")
        return
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    print(f"{name} against {os.cpu_count()} cores of {platform.machine()}, torch {torch.__version__}")
    for part in parts or PARTS:
        PARTS[part](device)


if __name__ == "__main__":
    main(*sys.argv[1:])
