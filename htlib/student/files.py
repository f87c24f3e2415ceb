"""One way to write a file: all or nothing."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file so that at every moment, and after every failure, it is the old one or the new one, whole.

    The bytes go to a hidden file in the same folder, ``.<name>.<uuid>``, which takes the name when it is on
    the disk.  Only a process killed meanwhile leaves it behind.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    content : bytes

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If the folder is missing, full or not writable.

    Examples
    --------
    >>> import tempfile
    >>> write_atomically(Path(tempfile.mkdtemp()) / "two", b"12").read_bytes()
    b'12'
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
