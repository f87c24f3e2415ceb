"""A bar for a terminal or a notebook, and one line per tenth of the work for a log."""

from __future__ import annotations

import math
import sys
from typing import Any

from tqdm import tqdm as plain
from tqdm.auto import tqdm

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
_LINE = "{desc}: {percentage:.0f} %{postfix}, {elapsed} gone, {remaining} left"


class _Lines:
    """Standard error, where each state of a bar gets a line of its own."""

    last = ""

    def write(self, text: str) -> None:
        state = text.strip("\r\n ")
        if state not in ("", self.last):
            self.last = state
            sys.stderr.write(f"{state}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(title: str, work: float, show: bool, state: str) -> Any:
    """Return a tqdm bar of the share of some work that is done, with a postfix that is `state` at first."""
    options: dict[str, Any] = {"desc": title, "total": work, "disable": not show, "postfix": state}
    options["smoothing"] = 0  # the mean rate so far: long runs come first
    if sys.stderr.isatty() or tqdm.__name__ == "tqdm_notebook":
        return tqdm(**options, bar_format=_BAR)
    options |= {"miniters": work / 10, "mininterval": 0, "maxinterval": math.inf}
    return plain(**options, bar_format=_LINE, file=_Lines())
