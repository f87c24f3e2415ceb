"""A folder of finished runs, which are looked up by what they computed.

    <folder>/htlib-store.json           marks the folder as a store
    <folder>/runs/<code>/ab/ab12....safetensors     one file per run, written by `Trajectory.save`
    <folder>/set-aside/                 files that failed their checks
    <folder>/locks/                     held while a process computes; the system frees them when it dies

The name of a file is a digest of its configuration and of the options that decide what is kept.  <code> is a
digest of the code that decides the numbers (`htlib.sweeps.numerics`), so that a changed trainer never reads
old results.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from htlib.student.files import write_atomically
from htlib.sweeps.kinds import Config, Run, kind_of
from htlib.sweeps.numerics import code_digest

_MARKER = "htlib-store.json"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_FORMAT = {"format": "htlib-store-1"}


class StoreError(RuntimeError):
    """A store cannot be used as requested; the message gives the reason and the remedy."""


class Store:
    """Finished runs on disk, shared by any number of processes.

    Parameters
    ----------
    path : path, optional
        A folder, which is made when the first run is stored; ``~`` is the user's home.  Default: the
        environment variable ``HTLIB_STORE``, or else a folder in the user's cache.

    Attributes
    ----------
    path : Path
    set_aside : list of str
        The damaged files that this object found, one line per file.

    Raises
    ------
    StoreError
        If the path is a file, or a folder with other things in it.

    Examples
    --------
    >>> import tempfile, htlib as ht
    >>> store = Store(tempfile.mkdtemp())
    >>> config = ht.ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=1)
    >>> store.load(config) is None
    True
    >>> path = store.save(ht.train(config))
    >>> store.load(config).metrics.index.tolist()
    [0, 1]
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        given = path if path is not None else os.environ.get("HTLIB_STORE")
        self.path = Path(given).expanduser().absolute() if given else user_cache_path("htlib") / "store"
        self.set_aside: list[str] = []
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"store must be a folder; {self.path} is a file")
        # The marker of a new store is its first file; while it is written it has a temporary name.
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        others = [name for name in names if not name.startswith(f".{_MARKER}.")]
        if others and not (self.path / _MARKER).exists():
            raise StoreError(f"{self.path} holds other things and is no store; name a new or empty folder")

    def file_of(self, config: Config, *, keep_weights: bool = False, keep_overlaps: bool = False) -> Path:
        """Return the path of the run of a configuration, stored or not; all of its readings share it."""
        what = [config.training.digest(), keep_weights, keep_overlaps]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
        return self.path / "runs" / code_digest(kind_of(config).code) / key[:2] / f"{key}.safetensors"

    def load(
        self,
        config: Config,
        *,
        readings: Iterable[tuple[Any, ...]] = (),
        keep_weights: bool = False,
        keep_overlaps: bool = False,
    ) -> Any:
        """Read the stored run of a configuration; return None if it, or one of these readings, is missing.

        A run that was stored with more than what is asked for serves, too.  A file that fails its checks is
        moved to ``set-aside`` and counts as missing; `set_aside` then has a line about it.
        """
        wanted = {config.reading, *readings}
        for path in self._candidates(config, keep_weights, keep_overlaps):
            run = self._read(path, config)
            if run is not None and wanted <= {run.config.reading, *run.refits}:
                run = run.read(*config.reading)
                weights, overlaps = run.weights if keep_weights else {}, run.overlaps if keep_overlaps else {}
                return dataclasses.replace(run, weights=weights, overlaps=overlaps)
        return None

    def has(
        self,
        config: Config,
        *,
        readings: Iterable[tuple[Any, ...]] = (),
        keep_weights: bool = False,
        keep_overlaps: bool = False,
    ) -> bool:
        """Tell whether `load` would find a run, from the head of its file: damage below is not seen."""
        from htlib.student.run import readings_in

        wanted = {config.reading, *readings}
        return any(
            wanted <= readings_in(path) for path in self._candidates(config, keep_weights, keep_overlaps)
        )

    def save(self, run: Run, *, keep_weights: bool = False, keep_overlaps: bool = False) -> Path:
        """Store a run, complete or not at all, together with the earlier readings of the same training.

        Raises
        ------
        StoreError
            If the folder is not writable.
        """
        path = self.file_of(run.config, keep_weights=keep_weights, keep_overlaps=keep_overlaps)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            before = self._read(path, run.config)
            if before is not None and before.metrics.index.equals(run.metrics.index):
                run = dataclasses.replace(run, refits=dict(before.refits) | dict(run.refits))
            return run.save(path)

    def check_writable(self) -> None:
        """Make the folder, if it is missing, and try to write to it.

        Raises
        ------
        StoreError
            If that fails.
        """
        with self._writing():
            trial = self.path / f".{uuid.uuid4().hex}"
            trial.touch()
            trial.unlink()

    @contextmanager
    def writing(self) -> Generator[list[str]]:
        """Announce that this process writes to the store; yield the names of other processes that do.

        A process that is the only writer deletes the half-written files of processes that were killed.
        """
        self.check_writable()
        folder = self.path / "locks" / "writers"
        mine = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}.lock"
        lock = FileLock(mine)
        try:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                lock.acquire()
            others = [path.stem.rpartition("-")[0] for path in folder.glob("*.lock") if _held(path, but=mine)]
            if not others:
                self._clear_leftovers(older_than=mine.stat().st_mtime)
            yield others
        finally:
            mine.unlink(missing_ok=True)
            lock.release()

    def claim(self, name: str) -> FileLock | None:
        """Lock a piece of work and return the lock; return None while another process holds it.

        The lock is freed when its holder dies.  There are 4096 lock files, so that two pieces of work can
        share one by chance; then one of them has to wait.
        """
        folder = self.path / "locks" / "work"
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{hashlib.sha256(name.encode()).hexdigest()[:3]}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return None
        return lock

    def clear(self) -> tuple[int, int]:
        """Delete every run.

        Returns
        -------
        tuple of int
            The number of runs that were deleted, and the bytes of all files.

        Raises
        ------
        StoreError
            While another process writes to the store.
        """
        if not self.path.exists():
            return 0, 0
        with self.writing() as others:
            if others:
                raise StoreError(f"{self.path} is in use by {', '.join(others)}; stop that first")
            folders = [self.path / name for name in ("runs", "set-aside")]
            files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            runs = sum(path.suffix == ".safetensors" for path in files)
            with self._writing():
                for folder in folders:
                    if folder.exists():
                        shutil.rmtree(folder)
        return runs, size

    def _candidates(self, config: Config, weights: bool, overlaps: bool) -> Iterator[Path]:
        """Yield the files in which a run can be, with these things or more."""
        for w, o in product(*([True] if one else [False, True] for one in (weights, overlaps))):
            yield self.file_of(config, keep_weights=w, keep_overlaps=o)

    def _clear_leftovers(self, older_than: float) -> None:
        """Delete half-written files; newer ones belong to processes that came later."""
        for path in self.path.glob("runs/*/*/.*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < older_than:
                    path.unlink()

    def _read(self, path: Path, config: Config) -> Any:
        from htlib.student.run import RecordError

        try:
            run = kind_of(config).load(path)
            if run.config.training != config.training:
                raise RecordError(f"{path} holds another run than its name says")
        except FileNotFoundError:
            return None
        except RecordError as error:
            self._put_aside(path, str(error))
            return None
        return run

    def _put_aside(self, path: Path, reason: str) -> None:
        try:
            target = self.path / "set-aside" / f"{path.name}.{uuid.uuid4().hex[:6]}"
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
            self.set_aside.append(f"{reason}; set aside as {target}")
        except FileNotFoundError:  # another process has moved it
            return
        except OSError as error:
            raise StoreError(f"{reason}; and it cannot be set aside: {error}") from error

    @contextmanager
    def _writing(self) -> Generator[None]:
        try:
            marker = self.path / _MARKER
            if not marker.exists():  # first: without it the folder is not a store
                self.path.mkdir(parents=True, exist_ok=True)
                write_atomically(marker, json.dumps(_FORMAT).encode())
            yield
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise StoreError(
                    f"the file system of the store {self.path} has no locks, by which processes share it; "
                    "name a folder of another one, such as a local disk, with store= or HTLIB_STORE"
                ) from error
            raise StoreError(
                f"cannot write to the store {self.path}: {error.strerror or error}; "
                "make it writable or name another with store="
            ) from error


def _held(path: Path, but: Path) -> bool:
    """Return True if a living process holds a lock file; delete the file if its process is dead."""
    if path == but:
        return False
    try:
        with FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
            return False
    except Timeout:
        return True
    except OSError:
        return False
