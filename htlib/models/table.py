"""Measure the spectra of whole models: one row per weight matrix, compared with pure noise of its shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from htlib.models.ahead import spectra_ahead
from htlib.models.checkpoints import Model, entries_of
from htlib.models.entries import Entry
from htlib.models.layers import Layer, Selection, Skipped, layers_of
from htlib.spectra.alternatives import compare_distributions
from htlib.spectra.leading import leading_eigenvalues
from htlib.spectra.linalg import usable_device
from htlib.spectra.measures import SpectrumMeasures, spectrum_measures
from htlib.spectra.nulls import NOISE, NULLS, against_null, check_null, measured
from htlib.spectra.power_law import Threshold, fit_power_law, has_spread
from htlib.spectra.spikes import fit_marchenko_pastur

Array = NDArray[np.float64]

_FAR = 3.0  # standard deviations of the null
_VERDICTS = ("heavier than noise", "as noise", "lighter than noise")
# The columns of every table; others follow by the options.
_COLUMNS = ("name", "kind", "shape", "n_matrices", "dtype", "file", "rank")


def analyze(
    model_or_path: Model,
    *,
    base: Model | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    embeddings: bool = False,
    min_size: int = 10,
    max_size: int | None = None,
    conv: str = "slices",
    layout: str = "auto",
    xmin: Threshold = "ks",
    xmax: float | None = None,
    top: int | None = None,
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
        A torch module; a state dict, whose values may be arrays; a safetensors, torch (also TorchScript),
        NumPy, ONNX or HDF5 file, or the index of a sharded model; or a folder as training programs and hubs
        write them.  No code in a file is run, and tensors are read one at a time.
    base : Module, mapping, str or path, optional
        The model that an adapter of low-rank updates belongs to; its weights are analysed with the updates.
    include, exclude : str or sequence of str
        Shell patterns for names, such as ``"*.attention.*"``.
    kinds : str or sequence of str
        The kinds of layers to take, such as ``"conv"``; all by default.
    embeddings : bool
        Analyse embeddings too.
    min_size : int
        Layers with fewer singular values, over all matrices of the layer, are skipped.
    max_size : int, optional
        Matrices whose shorter side is longer are skipped.
    conv : {"slices", "flat"}
        Cut a kernel (out, in, k...) into a matrix per position, or flatten it to one, (out, in k...).
    layout : {"auto", "torch", "keras"}
        Axes of kernels: (out, in, k...) or (k..., in, out); by default as the file and the names say
        (a name that ends in "kernel" is Keras' or Flax', unless its first axes are longer than its last).
    xmin, xmax
        Of the power-law fit, as for `htlib.fit_power_law`.
    top : int, optional
        Of matrices with more singular values than this, compute only so many
        (`htlib.spectra.leading.leading_eigenvalues`): for layers that are too large for all.  Such a row has
        norms, stable rank, alpha_ks of these values and their relative error, ``top_error``; else NaN.
    null : {"gaussian", "uniform", "truncated", "shuffle", "profile"} or None
        The null for each measure (`htlib.null_distribution`): noise, with normal entries or those of another
        initialisation, or the matrix itself without its arrangement.  Noise is drawn only once for all
        matrices of one shape, and the Gaussian one is cheap; "shuffle" and "profile" take `n_replicates`
        spectra per matrix.
    n_replicates : int
        Number of replicates of the null.
    compare : bool
        Add the likelihood ratios of `htlib.compare_distributions`.
    keep_eigenvalues : bool
        Add two columns for figures: ``eigenvalues``, of arrays, and ``live_shape``, the shape without the
        rows and columns of zeros, whose noise the bulk is.
    seed : int
        Seed of the nulls.
    device : str
        Any torch device.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        One row per weight in use, in the order of the model: ``name``; ``kind`` ("linear", "conv", "stack" of
        matrices on three axes, "query", "key", "value" or "gate" of a fused weight, "update" of low rank,
        "embedding"); ``shape`` (h, d) of one matrix; ``n_matrices`` that are pooled; ``dtype`` as stored;
        ``file``; ``rank``; the measures of `htlib.spectrum_measures`; ``has_bulk``, ``mp_variance``,
        ``mp_edge``, ``mp_ks_distance``, ``n_spikes`` and ``soft_rank`` of the Marchenko-Pastur bulk (NaN
        without one); ``<measure>_z`` and ``<measure>_percentile`` for each measure that has a null,
        ``alpha_hill_null``, the mean of alpha_hill over the null, and ``verdict``, which says where
        alpha_hill lies: "heavier than noise" or "lighter than noise" by more than three standard deviations
        of the null, or "as noise".  ``.attrs["skipped"]`` maps the name of every other tensor and file to the
        reason why it was skipped; nothing is left out silently.

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
    _check_fit(xmin, xmax)

    def measure(layer: Layer) -> dict[str, Any]:
        if top is not None and min(layer.shape) > top and len(layer.matrices) == 1:
            return _row_of_the_top(layer, top, xmin, xmax, seed)
        row, eigenvalues = _row(layer, xmin, xmax)
        if nulls is not None:
            row |= nulls.columns(layer, row)
        if compare:
            row |= _comparison_columns(eigenvalues, xmin, xmax)
        if keep_eigenvalues:
            row |= {"eigenvalues": eigenvalues, "live_shape": layer.live_shape()}
        return row

    selection = Selection(
        texts(include), texts(exclude), texts(kinds), embeddings, min_size, max_size, conv, layout
    )
    layers = layers_in(entries_of(model_or_path, base), selection, device, progress)
    layers = layers if top is not None else spectra_ahead(layers)
    columns = (*_COLUMNS, *_measured_columns(null is not None))
    return table_of(measure, layers, columns)


def describe(
    model_or_path: Model,
    *,
    base: Model | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    kinds: str | Sequence[str] = (),
    embeddings: bool = False,
    min_size: int = 10,
    max_size: int | None = None,
    conv: str = "slices",
    layout: str = "auto",
) -> pd.DataFrame:
    """Say what `analyze` would analyse, without computing a spectrum.

    Parameters
    ----------
    model_or_path, base, include, exclude, kinds, embeddings, min_size, max_size, conv, layout
        As for `analyze`.

    Returns
    -------
    DataFrame
        The columns ``name``, ``kind``, ``shape``, ``n_matrices``, ``dtype`` and ``file`` of `analyze`, and
        its ``.attrs["skipped"]``.

    Examples
    --------
    >>> import torch
    >>> table = describe(torch.nn.LSTM(20, 30))
    >>> table.name.tolist()[:2], table.kind.unique().tolist()
    (['weight_ih_l0[input]', 'weight_ih_l0[forget]'], ['gate'])
    """
    selection = Selection(
        texts(include), texts(exclude), texts(kinds), embeddings, min_size, max_size, conv, layout
    )
    layers = layers_in(entries_of(model_or_path, base), selection, "cpu", False)
    return table_of(_description, layers, _COLUMNS[:-1])


def summarize(table: pd.DataFrame | Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Summarise tables of `analyze`.

    Parameters
    ----------
    table : DataFrame or mapping of names to DataFrames
        The table of one model, or of several, which come side by side.

    Returns
    -------
    DataFrame
        One row per measure: ``mean``, ``median``, ``min`` and ``max`` over the layers, and ``below_null`` and
        ``above_null``, the numbers of layers more than three standard deviations of the null away from its
        mean on either side (NaN without a null).  alpha_weighted and log_alpha_norm are WeightWatcher's,
        whose means over layers predict test accuracies (Martin, Peng & Mahoney 2021); ``log_norm`` and
        ``log_spectral_norm`` are decimal logarithms of squared norms.  Several models have one level of
        columns more.  The summary is empty if no layer was analysed.

    Examples
    --------
    >>> import torch
    >>> table = analyze(torch.nn.Linear(40, 60), progress=False)
    >>> int(summarize(table).loc["alpha_hill", "below_null"]) <= 1
    True
    """
    if isinstance(table, Mapping):
        return pd.concat({name: summarize(one) for name, one in table.items()}, axis=1)
    columns = ["mean", "median", "min", "max", "below_null", "above_null"]
    if not len(table):
        return pd.DataFrame(columns=columns, dtype=float)
    measures = ("alpha_hill", "alpha_ks", "alpha_weighted", "stable_rank", "effective_rank", "entropy")
    values = table[[*measures, "spectral_norm", "log_alpha_norm"]].astype(float)
    values["log_norm"] = 2 * np.log10(table["frobenius_norm"].astype(float))
    values["log_spectral_norm"] = 2 * np.log10(table["spectral_norm"].astype(float))
    summary = values.agg(["mean", "median", "min", "max"]).T
    for column, sign in (("below_null", -1), ("above_null", 1)):
        summary[column] = [
            np.count_nonzero(sign * table[f"{name}_z"] > _FAR) if f"{name}_z" in table else np.nan
            for name in summary.index
        ]
    return summary


