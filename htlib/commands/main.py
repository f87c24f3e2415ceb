"""The command line, ``htlib``: its parser and its exit statuses.

The commands import what computes when they are executed, because torch takes seconds to import: help, and a
wrong call, need only the configuration.
"""

from __future__ import annotations

import argparse
import difflib
import io
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import NoReturn

import htlib as ht  # its errors are imported only when they are needed
from htlib.commands import analyze, claims, predict, run, sweep

# Each module has `add_parser`, which adds a command and returns its parser, and `execute`, which runs it.
COMMANDS = (run, sweep, predict, claims, analyze)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the arguments are ``sys.argv[1:]`` by default.

    The exit status is 0 if all went well, 2 for a wrong call, 3 if a single run diverged, 4 if a sweep lost
    its workers, 5 if a checkpoint has nothing to analyse, 6 if a verdict is not as recorded, and 130 after
    Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal shows a name that it cannot encode with marks
        sys.stdout.reconfigure(errors="replace")
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return options.execute(options)
    except KeyboardInterrupt as stop:
        return _end(options, 130, str(stop) or "interrupted")
    except (ValueError, TypeError, OSError, ImportError) as error:
        return _end(options, 2, error)
    except ht.StoreError as error:  # before the errors whose modules import torch
        return _end(options, 2, error)
    except ht.CheckpointError as error:
        return _end(options, 2, error)
    except ht.SweepError as error:
        return _end(options, 4, error)


def _end(options: argparse.Namespace, status: int, reason: object) -> int:
    print(f"htlib {options.command}: {reason}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a call; a command or an option that does not exist is answered with the nearest."""
    parser = _Parser(prog="htlib", description="Heavy-tailed weight spectra without noise.")
    parser.add_argument("--version", action="version", version=f"htlib {version('htlib')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers: dict[str, argparse.ArgumentParser] = {}
    for command in COMMANDS:
        one = command.add_parser(commands)
        one.set_defaults(execute=command.execute)
        parsers[command.__name__.rpartition(".")[2]] = one
    first = next((text for text in arguments if not text.startswith("-")), None)
    if first is not None and first not in parsers:
        parser.error(f"unknown command {first!r}{_nearest(first, parsers)}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        own = parsers[options.command]
        names = [name for action in own._actions for name in action.option_strings]  # pyright: ignore[reportPrivateUsage]
        name = unknown[0].partition("=")[0]
        own.error(f"unknown argument {name!r}{_nearest(name, names)}")
    return options


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


if __name__ == "__main__":
    sys.exit(main())
