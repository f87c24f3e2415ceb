"""Tables and pictures that the commands write: checked before the work, written all or nothing after it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htlib.student.files import check_writable, write_atomically

if TYPE_CHECKING:
    import pandas as pd

PICTURES = (".png", ".svg", ".pdf")


def add_outputs(parser: argparse.ArgumentParser, output: str, plot: str = "") -> None:
    """Add ``--output`` and, if there is something to draw, ``--plot``, with these help texts."""
    parser.add_argument("--output", type=Path, metavar="FILE", help=output)
    if plot:
        parser.add_argument("--plot", type=Path, metavar="FILE", help=f"{plot} ({', '.join(PICTURES)})")


def check_output(
    option: str, path: Path | None, suffixes: Sequence[str] = (), make_folder: bool = False
) -> None:
    """Refuse before the work a file that could not be written after it; None is always allowed.

    With `make_folder`, a folder that is missing is made where its parent exists.

    An ending that is not in ``suffixes`` (if there are any) is a ValueError, a missing folder a
    FileNotFoundError, another place that cannot be written to an OSError, and a missing extra an ImportError.
    """
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f"{option} must end in one of {', '.join(suffixes)}; got {path}")
    if make_folder and path.parent.parent.is_dir() and not path.parent.exists():
        with writing(path.parent):
            path.parent.mkdir()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} of {option} does not exist")
    with writing(path):
        check_writable(path)
    if path.suffix in PICTURES:
        import_module("htlib.figures")  # its ImportError names the missing extra
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ImportError(f"{option} {path} needs pyarrow: pip install 'htlib[tables]', or take .csv")


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Raise an OSError that names the file and the remedy if the file cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write {path}: {reason}; make room or name another file") from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format of its ending: .parquet, .json, or else .csv."""
    if path.suffix == ".parquet":
        content = table.to_parquet(index=False)
    elif path.suffix == ".json":
        content = str(table.to_json(orient="records", indent=1)).encode()
    else:
        content = table.to_csv(index=False).encode()
    with writing(path):
        write_atomically(path, content)


def save_figure(figure: Any, path: Path, dpi: int = 150) -> None:
    """Write a Matplotlib figure in the format of its ending."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=dpi)
    with writing(path):
        write_atomically(path, buffer.getvalue())
