"""``htlib sweep``: run a grid of experiments, given by options or by a preset."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from htlib.commands.fields import FIELDS, add_fields
from htlib.commands.outputs import PICTURES, add_outputs, check_output, save_figure, write_table
from htlib.sweeps.grid import fields_of
from htlib.sweeps.presets import Experiment, load_experiment, presets

if TYPE_CHECKING:
    import pandas as pd

    from htlib.student.config import ExperimentConfig
    from htlib.student.run import Trajectory
    from htlib.sweeps.store import Store
    from htlib.theory.one_step import OneStepLaw

_EPILOG = """\
examples:
  htlib sweep --lr .1 .3 1 --seeds 3 --output table.csv
  htlib sweep --optimizer adam gd --lr 0.1 10 1000 --steps 1 --n 1000 --d 500 --h 750
  htlib sweep experiments/one-step-rates --plot rates.png

a preset is a TOML file:
  title = "Two rates"
  figure = "rate_map"              # or along_steps, ... (htlib.figures.FIGURES)
  grid = {lr = [0.1, 1.0]}         # fields of a run: a list has one run per value, [[grid]] is one of several
  fast = {seeds = 3}               # sizes of a profile: seeds, and a grid whose values replace these
  paper = {seeds = 5, grid = {n = 2000}}
