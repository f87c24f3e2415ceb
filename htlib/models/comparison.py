"""Compare two checkpoints of one model, layer by layer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from htlib.models.checkpoints import Model, entries_of
from htlib.models.entries import Entry
from htlib.models.layers import PARTS, Layer, Selection, layers_of
from htlib.models.table import bulk_columns, layers_in, table_of, texts
from htlib.spectra.eigenvalues import stable_rank
from htlib.spectra.measures import spectrum_measures
from htlib.spectra.vectors import SingularSystem, overlaps_of

_PART = re.compile(rf"\[({'|'.join(PARTS)})\]$")
_WRAPPERS = re.compile(
    r"(^(module|state_dict|model_state_dict|model|net)\.)|((?<=\.)|^)(_orig_mod|_fsdp_wrapped_module|"
    r"_checkpoint_wrapped_module)\."
)


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
        ``spectral_norm_after``; ``update_stable_rank`` of dW and ``update_n_spikes``, the number of its
        eigenvalues beyond the noise edge (NaN if the rest is not as noise); ``left_overlap`` and
        ``right_overlap``, the mean squared cosine between the leading k-dimensional subspaces before and
        after; ``update_left_overlap`` and ``update_right_overlap``, the same between the subspaces before and
        the leading k vectors of the update, or as many as its rank; ``left_chance``, k / h, and
        ``right_chance``, k / d, the values for random subspaces.
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
    selection = Selection(texts(include), texts(exclude), (), embeddings, min_size)
    here = entries_of(before)
    there, bare = _matched(here, entries_of(after))

    def change(layer: Layer) -> dict[str, Any]:
        entry = there.get(_PART.sub("", layer.name))
        if entry is None:
            raise ValueError("only in the first model")
        others = {other.name: other for other in layers_of([entry], selection, device, there)}
        other = others.get(layer.name)
        if not isinstance(other, Layer):
            raise ValueError("in the second model: " + (other.reason if other else "cut differently"))
        if other.matrices.shape != layer.matrices.shape:
            shapes = tuple(layer.matrices.shape), tuple(other.matrices.shape)
            raise ValueError(f"shapes differ: {shapes[0]} and {shapes[1]}")
        return _change(layer, other, k)

    table = table_of(change, layers_in(here, selection, device, progress), ("name", "kind", "shape"))
    names = {entry.name for entry in here}
    table.attrs["skipped"] |= {bare[n]: "only in the second model" for n in there if n not in names}
    return table


def _matched(before: list[Entry], after: list[Entry]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Give the second model's entries the names of the first's, whatever wrappers its names begin with.

    Also return the names that they had.
    """
    here = {_WRAPPERS.sub("", entry.name): entry.name for entry in before}
    exact = {entry.name for entry in before}
    there, bare = dict[str, Entry](), dict[str, str]()
    for entry in after:
        name = entry.name if entry.name in exact else here.get(_WRAPPERS.sub("", entry.name), entry.name)
        if name not in there:
            there[name] = replace(entry, name=name)
            bare[name] = entry.name
    return there, bare


def _change(before: Layer, after: Layer, k: int) -> dict[str, Any]:
    h, d = before.shape
    first, second = before.matrices.double(), after.matrices.double()  # (count, h, d)
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
    row |= dict.fromkeys(("update_stable_rank", "update_n_spikes", *columns), np.nan)
    if len(first) == 1:
        old = SingularSystem(first[0])
        row["left_overlap"], row["right_overlap"] = overlaps_of(old, SingularSystem(second[0]), k).subspace(k)
        if update.any():
            change = SingularSystem(update[0])
            row["update_stable_rank"] = stable_rank(change.eigenvalues)
            bulk = bulk_columns(replace(before, matrices=update), change.eigenvalues)
            row["update_n_spikes"] = bulk["n_spikes"] if bulk["has_bulk"] else np.nan
            # beyond the rank of the change, such as that of an adapter, its vectors are those of rounding
            rounding = before.rounding * (math.sqrt(h) + math.sqrt(d)) * float(first.square().mean().sqrt())
            rank = min(k, int((change.eigenvalues > rounding**2).sum()))
            if rank:
                between = overlaps_of(old, change, k)
                row["update_left_overlap"] = float(between.left[:, :rank].sum() / rank)
                row["update_right_overlap"] = float(between.right[:, :rank].sum() / rank)
    return row | {"left_chance": k / h, "right_chance": k / d}
