"""Measure the spectra of whole models: one row per weight matrix, compared with pure noise of its shape."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from htlib.models.checkpoints import Entry, entries_of
from htlib.models.layers import Layer, Selection, Skipped, layers_of
from htlib.spectra.alternatives import compare_distributions
from htlib.spectra.eigenvalues import stable_rank
from htlib.spectra.linalg import usable_device
from htlib.spectra.measures import spectrum_measures
from htlib.spectra.nulls import NULLS, against_null, check_null, gaussian_esd, measured
from htlib.spectra.power_law import fit_power_law, has_spread
from htlib.spectra.spikes import fit_marchenko_pastur
from htlib.spectra.vectors import SingularSystem, overlaps_of

Array = NDArray[np.float64]

_PART = re.compile(r"\[(query|key|value)\]$")

Model = nn.Module | Mapping[str, Any] | str | os.PathLike[str]


def analyze(
    model_or_path: Model,
    *,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    embeddings: bool = False,
    min_size: int = 10,
    null: str | None = "gaussian",
    n_replicates: int = 20,
    compare: bool = False,
    keep_eigenvalues: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the spectrum of every weight matrix of a model.

    Parameters
    ----------
    model_or_path : Module, mapping, str or path
        A torch module; a state dict; a ``.safetensors`` file, a sharded model's ``.index.json``, a
        ``.pt``/``.pth``/``.bin``/``.ckpt`` file (only tensors are unpickled, never code), or a folder
        with one of these.  Files are read one tensor at a time.
    include, exclude : str or sequence of str
        Shell patterns for names, such as ``"*.attention.*"``.
    embeddings : bool
        Analyse embeddings too.
    min_size : int
        Matrices with fewer singular values are skipped.
    null : {"gaussian", "shuffle", "profile"} or None
        The null for each measure (`htlib.null_distribution`).  The Gaussian null is drawn only once for
        all matrices of one shape and is cheap; the others take `n_replicates` spectra per matrix.
    n_replicates : int
        Number of replicates of the null.
    compare : bool
        Add the likelihood ratios of `htlib.compare_distributions`.
    keep_eigenvalues : bool
        Add a column ``eigenvalues`` of arrays, for figures.
    seed : int
        Seed of the nulls.
    device : str
        Any torch device.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        One row per weight matrix in the order of the model: ``name``, ``kind``, ``shape`` (h, d) of one
        matrix, ``n_matrices`` (pooled positions of a convolution's kernel), ``dtype``, ``rank``; the
        measures of `htlib.spectrum_measures`; ``mp_variance``, ``mp_edge``, ``mp_ks_distance``,
        ``n_spikes`` and ``soft_rank`` of the Marchenko-Pastur bulk; ``<measure>_z`` and
        ``<measure>_percentile`` for each measure that has a null, and ``alpha_hill_null``, the mean of
        alpha_hill over the null.  ``.attrs["skipped"]`` maps the name of every other tensor to the reason
        why it was skipped; nothing is left out silently.

    Raises
    ------
    FileNotFoundError, CheckpointError, TypeError
        If there is no model to read.
    ValueError
        If an option is not allowed.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.Linear(60, 5))
    >>> table = analyze(model, progress=False)
    >>> table[["name", "shape"]].values.tolist()
    [['0.weight', (60, 40)]]
    >>> table.attrs["skipped"]["1.weight"]
    '5 x 60 has 5 singular values, fewer than 10'
    """
    nulls = None if null is None else _LayerNulls(null, n_replicates, seed)

    def measure(layer: Layer) -> dict[str, Any]:
        row, eigenvalues = _row(layer)
        if nulls is not None:
            row |= nulls.columns(layer, row)
        if compare:
            row |= _comparison_columns(eigenvalues)
        return row | ({"eigenvalues": eigenvalues} if keep_eigenvalues else {})

    selection = Selection(_patterns(include), _patterns(exclude), embeddings, min_size)
    entries = entries_of(model_or_path)
    return _table(measure, _layers(model_or_path, entries, selection, device, progress))


