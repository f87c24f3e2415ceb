"""What a sweep tells its user while it runs: a bar, and in a notebook a live summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from html import escape
from types import TracebackType
from typing import Any

import pandas as pd
from tqdm import tqdm

from htlib.student.run import Trajectory

_SHOWN = ("alpha_hill", "alignment", "spectral_norm", "test_loss")
_ROWS = 12
_SECONDS_BETWEEN = 1.0


class Report:
    """Counts the runs of a sweep and shows them.

    Parameters
    ----------
    total, stored : int
        Runs in all, and how many the store had.
    fields : sequence of str
        Fields of the grid that vary, for the summary.
    show : bool
        False shows nothing; notes are kept either way.

    Attributes
    ----------
    notes : list of str
        What happened, a line each.
    """

    def __init__(self, total: int, stored: int, fields: Sequence[str], *, show: bool) -> None:
        self.total, self.stored, self.computed, self.diverged = total, stored, 0, 0
        self.notes: list[str] = []
        self._fields = [f for f in fields if f != "seed"]
        self._last: list[dict[str, Any]] = []
        self._show = show and stored < total
        self._display: Any = None
        self._bar: Any = None
        self._began = self._drawn = time.monotonic()

    def __enter__(self) -> Report:
        if self._show:
            self._display = _notebook_display()
            self._bar = tqdm(
                total=self.total,
                initial=self.stored,
                desc="sweep",
                unit="run",
                smoothing=0.1,
                disable=self._display is not None,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._display is not None:
            self._display.update(_Summary(escape(self.summary())))

    def note(self, text: str) -> None:
        """Tell the user something once."""
        self.notes.append(text)
        if self._bar is not None and not self._bar.disable:
            self._bar.write(f"sweep: {text}", file=sys.stderr)

    def add(self, runs: Sequence[Trajectory], *, computed: bool) -> None:
        """Count runs that are now in the store."""
        if computed:
            self.computed += len(runs)
        else:
            self.stored += len(runs)
        self.diverged += sum(run.diverged_at is not None for run in runs)
        if self._bar is not None:
            self._bar.update(len(runs))
        if self._display is not None:
            self._last += [_last_row(run, self._fields) for run in runs if len(run.metrics)]
            if time.monotonic() - self._drawn > _SECONDS_BETWEEN:
                self._drawn = time.monotonic()
                self._display.update(_Summary(self._live()))

    def summary(self) -> str:
        """One line on how the sweep went so far."""
        parts = [f"{self.stored + self.computed} of {self.total} runs"]
        if self.stored:
            parts.append(f"{self.stored} from the store")
        if self.computed:
            parts.append(f"{self.computed} computed in {_duration(time.monotonic() - self._began)}")
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        return ", ".join(parts)

    def _live(self) -> str:
        seconds = time.monotonic() - self._began
        left = (self.total - self.stored - self.computed) * seconds / max(1, self.computed)
        means: Any = pd.DataFrame(self._last)
        if self._last and self._fields:
            means = means.groupby(self._fields, dropna=False).mean()
        head = f"<b>{escape(self.summary())}</b>, {_duration(left)} left"
        notes = "".join(f"<br>{escape(note)}" for note in self.notes[-3:])
        return f"{head}{notes}{means.tail(_ROWS).to_html(float_format='{:.3g}'.format, border=0)}"


class _Summary:
    """HTML that a notebook shows and a terminal prints as nothing."""

    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return ""


def _notebook_display() -> Any:
    """A display handle of the running notebook; None elsewhere."""
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    shell: Any = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return display(_Summary("sweep: starting"), display_id=True)


def _last_row(run: Trajectory, fields: Sequence[str]) -> dict[str, Any]:
    measures: Mapping[str, Any] = run.metrics.iloc[-1][list(_SHOWN)].to_dict()
    return {**{f: getattr(run.config, f) for f in fields}, **measures}


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(tqdm.format_interval(seconds))
