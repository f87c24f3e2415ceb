"""Show figures one at a time, with a slider that moves through them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from htlib.figures.pictures import laid_out


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
    says : iterable of str
        What each figure shows beyond that, in words: a screen reader hears it when the slider moves.
    still : int
        Which figure is shown first; by default the last one.

    Raises
    ------
    ValueError
        If there is not one label and one text per figure, or no figure `still`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> Frames([Figure(), Figure()], ["0", "1"], name="step", alt="Nothing, twice.", says=["0", "1"])
    Frames of 2 figures by step
    """

    def __init__(
        self,
        figures: Iterable[Figure],
        labels: Iterable[str],
        *,
        name: str,
        alt: str,
        says: Iterable[str],
        still: int = -1,
    ) -> None:
        self.pictures = [_svg(figure) for figure in figures]
        self.labels = list(labels)
        self.name, self.alt, self.says = name, alt, list(says)
        count = len(self.pictures)
        for what, texts in (("labels", self.labels), ("says", self.says)):
            if len(texts) != count:
                raise ValueError(f"{what} must be one per figure; got {len(texts)} for {count} figures")
        if not -count <= still < count:
            raise ValueError(f"still must be the place of one of {count} figures; got {still}")
        self.still = still % count

    def __repr__(self) -> str:
        return f"Frames of {len(self.pictures)} figures by {self.name}"

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img alt="" src="data:image/svg+xml,{_in_url(svg)}" data-label="{escape(label)}" '
            f'data-says="{escape(says)}"{"" if place == self.still else " hidden"}>'
            for place, (svg, label, says) in enumerate(
                zip(self.pictures, self.labels, self.says, strict=True)
            )
        )
        return (
            f'<div class="frames" data-name="{escape(self.name)}">'
            f'<div role="img" aria-label="{escape(self.alt)}">{images}</div></div>'
        )


def _svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG image, in which letters are shapes, the same everywhere."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "htlib", "path.simplify_threshold": 0.5}), laid_out(figure):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _in_url(svg: str) -> str:
    """Write an image as part of a quoted address, with as few escapes as possible: it compresses better."""
    return quote(svg.replace('"', "'"), safe=" '/:;=,()!*@?[]{}|+-.\n")
