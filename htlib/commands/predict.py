"""``htlib predict``: one step in closed form, beside measured ones if asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from htlib.spectra.eigenvalues import esd
from htlib.spectra.power_law import hill_alpha
from htlib.student.config import CHOICES, ExperimentConfig
from htlib.student.functions import EVERY_TEACHER
from htlib.student.training import train_rates
from htlib.theory.one_step import OneStepLaw, law_of_config

_SIZES = ("n", "d", "h")


def add_parser(commands: Any) -> None:
    """Add the command to a group of sub-commands."""
    default = ExperimentConfig()
    parser = commands.add_parser(
        "predict",
        help="predict one step in closed form",
        description="Predict spectral norm and alignment after one full-batch step, and the critical rate. "
        "With --measure, train as many seeds and print means and standard deviations beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name in _SIZES:
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), metavar="INT", help=" ")
    parser.add_argument("--noise-std", type=float, default=default.noise_std, metavar="FLOAT", help=" ")
    parser.add_argument("--optimizer", choices=CHOICES["optimizer"], default=default.optimizer, help=" ")
    parser.add_argument("--teacher", default=default.teacher, metavar="STR", help=EVERY_TEACHER)
    parser.add_argument("--activation", choices=CHOICES["activation"], default=default.activation, help=" ")
    parser.add_argument(
        "--lr",
        type=float,
        nargs="+",
        metavar="FLOAT",
        help="rates (by default multiples of the critical one)",
    )
    parser.add_argument("--measure", type=int, default=0, metavar="K", help="train seeds 0 to K-1")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table (.csv)")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.measure < 0:
        raise ValueError(f"--measure must not be negative; got {options.measure}")
    if options.output is not None and options.output.suffix != ".csv":
        raise ValueError(f"--output must end in .csv; got {options.output}")
    names = (*_SIZES, "noise_std", "optimizer", "teacher", "activation")
    config = ExperimentConfig(steps=1, n_test=200, **{name: getattr(options, name) for name in names})
    law = law_of_config(config)
    rates = options.lr or [float(f"{m * law.critical_lr:.3g}") for m in (0.5, 1, 1.5, 2, 5, 20, 100)]
    rows = [_predicted(law, lr) for lr in rates]
    if options.measure:
        measured = _measured(config, rates, options.measure)
        rows = [{**row, **found} for row, found in zip(rows, measured, strict=True)]
    table = pd.DataFrame(rows)
    if options.output is not None:
        table.to_csv(options.output, index=False)
    print(table.to_string(index=False, float_format="{:.4g}".format))
    print(f"critical rate {law.critical_lr:.4g}, alignment at large rates {law.ceiling:.3f}")
    return 0


def _predicted(law: OneStepLaw, lr: float) -> dict[str, float]:
    prediction = law(lr)
    return {
        "lr": lr,
        "spectral_norm": prediction.spectral_norm,
        "alignment": prediction.alignment,
        "alpha_hill": hill_alpha(esd(law.sample(lr, seed=0).weights)) if min(law.h, law.d) > 2 else np.nan,
    }


def _measured(config: ExperimentConfig, rates: list[float], n_seeds: int) -> list[dict[str, float]]:
    """Means and standard deviations over seeds, a dictionary per rate."""
    metrics = ["spectral_norm", "alignment", "alpha_hill"]
    tables: list[pd.DataFrame] = []
    for seed in range(n_seeds):
        runs = train_rates(config.replace(seed=seed), rates, progress=False)
        tables.append(pd.DataFrame([run.metrics[metrics].iloc[-1] for run in runs]))
    values = np.stack([table.to_numpy() for table in tables])  # (seeds, rates, metrics)
    spread = values.std(axis=0, ddof=1) if n_seeds > 1 else np.full(values.shape[1:], np.nan)
    return [
        {
            key: number
            for k, name in enumerate(metrics)
            for key, number in ((f"measured_{name}", mean[k]), (f"sd_{name}", deviation[k]))
        }
        for mean, deviation in zip(values.mean(axis=0), spread, strict=True)
    ]
