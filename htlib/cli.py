"""The command line: ``htlib run`` trains one configuration and reports what it measured."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from htlib.config import CHOICES, ExperimentConfig
from htlib.functions import ACTIVATIONS, TEACHERS
from htlib.training import train

_PICTURES = (".png", ".svg", ".pdf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 if all went well, 2 for a wrong call, 3 if the run diverged, 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, TypeError, OSError) as error:
        print(f"htlib {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"htlib {options.command}: interrupted", file=sys.stderr)
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
    return parser


def _run(options: argparse.Namespace) -> int:
    for path in (options.output, options.plot):  # a wrong path shows before the run, not after it
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"the folder of {path} does not exist")
    if options.plot is not None and options.plot.suffix not in _PICTURES:
        raise ValueError(f"--plot must end in one of {', '.join(_PICTURES)}; got {options.plot}")
    config = ExperimentConfig(
        **{field.name: getattr(options, field.name) for field in dataclasses.fields(ExperimentConfig)}
    )
    trajectory = train(config, device=options.device, progress=not options.quiet)
    if options.output is not None:
        trajectory.save(options.output)
    if options.plot is not None and len(trajectory.metrics):
        from htlib.plotting import overview

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


if __name__ == "__main__":
    sys.exit(main())
