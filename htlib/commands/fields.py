"""Options that are fields of ExperimentConfig; its docstring explains them."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from htlib.student.config import CHOICES, ExperimentConfig

FIELDS = tuple(field.name for field in dataclasses.fields(ExperimentConfig))


def add_fields(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,  # pyright: ignore[reportPrivateUsage]
    names: Iterable[str],
    several: bool = False,
) -> None:
    """Add an option for each named field, with its type, default, choices and meaning.

    If an option takes `several` values, it is a list or None, which means that it was not given.
    """
    for name in names:
        default = getattr(ExperimentConfig, name)
        kind = float if default is None else type(default)
        shown = "none" if default is None else "off" if default is False else default
        settings: dict[str, Any] = {
            "help": f"{_meanings().get(name, name)} (default: {shown})".replace("%", "%%")
        }
        if several:
            settings["nargs"] = "+"
        else:
            settings["default"] = default
        if kind is bool and not several:
            settings["action"] = "store_true"
        elif kind is bool:
            settings |= {"type": _switch, "metavar": "{on,off}"}
        elif name in CHOICES:
            settings["choices"] = CHOICES[name]
        else:
            settings |= {"type": kind, "metavar": kind.__name__.upper()}
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"must be on or off; got {text!r}")
    return text == "on"


@cache
def _meanings() -> dict[str, str]:
    """Read the help for each field from the Parameters section."""
    section = (inspect.getdoc(ExperimentConfig) or "").partition("Parameters\n----------\n")[2]
    section = re.split(r"\n\n\w+\n---", section)[0]
    entries = re.findall(r"^(\w+) : .*\n((?: +.*(?:\n|$)|\n)+)", section, re.M)
    return {name: " ".join(text.replace("`", "").split()).removesuffix(".") for name, text in entries}
