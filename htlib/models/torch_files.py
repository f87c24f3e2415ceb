"""Read the tensors of torch files, TorchScript archives and pickles without importing or running anything.

A pickle is a program.  This reader runs its instructions, but every class and function that it names is
only a name: the few that build tensors, arrays and containers are imitated here, and all others give an
object without behaviour, which keeps what it is given.  Tensors stay in the file, mapped into memory.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from htlib.models.entries import CheckpointError, Opaque, Stored, tensor_of

_Unpickler: Any = pickle._Unpickler  # pyright: ignore[reportPrivateUsage]  # that of C allots memory unasked
_MAGIC = 0x1950A86A20F9469CFC6C  # of files older than the zip format
_TYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}


@dataclass(frozen=True)
class _Name:
    """A class or function that a pickle names."""

    module: str
    name: str

    def dtype(self) -> torch.dtype:
        """Return the type of numbers of a storage class or of a dtype."""
        known = _TYPES.get(self.name.removesuffix("Storage")) if self.name.endswith("Storage") else None
        found = known or (getattr(torch, self.name, None) if self.module == "torch" else None)
        if not isinstance(found, torch.dtype):
            raise CheckpointError(f"{self.module}.{self.name} is no type of numbers")
        return found


@dataclass(frozen=True)
class _Storage:
    """The numbers that tensors share, by their key in the file."""

    dtype: torch.dtype
    key: str


class _Type:
    """A dtype of NumPy."""

    def __init__(self, text: str, *_: Any) -> None:
        self.dtype = np.dtype(str(text))
        if self.dtype.hasobject:
            raise CheckpointError("an array of objects")

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Stored):
    """An array of NumPy; `build` gives it its numbers."""

    def __init__(self, *_: Any) -> None:
        super().__init__(lambda: torch.empty(0), (0,))

    @classmethod
    def of(cls, data: Any, kind: _Type, shape: tuple[int, ...], order: str = "C") -> _Array:
        array = cls()
        array.build((1, shape, kind, order == "F", data))
        return array

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.shape = tuple(map(int, shape))
        self.load = partial(_from_bytes, data, kind.dtype, self.shape, "F" if fortran else "C")


def _from_bytes(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> Tensor:
    try:
        return tensor_of(np.frombuffer(data, dtype).reshape(shape, order=order))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"an array that cannot be read: {error}") from error


def content_of(path: Path) -> Any:
    """Return what a torch file, a TorchScript archive or a pickle holds, each tensor as `Stored`.

    Raises CheckpointError with the name of the file if it is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            return _of_zip(path)
        with path.open("rb") as file:
            return _of_stream(path, file)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged, or holds what cannot be read: {error}") from error
    except Exception as error:  # damaged bytes cause errors of every kind
        raise CheckpointError(
            f"{path} is damaged or cut off, or is not a torch file ({type(error).__name__}: {error})"
        ) from error


