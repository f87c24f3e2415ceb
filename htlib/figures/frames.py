"""Show figures one at a time, with a slider that moves through them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from matplotlib import pyplot as plt
from matplotlib.figure import Figure


class Frames:
    """Figures that differ in one setting, of which a page shows one and a slider chooses it.

    A notebook and a page display it as HTML.  `book/static/frames.js` gives it the slider and a button that
    plays it; without that script it is a still picture.

    Parameters
    ----------
    figures : iterable of Figure
        They should have the same size and the same axes.
    labels : iterable of str
        What the slider shows at each figure.
    name : str
        What the slider changes, as "step".
    alt : str
        The message of the pictures in words.
    still : int
        Which figure is shown first; by default the last one.

    Raises
    ------
    ValueError
        If there is not one label per figure, or no figure `still`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> Frames([Figure(), Figure()], ["0", "1"], name="step", alt="Nothing, twice.")
    Frames of 2 figures by step
    """

    def __init__(
        self, figures: Iterable[Figure], labels: Iterable[str], *, name: str, alt: str, still: int = -1
    ) -> None:
        self.pictures = [_svg(figure) for figure in figures]
        self.labels = list(labels)
        self.name, self.alt = name, alt
        count = len(self.pictures)
        if len(self.labels) != count:
            raise ValueError(f"labels must be one per figure; got {len(self.labels)} for {count} figures")
        if not -count <= still < count:
            raise ValueError(f"still must be the place of one of {count} figures; got {still}")
        self.still = still % count

    def __repr__(self) -> str:
        return f"Frames of {len(self.pictures)} figures by {self.name}"

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img alt="" src="data:image/svg+xml,{_in_url(svg)}" data-label="{escape(label)}"'
            f"{'' if place == self.still else ' hidden'}>"
            for place, (svg, label) in enumerate(zip(self.pictures, self.labels, strict=True))
        )
        return (
            f'<div class="frames" data-name="{escape(self.name)}">'
            f'<div role="img" aria-label="{escape(self.alt)}">{images}</div></div>'
        )


def _svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG image, in which letters are shapes, the same everywhere."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "htlib", "path.simplify_threshold": 0.5}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _in_url(svg: str) -> str:
    """Write an image as part of a quoted address, with as few escapes as possible: it compresses better."""
    return quote(svg.replace('"', "'"), safe=" '/:;=,()!*@?[]{}|+-.\n")