"""
_TABLES = (".parquet", ".csv")
_SHOWN = ("alpha_hill", "alignment", "spectral_norm", "test_loss", "accuracy")
_PREDICTED = ("predicted_spectral_norm", "predicted_alignment", "critical_lr")
_GRID = tuple(name for name in FIELDS if name != "seed")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep",
        help="run a grid of experiments, or a preset of experiments/, or go on with it",
        description="Run every combination of the values of some fields with every seed, or a preset.\n"
        "Finished runs are kept in a store; the same command goes on where an earlier one stopped.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="a TOML file, or a name in experiments/")
    parser.add_argument(
        "--all", action="store_true", help="compute what is missing of all presets, in one pool"
    )
    parser.add_argument("--list", action="store_true", help="list the presets, with their numbers of runs")
    parser.add_argument("--clear", action="store_true", help="empty the store, and do nothing else")
    parser.add_argument("--profile", choices=("fast", "paper"), help="sizes of the presets (default: fast)")
    parser.add_argument(
        "--seeds", type=int, metavar="K", help="seeds 0 to K-1 (default: the preset's, or 5 seeds of a grid)"
    )
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
    add_outputs(parser, output="write the table (.parquet or .csv)", plot="draw the preset's figure")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    grid = parser.add_argument_group(
        "grid",
        "every field of an experiment takes one value or several; the table of a grid has the\n"
        "prediction of one step beside what is measured, where there is one",
    )
    add_fields(grid, _GRID, several=True)
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    grid = {name: given for name in _GRID if (given := getattr(options, name)) is not None}
    _check_mode(options, list(grid))
    profile = options.profile or "fast"
    if options.list:
        for name in presets():
            experiment = load_experiment(name, profile)
            print(f"{name:22} {len(experiment.configs()):5} runs  {experiment.title}")
        return 0
    from htlib.sweeps.store import Store

    store = Store(options.store)
    if options.clear:
        runs, size = store.clear()
        print(f"deleted {runs} runs, {size / 1e6:.1f} MB, from {store.path}")
        return 0
    if options.all:
        return _compute_all(options, [load_experiment(name, profile) for name in presets()], store)
    if grid:
        title = ", ".join(f"{name}: {' '.join(map(str, values))}" for name, values in grid.items())
        experiment = Experiment("grid", title, figure="", grid=[grid], seeds=5)
    else:
        experiment = load_experiment(options.preset, profile)
    if options.seeds is not None:
        experiment = dataclasses.replace(experiment, seeds=options.seeds)
    experiment.configs()  # raises for a run that is not possible
    check_output("--output", options.output, _TABLES)
    check_output("--plot", options.plot, PICTURES)
    return _compute(options, experiment, store)


def _check_mode(options: argparse.Namespace, fields: Sequence[str]) -> None:
    """Refuse a call that asks for two things, or for none, or has options that nothing would read."""
    modes = [f"--{name}" for name in ("all", "list", "clear") if getattr(options, name)]
    modes += ["a preset"] * (options.preset is not None)
    modes += [f"--{name.replace('_', '-')}" for name in fields[:1]]
    if not modes:
        raise ValueError(
            "name a preset, for instance experiments/one-step-rates, give a field its values, for instance "
            "--lr 0.1 1, or give --all or --list"
        )
    if len(modes) > 1:
        raise ValueError(f"{modes[0]} and {modes[1]} exclude each other; give one of them")
    unread = ("seeds", "output", "plot")
    if options.preset is not None:
        unread = ()
    elif fields:
        unread = ("profile", "plot")
    if given := [name for name in unread if getattr(options, name) is not None]:
        raise ValueError(f"--{given[0]} has no meaning with {modes[0]}; give it with a preset")


def _compute_all(options: argparse.Namespace, experiments: Sequence[Experiment], store: Store) -> int:
    from htlib.sweeps.compute import compute_missing

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


def _compute(options: argparse.Namespace, experiment: Experiment, store: Store) -> int:
    """Compute, print and write one experiment."""
    from htlib.student.run import tidy

    if options.plot is not None:
        from htlib.figures.runs import FIGURES

        if experiment.figure not in FIGURES:
            raise ValueError(f"figure must be one of {', '.join(FIGURES)}; got {experiment.figure!r}")
    runs = experiment.runs(
        store,
        options.scheduler,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        progress=not options.quiet,
    )
    table = tidy(runs, fields_of(experiment.grid))
    if options.preset is None:
        table = table.assign(**_predictions(runs))
    if not options.quiet:
        print(f"{experiment.title}\n{_last_step(table).to_string(float_format='{:.4g}'.format)}")
        print(f"{len(runs)} runs in {store.path}")
    if options.output is not None:
        write_table(table, options.output)
    if options.plot is not None:
        from htlib.figures.runs import draw

        save_figure(draw(experiment.figure, runs), options.plot)
    if lost := sum(run.diverged_at is not None for run in runs):
        print(f"htlib sweep: {lost} runs diverged; what was measured before is in the table", file=sys.stderr)
    return 0


def _predictions(runs: Sequence[Trajectory]) -> dict[str, list[float]]:
    """Predict step 1 of runs, in columns with one row per measured step; NaN where nothing is predicted.

    The critical rate stands in every row of a run whose first step has a closed form.
    """
    rows: list[tuple[float, float, float]] = []
    laws: dict[ExperimentConfig, OneStepLaw | None] = {}
    for run in runs:
        setting = run.config.replace(lr=1.0, seed=0)
        if setting not in laws:
            laws[setting] = _law(setting)
        law = laws[setting]
        for step in run.metrics.index:
            norm = alignment = np.nan
            if law is not None and step == 1:
                prediction = law(run.config.lr)
                norm, alignment = prediction.spectral_norm, prediction.alignment
            rows.append((norm, alignment, np.nan if law is None else law.critical_lr))
    return {name: [row[k] for row in rows] for k, name in enumerate(_PREDICTED)}


def _law(config: ExperimentConfig) -> OneStepLaw | None:
    from htlib.theory.one_step import law_of_config

    if config.update != "full":  # the law is of whole updates
        return None
    try:
        return law_of_config(config)
    except ValueError:
        return None


def _last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Average the last measurements, and what is predicted for them, over seeds."""
    import pandas as pd

    columns = list(table.columns)
    settings = columns[: columns.index("seed")]
    varying = [name for name in settings if len(table[name].unique()) > 1] or settings[:1]
    last = table.groupby([*varying, "seed"], sort=False, dropna=False).tail(1)
    shown = [name for name in (*_SHOWN, *_PREDICTED) if name in columns]
    means = pd.DataFrame(last.groupby(varying, sort=False, dropna=False)[shown].mean())
    return means.dropna(axis="columns", how="all")
