"""Find the weight matrices among the tensors of a model, and compute their spectra.

Linear weights are taken as stored.  A convolution (out, in, k...) is cut into one (out, in) matrix per
position of the kernel, and the spectra are pooled; grouped convolutions too, as a file does not say that they
are grouped.  WeightWatcher does the same, but also multiplies by a factor.  A fused projection of query, key
and value is cut into three if its longer side is three times the other; "query_key_value" stays whole, as
the models that use this name interleave it by heads.  The stacked gates of LSTM and GRU layers are cut apart.
Other weights of three axes are stacks of matrices (experts, bilinear forms), whose spectra are pooled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from htlib.models.entries import CheckpointError, Entry
from htlib.models.weights import part_of_quantised
from htlib.spectra.in_place import esd_in_place

Array = NDArray[np.float64]

_EMBEDDING = re.compile(r"(^|[._])(embeds?|embed_tokens|wte|wpe|tok_emb|pos_emb)([._]|$)|embedding", re.I)
_FUSED = re.compile(r"(^|[._])(in_proj_weight|(c_attn|qkv|qkv_proj|Wqkv|in_proj_qkv)\.weight)$")
_RECURRENT = re.compile(r"^(.*)weight_(ih|hh)(_l\d+(_reverse)?)?$")
_GATES = {3: ("reset", "update", "new"), 4: ("input", "forget", "cell", "output")}  # in the order of torch
PARTS = ("query", "key", "value", *_GATES[3], *_GATES[4])
_NO_WEIGHT = {  # what a name says of a tensor that is no weight
    r"(^|[./])optim(izer)?s?(_\w+)?\.|(^|[./])opt_states?\.|(^|[._])exp_avg(_sq)?(_\w+)?([._]|$)"
    r"|(^|[._])(momentum_buffer|max_exp_avg_sq|exp_inf|square_avg)([._]|$)": "state of an optimizer",
    r"(^|[._])mask(_bias)?$": "a mask",
    r"(^|[._])(pos_embed|pos_encoding|positional_encoding|position_bias|pe|relative_position_bias_table"
    r"|relative_attention_bias\.weight|position_ids|relative_position_index|inv_freq|freqs_cis|freqs_(cos|sin)"
    r"|(cos|sin)_cached|rope_cache)$": "a table of positions",
    r"(_buffer|\.running_mean|\.running_var|\.num_batches_tracked)$": "a buffer",
    r"(^|\.)parametrizations\.": "a part of a parametrised weight, which the file does not put together",
}
KINDS = ("linear", "conv", "stack", "query", "key", "value", "gate", "update", "embedding")
_FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Selection:
    """A choice of layers, and of how they are cut."""

    include: tuple[str, ...] = ()  # shell patterns for names; if empty, all names are included
    exclude: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()  # if empty, all kinds are included
    embeddings: bool = False
    min_size: int = 10  # the smallest number of singular values that a layer must have, pooled
    max_size: int | None = None  # the largest shorter side of a matrix
    conv: str = "slices"  # or "flat": one matrix (out, in k...)
    layout: str = "auto"  # of kernels: "torch" (out, in, k...), "keras" (k..., in, out)

    def __post_init__(self) -> None:
        if self.min_size < 1:
            raise ValueError(f"min_size must be at least 1; got {self.min_size}")
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ValueError(f"kinds must be of {', '.join(KINDS)}; got {unknown[0]!r}")
        for name, allowed in (("conv", ("slices", "flat")), ("layout", ("auto", "torch", "keras"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}")

    def refuses(self, name: str) -> str | None:
        """Return why a name is not taken, or None if it is."""
        if self.include and not any(fnmatchcase(name, pattern) for pattern in self.include):
            return "not included by the filter"
        if any(fnmatchcase(name, pattern) for pattern in self.exclude):
            return "excluded by the filter"
        return None


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight matrix, or the matrices of a convolution or of a stack."""

    name: str
    kind: str  # one of KINDS
    matrices: Tensor  # (count, h, d)
    dtype: torch.dtype  # as stored
    rounding: float  # relative error of an entry
    file: str = ""
    spectrum: Future[Array] | None = None  # in the making

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (h, d) of one matrix."""
        return int(self.matrices.shape[1]), int(self.matrices.shape[2])

    def live_shape(self) -> tuple[int, int]:
        """Return the shape without the rows and columns that are zero in all matrices."""
        alive = self.matrices.ne(0).any(dim=0)
        return int(alive.any(dim=1).sum()), int(alive.any(dim=0).sum())

    def eigenvalues(self) -> Array:
        """Return the pooled raw ESD, ascending; values that rounding of the entries can explain are zero."""
        return self.compute(esd_in_place) if self.spectrum is None else self.spectrum.result()

    def compute(self, esd: Callable[[Tensor], Array]) -> Array:
        """Compute the eigenvalues, with `esd` for each matrix."""
        values = np.sort(np.concatenate([esd(matrix) for matrix in self.matrices]))
        h, d = self.shape
        # largest eigenvalue of a matrix with one rounding error in each entry
        error = self.rounding * (math.sqrt(h) + math.sqrt(d))
        return np.where(values > error**2 * (values.sum() / self.matrices.numel()), values, 0.0)


@dataclass(frozen=True)
class Skipped:
    """A tensor that is not analysed, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Part:
    """A piece of a tensor: its kind and the shape (count, h, d) of its matrices."""

    name: str
    kind: str
    take: slice  # along the axis that is cut


