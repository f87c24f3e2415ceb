"""Name the tensors of a model without reading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST = 1_000_000  # values of a file; a pickle that refers to itself has more
_DEEPEST = 100
_WRAPPED = ("_parameters", "_buffers", "_modules")  # the attributes of a pickled module that hold its tensors


class CheckpointError(RuntimeError):
    """Report a file from which no model can be read, with its name and the reason."""


@dataclass(frozen=True)
class Entry:
    """A named tensor that is not loaded yet; `load` raises CheckpointError if it cannot be read."""

    name: str
    load: Callable[[], Tensor]
    shape: tuple[int, ...] | None = None  # None where only `load` can tell
    dtype: torch.dtype | None = None  # as stored; None where only `load` can tell
    kind: str | None = None  # "embedding", "conv" or "other", where the type of the layer is known
    channels_last: bool = False  # a kernel is stored as (k, k, in, out)
    gates: tuple[str, ...] = ()  # of a recurrent layer, stacked along the last axis but one
    reason: str | None = None  # why it is no weight, where that is known without loading it
    part_of: str | None = None  # the weight that it is an ingredient of
    identity: object = None  # the same for all names of one tensor
    file: str = ""


@dataclass(eq=False)
class Stored:
    """A tensor of a file, as the readers of files describe it."""

    load: Callable[[], Tensor]
    shape: tuple[int, ...] | None
    dtype: torch.dtype | None = None
    identity: object = None
    reason: str | None = None


class Opaque:
    """An object of a pickle whose class is not imported; what was put into it can be walked through."""

    def __init__(self, what: str, arguments: tuple[Any, ...] = ()) -> None:
        self.what = what
        self.state: Any = None
        self.items: dict[Any, Any] = dict(enumerate(arguments))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        self.items[len(self.items)] = value

    def extend(self, values: list[Any]) -> None:
        for value in values:
            self.append(value)


def refusal(reason: str) -> Callable[[], Tensor]:
    """Return a `load` that fails with the reason."""

    def load() -> Tensor:
        raise CheckpointError(reason)

    return load


def entries_in(content: Any) -> list[Entry]:
    """List the tensors and arrays in nested mappings, lists and unpickled objects; ignore all else.

    What a torch optimizer keeps (a mapping with "state" and "param_groups") is marked as no weight.
    """
    return with_names_of_their_own(list(_walk(content, "", None, _Walk())))


def with_names_of_their_own(entries: list[Entry]) -> list[Entry]:
    """Make names unique: where a nested name equals a flat one, the later entry gets a number."""
    seen: Counter[str] = Counter()
    result: list[Entry] = []
    for entry in entries:
        seen[entry.name] += 1
        count = seen[entry.name]
        result.append(entry if count == 1 else replace(entry, name=f"{entry.name} ({count})"))
    return result


@dataclass
class _Walk:
    """How far a walk through a content has come."""

    visited: int = 0
    objects: set[int] = field(default_factory=set[int])  # which may refer to one another
    path: list[int] = field(default_factory=list[int])


def _walk(value: Any, name: str, reason: str | None, walk: _Walk) -> Iterator[Entry]:
    walk.visited += 1
    if walk.visited > _MOST or len(walk.path) > _DEEPEST:
        raise CheckpointError("more than a million values, or a hundred levels of them")
    if isinstance(value, Stored):
        reason = value.reason or reason
        yield Entry(name, value.load, value.shape, value.dtype, reason=reason, identity=value.identity)
    elif isinstance(value, Tensor):
        load, shape, identity = value.detach, tuple(value.shape), _identity(value)
        yield Entry(name, load, shape, value.dtype, reason=reason, identity=identity)
    elif _is_array(value):
        shape = tuple(map(int, value.shape))
        yield Entry(name, lambda: tensor_of(value), shape, reason=reason, identity=_place(value))
    elif id(value) not in walk.objects and id(value) not in walk.path:
        if isinstance(value, Opaque):
            walk.objects.add(id(value))
        walk.path.append(id(value))
        if isinstance(value, Mapping) and value.keys() >= {"state", "param_groups"}:
            reason = "state of an optimizer"
        for key, child in _children(value):
            inner = name if key in _WRAPPED and isinstance(value, Opaque) else f"{name}.{key}".lstrip(".")
            buffer = "a buffer" if key == "_buffers" and isinstance(value, Opaque) else None
            yield from _walk(child, inner, reason or buffer, walk)
        walk.path.pop()


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, Opaque):
        return [*value.items.items(), *_children(value.state)]
    return []


def _is_array(value: Any) -> bool:
    """Tell arrays of NumPy, JAX, TensorFlow, h5py and others from numbers, texts and configurations."""
    return hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype")


def tensor_of(value: Any) -> Tensor:
    """Return a copy of an array as a tensor."""
    if isinstance(value, np.ma.MaskedArray):
        raise CheckpointError("a masked array: fill it, or compress it, first")
    try:
        array = np.asarray(value)
    except Exception as error:  # the array of another library, with errors of its own
        raise CheckpointError(f"NumPy cannot read it ({type(error).__name__}: {error})") from error
    name = array.dtype.name
    if name == "bfloat16":  # a type of ml_dtypes, which torch has too
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    if array.dtype.kind == "V" and "float" in name:
        return torch.from_numpy(array.astype(np.float32))
    try:
        return torch.from_numpy(np.array(array.astype(array.dtype.newbyteorder("="))))
    except TypeError as error:
        raise CheckpointError(f"an array of {array.dtype} is no tensor") from error


def _identity(tensor: Tensor) -> object:
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.numel() or not tensor.data_ptr():
        return None
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _place(array: Any) -> object:
    if not isinstance(array, np.ndarray) or not array.size:
        return id(array)
    return array.__array_interface__["data"][0], array.shape, array.strides, str(array.dtype)
