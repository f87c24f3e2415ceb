"""``htlib run``: train one configuration."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from htlib.commands.fields import FIELDS, add_fields
from htlib.commands.outputs import PICTURES, add_outputs, check_output, save_figure, writing
from htlib.student.config import ExperimentConfig

_EXAMPLES = """\
examples:
  htlib run --lr 1 --steps 10 --plot run.png
  htlib run --optimizer gd --lr 2000 --steps 1 --n 1000 --d 500 --h 750
  htlib run --labels shuffled --seed 3 --output shuffled.safetensors
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="train one configuration and print its measures",
        description="Train one configuration; print the last spectrum, and the measures in one column per "
        "probed\nstep. "
        "The options of the experiment are the fields of htlib.ExperimentConfig.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_fields(parser.add_argument_group("experiment"), FIELDS)
    parser.add_argument("--device", default="cpu", help="any torch device (default: cpu)")
    add_outputs(parser, output="write the record here (.safetensors)", plot="draw the run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no spectrum and no table")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command; return 0 if the run reached its end, 3 if it diverged."""
    config = ExperimentConfig(**{name: getattr(options, name) for name in FIELDS})
    check_output("--output", options.output, (".safetensors",))
    check_output("--plot", options.plot, PICTURES)
    from htlib.commands.terminal import spectrum_lines
    from htlib.spectra.noise import largest_eigenvalue_quantile
    from htlib.student.training import train

    trajectory = train(config, device=options.device, progress=not options.quiet and sys.stderr.isatty())
    if not options.quiet:
        if len(trajectory.metrics):
            last = int(trajectory.metrics.index[-1])
            print(f"eigenvalues of W^T W after step {last}")
            edge = largest_eigenvalue_quantile(config.h, config.d)
            print("\n".join(["", *spectrum_lines(trajectory.esd(last), edge), ""]))
        print(trajectory.metrics.T.to_string(float_format=lambda value: f"{value:.6g}"))
    if options.output is not None:
        with writing(options.output):
            trajectory.save(options.output)
    if options.plot is not None and len(trajectory.metrics):
        from htlib.figures.runs import overview

        save_figure(overview(trajectory), options.plot)
    if trajectory.diverged_at is not None:
        print(
            f"htlib run: diverged: not finite after step {trajectory.diverged_at}; "
            "what was measured before is kept",
            file=sys.stderr,
        )
        return 3
    return 0