def compare_models(
    before: Model,
    after: Model,
    *,
    k: int = 10,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    embeddings: bool = False,
    min_size: int = 10,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Compare two checkpoints of one model, such as before and after fine-tuning.

    Parameters
    ----------
    before, after : Module, mapping, str or path
        As for `analyze`.
    k : int
        Dimension of the leading subspaces that are compared.
    include, exclude, embeddings, min_size, device, progress
        As for `analyze`.

    Returns
    -------
    DataFrame
        One row per weight matrix that both have: ``name``, ``kind``, ``shape``; ``relative_change``,
        |dW|_F / |W|_F; ``alpha_hill_before``, ``alpha_hill_after``, ``spectral_norm_before``,
        ``spectral_norm_after``; ``update_stable_rank`` of dW; ``left_overlap`` and ``right_overlap``, the
        mean squared cosine between the leading k-dimensional subspaces before and after;
        ``update_left_overlap`` and ``update_right_overlap``, that between the subspaces before and those of
        the update; ``left_chance``, k / h, and ``right_chance``, k / d, the values for random subspaces.
        Overlaps exist only for single matrices and are NaN for convolutions.  ``.attrs["skipped"]`` maps
        all other names to reasons.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> W = rng.standard_normal((40, 30))
    >>> table = compare_models({"w": W}, {"w": W + 0.01 * rng.standard_normal((40, 30))}, progress=False)
    >>> round(float(table.relative_change[0]), 2), bool(table.right_overlap[0] > 0.9)
    (0.01, True)
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    selection = Selection(_patterns(include), _patterns(exclude), embeddings, min_size)
    here, there = entries_of(before), {entry.name: entry for entry in entries_of(after)}
    module = after if isinstance(after, nn.Module) else None

    def change(layer: Layer) -> dict[str, Any]:
        entry = there.get(_PART.sub("", layer.name))
        if entry is None:
            raise ValueError("only in the first model")
        others = {other.name: other for other in layers_of([entry], selection, module, device)}
        other = others.get(layer.name)
        if not isinstance(other, Layer):
            raise ValueError("in the second model: " + (other.reason if other else "cut differently"))
        if other.matrices.shape != layer.matrices.shape:
            shapes = tuple(layer.matrices.shape), tuple(other.matrices.shape)
            raise ValueError(f"shapes differ: {shapes[0]} and {shapes[1]}")
        return _change(layer, other, k)

    table = _table(change, _layers(before, here, selection, device, progress))
    names = {entry.name for entry in here}
    table.attrs["skipped"] |= {name: "only in the second model" for name in there if name not in names}
    return table


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a table of `analyze`: return ``median``, ``min`` and ``max`` of each measure over the layers.

    ``beyond_null`` is the number of layers more than three standard deviations of the null away from its
    mean (NaN without a null).  The summary is empty if no layer was analysed.
    """
    if not len(table):
        return pd.DataFrame(columns=["median", "min", "max", "beyond_null"])
    names = ("alpha_hill", "alpha_ks", "stable_rank", "effective_rank", "entropy", "spectral_norm")
    summary = table[list(names)].agg(["median", "min", "max"]).T
    summary["beyond_null"] = [
        np.count_nonzero(np.abs(table[f"{name}_z"]) > 3) if f"{name}_z" in table else np.nan for name in names
    ]
    return summary


class _LayerNulls:
    """Compare the layers of one model with one of `NULLS`; Gaussian noise is made only once per shape."""

    def __init__(self, null: str, n_replicates: int, seed: int) -> None:
        check_null(null, n_replicates)
        self._null, self._n_replicates, self._seed = null, n_replicates, seed
        self._gaussian: dict[tuple[int, ...], pd.DataFrame] = {}

    def columns(self, layer: Layer, row: Mapping[str, Any]) -> dict[str, float]:
        """Return the columns that compare the measures of a layer, in `row`, with those of its replicates."""
        values = dict(row)
        if self._null == "gaussian":
            (h, d), count = layer.shape, len(layer.matrices)
            values["spectral_norm"] /= row["frobenius_norm"] / np.sqrt(h * d * count)  # of unit variance
            replicates = self._unit_noise(h, d, count)
        else:
            rng = np.random.default_rng(self._seed)
            replicates = self._measures(lambda: [NULLS[self._null](matrix, rng) for matrix in layer.matrices])
        table = against_null(values, replicates)
        columns = {"alpha_hill_null": table.null_mean["alpha_hill"]}
        for name, z, percentile in zip(table.index, table.z, table.percentile, strict=True):
            columns |= {f"{name}_z": z, f"{name}_percentile": percentile}
        return columns

    def _unit_noise(self, h: int, d: int, count: int) -> pd.DataFrame:
        key = (*sorted((h, d)), count)  # a matrix and its transpose have the same law
        if key not in self._gaussian:
            rng = np.random.default_rng([self._seed, *key])
            self._gaussian[key] = self._measures(lambda: [gaussian_esd(h, d, rng) for _ in range(count)])
        return self._gaussian[key]

    def _measures(self, spectra: Callable[[], list[Array]]) -> pd.DataFrame:
        return pd.DataFrame([measured(np.concatenate(spectra())) for _ in range(self._n_replicates)])


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _layers(
    model: Model, entries: list[Entry], selection: Selection, device: str, progress: bool
) -> Iterator[Layer | Skipped]:
    usable_device(device)
    bar = tqdm(entries, desc="tensors", disable=not progress, leave=False)
    return layers_of(bar, selection, model if isinstance(model, nn.Module) else None, device)


def _table(measure: Callable[[Layer], dict[str, Any]], layers: Iterable[Layer | Skipped]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for layer in layers:
        if isinstance(layer, Skipped):
            skipped[layer.name] = layer.reason
            continue
        try:
            rows.append(measure(layer))
        except ValueError as error:  # the spectrum overflows or has no bulk, or no layer matches
            skipped[layer.name] = str(error)
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["name", "kind", "shape"])
    table.attrs["skipped"] = skipped
    return table


def _row(layer: Layer) -> tuple[dict[str, Any], Array]:
    eigenvalues = layer.eigenvalues()
    bulk = fit_marchenko_pastur(eigenvalues, *layer.shape, n_matrices=len(layer.matrices))
    positive = eigenvalues[eigenvalues > 0]
    row = {
        "name": layer.name,
        "kind": layer.kind,
        "shape": layer.shape,
        "n_matrices": len(layer.matrices),
        "dtype": str(layer.dtype).removeprefix("torch."),
        "rank": len(positive),
        **spectrum_measures(eigenvalues).as_dict(),
        "mp_variance": bulk.variance,
        "mp_edge": bulk.edge,
        "mp_ks_distance": bulk.ks_distance,
        "n_spikes": bulk.n_spikes,
        "soft_rank": bulk.soft_rank,
    }
    return row, eigenvalues


def _comparison_columns(eigenvalues: Array) -> dict[str, float]:
    positive = eigenvalues[eigenvalues > 0]
    if len(positive) < 3 or not has_spread(positive):
        return {}
    table = compare_distributions(positive, fit_power_law(positive))
    columns = {f"{name}_ratio": table.normalized_ratio[name] for name in table.index}
    return columns | {f"{name}_p_value": table.p_value[name] for name in table.index}


def _change(before: Layer, after: Layer, k: int) -> dict[str, Any]:
    h, d = before.shape
    first, second = before.matrices.double(), after.matrices.double()
    update = second - first
    row: dict[str, Any] = {
        "name": before.name,
        "kind": before.kind,
        "shape": before.shape,
        "relative_change": float(update.norm() / first.norm()),
    }
    for when, layer in (("before", before), ("after", after)):
        measures = spectrum_measures(layer.eigenvalues())
        row[f"alpha_hill_{when}"] = measures.alpha_hill
        row[f"spectral_norm_{when}"] = measures.spectral_norm
    k = min(k, h, d)
    columns = ("left_overlap", "right_overlap", "update_left_overlap", "update_right_overlap")
    row |= dict.fromkeys(("update_stable_rank", *columns), np.nan)
    if len(first) == 1:
        old = SingularSystem(first[0])
        row["left_overlap"], row["right_overlap"] = overlaps_of(old, SingularSystem(second[0]), k).subspace(k)
        if update.any():
            change = SingularSystem(update[0])
            row["update_stable_rank"] = stable_rank(change.eigenvalues)
            between = overlaps_of(old, change, k).subspace(k)
            row["update_left_overlap"], row["update_right_overlap"] = between
    return row | {"left_chance": k / h, "right_chance": k / d}
