"""The record of a training of a network, in memory and on disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.networks.config import NetworkConfig, Pruning
from htlib.student.run import RecordError, read_record, write_record

Array = NDArray[np.float64]

METRICS = ("train_loss", "test_loss", "accuracy", "lr")
PRUNED = ("test_loss", "accuracy")  # what a pruning changes
LAYER_MEASURES = ("alpha_hill", "alpha_hill_null", "alpha_hill_z", "stable_rank", "share")
_FORMAT = "htlib-network-1"
_PLAIN = Pruning("none", 0.0)


@dataclass(frozen=True, eq=False)
class NetworkRun:
    """The measurements of a training.

    Attributes
    ----------
    config : NetworkConfig
    metrics : DataFrame
        Indexed by step, where 0 is the start.  Losses are mean cross entropies in nats; for text the
        exponential of the test loss is the perplexity per character.  ``accuracy`` is that on the test set.
        The last row is that of the pruned network, if the config names a pruning.  For MiniLM without
        training, losses are one minus the mean cosine to the embeddings without pruning.
    layers : DataFrame
        One row per measured step and inner weight: step, name, shape, n_matrices, and
        `LAYER_MEASURES`: PL_Alpha_Hill, its mean over Gaussian noise of that shape, the distance from that in
        standard deviations, the stable rank, and the multiplier, or number of experts, that the method gave.
    data_digest : str
        Of the data; for text it tells which corpus was installed.
    refits : dict
        Pruning -> the metrics `PRUNED` of the network pruned in this way; that without pruning is among them.
    weights : dict
        Step -> name -> array, of the start and the end; empty unless ``keep_weights``.  For MiniLM those
        that are trained.
    diverged_at : int or None
        The step at which the loss was no longer finite.
    seconds : float
        How long a worker of a sweep took for it.
    """

    config: NetworkConfig
    metrics: pd.DataFrame
    layers: pd.DataFrame
    data_digest: str
    refits: Mapping[Pruning, Array] = field(default_factory=dict)
    weights: Mapping[int, Mapping[str, Array]] = field(default_factory=dict)
    overlaps: Mapping[int, object] = field(default_factory=dict)  # none: a store asks every kind of run
    diverged_at: int | None = None
    seconds: float = math.nan

    def read(self, pruned_by: str = "none", sparsity: float = 0.0) -> NetworkRun:
        """Return this run as the config with this pruning would have it.

        Raises
        ------
        ValueError
            If the run was not read in this way; the message lists how it was.
        """
        wanted = Pruning(pruned_by, sparsity)
        if wanted == self.config.reading:
            return self
        if wanted not in self.refits:
            known = ", ".join(f"({by}, {part:g})" for by, part in self.refits)
            raise ValueError(f"this run was not read as {tuple(wanted)}, only as {known}")
        metrics = self.metrics.copy()
        metrics.loc[metrics.index[-1], list(PRUNED)] = self.refits[wanted]
        return replace(self, config=self.config.replace(**wanted._asdict()), metrics=metrics)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record with all of its readings to one file, all or nothing."""
        plain = self.read(*_PLAIN)
        names = self.layers["name"].unique().tolist()
        first = self.layers.iloc[: len(names)]
        tensors = {
            "steps": self.metrics.index.to_numpy(np.int64),
            "metrics": np.ascontiguousarray(plain.metrics.to_numpy(np.float64)),
            "refits": np.stack(list(self.refits.values())),
            "layers": np.ascontiguousarray(self.layers[list(LAYER_MEASURES)].to_numpy(np.float64)),
            **{
                f"weights/{step}/{name}": W
                for step, all_of in self.weights.items()
                for name, W in all_of.items()
            },
        }
        header = {
            "format": _FORMAT,
            "config": json.dumps(self.config.training.to_dict()),
            "units": json.dumps([names, first["shape"].tolist(), first["n_matrices"].tolist()]),
            "data": self.data_digest,
            "readings": json.dumps(list(self.refits)),
            "diverged_at": json.dumps(self.diverged_at),
            "seconds": json.dumps(self.seconds),
        }
        return write_record(path, tensors, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NetworkRun:
        """Read a record that `save` has written; FileNotFoundError or RecordError if there is none."""
        tensors, header = read_record(path, _FORMAT)
        try:
            config = NetworkConfig(**json.loads(header["config"]))
        except (TypeError, ValueError) as error:
            raise RecordError(f"{path} was written for another config: {error}") from error
        weights: dict[int, dict[str, Array]] = {}
        for name, array in tensors.items():
            if name.startswith("weights/"):
                _, step, key = name.split("/", 2)
                weights.setdefault(int(step), {})[key] = array
        names, shapes, counts = json.loads(header["units"])
        readings = [Pruning(*reading) for reading in json.loads(header["readings"])]
        return assemble(
            config,
            tensors["steps"],
            tensors["metrics"],
            (names, [tuple(shape) for shape in shapes], counts),
            tensors["layers"],
            header["data"],
            dict(zip(readings, tensors["refits"], strict=True)),
            weights,
            json.loads(header["diverged_at"]),
            json.loads(header["seconds"]),
        )


def assemble(
    config: NetworkConfig,
    steps: NDArray[np.int64],
    metrics: Array,
    units: tuple[list[str], list[tuple[int, int]], list[int]],
    layers: Array,
    data_digest: str,
    refits: Mapping[Pruning, Array],
    weights: Mapping[int, Mapping[str, Array]],
    diverged_at: int | None = None,
    seconds: float = math.nan,
) -> NetworkRun:
    """Make a run from its arrays: metrics (n_probes, 4), layers (n_probes * n_units, 5)."""
    index = pd.Index(steps, name="step")
    table = pd.DataFrame(metrics.reshape(-1, len(METRICS)), index=index, columns=list(METRICS))
    names, shapes, counts = units
    layers_of_steps = pd.DataFrame(layers.reshape(-1, len(LAYER_MEASURES)), columns=list(LAYER_MEASURES))
    layers_of_steps.insert(0, "step", np.repeat(steps, len(names)))
    for place, (column, given) in enumerate((("name", names), ("shape", shapes), ("n_matrices", counts)), 1):
        layers_of_steps.insert(place, column, list(given) * len(steps))
    return NetworkRun(
        config,
        table,
        layers_of_steps,
        data_digest,
        {_PLAIN: table[list(PRUNED)].iloc[-1].to_numpy(), **refits},
        dict(sorted(weights.items())),
        {},
        diverged_at,
        seconds,
    )
