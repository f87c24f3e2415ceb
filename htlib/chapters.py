"""Set the profile and the figure style of a chapter, and provide numbers for its prose.

Every number that a chapter quotes passes through `quote`, so it has its spread over seeds and is never out
of date: the build that shows it also computes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from htlib.figures.pictures import bundle
from htlib.figures.style import rc_params
from htlib.ledger import page as ledger_page
from htlib.ledger.claims import load_ledger
from htlib.ledger.verdicts import load_verdicts
from htlib.student.config import for_profile
from htlib.sweeps.presets import load_experiment

__all__ = [
    "ask",
    "begin",
    "for_profile",
    "load_experiment",
    "mean_and_spread",
    "quote",
    "quote_table",
    "show_table",
    "show_verdicts",
]


def begin(profile: str) -> None:
    """Set the figure style of the book; raise ValueError if the profile is not "fast" or "paper"."""
    for_profile(profile, fast=None, paper=None)
    plt.rcParams.update(rc_params())
    try:
        from IPython.core.getipython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # the chapter runs as a plain script
        return
    shell: Any = get_ipython()
    if shell is not None:
        set_matplotlib_formats()  # no format of its own, but figures that a cell leaves open are shown
        shell.display_formatter.mimebundle_formatter.for_type(Figure, lambda figure, **_: bundle(figure))


def quote(name: str, values: ArrayLike, *, unit: str = "") -> str:
    """Make a number available to the prose of a chapter as ``{glue:text}`name` `` and return its text.

    The values are one per seed, or a single one for a quantity that has no spread; `unit` is appended.
    Raises ValueError if a value is not finite.

    >>> quote("s1", [10.0, 11.0, 12.0])
    '11.0 ± 1.0'
    """
    text = mean_and_spread(values) + unit
    _glue({name: _Prose(text)})
    return text


def mean_and_spread(values: ArrayLike) -> str:
    """Write the mean and the standard deviation over seeds, to two digits of the latter.

    >>> mean_and_spread([0.4271, 0.4302, 0.4130]), mean_and_spread(2.44912)
    ('0.4234 ± 0.0092', '2.449')
    """
    sample = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"values must be a number or a list of one per seed; got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite to be quoted; got {sample.tolist()}")
    spread = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
    if spread <= 1e-12 * abs(float(sample.mean())):  # this is rounding, not a spread
        return f"{sample.mean():.4g}"
    decimals = max(0, 1 - math.floor(math.log10(spread)))
    return f"{sample.mean():.{decimals}f} ± {spread:.{decimals}f}"


def quote_table(prefix: str, table: pd.DataFrame) -> pd.DataFrame:
    """Make all numbers of a table available to the prose, and return their texts as a table.

    Parameters
    ----------
    prefix : str
    table : DataFrame
        One row per seed: the index has a level "seed", over which the spread is taken, and any others.

    Returns
    -------
    DataFrame
        One row per combination of the other levels, in order of appearance.  The text in it is quoted under
        the prefix, the levels of the row and the name of the column, joined by underscores.

    Raises
    ------
    ValueError
        If the index has no level "seed", or a number is not finite.

    Examples
    --------
    >>> index = pd.MultiIndex.from_product([["adam", "gd"], [0, 1]], names=["optimizer", "seed"])
    >>> quote_table("end", pd.DataFrame({"alpha_hill": [1.8, 1.9, 2.4, 2.5]}, index))
                 alpha_hill
    optimizer
    adam       1.850 ± 0.071
    gd         2.450 ± 0.071

    The prose now has ``{glue:text}`end_adam_alpha_hill` ``.
    """
    if "seed" not in table.index.names:
        raise ValueError(f"table must have a level 'seed' in its index; it has {list(table.index.names)}")
    levels = [name for name in table.index.names if name != "seed"]
    if not levels:  # the numbers of the seeds are all that there is
        levels, table = [""], pd.concat([table], keys=[""], names=[""])
    texts = table.groupby(level=levels, sort=False).agg(mean_and_spread)
    for row, values in texts.iterrows():
        parts = [f"{x:g}" if isinstance(x, float) else str(x) for x in _as_tuple(row)]
        for column, text in values.items():
            _glue({"_".join(part for part in (prefix, *parts, str(column)) if part): _Prose(text)})
    return texts


def show_table(table: pd.DataFrame, caption: str) -> str:
    """Write a table as compact HTML with a caption; the levels of its index are the headers of its rows.

    >>> table = pd.DataFrame({"Hill": ["2.45"]}, pd.Index(["start"], name="spectrum"))
    >>> show_table(table, "One spectrum")
    '<table class="numbers"><caption>One spectrum</caption><thead><tr><th scope="col">spectrum</th>...
    """
    names = [str(name or "row") for name in table.index.names]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in [*names, *map(str, table.columns)])
    rows = [
        "".join(f'<th scope="row">{_cell(x)}</th>' for x in _as_tuple(row))
        + "".join(f"<td>{_cell(x)}</td>" for x in values)
        for row, values in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return _Html(
        f'<table class="numbers"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def ask(
    question: str, values: ArrayLike, *, low: float, high: float, log: bool = False, unit: str = ""
) -> str:
    """Ask readers for a guess before they see the answer of the run, and compare the two.

    In the pages a slider takes the guess (`book/static/guess.js`).  Without JavaScript, and in Jupyter, the
    answer is folded.

    Parameters
    ----------
    question : str
    values : array
        The answer: one number per seed, or a single one.
    low, high : float
        Ends of the slider; the answer must lie between them.
    log : bool
        Use a logarithmic slider, on which the distance is a factor.
    unit : str
        Appended to numbers.

    Returns
    -------
    str
        Shown as HTML by a notebook.

    Raises
    ------
    ValueError
        If the ends are not in order, the mean lies outside of them, or a logarithmic scale begins at 0.

    Examples
    --------
    >>> ask("Which exponent has pure noise?", [2.44, 2.46], low=1, high=6)
    '<div class="guess" data-answer="2.45" ...<details><summary>Show the answer</summary>...
    """
    answer, sample = mean_and_spread(values), np.atleast_1d(np.asarray(values, dtype=np.float64))
    if not low < sample.mean() < high:
        raise ValueError(f"low and high must lie on both sides of the answer, {answer}; got {low}, {high}")
    if log and low <= 0:
        raise ValueError(f"low must be positive for log=True; got {low}")
    seeds = f" ({len(sample)} seeds)" if len(sample) > 1 else ""
    data = {
        "answer": f"{sample.mean():.6g}",
        "spread": f"{sample.std(ddof=1) if len(sample) > 1 else 0:.6g}",
        "text": f"{answer}{unit}{seeds}",
        "low": f"{low:g}",
        "high": f"{high:g}",
        "scale": "log" if log else "linear",
        "unit": unit,
    }
    fields = " ".join(f'data-{name}="{escape(value)}"' for name, value in data.items())
    name = f"guess-{hashlib.sha256(question.encode()).hexdigest()[:8]}"
    return _Html(
        f'<div class="guess" {fields}><p id="{name}"><strong>Guess first.</strong> {escape(question)}</p>'
        f"<details><summary>Show the answer</summary><p>{escape(data['text'])}</p></details></div>"
    )


def show_verdicts(*names: str) -> None:
    """Make the recorded verdicts of claims available to the prose as ``{glue:}`verdict-<id>` ``.

    The names are ids in ``book/claims.yml``; raises ValueError if a claim has no verdict.
    """
    recorded = load_verdicts(load_ledger().verdicts)
    _glue({f"verdict-{name}": _Html(ledger_page.badge(name, recorded)) for name in names})


def _glue(items: Mapping[str, object]) -> None:
    try:
        from myst_nb import glue
    except ImportError:  # the extras of the book are not installed
        return
    for name, item in items.items():
        glue(name, item, display=False)


def _as_tuple(row: Any) -> tuple[Any, ...]:
    return row if isinstance(row, tuple) else (row,)


def _cell(value: Any) -> str:
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


class _Html(str):
    """A string that a page shows as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


class _Prose(str):
    """A string whose plain-text representation has no quotes around it."""

    def __repr__(self) -> str:
        return str(self)
