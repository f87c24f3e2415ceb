"""Options that are fields of ExperimentConfig; its docstring and its registries explain them."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from htlib.student.config import CHOICES, ExperimentConfig
from htlib.student.functions import EVERY_TEACHER


def add_fields(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,  # pyright: ignore[reportPrivateUsage]
    names: Iterable[str],
) -> None:
    """Add an option for each named field, with its type, default, choices and meaning."""
    fields = {field.name: field for field in dataclasses.fields(ExperimentConfig)}
    for name in names:
        default, text = fields[name].default, _meanings()[name]
        kind = float if default is None else type(default)
        if default is not None and kind is not bool:
            text += f" (default: {default})"
        settings: dict[str, Any] = {"help": text.replace("%", "%%"), "default": default}
        if kind is bool:
            settings["action"] = "store_true"
        elif name in CHOICES:
            settings["choices"] = CHOICES[name]
        else:
            settings |= {"type": kind, "metavar": kind.__name__.upper()}
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)


@cache
def _meanings() -> dict[str, str]:
    """Read the help for each field from the Parameters section.

    If several fields are described together, the first one has the text.
    """
    section = (inspect.getdoc(ExperimentConfig) or "").split("Parameters\n----------\n")[1]
    section = re.split(r"\n\n\w+\n---", section)[0]
    meanings: dict[str, str] = {}
    for names, description in re.findall(r"^(\w[\w, ]*) : .*\n((?: +.*(?:\n|$)|\n)+)", section, re.M):
        text = " ".join(description.replace("`", "").split()).removesuffix(".")
        first, *others = names.split(", ")
        meanings[first] = f"{names}: {text}" if others else text
        meanings |= dict.fromkeys(others, f"see --{first.replace('_', '-')}")
    meanings["teacher"] += f"; one of {EVERY_TEACHER}"
    return meanings
