"""The record of a run, in memory and on disk.

On disk a run is one safetensors file: float64 tensors that any safetensors reader opens, and a JSON
header with the config, the package version and a checksum of the tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from htlib.spectra.vectors import Overlaps
from htlib.student.config import ExperimentConfig

Array = NDArray[np.float64]


class RecordError(ValueError):
    """A record file that cannot be read, with the reason."""


@dataclass(frozen=True, eq=False)
class StepOverlaps:
    """Overlaps of an update M = W_t - W_{t-1} with the weights around it.

    Attributes
    ----------
    before, after : Overlaps
        Rows: singular vectors of W_{t-1}, respectively W_t.  Columns: those of M.
    """

    before: Overlaps
    after: Overlaps


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a run measured.

    Attributes
    ----------
    config : ExperimentConfig
    metrics : DataFrame
        Indexed by step, 0 being the start; the columns are `htlib.student.probes.METRICS`.
    eigenvalues : (n_probes, min(h, d)) float64 array
        A row per row of `metrics`, ascending.
    weights : dict
        Step -> (h, d) float64 array; empty unless ``keep_weights``.
    overlaps : dict
        Step -> StepOverlaps of the update that led to it; empty unless ``keep_overlaps``.
    diverged_at : int or None
        The step at which a number stopped being finite.
    """

    config: ExperimentConfig
    metrics: pd.DataFrame
    eigenvalues: Array
    weights: Mapping[int, Array] = field(default_factory=dict)
    overlaps: Mapping[int, StepOverlaps] = field(default_factory=dict)
    diverged_at: int | None = None

    def esd(self, step: int) -> Array:
        """Eigenvalues at a probed step, ascending.

        Raises
        ------
        KeyError
            If the step was not probed.
        """
        if step not in self.metrics.index:
            raise KeyError(f"step {step} was not probed; probed are {self.metrics.index.tolist()}")
        return self.eigenvalues[self.metrics.index.get_loc(step)]

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
        path = Path(path)
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
        header = {
            "format": _FORMAT,
            "htlib": _version(),
            "config": json.dumps(self.config.to_dict()),
            "columns": json.dumps(list(self.metrics.columns)),
            "diverged_at": json.dumps(self.diverged_at),
        }
        header["sha256"] = _checksum(tensors, header)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with unfinished.open("wb") as file:
                file.write(save(tensors, metadata=header))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read a record written by `save`.

        Raises
        ------
        FileNotFoundError
        RecordError
            If the file is truncated, altered or not a record of this format.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no record at {path}")
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                names = file.keys()  # the handle itself cannot be iterated over
                tensors = {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:  # an OSError says nothing against the file
            raise RecordError(f"{path} is not a readable record, perhaps truncated: {error}") from error
        if header.get("format") != _FORMAT:
            raise RecordError(f"{path} is not a run of htlib: its format is {header.get('format')!r}")
        if header.pop("sha256", None) != _checksum(tensors, header):
            raise RecordError(f"{path} was altered after it was written: its checksum does not match")
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
            weights={
                int(name.split("/")[1]): array
                for name, array in tensors.items()
                if name.startswith("weights/")
            },
            overlaps=overlaps,
            diverged_at=json.loads(header["diverged_at"]),
        )


def assemble(
    config: ExperimentConfig,
    columns: Sequence[str],
    steps: ArrayLike,
    metrics: ArrayLike,
    eigenvalues: Array,
    *,
    weights: Mapping[int, Array],
    overlaps: Mapping[int, StepOverlaps],
    diverged_at: int | None,
) -> Trajectory:
    """A Trajectory from its arrays: metrics (n_probes, n_columns), possibly without a row."""
    values = np.asarray(metrics, dtype=np.float64).reshape(-1, len(columns))
    index = pd.Index(np.asarray(steps, dtype=np.int64), name="step")
    table = pd.DataFrame(values, index=index, columns=list(columns))
    table["n_outliers"] = (
        table["n_outliers"].to_numpy().astype(np.int64)
    )  # astype of the frame: ten times slower
    return Trajectory(
        config, table, eigenvalues, dict(sorted(weights.items())), dict(sorted(overlaps.items())), diverged_at
    )


def tidy(runs: Sequence[Trajectory], fields: Iterable[str]) -> pd.DataFrame:
    """A row per measured step of every run: the named fields of its config, seed, step, measures.

    Parameters
    ----------
    runs : sequence of Trajectory
    fields : iterable of str
        Of ExperimentConfig.

    Returns
    -------
    DataFrame
    """
    names = [name for name in fields if name != "seed"] + ["seed"]
    lengths = [len(run.metrics) for run in runs]
    settings = pd.DataFrame({name: [getattr(run.config, name) for run in runs] for name in names})
    if "lr_decay" in settings:
        settings["lr_decay"] = settings["lr_decay"].astype("float64")  # NaN is a constant rate
    table = settings.loc[np.repeat(settings.index, lengths)].reset_index(drop=True)
    table["step"] = np.concatenate([run.metrics.index.to_numpy() for run in runs])
    measures = np.concatenate([run.metrics.to_numpy(np.float64) for run in runs])
    measures = pd.DataFrame(measures, columns=runs[0].metrics.columns).astype({"n_outliers": np.int64})
    return pd.concat([table, measures], axis=1)


_FORMAT = "htlib-run-1"
_version = cache(partial(version, "htlib"))  # looking it up takes a millisecond


def _checksum(tensors: Mapping[str, NDArray[np.generic]], header: Mapping[str, str]) -> str:
    """SHA-256 over names, shapes, bytes and the header, in sorted order."""
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tensors[name].dtype}{tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()