def _of_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in infos if name.endswith("data.pkl")]
        if len(roots) != 1:
            raise CheckpointError("a zip archive without a data.pkl is not of torch")
        root = roots[0]
        program = archive.read(infos[f"{root}data.pkl"])
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in infos else b"little"
    swap = order == b"big"

    def load_bytes(key: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        info = infos.get(f"{root}data/{key}")
        if info is None:
            raise CheckpointError(f"{path} has no data {key!r}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path}: data {key!r} is compressed, which torch does not do")
        with path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(30)
        begin = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        return _mapped(path, begin, info.file_size)

    return _Reader(io.BytesIO(program), partial(_load, load_bytes, swap)).load()


def _of_stream(path: Path, file: IO[bytes]) -> Any:
    """Read a plain pickle, or the older format of torch: pickles, then the bytes of all storages."""
    places: dict[str, tuple[int, int]] = {}

    def load_bytes(key: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if key not in places:
            raise CheckpointError(f"{path} has no data {key!r}")
        return _mapped(path, *places[key])

    first = _Reader(file, None).load()
    if first != _MAGIC:
        return first
    _Reader(file, None).load()  # the version of the format
    system = _Reader(file, None).load()
    swap = isinstance(system, Mapping) and system.get("little_endian") is False
    reader = _Reader(file, partial(_load, load_bytes, swap))
    content = reader.load()
    for key in _Reader(file, None).load():
        (count,) = struct.unpack("<q", file.read(8))
        size = count * reader.types[key].itemsize
        begin = file.tell()
        if count < 0 or begin + size > path.stat().st_size:
            raise CheckpointError(f"it ends before its data {key!r} does")
        places[key] = begin, size
        file.seek(begin + size)
    return content


def _mapped(path: Path, begin: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if begin + size > path.stat().st_size:
        raise CheckpointError(f"{path} is cut off")
    return np.memmap(path, np.uint8, "c", begin, (size,)) if size else np.empty(0, np.uint8)


def _load(
    load_bytes: Callable[[str], np.ndarray[Any, np.dtype[np.uint8]]],
    swap: bool,
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
) -> Tensor:
    try:
        raw = load_bytes(storage.key)
        width = storage.dtype.itemsize
        if swap and width > 1:
            raw = raw[: len(raw) // width * width].reshape(-1, width)[:, ::-1].reshape(-1)
        if math.prod(shape) * width > len(raw):
            raise CheckpointError(f"its shape {tuple(shape)} needs more numbers than the file has")
        if not math.prod(shape):
            return torch.empty(shape, dtype=storage.dtype)
        flat = torch.from_numpy(raw[: len(raw) // width * width])
        if flat.data_ptr() % width:
            flat = flat.clone()
        return flat.view(storage.dtype).as_strided(shape, stride, offset)
    except (RuntimeError, TypeError, ValueError, OSError, OverflowError, struct.error) as error:
        raise CheckpointError(f"it cannot be read: {error}") from error


class _Reader(_Unpickler):
    """Read a pickle with names in place of classes and functions."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, file: IO[bytes], load: Callable[..., Tensor] | None) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._load, self.types = load, dict[str, torch.dtype]()
        self._built: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self._typed_tensor,
            ("torch._utils", "_rebuild_parameter"): _first,
            ("torch._utils", "_rebuild_parameter_with_state"): _first,
            ("torch._tensor", "_rebuild_from_type_v2"): self._subclass,
            ("torch._utils", "_rebuild_qtensor"): partial(_unread, "quantised: dequantise the model first"),
            ("torch._utils", "_rebuild_sparse_tensor"): partial(_unread, "not dense"),
            ("torch._utils", "_rebuild_meta_tensor_no_storage"): partial(_unread, "without values"),
            ("torch.jit._pickle", "restore_type_tag"): _first,
            ("torch.jit._pickle", "build_tensorlist"): _first,
            ("torch", "Size"): lambda *given: tuple(*given),
            ("collections", "OrderedDict"): lambda *given: dict(*given),
            ("collections", "defaultdict"): lambda *_: {},
            ("_codecs", "encode"): lambda text, *_: text.encode("latin1"),
            ("numpy", "dtype"): _Type,
        }
        for module in ("numpy.core", "numpy._core"):
            self._built[f"{module}.multiarray", "_reconstruct"] = _Array
            self._built[f"{module}.numeric", "_frombuffer"] = _Array.of

    def find_class(self, module: str, name: str) -> _Name:
        return _Name(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        if self._load is None or not isinstance(pid, tuple) or len(pid) < 3 or pid[0] != "storage":
            raise CheckpointError("it refers to something outside")
        storage = _Storage(pid[1].dtype(), str(pid[2]))
        self.types[storage.key] = storage.dtype
        return storage

    def get_extension(self, code: int) -> None:
        raise CheckpointError("it uses the registry of extensions")

    def _tensor(self, storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> Stored:
        shape, stride = tuple(map(int, shape)), tuple(map(int, stride))
        load = partial(self._load or _first, storage, int(offset), shape, stride)
        return Stored(load, shape, storage.dtype, (storage, offset, shape, stride))

    def _typed_tensor(
        self,
        storage: _Storage,
        offset: int,
        shape: Any,
        stride: Any,
        grad: Any,
        hooks: Any,
        dtype: _Name,
        *_: Any,
    ) -> Stored:
        return self._tensor(_Storage(dtype.dtype(), storage.key), offset, shape, stride)

    def _subclass(self, function: _Name, kind: Any, given: tuple[Any, ...], *_: Any) -> Any:
        return self._call(function, given)

    def _call(self, function: Any, given: tuple[Any, ...]) -> Any:
        if isinstance(function, Opaque):
            return Opaque(f"{function.what}()", given)
        if not isinstance(function, _Name):
            raise CheckpointError("it calls what is no function")
        build = self._built.get((function.module, function.name))
        return build(*given) if build else Opaque(f"{function.module}.{function.name}", given)

    def load_reduce(self) -> None:
        given = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], given)

    def load_newobj_ex(self) -> None:
        named, given = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], (*given, *named.values()))

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("utf-8") for _ in range(2))
        given = self.pop_mark()
        self.append(self._call(_Name(module, name), tuple(given)))

    def load_obj(self) -> None:
        function, *given = self.pop_mark()
        self.append(self._call(function, tuple(given)))

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, Opaque):
            built.state = state
        elif isinstance(built, _Type | _Array):
            built.build(state)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.INST[0]] = load_inst
    dispatch[pickle.OBJ[0]] = load_obj
    dispatch[pickle.BUILD[0]] = load_build


def _first(value: Any, *_: Any) -> Any:
    return value


def _unread(reason: str, *_: Any) -> Stored:
    return Stored(lambda: torch.empty(0), None, reason=reason)
