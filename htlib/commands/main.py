"""The command line: ``htlib run`` trains, ``sweep`` runs presets, ``predict`` predicts one step, ``claims``
recomputes the ledger, ``analyze`` reads checkpoints."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from htlib.commands import analyze as analyze_command
from htlib.commands import claims as claims_command
from htlib.commands import predict as predict_command
from htlib.models.checkpoints import CheckpointError
from htlib.student.config import CHOICES, ExperimentConfig
from htlib.student.functions import ACTIVATIONS, TEACHERS
from htlib.student.run import tidy
from htlib.student.training import train
from htlib.sweeps.compute import SweepError
from htlib.sweeps.grid import fields_of
from htlib.sweeps.presets import load_experiment
from htlib.sweeps.store import Store, StoreError

_PICTURES = (".png", ".svg", ".pdf")
_TABLES = (".parquet", ".csv")
_SHOWN = ("alpha_hill", "alignment", "spectral_norm", "test_loss")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 if all went well, 2 for a wrong call, 3 if a single run diverged, 4 if a sweep
        lost its workers, 5 if a checkpoint holds nothing to analyse, 6 if a verdict is not as recorded,
        130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (ValueError, TypeError, OSError, ImportError, StoreError, CheckpointError) as error:
        print(f"htlib {options.command}: {error}", file=sys.stderr)
        return 2
    except SweepError as error:
        print(f"htlib {options.command}: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt as stop:
        print(f"htlib {options.command}: {stop or 'interrupted'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="htlib", description="Heavy-tailed weight spectra without noise.")
    parser.add_argument("--version", action="version", version=f"htlib {version('htlib')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="train one configuration and print its measures",
        description="Train one configuration and print its measures, a column per probed step. "
        "Each option is a field of ExperimentConfig.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    fields = run.add_argument_group("experiment")
    allowed = CHOICES | {"activation": ACTIVATIONS}
    for field in dataclasses.fields(ExperimentConfig):
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        if isinstance(default, bool):
            fields.add_argument(flag, dest=field.name, action="store_true", help=" ")
        elif field.name in allowed:
            fields.add_argument(flag, dest=field.name, default=default, choices=allowed[field.name], help=" ")
        else:
            kind = float if default is None else type(default)
            text = ", ".join(TEACHERS) if field.name == "teacher" else " "
            fields.add_argument(
                flag, dest=field.name, type=kind, default=default, metavar=kind.__name__.upper(), help=text
            )
    run.add_argument("--device", default="cpu", help="any torch device")
    run.add_argument("--output", type=Path, metavar="FILE", help="write the record here (.safetensors)")
    run.add_argument("--plot", type=Path, metavar="FILE", help="draw the run (.png, .svg, .pdf)")
    run.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    _add_sweep(commands)
    predict_command.add_parser(commands)
    claims_command.add_parser(commands)
    analyze_command.add_parser(commands)
    return parser


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="run a preset of experiments/, or go on with it",
        description="Run a preset, for instance: htlib sweep experiments/one-step-rates. Finished runs are "
        "kept in a store; the same command goes on where an earlier one stopped.",
    )
    sweep.add_argument("preset", nargs="?", metavar="PRESET", help="a TOML file, or a name in experiments/")
    sweep.add_argument("--profile", choices=("fast", "paper"), default="fast", help="sizes (default: fast)")
    sweep.add_argument("--seeds", type=int, metavar="K", help="seeds 0 to K-1, in place of the preset's")
    sweep.add_argument(
        "--store", type=Path, metavar="FOLDER", help="default: $HTLIB_STORE or the user's cache"
    )
    sweep.add_argument(
        "--scheduler", metavar="ADDRESS", help="'local' or a Dask scheduler, such as tcp://host:8786"
    )
    sweep.add_argument(
        "--workers", type=int, metavar="N", help="tasks at a time (default: by cores and memory)"
    )
    sweep.add_argument("--threads", type=int, metavar="N", help="BLAS threads of each worker (default: 1)")
    sweep.add_argument("--device", default="cpu", help="any torch device (default: cpu)")
    sweep.add_argument("--output", type=Path, metavar="FILE", help="write the table (.parquet or .csv)")
    sweep.add_argument("--plot", type=Path, metavar="FILE", help="draw it (.png, .svg, .pdf)")
    sweep.add_argument("--clear", action="store_true", help="empty the store, and do nothing else")
    sweep.add_argument("--quiet", action="store_true", help="no progress bar and no table")


def _run(options: argparse.Namespace) -> int:
    _check_files(options)
    config = ExperimentConfig(
        **{field.name: getattr(options, field.name) for field in dataclasses.fields(ExperimentConfig)}
    )
    trajectory = train(config, device=options.device, progress=not options.quiet)
    if options.output is not None:
        trajectory.save(options.output)
    if options.plot is not None and len(trajectory.metrics):
        from htlib.figures.runs import overview

        overview(trajectory).savefig(options.plot, dpi=150)
    if not options.quiet:
        print(trajectory.metrics.T.to_string(float_format=lambda value: f"{value:.6g}"))
    if trajectory.diverged_at is not None:
        print(
            f"htlib run: diverged: not finite after step {trajectory.diverged_at}; "
            "what was measured before is kept",
            file=sys.stderr,
        )
        return 3
    return 0


def _predict(options: argparse.Namespace) -> int:
    _check_folders(options.output)
    return predict_command.run(options)


def _analyze(options: argparse.Namespace) -> int:
    _check_files(options)
    analyze_command.check(options)
    return analyze_command.run(options)


def _sweep(options: argparse.Namespace) -> int:
    store = Store(options.store)
    if options.clear:
        if options.preset is not None:
            raise ValueError("--clear empties the whole store; give it without a preset")
        runs, size = store.clear()
        print(f"deleted {runs} runs, {size / 1e6:.1f} MB, from {store.path}")
        return 0
    if options.preset is None:
        raise ValueError("name a preset, for instance experiments/one-step-rates")
    _check_files(options)
    if options.output is not None and options.output.suffix not in _TABLES:
        raise ValueError(f"--output must end in one of {', '.join(_TABLES)}; got {options.output}")
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
        write = table.to_parquet if options.output.suffix == ".parquet" else table.to_csv
        write(options.output, index=False)
    if options.plot is not None:
        from htlib.figures.runs import draw

        draw(experiment.figure, runs).savefig(options.plot, dpi=150)
    if not options.quiet:
        print(f"{experiment.title}\n{_last_step(table).to_string(float_format='{:.4g}'.format)}")
        print(f"{len(runs)} runs in {store.path}")
    if lost := sum(run.diverged_at is not None for run in runs):
        print(f"htlib sweep: {lost} runs diverged; what was measured before is in the table", file=sys.stderr)
    return 0


def _last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of what was measured last."""
    columns = list(table.columns)
    settings = columns[: columns.index("seed")]
    varying = [name for name in settings if len(table[name].unique()) > 1] or settings[:1]
    last = table.groupby([*varying, "seed"], sort=False, dropna=False).tail(1)
    return pd.DataFrame(last.groupby(varying, sort=False, dropna=False)[list(_SHOWN)].mean())


def _check_files(options: argparse.Namespace) -> None:
    """A wrong path shows before the work, not after it."""
    _check_folders(options.output, options.plot)
    if options.plot is not None and options.plot.suffix not in _PICTURES:
        raise ValueError(f"--plot must end in one of {', '.join(_PICTURES)}; got {options.plot}")
    if options.output is not None and options.output.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ImportError(
            f"--output {options.output} needs pyarrow: pip install pyarrow, or name a .csv file"
        )


def _check_folders(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"the folder of {path} does not exist")


_COMMANDS = {
    "run": _run,
    "sweep": _sweep,
    "analyze": _analyze,
    "predict": _predict,
    "claims": claims_command.run,
}


if __name__ == "__main__":
    sys.exit(main())