def layers_of(
    entries: Iterable[Entry],
    selection: Selection,
    device: str = "cpu",
    known: Mapping[str, Entry] | None = None,
) -> Iterator[Layer | Skipped]:
    """Yield the weight matrices of a model, with one tensor in memory at a time.

    `known` are all entries of the model by name, where `entries` are some of them: the shapes of a layer's
    other weights say how many gates one has.
    """
    entries = list(entries) if known is None else entries
    known = {entry.name: entry for entry in entries} if known is None else known
    seen: dict[object, str] = {}
    for entry in entries:
        reason = selection.refuses(entry.name) or entry.reason or _said_by_name(entry.name)
        if reason is None and entry.identity is not None and entry.identity in seen:
            reason = f"the same tensor as {seen[entry.identity]}"
        tensor = None
        if reason is None:
            try:
                tensor = entry.load()
                reason = _unfit(tensor)
            except CheckpointError as error:
                reason = str(error)
        if tensor is None or reason is not None:
            yield Skipped(entry.name, reason or "")
            continue
        for part in _cut(entry, tensor, selection, device, known):
            if isinstance(part, Layer) and entry.identity is not None:
                seen.setdefault(entry.identity, entry.name)
            yield part


def _said_by_name(name: str) -> str | None:
    for pattern, reason in _NO_WEIGHT.items():
        if re.search(pattern, name):
            return reason
    return part_of_quantised(name)


