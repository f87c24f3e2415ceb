"""Many runs in few bytes: every measure and every spectrum of a grid, rounded as far as it says.

The static page of the book reads an atlas (live/src/atlas.ts).  It is the gzip of

    magic       4 bytes, "HTA1"
    length      of the header in bytes, uint32
    header      JSON in UTF-8
    high, low   the high bytes of all words below, then their low bytes

All numbers are little-endian.  The words are uint16, differences modulo 2^16 where it says so:

    metrics     (metric, run, step), differences along the steps
    top         (snapshot, rank), the largest eigenvalues, ascending, differences along the ranks
    counts      (snapshot), knots of each of the other spectra
    gaps        (knot), ranks from one knot of a spectrum to the next; the first is at the lowest rank
    values      (knot), differences along all knots

A run is a combination of optimizer, rate, labels and seed, the last fastest.  A snapshot is a step of a
run that was measured; runs that diverged have fewer.  A word w means low + step * w, or the exponential of
that where the header says "log".  In a metric 65535 is a number that is not finite, or a zero on a
logarithmic scale; 65534 is a step that was not reached.

Below the largest ones, the logarithms of the eigenvalues are a broken line over their ranks: as few knots
as keep every eigenvalue within the tolerance.  Bulks are rigid, so a few dozen knots tell a thousand values.
The header states the largest errors, measured on what was packed: relative on logarithmic scales.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from htlib.explorer.atlas_coding import (
    TOLERANCE_STEPS,
    Scale,
    Words,
    knots_of,
    largest_error,
    spectra_of,
    summed,
)
from htlib.student.config import ExperimentConfig
from htlib.student.probes import METRICS
from htlib.student.run import Trajectory, assemble
from htlib.sweeps.presets import load_experiment
from htlib.sweeps.store import Store

Array = NDArray[np.float64]
Key = tuple[str, float, str, int]

_MAGIC = b"HTA1"
_NOT_REACHED = 65534

_LINEAR = {"alignment": 2e-5, "kta": 2e-5, "n_outliers": 0.5}  # half a step: counts are exact
_RELATIVE_ERROR = 2e-4  # of the other metrics

_TOP = 24  # eigenvalues stored one by one
_TOP_ERROR = 1e-3
_TOLERANCE = 0.0125  # relative, of the others
_NOISE = 1e-30  # of the largest: what is below is zero for `htlib.esd` already, in any precision


@dataclass(frozen=True, eq=False)
class Atlas:
    """What an atlas holds.

    Attributes
    ----------
    header : dict
        ``optimizers``, ``rates`` (a list per optimizer), ``labels``, ``seeds``, ``steps``: the axes.
        ``config``: what all runs share.  ``metrics``, ``top``, ``bulk``: scales and their errors.
        ``eigenvalue_error``: the largest relative error of any eigenvalue.
    runs : list of Trajectory
        By optimizer, rate, labels and seed, as far as the stated errors let them be known.
    """

    header: dict[str, Any]
    runs: list[Trajectory]


def make_atlas(
    profile: str, store: Store | str | os.PathLike[str] | None = None, progress: bool = True
) -> bytes:
    """Pack the runs of the preset ``atlas``, from the store or computed.

    Parameters
    ----------
    profile : {"fast", "paper"}
        On two cores a minute, or an hour.
    store, progress
        As for `htlib.sweep`.

    Returns
    -------
    bytes
    """
    return pack(load_experiment("atlas", profile).runs(store, progress=progress))


def pack(runs: Sequence[Trajectory]) -> bytes:
    """The atlas of a complete grid of runs; equal runs give equal bytes.

    Parameters
    ----------
    runs : sequence of Trajectory
        In any order: every rate of an optimizer with all labels and seeds, every step measured.  They
        differ in nothing else.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If runs are missing, given twice or differ in another field; the message names it.

    Examples
    --------
    >>> import htlib as ht
    >>> config = ht.ExperimentConfig(n=60, d=30, h=45, n_test=50, steps=1)
    >>> run = ht.train(config, progress=False)
    >>> (again,) = unpack(pack([run])).runs
    >>> bool(abs(again.eigenvalues / run.eigenvalues - 1).max() < 0.013)
    True
    """
    axes, ordered = _arranged(runs)
    steps: int = axes["steps"]

    values = np.full((len(METRICS), len(ordered), steps + 1), np.nan)
    reached = np.zeros((len(ordered), steps + 1), dtype=bool)
    for i, run in enumerate(ordered):
        reached[i, : len(run.metrics)] = True
        values[:, i, : len(run.metrics)] = run.metrics[list(METRICS)].to_numpy(np.float64).T
    metrics: list[dict[str, Any]] = []
    coded = np.full(values.shape, _NOT_REACHED, dtype=np.uint16)
    for name, given, words in zip(METRICS, values[:, reached], coded, strict=True):
        log = name not in _LINEAR
        scale = Scale.fit(given, _LINEAR.get(name, _RELATIVE_ERROR), log=log)
        words[reached] = scale.words(given)
        error = largest_error(scale.values(words[reached]), given, relative=log)
        metrics.append({"name": name, **asdict(scale), "error": error})

    spectra = np.concatenate([run.eigenvalues for run in ordered])
    spectra = np.maximum(spectra, _NOISE * spectra[:, -1:])
    size = spectra.shape[1]
    count = min(_TOP, size - 1)
    rest, largest = spectra[:, : size - count], spectra[:, size - count :]
    top = Scale.fit(largest, _TOP_ERROR, log=True)
    bulk = Scale.fit(rest, math.expm1(math.log1p(_TOLERANCE) / TOLERANCE_STEPS / 2), log=True)
    top_words = top.words(largest)
    knots = [knots_of(spectrum) for spectrum in bulk.positions(rest)]
    decoded = spectra_of(top.values(top_words), knots, bulk)

    header = {
        **axes,
        "metrics": metrics,
        "size": size,
        "top": {**asdict(top), "count": count, "error": largest_error(decoded[:, -count:], largest)},
        "bulk": {**asdict(bulk), "error": largest_error(decoded[:, : size - count], rest)},
        "eigenvalue_error": largest_error(decoded, spectra),
        "knots": sum(len(gaps) for gaps, _ in knots),
    }
    words = np.concatenate(
        [
            np.diff(coded, axis=-1, prepend=np.uint16(0)).ravel(),
            np.diff(top_words, axis=-1, prepend=np.uint16(0)).ravel(),
            np.array([len(gaps) for gaps, _ in knots], dtype=np.uint16),
            *(gaps for gaps, _ in knots),
            np.diff(np.concatenate([heights for _, heights in knots]), prepend=np.uint16(0)),
        ]
    )
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    planes = (words >> 8).astype(np.uint8).tobytes() + words.astype(np.uint8).tobytes()
    return gzip.compress(_MAGIC + struct.pack("<I", len(text)) + text + planes, 9, mtime=0)


def unpack(data: bytes) -> Atlas:
    """Read what `pack` wrote.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    Atlas

    Raises
    ------
    ValueError
        If the bytes are no atlas, or were damaged.
    """
    try:
        content = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"data is no atlas, or a damaged one: {error}; pack the runs again") from error
    if content[:4] != _MAGIC or len(content) < 8:
        raise ValueError(f"data must start with {_MAGIC!r}; got {content[:4]!r}; it was not made by pack")
    start = 8 + struct.unpack_from("<I", content, 4)[0]
    try:
        header: dict[str, Any] = json.loads(content[8:start])
        keys = list(_keys(header))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the header of data cannot be read ({error!r}); pack the runs again") from error
    steps: int = header["steps"]
    diverged = dict(header["diverged"])
    lengths = [diverged.get(i, steps + 1) for i in range(len(keys))]
    count, size = header["top"]["count"], header["size"]
    shapes = [
        (len(header["metrics"]), len(keys), steps + 1),
        (sum(lengths), count),
        (sum(lengths),),
        (header["knots"],),
        (header["knots"],),
    ]
    sizes = [math.prod(shape) for shape in shapes]
    planes = np.frombuffer(content, np.uint8, offset=start).astype(np.uint16)
    if len(planes) != 2 * sum(sizes):
        raise ValueError(
            f"data must hold {2 * sum(sizes)} bytes after its header; got {len(planes)}; pack the runs again"
        )
    words = (planes[: sum(sizes)] << 8 | planes[sum(sizes) :]).astype(np.uint16)
    parts: list[Words] = np.split(words, np.cumsum(sizes)[:-1])
    coded, top_words, counts, gaps, heights = (
        part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)
    )
    coded, top_words, heights = (summed(part) for part in (coded, top_words, heights))

    top, bulk = (Scale.of(header[name]) for name in ("top", "bulk"))
    ends = np.cumsum(counts, dtype=np.int64)[:-1]
    knots: list[tuple[Words, Words]] = list(zip(np.split(gaps, ends), np.split(heights, ends), strict=True))
    spectra = np.split(
        spectra_of(top.values(top_words), knots, bulk).reshape(-1, size), np.cumsum(lengths)[:-1]
    )
    values = np.stack(
        [Scale.of(entry).values(part) for entry, part in zip(header["metrics"], coded, strict=True)], axis=-1
    )
    columns = [entry["name"] for entry in header["metrics"]]
    runs = [
        assemble(
            ExperimentConfig(
                **header["config"], steps=steps, optimizer=optimizer, lr=lr, labels=labels, seed=seed
            ),
            columns,
            np.arange(length),
            values[i, :length],
            spectra[i],
            weights={},
            overlaps={},
            diverged_at=diverged.get(i),
        )
        for i, ((optimizer, lr, labels, seed), length) in enumerate(zip(keys, lengths, strict=True))
    ]
    return Atlas(header, runs)


def _arranged(runs: Sequence[Trajectory]) -> tuple[dict[str, Any], list[Trajectory]]:
    """The axes of a grid and its runs in their order, checked."""
    if not runs:
        raise ValueError("runs is empty: give the runs of at least one configuration")
    varying = {"optimizer", "lr", "labels", "seed"}
    common = {k: v for k, v in runs[0].config.to_dict().items() if k not in varying}
    known: dict[Key, Trajectory] = {}
    for run in runs:
        for name, value in common.items():
            if getattr(run.config, name) != value:
                raise ValueError(
                    f"runs must share {name}; got {value!r} and {getattr(run.config, name)!r}; "
                    "pack them in an atlas each"
                )
        reached = common["steps"] + 1 if run.diverged_at is None else run.diverged_at
        if run.metrics.index.tolist() != list(range(reached)):
            raise ValueError(
                f"runs must be measured at every step; got steps {run.metrics.index.tolist()} "
                f"of {_key(run)}; train with probe_every=1"
            )
        if known.setdefault(_key(run), run) is not run:
            raise ValueError(f"runs holds {_key(run)} twice; give it once")
    optimizers = list(dict.fromkeys(key[0] for key in known))
    axes = {
        "optimizers": optimizers,
        "rates": [sorted({key[1] for key in known if key[0] == name}) for name in optimizers],
        "labels": list(dict.fromkeys(key[2] for key in known)),
        "seeds": sorted({key[3] for key in known}),
        "steps": common.pop("steps"),
        "config": common,
    }
    keys = list(_keys(axes))
    if missing := [key for key in keys if key not in known]:
        raise ValueError(
            f"runs must be a complete grid; {len(missing)} of {len(keys)} are missing, the first "
            f"(optimizer, lr, labels, seed) = {missing[0]}; compute them too"
        )
    ordered = [known[key] for key in keys]
    if not any(len(run.metrics) for run in ordered):
        raise ValueError("runs have all diverged at their start; give one that was measured")
    axes["diverged"] = [[i, run.diverged_at] for i, run in enumerate(ordered) if run.diverged_at is not None]
    return axes, ordered


def _key(run: Trajectory) -> Key:
    return run.config.optimizer, run.config.lr, run.config.labels, run.config.seed


def _keys(axes: dict[str, Any]) -> Iterator[Key]:
    for optimizer, rates in zip(axes["optimizers"], axes["rates"], strict=True):
        yield from itertools.product([optimizer], rates, axes["labels"], axes["seeds"])
