"""Stored runs for the static page: many runs in one small file of JSON, compressed by gzip.

`live/src/stored_runs.ts` reads the file that `pack_runs` writes:

``format``
    "htlib-stored-runs-2".
``config``
    The fields of `ExperimentConfig` that all runs share.
``metric_digits``, ``largest_digits``
    The number of significant digits of the metrics and of the largest eigenvalues; whole numbers are exact.
``bins_per_decade``
    Bin b holds the eigenvalues from 10^(b / bins_per_decade) up to 10^((b + 1) / bins_per_decade).
``runs``
    A list of objects: ``optimizer``, ``lr``, ``labels``, ``seed``, ``diverged_at`` (a step, or null);
    ``metrics``: the columns of `htlib.Trajectory.metrics`, each a list along the steps, with null for values
    that are not finite; and for each step ``largest``, the largest eigenvalues, ascending, and ``counts``:
    the number of the lowest bin, then how many eigenvalues lie in it and in each bin above.
    ``saturation``: for each step the share of `htlib.explorer.messages.estimated_saturation`, or null.
    ``overlaps``, of some runs: for each step except the first the cosines, in hundredths and without sign, of
    the `LEADING` right singular vectors of the weights with those of the update that led there, by rows.

Zeros lie in no bin: ``counts`` sums to min(h, d) without them.  A reader who spreads the eigenvalues of a bin
over it knows each of them to within a bin, and draws the same histogram as from the eigenvalues themselves if
the bins of the histogram are unions of these.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.explorer.messages import estimated_saturation
from htlib.student.run import Trajectory

FORMAT = "htlib-stored-runs-2"
METRIC_DIGITS = 4  # as many as the page writes
LARGEST = 24  # eigenvalues stored one by one
LARGEST_DIGITS = 3
LEADING = 20  # vectors whose overlaps are stored
BINS_PER_DECADE = 20  # the page's bins are 2, 3 or 6 of these wide

_VARYING = ("optimizer", "lr", "labels", "seed")


def pack_runs(runs: Sequence[Trajectory], with_overlaps: Sequence[Trajectory] = ()) -> bytes:
    """Write runs in the form that the page reads; equal runs in any order give equal bytes.

    The runs must differ only in optimizer, rate, labels and seed, and be measured at every step, or else a
    ValueError names the field or the run.  A run that is also among `with_overlaps`, which were made with
    ``keep_overlaps``, gets its overlaps from there.

    Examples
    --------
    >>> import htlib as ht
    >>> config = ht.ExperimentConfig(n=60, d=30, h=45, n_test=50, steps=1)
    >>> packed = pack_runs([ht.train(config, progress=False)])
    >>> sum(json.loads(gzip.decompress(packed))["runs"][0]["counts"][1][1:])
    30
    """
    if not runs:
        raise ValueError("runs is empty: give at least one run")
    shared = {name: v for name, v in runs[0].config.to_dict().items() if name not in _VARYING}
    for run in runs:
        for name, value in shared.items():
            if (other := getattr(run.config, name)) != value:
                raise ValueError(
                    f"runs must share {name}; got {value!r} and {other!r}; pack them in a file each"
                )
        reached = run.config.steps + 1 if run.diverged_at is None else run.diverged_at
        if run.metrics.index.tolist() != list(range(reached)):
            raise ValueError(
                f"runs must be measured at every step; got steps {run.metrics.index.tolist()} "
                f"of {_key(run)}; train with probe_every=1"
            )
    overlaps = {run.config: run for run in with_overlaps}
    content = {
        "format": FORMAT,
        "config": shared,
        "metric_digits": METRIC_DIGITS,
        "largest_digits": LARGEST_DIGITS,
        "bins_per_decade": BINS_PER_DECADE,
        "runs": [
            _key(run)
            | {
                "diverged_at": run.diverged_at,
                "metrics": {name: _rounded(column, METRIC_DIGITS) for name, column in run.metrics.items()},
                "largest": [_rounded(spectrum[-LARGEST:], LARGEST_DIGITS) for spectrum in run.eigenvalues],
                "counts": [_counts(spectrum) for spectrum in run.eigenvalues],
                "saturation": [_saturation(run, spectrum) for spectrum in run.eigenvalues],
            }
            | ({"overlaps": _cosines(overlaps[run.config])} if run.config in overlaps else {})
            # similar neighbours compress well
            for run in sorted(runs, key=lambda run: list(_key(run).values()))
        ],
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), 9, mtime=0)


def _key(run: Trajectory) -> dict[str, Any]:
    return {name: getattr(run.config, name) for name in _VARYING}


def _rounded(values: NDArray[np.float64] | pd.Series, digits: int) -> list[float | None]:
    return [
        v if isinstance(v, int) else float(f"{v:.{digits}g}") if math.isfinite(v) else None
        for v in values.tolist()
    ]


def _saturation(run: Trajectory, spectrum: NDArray[np.float64]) -> float | None:
    share = estimated_saturation(spectrum, run.config.h, run.config.d, run.config.activation)
    return None if share is None else round(share, 3)


def _cosines(run: Trajectory) -> list[list[int]]:
    squares = (run.overlaps[step].after.right[:LEADING, :LEADING] for step in run.metrics.index[1:])
    return [np.rint(100 * np.sqrt(square)).astype(int).ravel().tolist() for square in squares]


def _counts(spectrum: NDArray[np.float64]) -> list[int]:
    """Return the number of the lowest bin, then the counts from it upwards; the spectrum is ascending."""
    bins = np.floor(BINS_PER_DECADE * np.log10(spectrum[spectrum > 0])).astype(int)
    lowest = int(bins[0]) if len(bins) else 0
    return [lowest, *np.bincount(bins - lowest).tolist()]
