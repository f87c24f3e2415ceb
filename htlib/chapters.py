"""Set the profile and the figure style of a chapter, and provide numbers for its prose.

Every number that a chapter quotes passes through `quote`, so it has its spread over seeds and is never out
of date: the build that shows it also computes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
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

__all__ = ["begin", "for_profile", "load_experiment", "mean_and_spread", "quote", "show_verdicts"]


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


class _Html(str):
    """A string that a page shows as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


class _Prose(str):
    """A string whose plain-text representation has no quotes around it."""

    def __repr__(self) -> str:
        return str(self)
