"""Find the weight matrices among the tensors of a model, and compute their spectra.

Linear weights are taken as stored.  A convolution (out, in, k...) is cut into one (out, in) matrix per
position of the kernel, and the spectra are pooled.  WeightWatcher does the same, but also multiplies by a
factor.  A grouped convolution of a module gives one matrix per group and position.  A fused projection of
query, key and value is cut into three if its longer side is three times the other; "query_key_value" stays
whole, because the models that use this name interleave it by heads.  A stack of experts (three axes, "expert"
in the name) gives one matrix per expert, and their spectra are pooled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from htlib.models.checkpoints import CheckpointError, Entry
from htlib.spectra.eigenvalues import esd

Array = NDArray[np.float64]

_EMBEDDING = re.compile(r"(^|[._])(embeds?|embed_tokens|wte|wpe|tok_emb|pos_emb)([._]|$)|embedding", re.I)
_FUSED = re.compile(r"(^|[._])(in_proj_weight|(c_attn|qkv|qkv_proj|Wqkv|in_proj_qkv)\.weight)$")
_OPTIMIZER = re.compile(r"(^|\.)optim(izer)?(_states?|_state_dict)?\.")
_FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Selection:
    """A choice of layers."""

    include: tuple[str, ...] = ()  # shell patterns for names; if empty, all names are included
    exclude: tuple[str, ...] = ()
    embeddings: bool = False
    min_size: int = 10  # the smallest number of singular values that a layer must have

    def __post_init__(self) -> None:
        if self.min_size < 1:
            raise ValueError(f"min_size must be at least 1; got {self.min_size}")

    def refuses(self, name: str) -> str | None:
        """Return why a name is not taken, or None if it is."""
        if self.include and not any(fnmatchcase(name, pattern) for pattern in self.include):
            return "not included by the filter"
        if any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return "excluded by the filter"
        return "state of an optimizer" if _OPTIMIZER.search(name) else None


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight matrix, or the matrices of a convolution or of a stack of experts."""

    name: str
    kind: str  # "linear", "conv", "embedding", "experts", or "query", "key", "value" of a fused projection
    matrices: Tensor  # (count, h, d)
    dtype: torch.dtype  # as stored

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (h, d) of one matrix."""
        return int(self.matrices.shape[1]), int(self.matrices.shape[2])

    def eigenvalues(self) -> Array:
        """Return the pooled raw ESD, ascending; values that rounding of the entries can explain are zero."""
        values = np.sort(np.concatenate([esd(matrix) for matrix in self.matrices]))
        h, d = self.shape
        # largest eigenvalue of a matrix with one rounding error in each entry
        error = torch.finfo(self.dtype).eps * (math.sqrt(h) + math.sqrt(d))
        return np.where(values > error**2 * (values.sum() / self.matrices.numel()), values, 0.0)


@dataclass(frozen=True)
class Skipped:
    """A tensor that is not analysed, and the reason."""

    name: str
    reason: str


def layers_of(
    entries: Iterable[Entry], selection: Selection, module: nn.Module | None = None, device: str = "cpu"
) -> Iterator[Layer | Skipped]:
    """Yield the weight matrices of a model, with one tensor in memory at a time.

    If `module`, the model itself, is given, the types of its layers are used, which say more than names.
    """
    owners = _owners(module) if module is not None else {}
    seen: dict[tuple[Any, ...], str] = {}
    for entry in entries:
        if (reason := selection.refuses(entry.name)) is not None:
            yield Skipped(entry.name, reason)
            continue
        try:
            tensor = entry.load()
        except CheckpointError as error:
            yield Skipped(entry.name, str(error))
            continue
        reason = _unfit(tensor)
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if reason is None else ()
        if reason is None and module is not None and place in seen:
            reason = f"the same tensor as {seen[place]}"
        if reason is not None:
            yield Skipped(entry.name, reason)
            continue
        dtype = tensor.dtype
        tensor = tensor if dtype in _FLOATING else tensor.float()
        for part in _cut(entry.name, tensor, dtype, owners.get(entry.name), selection, device):
            if isinstance(part, Layer):
                seen.setdefault(place, entry.name)
            yield part


def _cut(
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    owner: nn.Module | None,
    selection: Selection,
    device: str,
) -> Iterator[Layer | Skipped]:
    """Cut a tensor into the matrices that it contains."""
    is_embedding = (
        isinstance(owner, nn.Embedding | nn.EmbeddingBag) if owner else bool(_EMBEDDING.search(name))
    )
    if is_embedding and not selection.embeddings:
        yield Skipped(name, "an embedding (embeddings=True takes them)")
        return
    parts: list[tuple[str, str, Tensor]]
    if tensor.ndim == 2:
        fused = _FUSED.search(name)
        long, short = max(tensor.shape), min(tensor.shape)
        if fused and long == 3 * short:
            thirds = tensor.chunk(3, dim=0 if tensor.shape[0] == long else 1)
            kinds = ("query", "key", "value")
            parts = [(f"{name}[{k}]", k, part[None]) for k, part in zip(kinds, thirds, strict=True)]
        else:
            parts = [(name, "embedding" if is_embedding else "linear", tensor[None])]
    elif tensor.ndim == 3 and "expert" in name:
        parts = [(name, "experts", tensor)]
    else:
        groups = getattr(owner, "groups", 1)
        if getattr(owner, "transposed", False):
            tensor = tensor.transpose(0, 1) if groups == 1 else tensor
        slices = tensor.reshape(groups, tensor.shape[0] // groups, tensor.shape[1], -1)
        parts = [(name, "conv", slices.permute(0, 3, 1, 2).flatten(0, 1))]
    for part_name, kind, matrices in parts:
        size = min(matrices.shape[1:])
        if size < selection.min_size:
            h, d = matrices.shape[1:]
            yield Skipped(part_name, f"{h} x {d} has {size} singular values, fewer than {selection.min_size}")
        elif matrices.min() == matrices.max() == 0:  # a tenth of the time of any()
            yield Skipped(part_name, "all entries are zero")
        else:
            yield Layer(part_name, kind, matrices.to(device), dtype)


def _unfit(tensor: Tensor) -> str | None:
    """Return why a tensor cannot be analysed, or None if it can."""
    if tensor.is_quantized:
        return f"quantised ({tensor.dtype}): dequantise the model first"
    if tensor.is_sparse or tensor.layout != torch.strided:
        return f"not dense ({tensor.layout})"
    if tensor.is_meta:
        return "on the meta device: it has no values"
    if not tensor.is_floating_point():
        what = "complex" if tensor.is_complex() else "integers, quantised weights or a buffer"
        return f"{what} ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.ndim < 2:
        return "a vector (bias or normalisation)" if tensor.ndim else "a single number"
    if tensor.numel() == 0:
        return f"empty: its shape is {tuple(tensor.shape)}"
    if tensor.ndim > 5:
        return f"{tensor.ndim} axes"
    if not _converts(tensor.dtype):
        return f"of a type that torch does not convert ({str(tensor.dtype).removeprefix('torch.')})"
    finite = tensor if tensor.dtype in _FLOATING else tensor.float()
    if not torch.isfinite(finite.sum()):
        bad = int((~torch.isfinite(finite)).sum())
        if bad:
            return f"NaN or infinity in {bad} of {tensor.numel()} entries"
    return None


def _converts(dtype: torch.dtype) -> bool:
    """Tell whether torch can convert the type to float32; it cannot convert packed types such as float4."""
    try:
        torch.empty(1, dtype=dtype).float()
    except NotImplementedError:  # the one way to know: torch.can_cast returns True for float4, too
        return False
    return True


def _owners(module: nn.Module) -> Mapping[str, nn.Module]:
    owners: dict[str, nn.Module] = {}
    for prefix, owner in module.named_modules():
        for name, _ in owner.named_parameters(recurse=False):
            owners[f"{prefix}.{name}" if prefix else name] = owner
    return owners