def closing_sentence(table: pd.DataFrame) -> str:
    """Say in one sentence how many layers of a table of `analyze` have heavier tails than noise."""
    if "verdict" not in table or not len(table):
        return ""
    counts = Counter(table["verdict"].fillna("").tolist())
    parts = [f"{counts[verdict]} {verdict}" for verdict in _VERDICTS if counts[verdict]]
    without = table["has_bulk"].tolist().count(False)
    bulk = f"; {without} of {len(table)} have no Marchenko-Pastur bulk" if without else ""
    more = [f"{counts['']} undecided"] if counts[""] else []
    return f"By PL_Alpha_Hill, of {len(table)} spectra: {', '.join(parts + more)}{bulk}."


class _LayerNulls:
    """Compare the layers of one model with one of `NULLS`; noise is made only once per shape."""

    def __init__(self, null: str, n_replicates: int, seed: int) -> None:
        check_null(null, n_replicates)
        self._null, self._n_replicates, self._seed = null, n_replicates, seed
        self._noise: dict[tuple[int, ...], pd.DataFrame] = {}

    def columns(self, layer: Layer, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns that compare the measures of a layer, in `row`, with those of its replicates."""
        values = dict(row)
        if self._null in NOISE:
            (h, d), count = layer.shape, len(layer.matrices)
            values["spectral_norm"] /= row["frobenius_norm"] / np.sqrt(h * d * count)  # of unit variance
            replicates = self._unit_noise(h, d, count)
        else:
            rng = np.random.default_rng(self._seed)
            replicates = self._measures(lambda: [NULLS[self._null](matrix, rng) for matrix in layer.matrices])
        table = against_null(values, replicates)
        z = float(table.z["alpha_hill"])
        verdict = "" if np.isnan(z) else _VERDICTS[0 if z < -_FAR else 2 if z > _FAR else 1]
        columns: dict[str, Any] = {
            "verdict": verdict,
            "alpha_hill_null": table.null_mean["alpha_hill"],
        }
        for name, z, percentile in zip(table.index, table.z, table.percentile, strict=True):
            columns |= {f"{name}_z": z, f"{name}_percentile": percentile}
        return columns

    def _unit_noise(self, h: int, d: int, count: int) -> pd.DataFrame:
        key = (*sorted((h, d)), count)  # a matrix and its transpose have the same law
        if key not in self._noise:
            rng, draw = np.random.default_rng([self._seed, *key]), NOISE[self._null]
            self._noise[key] = self._measures(lambda: [draw(h, d, rng) for _ in range(count)])
        return self._noise[key]

    def _measures(self, spectra: Callable[[], list[Array]]) -> pd.DataFrame:
        return pd.DataFrame([measured(np.concatenate(spectra())) for _ in range(self._n_replicates)])


def texts(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return one text or several as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def layers_in(
    entries: list[Entry], selection: Selection, device: str, progress: bool
) -> Iterator[Layer | Skipped]:
    """Cut entries into layers, with a bar where there is a terminal."""
    usable_device(device)
    known = {entry.name: entry for entry in entries}
    bar = tqdm(entries, desc="tensors", disable=None if progress else True, leave=False)
    return layers_of(bar, selection, device, known)


def table_of(
    measure: Callable[[Layer], dict[str, Any]], layers: Iterable[Layer | Skipped], columns: Sequence[str]
) -> pd.DataFrame:
    """Make a table of what is measured of each layer, with the reasons for the rest in its ``attrs``."""
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for layer in layers:
        if isinstance(layer, Skipped):
            skipped[layer.name] = layer.reason
            continue
        try:
            rows.append(measure(layer))
        except Exception as error:  # one layer's failure never costs the table
            named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            skipped[layer.name] = f"{named}{error}"
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))
    table.attrs["skipped"] = skipped
    return table


def _description(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": layer.shape,
        "n_matrices": len(layer.matrices),
        "dtype": str(layer.dtype).removeprefix("torch."),
        "file": layer.file,
    }


def _measured_columns(has_null: bool) -> list[str]:
    names = [field.name for field in fields(SpectrumMeasures)]
    bulk = ["has_bulk", "mp_variance", "mp_edge", "mp_ks_distance", "n_spikes", "soft_rank"]
    return names + bulk + (["verdict", "alpha_hill_null"] if has_null else [])


def _check_fit(xmin: Threshold, xmax: float | None) -> None:
    """Raise ValueError for a rule that no layer could be fitted with."""
    numbers = () if isinstance(xmin, str) else xmin if isinstance(xmin, tuple) else (xmin,)
    if (isinstance(xmin, str) and xmin not in ("ks", "median", "peak")) or not all(x > 0 for x in numbers):
        raise ValueError(
            f"xmin must be 'ks', 'median', 'peak', a positive number or a pair of them; got {xmin!r}"
        )
    if xmax is not None and not xmax > 0:
        raise ValueError(f"xmax must be a positive number; got {xmax}")


def _row(layer: Layer, xmin: Threshold, xmax: float | None) -> tuple[dict[str, Any], Array]:
    eigenvalues = layer.eigenvalues()
    measures = spectrum_measures(eigenvalues, xmin, xmax)
    row = _description(layer) | {"rank": np.count_nonzero(eigenvalues)} | measures.as_dict()
    return row | bulk_columns(layer, eigenvalues), eigenvalues


def _row_of_the_top(layer: Layer, top: int, xmin: Threshold, xmax: float | None, seed: int) -> dict[str, Any]:
    """Measure what the largest eigenvalues and the norm tell of a matrix."""
    (matrix,) = layer.matrices
    values, error = leading_eigenvalues(matrix, top, seed=seed)
    measures = spectrum_measures(values, xmin, xmax).as_dict()
    total = float(matrix.double().square().sum())
    kept = ("alpha_ks", "alpha_error", "ks_distance", "ks_xmin", "n_tail", "spectral_norm")
    row = dict.fromkeys(measures, np.nan) | {name: measures[name] for name in kept}
    row |= {"frobenius_norm": np.sqrt(total), "stable_rank": total / values[-1], "top_error": error}
    return _description(layer) | {"rank": np.nan, "has_bulk": False} | row


def bulk_columns(layer: Layer, eigenvalues: Array) -> dict[str, Any]:
    """Fit the bulk of the rows and columns that are not zero."""
    try:
        bulk = fit_marchenko_pastur(eigenvalues, *layer.live_shape(), n_matrices=len(layer.matrices))
    except ValueError:
        return {"has_bulk": False} | dict.fromkeys(
            ("mp_variance", "mp_edge", "mp_ks_distance", "n_spikes", "soft_rank"), np.nan
        )
    return {
        "has_bulk": bulk.has_bulk,
        "mp_variance": bulk.variance,
        "mp_edge": bulk.edge,
        "mp_ks_distance": bulk.ks_distance,
        "n_spikes": bulk.n_spikes,
        "soft_rank": bulk.soft_rank,
    }


def _comparison_columns(eigenvalues: Array, xmin: Threshold, xmax: float | None) -> dict[str, float]:
    positive = eigenvalues[eigenvalues > 0]
    if len(positive) < 3 or not has_spread(positive):
        return {}
    try:
        table = compare_distributions(positive, fit_power_law(positive, xmin, xmax))
    except (ValueError, FloatingPointError):
        return {}
    columns = {f"{name}_ratio": table.normalized_ratio[name] for name in table.index}
    return columns | {f"{name}_p_value": table.p_value[name] for name in table.index}
