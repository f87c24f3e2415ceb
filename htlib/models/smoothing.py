"""Remove a part of the singular values of every weight matrix of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from htlib.models.checkpoints import Model, entries_of
from htlib.models.layers import Layer, Selection, layers_of
from htlib.models.table import texts
from htlib.spectra.spikes import fit_marchenko_pastur


def smooth(
    model: Model,
    rank: int | str = "edge",
    keep: str = "leading",
    *,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    embeddings: bool = False,
    min_size: int = 10,
) -> dict[str, Tensor]:
    """Keep only the leading singular values of each weight matrix, or only the others.

    The test of what the outliers or the bulk of a spectrum are worth: load the result into the model and
    measure its loss (SVD smoothing of Martin & Mahoney's WeightWatcher).

    Parameters
    ----------
    model : Module, mapping, str or path
        As for `htlib.analyze`.  It is not changed.
    rank : int or "edge"
        Number of leading singular values of each matrix, or as many as lie beyond the edge of its
        Marchenko-Pastur bulk; a layer without a bulk is left as it is.
    keep : {"leading", "rest"}
        Which part stays.
    include, exclude, embeddings, min_size
        As for `htlib.analyze`; other tensors are returned as they are.

    Returns
    -------
    dict of str to Tensor
        For ``module.load_state_dict``.

    Raises
    ------
    ValueError
        If an option is not allowed, or the model stores weights in parts (as weight normalisation does).

    Examples
    --------
    >>> W = torch.randn(40, 30)
    >>> torch.linalg.matrix_rank(smooth({"w": W}, 5)["w"]).item()
    5
    """
    if rank != "edge" and not (isinstance(rank, int) and rank >= 0):
        raise ValueError(f"rank must be a whole number, not negative, or 'edge'; got {rank!r}")
    if keep not in ("leading", "rest"):
        raise ValueError(f"keep must be 'leading' or 'rest'; got {keep!r}")
    selection = Selection(texts(include), texts(exclude), embeddings=embeddings, min_size=min_size)
    entries = entries_of(model)
    known = {entry.name: entry for entry in entries}
    result: dict[str, Tensor] = {}
    for entry in entries:
        if entry.part_of is not None:
            raise ValueError(f"{entry.name} is {entry.reason}: smooth a model whose weights are whole")
        result[entry.name] = tensor = entry.load().clone()
        own = replace(entry, load=lambda tensor=tensor: tensor, identity=None)
        for layer in layers_of([own], selection, known=known):
            if isinstance(layer, Layer) and (count := _count(layer, rank)) is not None:
                for matrix in layer.matrices:  # views of the tensor
                    matrix.copy_(_part(matrix, count, keep))
    return result


def _count(layer: Layer, rank: int | str) -> int | None:
    """Return how many singular values are the leading ones of each matrix, or None without a bulk."""
    if isinstance(rank, int):
        return rank
    count = len(layer.matrices)
    try:
        bulk = fit_marchenko_pastur(layer.eigenvalues(), *layer.live_shape(), n_matrices=count)
    except ValueError:
        return None
    return round(bulk.n_spikes / count) if bulk.has_bulk else None


def _part(matrix: Tensor, count: int, keep: str) -> Tensor:
    U, s, V = torch.linalg.svd(matrix.double(), full_matrices=False)
    chosen = slice(0, count) if keep == "leading" else slice(count, None)
    return ((U[:, chosen] * s[chosen]) @ V[chosen]).to(matrix.dtype)
