"""Read the named tensors of a model, one at a time, from modules, state dicts, safetensors and .pt files.

All of a damaged file is refused, with the reason; the other files of a sharded model are still read.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_INDEX = ".index.json"


class CheckpointError(RuntimeError):
    """Report a file from which no model can be read, with its name and the reason."""


@dataclass(frozen=True)
class Entry:
    """A named tensor that is not loaded yet; `load` raises CheckpointError if it cannot be read."""

    name: str
    load: Callable[[], Tensor]


def entries_of(model: nn.Module | Mapping[str, Any] | str | os.PathLike[str]) -> list[Entry]:
    """List the tensors of a model, in its order, without reading them.

    The model is given as for `htlib.analyze`; mappings may be nested and may hold arrays.  Raises
    FileNotFoundError for a missing file, TypeError for another kind of model, and CheckpointError if the
    content of a file does not match its name.
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
    """List the tensors in nested mappings and lists; ignore all else, such as step counters and names."""
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
    """Make names unique: where a nested name equals a flat one, the later entry gets a number."""
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
            return [entry for file in files for entry in (_of_shard(file) if files[1:] else _of_file(file))]
    raise FileNotFoundError(f"{folder} holds no .safetensors, {', '.join(_PICKLED)} or {_INDEX} file")


def _of_file(path: Path) -> list[Entry]:
    if path.name.endswith(_INDEX):
        return _of_index(path)
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    if path.suffix in _PICKLED:
        return _of_pickle(path)
    raise CheckpointError(f"{path} must end in .safetensors, {_INDEX}, {', '.join(_PICKLED)}")


def _of_shard(path: Path) -> list[Entry]:
    """List the tensors of one of several files; if it cannot be read, return one entry with the reason."""
    try:
        return _of_file(path)
    except CheckpointError as error:
        return [Entry(path.name, _refusal(str(error)))]


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
            warnings.simplefilter("ignore")  # old formats warn, but can be read
            # Only tensors and plain containers are unpickled: a file with code in it is refused, not run.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise CheckpointError(
            f"{path} holds more than tensors{what} or is damaged; it was not run"
        ) from error
    except Exception as error:  # damaged bytes cause errors of every kind in torch's reader
        raise CheckpointError(f"{path} cannot be read as a torch file ({type(error).__name__})") from error
    if isinstance(content, Tensor):
        content = {path.stem: content}
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a mapping of names to tensors")
    return _with_names_of_their_own(_of_mapping(content, ""))


def _of_safetensors(path: Path) -> list[Entry]:
    try:
        file = safe_open(path, framework="pt")  # memory-mapped: a tensor is read when it is used
        return [Entry(name, partial(_load, file, path, name)) for name in file.offset_keys()]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is cut off or damaged, or is not a safetensors file: {error}"
        ) from error


def _load(file: safe_open, path: Path, name: str) -> Tensor:
    try:
        return file.get_tensor(name)
    except (SafetensorError, RuntimeError, AttributeError) as error:  # torch does not have the type
        raise CheckpointError(f"{path} holds what torch cannot load: {error}") from error


def _refusal(reason: str) -> Callable[[], Tensor]:
    def load() -> Tensor:
        raise CheckpointError(reason)

    return load
