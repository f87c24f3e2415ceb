"""The record of a run, in memory and on disk.

On disk a run is one safetensors file: float64 tensors that any safetensors reader opens, and a JSON header
with the config, the version of the package and a checksum of the tensors and the header.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from htlib.spectra.vectors import Overlaps
from htlib.student.config import ExperimentConfig, Reading
from htlib.student.files import write_atomically
from htlib.student.probes import Refit

Array = NDArray[np.float64]


class RecordError(ValueError):
    """A record file cannot be read; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class StepOverlaps:
    """Overlaps of an update M = W_t - W_{t-1} with the weights before and after it.

    Rows belong to the singular vectors of W_{t-1} (`before`) or W_t (`after`), columns to those of M.
    """

    before: Overlaps
    after: Overlaps


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The measurements of a run.

    Attributes
    ----------
    config : ExperimentConfig
    metrics : DataFrame
        Indexed by step, where 0 is the start; the columns are `htlib.student.probes.METRICS`.  Those that
        depend on the features use the reading of the config.
    eigenvalues : (n_probes, min(h, d)) float64 array
        One row per row of `metrics`, ascending.
    refits : dict
        Reading -> (n_probes, 4) float64 array with the columns of `htlib.student.probes.Refit`.
    weights : dict
        Step -> (h, d) float64 array; empty unless ``keep_weights``.
    overlaps : dict
        Step -> StepOverlaps of the update that led to it; empty unless ``keep_overlaps``.
    diverged_at : int or None
        The step at which a number was no longer finite.
    seconds : float
        How long a worker of a sweep took for it; NaN for a run of `htlib.train`.
    """

    config: ExperimentConfig
    metrics: pd.DataFrame
    eigenvalues: Array
    refits: Mapping[Reading, Array] = field(default_factory=dict)
    weights: Mapping[int, Array] = field(default_factory=dict)
    overlaps: Mapping[int, StepOverlaps] = field(default_factory=dict)
    diverged_at: int | None = None
    seconds: float = math.nan

    def esd(self, step: int) -> Array:
        """Return the eigenvalues at a measured step, ascending.

        Raises
        ------
        KeyError
            If the step was not measured.
        """
        if step not in self.metrics.index:
            raise KeyError(f"step {step} was not probed; probed are {self.metrics.index.tolist()}")
        return self.eigenvalues[self.metrics.index.get_loc(step)]

    @property
    def readings(self) -> pd.DataFrame:
        """All readings of all measured steps: step, feature_scale, ridge_lambda, losses, kta, gcv."""
        steps = self.metrics.index.to_numpy()
        columns: dict[str, Any] = {"step": np.tile(steps, len(self.refits))}
        for place, name in enumerate(Reading._fields):
            columns[name] = np.repeat([reading[place] for reading in self.refits], len(steps))
        values = np.concatenate([np.empty((0, len(Refit._fields))), *self.refits.values()])
        return pd.DataFrame(columns | dict(zip(Refit._fields, values.T, strict=True)))

    def read(self, feature_scale: str | None = None, ridge_lambda: float | None = None) -> Trajectory:
        """Return this run with another reading.

        Parameters
        ----------
        feature_scale, ridge_lambda : optional
            By default those of the config.

        Returns
        -------
        Trajectory
            With that reading in its config and its metrics; the rest is shared.

        Raises
        ------
        ValueError
            If the run does not have that reading; the message lists those that it has.

        Examples
        --------
        >>> import htlib as ht
        >>> config = ht.ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=1)
        >>> run = ht.train(config, readings={"ridge_lambda": [0.01, 0.1]})
        >>> run.read(ridge_lambda=0.1).config.ridge_lambda
        0.1
        """
        own = self.config.reading
        reading = Reading(
            own.feature_scale if feature_scale is None else feature_scale,
            own.ridge_lambda if ridge_lambda is None else ridge_lambda,
        )
        if reading == own:
            return self
        if reading not in self.refits:
            known = ", ".join(f"({r.feature_scale}, {r.ridge_lambda:g})" for r in self.refits)
            raise ValueError(
                f"this run was not read with feature_scale = {reading.feature_scale!r}, ridge_lambda = "
                f"{reading.ridge_lambda!r}, only with {known or 'no reading'}; give readings= to htlib.train"
            )
        metrics = self.metrics.copy()
        for name, values in zip(Refit._fields, self.refits[reading].T, strict=True):
            if name in metrics:
                metrics[name] = values
        return replace(self, config=self.config.replace(**reading._asdict()), metrics=metrics)

    def best_readings(self) -> pd.DataFrame:
        """Choose a reading for every step and feature scale by generalised cross-validation (GCV).

        Returns
        -------
        DataFrame
            Rows of `readings`, indexed by step and feature scale.

        Raises
        ------
        ValueError
            If no reading has a GCV score, which takes more than three ridge parameters per feature scale.
        """
        table = self.readings.set_index(["step", "feature_scale"], append=True)
        scores = table["gcv"].dropna()
        if not len(scores):
            raise ValueError("no reading has a GCV score; give more than three ridge_lambda in readings=")
        chosen = scores.groupby(level=["step", "feature_scale"]).idxmin()
        return table.loc[chosen].droplevel(0)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record to one file, all or nothing.

        Parameters
        ----------
        path : path
            Usually ends in ``.safetensors``; replaced if it exists.

        Returns
        -------
        Path
        """
        tensors = {
            "steps": self.metrics.index.to_numpy(np.int64),
            "metrics": np.ascontiguousarray(self.metrics.to_numpy(np.float64)),
            "eigenvalues": np.ascontiguousarray(self.eigenvalues),
            **{f"weights/{step}": np.ascontiguousarray(W) for step, W in self.weights.items()},
        }
        for step, pair in self.overlaps.items():
            for when in ("before", "after"):
                for side in ("left", "right"):
                    tensors[f"overlaps/{step}/{when}/{side}"] = np.ascontiguousarray(
                        getattr(getattr(pair, when), side)
                    )
        if self.refits:
            tensors["refits"] = np.stack(list(self.refits.values()))
        header = {
            "format": _FORMAT,
            "readings": json.dumps(list(self.refits)),
            "htlib": _version(),
            "config": json.dumps(self.config.to_dict()),
            "columns": json.dumps(list(self.metrics.columns)),
            "diverged_at": json.dumps(self.diverged_at),
            "seconds": json.dumps(self.seconds),
        }
        return write_record(path, tensors, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read a record that `save` has written.

        Raises
        ------
        FileNotFoundError
        RecordError
            If the file is truncated, altered or not a record of this format.
        """
        tensors, header = read_record(path, _FORMAT)
        overlaps = {
            int(name.split("/")[1]): StepOverlaps(
                *(
                    Overlaps(*(tensors[f"{name.rsplit('/', 2)[0]}/{w}/{s}"] for s in ("left", "right")))
                    for w in ("before", "after")
                )
            )
            for name in tensors
            if name.startswith("overlaps/") and name.endswith("/before/left")
        }
        try:
            config = ExperimentConfig(**json.loads(header["config"]))
        except (TypeError, ValueError) as error:
            raise RecordError(
                f"{path} was written by htlib {header['htlib']}, for another config: {error}"
            ) from error
        return assemble(
            config,
            json.loads(header["columns"]),
            tensors["steps"],
            tensors["metrics"],
            tensors["eigenvalues"],
            refits={
                Reading(*reading): values
                for reading, values in zip(json.loads(header["readings"]), tensors["refits"], strict=True)
            }
            if "refits" in tensors
            else {},
            weights={
                int(name.split("/")[1]): array
                for name, array in tensors.items()
                if name.startswith("weights/")
            },
            overlaps=overlaps,
            diverged_at=json.loads(header["diverged_at"]),
            seconds=json.loads(header.get("seconds", "NaN")),
        )


def assemble(
    config: ExperimentConfig,
    columns: Sequence[str],
    steps: ArrayLike,
    metrics: ArrayLike,
    eigenvalues: Array,
    *,
    refits: Mapping[Reading, Array] | None = None,
    weights: Mapping[int, Array] | None = None,
    overlaps: Mapping[int, StepOverlaps] | None = None,
    diverged_at: int | None = None,
    seconds: float = math.nan,
) -> Trajectory:
    """Make a Trajectory from its arrays; metrics are (n_probes, n_columns), or empty."""
    values = np.asarray(metrics, dtype=np.float64).reshape(-1, len(columns))
    index = pd.Index(np.asarray(steps, dtype=np.int64), name="step")
    table = pd.DataFrame(values, index=index, columns=list(columns))
    table["n_outliers"] = (
        table["n_outliers"].to_numpy().astype(np.int64)
    )  # astype of the frame is ten times slower
    return Trajectory(
        config,
        table,
        eigenvalues,
        dict(refits or {}),
        dict(sorted((weights or {}).items())),
        dict(sorted((overlaps or {}).items())),
        diverged_at,
        seconds,
    )


def write_record(
    path: str | os.PathLike[str], tensors: Mapping[str, NDArray[np.generic]], header: Mapping[str, str]
) -> Path:
    """Write tensors and a header, with a checksum of both, to one safetensors file, all or nothing."""
    return write_atomically(path, save(dict(tensors), {**header, "sha256": _checksum(tensors, header)}))


def read_record(path: str | os.PathLike[str], form: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the tensors and the header that `write_record` has written, with this ``format`` in the header.

    FileNotFoundError if there is no file, RecordError if it is truncated, altered or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no record at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            names = file.keys()  # the handle itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:  # an OSError does not mean that the file is bad
        raise RecordError(f"{path} is not a readable record, perhaps truncated: {error}") from error
    if header.get("format") != form:
        raise RecordError(f"{path} is not a run of htlib: its format is {header.get('format')!r}")
    if header.pop("sha256", None) != _checksum(tensors, header):
        raise RecordError(f"{path} was altered after it was written: its checksum does not match")
    return tensors, header


def readings_in(path: Path) -> set[tuple[Any, ...]]:
    """Read from the head of a record which readings it has; none, if there is no readable record."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        return {tuple(reading) for reading in json.loads(header["readings"])}
    except (FileNotFoundError, SafetensorError, KeyError):
        return set()


def tidy(runs: Sequence[Any], fields: Iterable[str]) -> pd.DataFrame:
    """Make one row per measured step of every run: the named fields of its config, seed, step, measures."""
    names = [name for name in fields if name != "seed"] + ["seed"]
    lengths = [len(run.metrics) for run in runs]
    settings = pd.DataFrame({name: [getattr(run.config, name) for run in runs] for name in names})
    if "lr_decay" in settings:
        settings["lr_decay"] = settings["lr_decay"].astype("float64")  # NaN is a constant rate
    table = settings.loc[np.repeat(settings.index, lengths)].reset_index(drop=True)
    table["step"] = np.concatenate([run.metrics.index.to_numpy() for run in runs])
    measures = np.concatenate([run.metrics.to_numpy(np.float64) for run in runs])
    measures = pd.DataFrame(measures, columns=runs[0].metrics.columns)
    if "n_outliers" in measures:
        measures = measures.astype({"n_outliers": np.int64})
    # a network has the rate of each step among its measures, and its largest rate among its fields
    return pd.concat([table, measures.drop(columns=table.columns, errors="ignore")], axis=1)


_FORMAT = "htlib-run-2"


@cache  # a look-up takes a millisecond
def _version() -> str:
    try:
        return version("htlib")
    except PackageNotFoundError:  # the modules are on the path, without an installation
        return "not installed"


def _checksum(tensors: Mapping[str, NDArray[np.generic]], header: Mapping[str, str]) -> str:
    """Compute SHA-256 over the header and, sorted by name, the types, shapes and bytes of the tensors."""
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tensors[name].dtype}{tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
