"""Turn a figure into what a page shows: a wide picture, a narrow one for phones, and the numbers drawn."""

from __future__ import annotations

import csv
import io
import zlib
from base64 import b64encode
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text

from htlib.figures.narrow import narrowed

MORE = "application/vnd.htlib.figure+json"
_SMALL = 60_000  # bytes of a compressed drawing; what is larger is stored as pixels
_COLUMNS = ("panel", "x axis", "y axis", "series", "kind", "x", "y", "x2", "y2")


def bundle(figure: Figure) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the representations of a figure in a notebook, and their metadata.

    The figure is a drawing (SVG) or, where that would be large, pixels (PNG, two per point of the screen).
    Under `MORE` are the same in the layout for narrow screens, and the numbers as CSV.

    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots(figsize=(8, 4))
    >>> data, metadata = bundle(figure)
    >>> sorted(data)
    ['application/vnd.htlib.figure+json', 'image/svg+xml', 'text/plain']
    >>> metadata
    {'image/svg+xml': {'width': 800, 'height': 400}}
    """
    mime, picture, size = _picture(figure)
    with narrowed(figure):
        narrow_mime, narrow, narrow_size = _picture(figure)
    more = {"narrow": {"mime": narrow_mime, "data": narrow, **narrow_size}, "numbers": numbers(figure)}
    return {mime: picture, MORE: more, "text/plain": repr(figure)}, {mime: size}


def numbers(figure: Figure) -> str:
    """Return what a figure draws as CSV: one row per point, bar, end of a band or cell of an image.

    A bar or a box reaches from (x, y) to (x2, y2).

    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots()
    >>> _ = ax.plot([1, 2], [3, 4.5], label="loss")
    >>> ax.set(title="A run", xlabel="step")
    [...]
    >>> print(numbers(figure).strip())
    panel,x axis,y axis,series,kind,x,y,x2,y2
    A run,step,,loss,line,1,3,,
    A run,step,,loss,line,2,4.5,,
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for ax in figure.axes:
        titles = (ax.get_title(place) for place in ("left", "center", "right"))
        panel = (next(filter(None, titles), ""), ax.get_xlabel(), ax.get_ylabel())
        for artist in ax.get_children():
            label = str(artist.get_label())
            series = "" if label.startswith("_") else label
            for kind, values in _rows(ax, artist):
                row = (f"{v:.6g}" if isinstance(v, (float, np.floating)) else v for v in values)
                writer.writerow((*panel, series, kind, *row, *("",) * (4 - len(values))))
    return file.getvalue()


@contextmanager
def laid_out(figure: Figure) -> Generator[None]:
    """Lay a figure out once; inside, `savefig` keeps that, where it would draw everything twice.

    >>> import matplotlib.pyplot as plt
    >>> figure, _ = plt.subplots(layout="constrained")
    >>> with laid_out(figure):
    ...     figure.savefig(io.BytesIO())
    """
    engine = figure.get_layout_engine()
    if engine is None:
        yield
        return
    engine.execute(figure)
    with rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        figure.set_layout_engine(None)  # "none" would be an engine, for which `savefig` draws twice
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def _picture(figure: Figure) -> tuple[str, str, dict[str, int]]:
    width, height = (round(figure.dpi * inches) for inches in figure.get_size_inches())
    size, file = {"width": width, "height": height}, io.BytesIO()
    with laid_out(figure):
        figure.savefig(file, format="svg", metadata={"Date": None}, facecolor="white")
        drawing = file.getvalue()
        if len(zlib.compress(drawing)) <= _SMALL:
            return "image/svg+xml", drawing.decode(), size
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=2 * figure.dpi, facecolor="white")
        return "image/png", b64encode(file.getvalue()).decode(), size


def _rows(ax: Axes, artist: Artist) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the kind and the numbers of what an artist draws; guides and words have none."""
    if artist is ax.patch or isinstance(artist, Text) or not artist.get_visible():
        return
    if isinstance(artist, Line2D):
        if artist.get_transform() == ax.transData:
            yield from (("line", tuple(point)) for point in np.asarray(artist.get_xydata(), float))
    elif isinstance(artist, PathCollection):
        yield from (("point", tuple(point)) for point in np.ma.filled(artist.get_offsets(), np.nan))
    elif isinstance(artist, StepPatch):
        values, edges, base = artist.get_data()
        low = np.broadcast_to(np.nan_to_num(np.asarray(base, float)), np.shape(values))
        yield from (("bar", tuple(box)) for box in zip(edges[:-1], low, edges[1:], values, strict=True))
    elif isinstance(artist, Rectangle):
        x, y = artist.get_xy()
        if artist.get_transform().contains_branch(ax.transData):
            yield "bar", (x, y, x + artist.get_width(), y + artist.get_height())
    elif isinstance(artist, QuadMesh | AxesImage):
        cells = np.ma.filled(np.ma.asarray(artist.get_array()).astype(float), np.nan)
        if cells.ndim == 2:  # and not a picture of colours
            yield from (
                ("cell", (column, row, cells[row, column])) for row, column in np.ndindex(*cells.shape)
            )
    elif isinstance(artist, PolyCollection):
        for path in artist.get_paths():
            yield from (("outline", tuple(point)) for point in np.asarray(path.vertices))
