"""The command line, ``htlib``: its parser and its exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from htlib.commands import analyze, claims, predict, run, sweep
from htlib.models.entries import CheckpointError
from htlib.sweeps.compute import SweepError
from htlib.sweeps.store import StoreError

# Each module has `add_parser`, which adds a command and returns its parser, and `execute`, which runs it.
COMMANDS = (run, sweep, predict, claims, analyze)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the arguments are ``sys.argv[1:]`` by default.

    The exit status is 0 if all went well, 2 for a wrong call, 3 if a single run diverged, 4 if a sweep lost
    its workers, 5 if a checkpoint has nothing to analyse, 6 if a verdict is not as recorded, and 130 after
    Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.execute(options)
    except (ValueError, TypeError, OSError, ImportError, StoreError, CheckpointError) as error:
        print(f"htlib {options.command}: {error}", file=sys.stderr)
        return 2
    except SweepError as error:
        print(f"htlib {options.command}: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt as stop:
        print(f"htlib {options.command}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="htlib", description="Heavy-tailed weight spectra without noise.")
    parser.add_argument("--version", action="version", version=f"htlib {version('htlib')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(execute=command.execute)
    return parser


if __name__ == "__main__":
    sys.exit(main())
