"""Compute in advance what the pages of the book need from Python to run experiments without a kernel.

    python -m htlib.explorer.page stored-runs fast _build/fast/stored-runs.json.gz
    python -m htlib.explorer.page engine _build/fast/stored-runs.json.gz _build/fast/live

The Makefile calls this.  Then it adds the stored runs, the bundled TypeScript of live/ and the WebAssembly of
ONNX Runtime to the folder of the engine.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from htlib.explorer import graphs, messages, trainer, widget
from htlib.explorer.stored_runs import pack_runs
from htlib.spectra.generalized import grouped
from htlib.student.config import ExperimentConfig
from htlib.student.files import write_atomically
from htlib.student.functions import TEACHERS, gaussian_mean
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.training import train
from htlib.sweeps.presets import load_experiment
from htlib.theory.bulk import expected_noise
from htlib.theory.one_step import OneStepLaw, law_of_config

_SIZES = ("n", "d", "h", "n_test")
_SHARED = ("teacher", "noise_std")  # the stored runs have one value of these
_DIGITS = 4
# What the sample of the page "Your checkpoint" holds: hidden weights, and the run that they end.
_SAMPLE: dict[str, dict[str, Any]] = {
    "0.start": {"optimizer": "gd", "lr": 1000.0, "steps": 0},
    "1.one-step-of-gd": {"optimizer": "gd", "lr": 1000.0, "steps": 1},
    "2.ten-steps-of-adam": {"optimizer": "adam", "lr": 1.0, "steps": 10},
    "3.ten-steps-of-adam-shuffled": {"optimizer": "adam", "lr": 1.0, "steps": 10, "labels": "shuffled"},
}


def write_stored_runs(profile: str, target: Path) -> None:
    """Pack the runs of the preset ``atlas``, which are read from the store or computed.

    Those that are also runs of ``single-run`` get overlaps from there.  To compute the runs takes half
    a minute or half an hour, depending on the profile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    atlas, with_overlaps = (load_experiment(name, profile).runs() for name in ("atlas", "single-run"))
    write_atomically(target, pack_runs(atlas, with_overlaps))


def write_engine(stored_runs: Path, folder: Path) -> None:
    """Export the graphs and, last, write ``meta.json``."""
    shared = json.loads(gzip.decompress(stored_runs.read_bytes()))["config"]
    explorer = widget.Explorer()
    graphs.export_graphs(folder, explorer.config)
    write_atomically(folder / "sample.js", sample(explorer.config).encode())
    stored = explorer.config.replace(**{name: shared[name] for name in (*_SIZES, *_SHARED)})
    text = json.dumps(meta(explorer, stored), allow_nan=False, separators=(",", ":"))
    write_atomically(folder / "meta.json", text.encode())


def sample(config: ExperimentConfig) -> str:
    """Return a script with a safetensors file: states of the hidden weights of the book's network."""
    weights: dict[str, torch.Tensor] = {}
    for name, fields in _SAMPLE.items():
        run = train(config.replace(**fields, probe_every=10), keep_weights=True, progress=False)
        weights[f"{name}.weight"] = torch.from_numpy(run.weights[fields["steps"]]).half()
    return f'window.htlibSample = "{base64.b64encode(save(weights)).decode()}";\n'


def meta(explorer: widget.Explorer, stored: ExperimentConfig) -> dict[str, Any]:
    """Return the content of ``meta.json``, which live/src/meta.ts describes."""
    config, options = explorer.config, dict(explorer.options)
    options["choices"] = {**options["choices"], "optimizer": list(graphs.GRAPH_OPTIMIZERS)}
    return {
        "options": options,
        "activation": config.activation,
        "ridge_lambda": config.ridge_lambda,
        "input_scales": {"paper": 1 / math.sqrt(config.d), "released-code": 1 / config.d},
        "vectors": trainer.LEADING_VECTORS,
        "teachers": {name: _moments(name) for name in TEACHERS},
        "trained": _shape(config, options["choices"]),
        "stored": _shape(stored, options["choices"] | {name: [getattr(stored, name)] for name in _SHARED}),
    }


def noise_groups(law: OneStepLaw) -> dict[str, list[float]]:
    """Return the noise of a step in the groups that its law makes of it, for `live/src/mirror/bulk.ts`."""
    noise = expected_noise(law.constants, law.sharpness)
    # a bulk of signs has other columns than the noise: they scatter as in a finite matrix
    columns = np.asarray(noise.bulk(1.0, has_outlier=True).columns) if noise.signs else noise.columns
    columns, counts = grouped(columns, np.ones(len(columns)))
    echo = np.add.reduceat(noise.echo, (np.cumsum(counts) - counts).astype(int)) / counts
    rows, row_counts = grouped(noise.rows, noise.row_counts)
    sides = {"columns": columns, "echo": echo, "counts": counts, "rows": rows, "row_counts": row_counts}
    return {name: _rounded(values) for name, values in sides.items()}


def main(arguments: list[str]) -> int:
    """Run one of the two commands; return 0 if it worked, 2 for a wrong call."""
    match arguments:
        case ["stored-runs", profile, target]:
            write_stored_runs(profile, Path(target))
        case ["engine", stored_runs, folder]:
            write_engine(Path(stored_runs), Path(folder))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def _moments(teacher: str) -> dict[str, float]:
    """Compute the mean and variance of the link function of a standard normal variable."""
    link = TEACHERS[teacher].value
    mean = gaussian_mean(link)
    return {"mean": mean, "variance": gaussian_mean(lambda z: (link(z) - mean) ** 2)}


def _shape(config: ExperimentConfig, choices: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the noise law and the closed forms for runs of one size; equal first steps are there once."""
    laws: dict[str, Any] = {}
    keys: dict[tuple[Any, ...], str] = {}
    names = ("optimizer", "teacher", "labels", "noise_std")
    for values in itertools.product(*(choices[name] for name in names)):
        key = " ".join(f"{v:g}" if isinstance(v, float) else v for v in values)
        # Adam's first step is that of SignSGD, up to its eps
        known = keys.setdefault((OPTIMIZERS[values[0]].first_step, *values[1:]), key)
        if known != key:
            if known in laws:
                laws[key] = known
            continue
        asked = config.replace(**dict(zip(names, values, strict=True)))
        try:
            law = law_of_config(asked)
        except ValueError:  # there is no theory for these labels
            continue
        unstable = messages.unstable_lr(asked)
        laws[key] = {name: getattr(law, name) for name in ("h", "d", "gain", "drag", "cross", "signal")} | {
            "noise": noise_groups(law),
            "unstable_lr": None if unstable is None else _to_digits(unstable),
        }
    sizes = {name: getattr(config, name) for name in _SIZES}
    return {"sizes": sizes, "noise": messages.noise_of(config.h, config.d), "laws": laws}


def _rounded(values: NDArray[np.float64]) -> list[float]:
    rounded = [_to_digits(float(value)) for value in values]
    return [int(value) if value.is_integer() else value for value in rounded]  # "1" is shorter than "1.0"


def _to_digits(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
