"""Named tensors of a model, one at a time: modules, state dicts, safetensors and .pt files.

A safetensors file is read here and not by its own library, because that refuses a whole file for one bad
entry: here every tensor that lies whole in the file is read, and the others are named with their fault.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "C64": torch.complex64,
}
_PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_INDEX = ".index.json"
_LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library


class CheckpointError(RuntimeError):
    """A file that holds no model that can be read, with its name and the reason."""


@dataclass(frozen=True)
class Entry:
    """A named tensor that is not loaded yet, or the reason why it cannot be.

    Attributes
    ----------
    name : str
    load : callable
        Returns the tensor; raises CheckpointError with the reason if it cannot be read.
    """

    name: str
    load: Callable[[], Tensor]


def entries_of(model: nn.Module | Mapping[str, Any] | str | os.PathLike[str]) -> list[Entry]:
    """List the tensors of a model without reading them.

    Parameters
    ----------
    model : Module, mapping or path
        A module; a (nested) mapping of names to tensors or arrays; a ``.safetensors`` file, a sharded
        model's ``.index.json``, a ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` file of tensors, or a folder
        that holds one of these.

    Returns
    -------
    list of Entry
        In the order of the model.

    Raises
    ------
    FileNotFoundError, TypeError
        If there is no such file, or `model` is none of these.
    CheckpointError
        If the file is not what its name says.
    """
    if isinstance(model, nn.Module):
        return _of_mapping(model.state_dict(keep_vars=False), "")
    if isinstance(model, Mapping):
        return _with_names_of_their_own(_of_mapping(model, ""))
    if not isinstance(model, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"model must be a torch module, a state dict or a path; got {type(model).__name__}")
    path = Path(model)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_mapping(content: Mapping[Any, Any], prefix: str) -> list[Entry]:
    """Tensors of nested mappings and lists; what is no tensor (step counters, names) is not a weight."""
    found: list[Entry] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Tensor):
            found.append(Entry(name, lambda value=value: value.detach()))
        elif isinstance(value, np.ndarray):
            found.append(Entry(name, lambda value=value: _from_array(value)))
        elif isinstance(value, Mapping):
            found += _of_mapping(value, f"{name}.")
        elif isinstance(value, list | tuple):
            found += _of_mapping(dict(enumerate(value)), f"{name}.")
    return found


def _with_names_of_their_own(entries: list[Entry]) -> list[Entry]:
    """Nested names may coincide with flat ones: later ones get a number."""
    seen: Counter[str] = Counter()
    result: list[Entry] = []
    for entry in entries:
        seen[entry.name] += 1
        count = seen[entry.name]
        result.append(entry if count == 1 else Entry(f"{entry.name} ({count})", entry.load))
    return result


def _from_array(value: np.ndarray[Any, Any]) -> Tensor:
    try:
        return torch.from_numpy(np.array(value.astype(value.dtype.newbyteorder("="))))
    except TypeError as error:
        raise CheckpointError(f"an array of {value.dtype} is no tensor") from error


def _of_folder(folder: Path) -> list[Entry]:
    if indices := sorted(folder.glob(f"*.safetensors{_INDEX}")) or sorted(folder.glob(f"*{_INDEX}")):
        return _of_index(indices[0])
    for suffix in (".safetensors", *_PICKLED):
        if files := sorted(folder.glob(f"*{suffix}")):
            return [entry for file in files for entry in _of_file(file)]
    raise FileNotFoundError(f"{folder} holds no .safetensors, {', '.join(_PICKLED)} or {_INDEX} file")


def _of_file(path: Path) -> list[Entry]:
    if path.name.endswith(_INDEX):
        return _of_index(path)
    if path.suffix == ".safetensors":
        return list(_of_safetensors(path))
    if path.suffix in _PICKLED:
        return _of_pickle(path)
    raise CheckpointError(f"{path} must end in .safetensors, {_INDEX}, {', '.join(_PICKLED)}")


def _of_index(path: Path) -> list[Entry]:
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        wanted = {str(name): str(shard) for name, shard in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no index of shards: {type(error).__name__}: {error}") from error
    found: dict[str, Entry] = {}
    for shard in dict.fromkeys(wanted.values()):
        file = path.parent / shard
        try:
            if file.resolve().parent != path.parent.resolve():
                raise CheckpointError(f"{path} names {shard!r}, which is not in its own folder")
            if not file.is_file():
                raise CheckpointError(f"{file} is missing")
            found |= {entry.name: entry for entry in _of_file(file)}
        except CheckpointError as error:
            broken = str(error)
            names = (name for name, home in wanted.items() if home == shard)
            found |= {name: Entry(name, _refusal(broken)) for name in names}
    return [
        found.get(name, Entry(name, _refusal(f"{path.parent / shard} does not hold it")))
        for name, shard in wanted.items()
    ]


def _of_pickle(path: Path) -> list[Entry]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats; what counts is whether it can be read
            # Only tensors and plain containers are unpickled: a file with code in it is refused, not run.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise CheckpointError(
            f"{path} holds more than tensors{what} or is damaged; it was not run"
        ) from error
    except Exception as error:  # damaged bytes lead torch's reader to errors of every kind
        raise CheckpointError(f"{path} cannot be read as a torch file ({type(error).__name__})") from error
    if isinstance(content, Tensor):
        content = {path.stem: content}
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a mapping of names to tensors")
    return _with_names_of_their_own(_of_mapping(content, ""))


def _of_safetensors(path: Path) -> Iterator[Entry]:
    """Layout: 8 bytes little-endian header size, a JSON header, the data; offsets count from the data."""
    total = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise CheckpointError(f"{path} is no safetensors file: it has {total} bytes")
        (size,) = struct.unpack("<Q", prefix)
        if size > min(total - 8, _LARGEST_HEADER):
            raise CheckpointError(f"{path} is cut off or damaged: header of {size} bytes, file of {total}")
        raw = file.read(size)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a header that is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a header that is no table of tensors")
    begin = 8 + size
    for name, about in header.items():
        if name != "__metadata__":
            yield Entry(name, lambda about=about: _read(path, about, begin, total))


def _read(path: Path, about: Any, begin: int, total: int) -> Tensor:
    try:
        code, shape, (first, last) = about["dtype"], about["shape"], about["data_offsets"]
        numbers = [*shape, first, last]
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"its entry in the header of {path} is not one: {error!r}") from error
    if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise CheckpointError(f"{path} gives it shape {shape} and offsets {first}, {last}")
    if not isinstance(code, str) or code not in _DTYPES:
        raise CheckpointError(f"its type {code!r} in {path} is not known")
    dtype, count = _DTYPES[code], math.prod(shape)
    if last - first != count * dtype.itemsize:
        raise CheckpointError(f"{path} gives it {last - first} bytes; {code} of shape {shape} differs")
    if begin + last > total:
        raise CheckpointError(f"{path} is cut off: it ends at byte {total}, the tensor at {begin + last}")
    if count == 0:
        try:
            return torch.empty(shape, dtype=dtype)
        except RuntimeError as error:
            raise CheckpointError(f"{path} gives it shape {shape}") from error
    with path.open("rb") as file:
        file.seek(begin + first)
        data = bytearray(last - first)
        if file.readinto(data) != len(data):
            raise CheckpointError(f"{path} changed while it was read")
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _refusal(reason: str) -> Callable[[], Tensor]:
    def load() -> Tensor:
        raise CheckpointError(reason)

    return load