def _cut(
    entry: Entry,
    tensor: Tensor,
    selection: Selection,
    device: str,
    known: Mapping[str, Entry],
) -> Iterator[Layer | Skipped]:
    """Cut a tensor into the matrices that it contains."""
    name, dtype, rounding = entry.name, entry.dtype or tensor.dtype, torch.finfo(tensor.dtype).eps
    tensor = tensor if tensor.dtype in _FLOATING else tensor.float()
    named = entry.kind is None and bool(_EMBEDDING.search(name)) and tensor.ndim == 2
    is_embedding = entry.kind == "embedding" or named
    if is_embedding and not selection.embeddings:
        yield Skipped(name, "an embedding (embeddings=True takes them)")
        return
    parts: list[tuple[str, str, Tensor]]
    if tensor.ndim == 2 and entry.gates:
        tensor = tensor[None]
    if entry.gates and tensor.ndim == 3 and tensor.shape[1] % len(entry.gates) == 0:
        blocks = tensor.chunk(len(entry.gates), dim=1)  # the first axis is that of directions
        parts = [(f"{name}[{g}]", "gate", block) for g, block in zip(entry.gates, blocks, strict=True)]
    elif tensor.ndim == 2:
        fused = _FUSED.search(name)
        long, short = max(tensor.shape), min(tensor.shape)
        if fused and long == 3 * short:
            thirds = tensor.chunk(3, dim=0 if tensor.shape[0] == long else 1)
            kinds = ("query", "key", "value")
            parts = [(f"{name}[{k}]", k, part[None]) for k, part in zip(kinds, thirds, strict=True)]
        elif gates := _GATES.get(_count_of_gates(name, tuple(tensor.shape), known)):
            blocks = tensor.chunk(len(gates))
            parts = [(f"{name}[{g}]", "gate", block[None]) for g, block in zip(gates, blocks, strict=True)]
        else:
            kind = "embedding" if is_embedding else "update" if entry.kind == "update" else "linear"
            parts = [(name, kind, tensor[None])]
    elif tensor.ndim == 3 and not _is_kernel(entry, tuple(tensor.shape)):
        parts = [(name, "stack", tensor)]
    else:
        if _channels_last(entry, selection, tuple(tensor.shape)):
            tensor = tensor.permute(tensor.ndim - 1, tensor.ndim - 2, *range(tensor.ndim - 2))
        flat = selection.conv == "flat"
        matrices = tensor.flatten(1)[None] if flat else tensor.flatten(2).permute(2, 0, 1)
        parts = [(name, "conv", matrices)]
    for part_name, kind, matrices in parts:
        if (reason := _too_small(matrices, kind, selection)) is not None:
            yield Skipped(part_name, reason)
        else:
            yield Layer(part_name, kind, matrices.to(device), dtype, rounding, entry.file)


def _too_small(matrices: Tensor, kind: str, selection: Selection) -> str | None:
    count, h, d = matrices.shape
    size = min(h, d)
    if selection.kinds and kind not in selection.kinds:
        return f"of the kind {kind!r}, which is not selected"
    if size < 2 or size * count < selection.min_size:
        pooled = f"{count} x " if count > 1 else ""
        hint = " (conv='flat' may have one)" if kind == "conv" and count > 1 else ""
        return (
            f"{pooled}{h} x {d} has {size * count} singular values, fewer than {max(2, selection.min_size)}"
            if (size * count < selection.min_size)
            else f"{pooled}{h} x {d}: a single row or column has no spectrum{hint}"
        )
    if selection.max_size is not None and size > selection.max_size:
        return f"{h} x {d} is larger than {selection.max_size}"
    return "all entries are zero" if matrices.min() == matrices.max() == 0 else None  # faster than any()


def _is_kernel(entry: Entry, shape: tuple[int, ...]) -> bool:
    """Tell a kernel (out, in, k) from a stack of matrices; kernels are short, and mostly odd."""
    if entry.kind in ("conv", "embedding"):
        return True
    if entry.kind == "stack" or "expert" in entry.name:
        return False
    k = shape[-1]
    return "conv" in entry.name.lower() or k <= 10 or (k % 2 == 1 and k < 64)


def _channels_last(entry: Entry, selection: Selection, shape: tuple[int, ...]) -> bool:
    if selection.layout != "auto":
        return selection.layout == "keras"
    if entry.channels_last:
        return True
    named = re.search(r"(^|[./_])kernel(:0)?$", entry.name) is not None  # as Keras and Flax do, and others
    return named and max(shape[:-2], default=0) <= max(shape[-2:])


def _count_of_gates(name: str, shape: tuple[int, ...], known: Mapping[str, Entry]) -> int:
    """Return how many gates are stacked in the weight of a recurrent layer, by the size of its state."""
    match = _RECURRENT.search(name)
    if match is None:
        return 0
    stem, end = match[1], match[3] or ""
    projection, own = known.get(f"{stem}weight_hr{end}"), known.get(f"{stem}weight_hh{end}")
    if projection is not None and projection.shape:
        size = projection.shape[1]
    elif own is not None and own.shape:
        size = own.shape[1]
    else:
        return 0
    return shape[0] // size if size and shape[0] % size == 0 else 0


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
