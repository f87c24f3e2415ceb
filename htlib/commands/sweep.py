"""``htlib sweep``: run a preset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from htlib.commands.outputs import PICTURES, add_outputs, check_output, save_figure, write_table
from htlib.student.run import tidy
from htlib.sweeps.compute import compute_missing
from htlib.sweeps.grid import fields_of
from htlib.sweeps.presets import load_experiment, presets
from htlib.sweeps.store import Store

_TABLES = (".parquet", ".csv")
_SHOWN = ("alpha_hill", "alignment", "spectral_norm", "test_loss")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep",
        help="run a preset of experiments/, or go on with it",
        description="Run a preset, for instance: htlib sweep experiments/one-step-rates. Finished runs are "
        "kept in a store; the same command goes on where an earlier one stopped.",
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="a TOML file, or a name in experiments/")
    parser.add_argument(
        "--all", action="store_true", help="compute what is missing of all presets, in one pool"
    )
    parser.add_argument("--profile", choices=("fast", "paper"), default="fast", help="sizes (default: fast)")
    parser.add_argument("--seeds", type=int, metavar="K", help="seeds 0 to K-1, in place of the preset's")
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="default: $HTLIB_STORE or the user's cache"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="'local' or a Dask scheduler, such as tcp://host:8786"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="tasks at a time (default: by cores and memory)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="BLAS threads of each worker (default: 1)")
    parser.add_argument("--device", default="cpu", help="any torch device (default: cpu)")
    add_outputs(parser, output="write the table (.parquet or .csv)", plot="draw it")
    parser.add_argument("--clear", action="store_true", help="empty the store, and do nothing else")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    store = Store(options.store)
    if options.clear:
        if options.preset is not None:
            raise ValueError("--clear empties the whole store; give it without a preset")
        runs, size = store.clear()
        print(f"deleted {runs} runs, {size / 1e6:.1f} MB, from {store.path}")
        return 0
    if options.all:
        if options.preset is not None:
            raise ValueError("--all computes every preset; give it without one")
        if given := [name for name in ("seeds", "output", "plot") if getattr(options, name) is not None]:
            raise ValueError(f"--all only computes; give --{given[0]} with a preset")
        experiments = [load_experiment(name, options.profile) for name in presets()]
        summary = compute_missing(
            [task for experiment in experiments for task in experiment.tasks(options.device)],
            store,
            options.scheduler,
            workers=options.workers,
            threads=options.threads,
            progress=not options.quiet,
        )
        if not options.quiet:
            print(f"{summary}; they are in {store.path}")
        return 0
    if options.preset is None:
        raise ValueError("name a preset, for instance experiments/one-step-rates, or give --all")
    check_output("--output", options.output, _TABLES)
    check_output("--plot", options.plot, PICTURES)
    experiment = load_experiment(options.preset, options.profile)
    if options.plot is not None:
        from htlib.figures.runs import FIGURES

        if experiment.figure not in FIGURES:
            raise ValueError(f"figure must be one of {', '.join(FIGURES)}; got {experiment.figure!r}")
    runs = experiment.runs(
        store,
        options.scheduler,
        seeds=options.seeds,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        progress=not options.quiet,
    )
    table = tidy(runs, fields_of(experiment.grid))
    if options.output is not None:
        write_table(table, options.output)
    if options.plot is not None:
        from htlib.figures.runs import draw

        save_figure(draw(experiment.figure, runs), options.plot)
    if not options.quiet:
        print(f"{experiment.title}\n{_last_step(table).to_string(float_format='{:.4g}'.format)}")
        print(f"{len(runs)} runs in {store.path}")
    if lost := sum(run.diverged_at is not None for run in runs):
        print(f"htlib sweep: {lost} runs diverged; what was measured before is in the table", file=sys.stderr)
    return 0


def _last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Average the last measurements over seeds."""
    columns = list(table.columns)
    settings = columns[: columns.index("seed")]
    varying = [name for name in settings if len(table[name].unique()) > 1] or settings[:1]
    last = table.groupby([*varying, "seed"], sort=False, dropna=False).tail(1)
    return pd.DataFrame(last.groupby(varying, sort=False, dropna=False)[list(_SHOWN)].mean())
