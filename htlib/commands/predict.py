"""``htlib predict``: predict one step in closed form, and measure it, too, if requested."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from htlib.commands.fields import add_fields
from htlib.commands.outputs import add_outputs, check_output, write_table
from htlib.student.config import ExperimentConfig

if TYPE_CHECKING:
    from htlib.theory.one_step import OneStepLaw

_EXAMPLES = """\
examples:
  htlib predict --lr 0.03 0.1 1
  htlib predict --optimizer gd --lr 2000 10000 --measure 3 --output one-step.csv
"""
_FIELDS = ("n", "d", "h", "noise_std", "optimizer", "teacher", "activation")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="predict one step in closed form",
        description="Predict spectral norm, alignment and bulk after one full-batch step, and the critical\n"
        "rate.  bulk_edge is an eigenvalue of W^T W, a squared norm; alpha_hill is that of bulk and spike.\n"
        "With --measure, train as many seeds and print means and standard deviations beside it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_fields(parser, _FIELDS)
    parser.add_argument(
        "--lr", type=float, nargs="+", metavar="FLOAT", help="rates (default: multiples of the critical one)"
    )
    parser.add_argument(
        "--measure", type=int, default=0, metavar="K", help="train seeds 0 to K-1 (default: none)"
    )
    add_outputs(parser, output="write the table (.csv)")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.measure < 0:
        raise ValueError(f"--measure must not be negative; got {options.measure}")
    config = ExperimentConfig(steps=1, n_test=200, **{name: getattr(options, name) for name in _FIELDS})
    for lr in options.lr or []:
        config.replace(lr=lr)  # raises for a rate that cannot be run
    check_output("--output", options.output, (".csv",))
    import pandas as pd

    from htlib.theory.one_step import law_of_config
    from htlib.theory.stability import predict_sharpness

    law = law_of_config(config)
    rates = options.lr or [float(f"{m * law.critical_lr:.3g}") for m in (0.5, 1, 1.5, 2, 5, 20, 100)]
    rows = [_predicted(law, lr) for lr in rates]
    if options.measure:
        measured = _measured(config, rates, options.measure)
        rows = [{**row, **found} for row, found in zip(rows, measured, strict=True)]
    table = pd.DataFrame(rows)
    alignments = [f"{row['alignment']:.4g}" if row["lr"] > law.critical_lr else "no spike" for row in rows]
    print(table.assign(alignment=alignments).to_string(index=False, float_format="{:.4g}".format))
    print(f"critical rate {law.critical_lr:.4g}, alignment at large rates {law.ceiling:.3f}")
    if config.optimizer == "gd":
        print(
            f"edge of stability {2 / predict_sharpness(config):.4g}: gradient descent is unstable beyond it"
        )
    if options.output is not None:
        write_table(table, options.output)
    return 0


def _predicted(law: OneStepLaw, lr: float) -> dict[str, float]:
    prediction = law(lr)
    known = {"lr": lr, "spectral_norm": prediction.spectral_norm, "alignment": prediction.alignment}
    if min(law.h, law.d) < 4:  # too few values beside a spike for an exponent
        return {**known, "bulk_edge": np.nan, "bulk_hill": np.nan, "alpha_hill": np.nan}
    bulk = law.bulk(lr)
    spike = prediction.spectral_norm**2 if prediction.has_outlier else None
    return {
        **known,
        "bulk_edge": bulk.edge,
        "bulk_hill": bulk.hill_alpha(),
        "alpha_hill": bulk.hill_alpha(spike),
    }


def _measured(config: ExperimentConfig, rates: list[float], n_seeds: int) -> list[dict[str, float]]:
    """Measure means and standard deviations over seeds, in one dictionary per rate."""
    import pandas as pd

    from htlib.student.training import train_rates

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
