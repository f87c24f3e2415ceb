"""The one way in which htlib writes a file: all or nothing."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file so that at every moment, even after a failure, it is the complete old or new one.

    The bytes go to a hidden file in the same folder, ``.<name>.<uuid>``, which is renamed when it is on the
    disk; it stays behind only if the process is killed meanwhile.  An OSError means that the folder is
    missing, full or not writable.
    """
    path = Path(path)
    unfinished = _unfinished(path)
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def check_writable(path: str | os.PathLike[str]) -> None:
    """Try to write beside a file, which stays as it is; an OSError means that `write_atomically` cannot."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    trial = _unfinished(path)
    trial.touch()
    trial.unlink()


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")
