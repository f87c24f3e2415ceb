"""Read the names of the tensors in a file.  Its first bytes say what it is, not its name."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from htlib.models.entries import (
    CheckpointError,
    Entry,
    Stored,
    entries_in,
    refusal,
    tensor_of,
)
from htlib.models.onnx_files import entries_of_onnx
from htlib.models.torch_files import content_of

_HTML = "an HTML page, not a model: the download failed, so repeat it with access to the file"
_WAYS = {  # first bytes -> what it is, and the way to the tensors
    b"version https://git-lfs": "a Git LFS pointer, not the file: run 'git lfs pull' in its repository",
    b"<!doctype html": _HTML,
    b"<html": _HTML,
    b"gguf": "a GGUF file, whose weights are packed: take the model that it was made from",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\xfd7zxz": "compressed by xz: unpack it first",
    b"bzh": "compressed by bzip2: unpack it first",
    b"rar!": "a RAR archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
}
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".tmp")
_ENDS = {  # formats without first bytes of their own -> the way to the tensors
    ".msgpack": "of Flax: flax.serialization.msgpack_restore gives a mapping, which ht.analyze takes",
    ".distcp": "part of a distributed checkpoint: make one file of it by "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save",
    ".pb": "a TensorFlow graph: pass {v.name: v for v in model.variables}",
    ".tflite": "a TensorFlow Lite model: pass the arrays of the model that it was made from",
    ".index": "of TensorFlow: pass {name: tf.train.load_variable(path, name) for each name}",
}
_SUFFIXES = dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".tar"), "torch") | {".safetensors": "safetensors"}
_INDEX = ".index.json"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_LONGEST = 100_000_000  # bytes of a safetensors header, as its format says


def format_of(path: Path) -> str | None:
    """Return the format of a file ("safetensors", "torch", "npz", "hdf5", "onnx", "index"), or None.

    Raises CheckpointError with a sentence for a file that is meant to be a model and is none.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from error
    if path.suffix in _UNFINISHED:
        raise CheckpointError(f"{path} is an unfinished download ({path.suffix}): let it end, or repeat it")
    if not head:
        raise CheckpointError(f"{path} is empty")
    lower = head[:64].lstrip().lower()
    for begin, way in _WAYS.items():
        if lower.startswith(begin) or head.startswith(begin):
            raise CheckpointError(f"{path} is {way}")
    if head[257:262] == b"ustar":
        raise CheckpointError(f"{path} is a tar archive: unpack it first")
    if path.name.endswith(_INDEX):
        return "index"
    if head[:4] == b"PK\x03\x04":
        return _format_of_zip(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "torch"
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix in _ENDS:
        raise CheckpointError(f"{path} is {_ENDS[path.suffix]}")
    if path.suffix in _SUFFIXES and head.isascii() and head.decode().replace("\n", " ").isprintable():
        raise CheckpointError(f"{path} is a text, not a model: it begins with {head[:40].decode()!r}")
    return _SUFFIXES.get(path.suffix)


def _format_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # NotImplementedError is how zipfile refuses an archive that asks for a later version of the format
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is cut off or damaged: {error}") from error
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    if "model.weights.h5" in names:
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise CheckpointError(f"{path} is a zip archive of other files: unpack it first")


def entries_of_file(path: Path) -> list[Entry]:
    """List the tensors of a file.  Raises CheckpointError with the reason if it is not a model's."""
    found = format_of(path)
    if found is None:
        raise CheckpointError(
            f"{path} is no model: tensors are read from safetensors, torch (.pt, .pth, .bin, .ckpt), NumPy "
            f"(.npz), ONNX and HDF5 (.h5, .keras) files and from {_INDEX} files"
        )
    return [
        entry
        if entry.file
        else replace(entry, file=path.name, identity=entry.identity and (path, entry.identity))
        for entry in _READERS[found](path)
    ]


def _of_torch(path: Path) -> list[Entry]:
    content = content_of(path)
    if isinstance(content, Stored):
        content = {path.stem: content}
    if isinstance(content, int | float | str | bytes | list | tuple) or content is None:
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a mapping of names to tensors")
    try:
        return entries_in(content)
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or holds what cannot be read: {error}") from error


def _of_safetensors(path: Path) -> list[Entry]:
    try:
        file = safe_open(path, framework="pt")
        names = file.offset_keys()
        slices = [file.get_slice(name) for name in names]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is cut off or damaged, or is not a safetensors file: {error}"
        ) from error
    return [
        Entry(name, partial(_load, path, name), tuple(s.get_shape()), _DTYPES.get(s.get_dtype()))
        for name, s in zip(names, slices, strict=True)
    ]


def _load(path: Path, name: str) -> Tensor:
    """Map the tensor into memory, by a map of its own: that of the file would keep all that was read."""
    try:
        return safe_open(path, framework="pt").get_tensor(name)
    except (SafetensorError, OSError, RuntimeError, AttributeError) as error:  # torch does not have the type
        raise CheckpointError(f"{path} holds what torch cannot load: {error}") from error


def _of_npz(path: Path) -> list[Entry]:
    archive = np.load(path, allow_pickle=False)
    return [Entry(name, partial(_load_npz, archive, path, name)) for name in archive.files]


def _load_npz(archive: Any, path: Path, name: str) -> Tensor:
    try:
        return tensor_of(archive[name])
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path}: {name!r} cannot be read: {error}") from error


def _of_npy(path: Path) -> list[Entry]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is cut off or damaged: {error}") from error
    return [Entry(path.stem, lambda: tensor_of(array), array.shape)]


def _of_index(path: Path) -> list[Entry]:
    """List the tensors that an index of shards names; one bad shard takes only its own with it."""
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        wanted = {str(name): str(shard) for name, shard in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no index of shards: {type(error).__name__}: {error}") from error
    found: dict[str, Entry] = {}
    for shard in dict.fromkeys(wanted.values()):
        file = path.parent / shard
        try:
            if file.name != shard:  # the file itself may be a link, as in the cache of a hub
                raise CheckpointError(f"{path} names {shard!r}, which is not in its own folder")
            if not file.is_file():
                raise CheckpointError(f"{file} is missing")
            found |= {entry.name: entry for entry in entries_of_file(file)}
        except CheckpointError as error:
            names = (name for name, home in wanted.items() if home == shard)
            found |= {name: Entry(name, refusal(str(error)), file=shard) for name in names}
    return [
        found.get(name, Entry(name, refusal(f"{path.parent / shard} does not hold it"), file=shard))
        for name, shard in wanted.items()
    ]


def _of_hdf5(path: Path, source: Any = None) -> list[Entry]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise CheckpointError(f"{path}: HDF5 files need h5py: pip install 'htlib[formats]'") from error
    try:
        file = h5py.File(source or path, "r")
        found: list[tuple[str, Any]] = []
        file.visititems(lambda name, item: found.append((name, item)) if hasattr(item, "dtype") else None)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is cut off or damaged: {error}") from error
    return [
        Entry(name.replace("/", "."), partial(tensor_of, item), item.shape, channels_last=True)
        for name, item in found
    ]


def _of_keras(path: Path) -> list[Entry]:
    with zipfile.ZipFile(path) as archive:
        return _of_hdf5(path, io.BytesIO(archive.read("model.weights.h5")))


_READERS: dict[str, Callable[[Path], list[Entry]]] = {
    "safetensors": _of_safetensors,
    "torch": _of_torch,
    "index": _of_index,
    "npz": _of_npz,
    "npy": _of_npy,
    "hdf5": _of_hdf5,
    "keras": _of_keras,
    "onnx": entries_of_onnx,
}
