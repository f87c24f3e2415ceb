"""Put the figures of an executed chapter into files, beside the pages that show them."""

from __future__ import annotations

import hashlib
import html
import io
import re
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from nbformat import NotebookNode
from PIL import Image
from themes import dark_sheet, in_both_themes

MORE = "application/vnd.htlib.figure+json"  # what htlib.figures.pictures adds to a figure
FOLDER = "static/pictures"  # below the book; its pages find it at ../_static/pictures
_INLINE = re.compile(r'src="data:image/png;base64,([^"]+)"')
_DRAWN = re.compile(r'src="data:image/svg\+xml,([^"]+)"')
_END = "%3C/svg%3E\n"
_NARROW_SCREEN = "(max-width: 600px)"


def place(notebook: NotebookNode, book: Path) -> None:
    """Replace each figure among the outputs by HTML that shows a file below `book`.

    Phones get the narrow layout.  Pixels become WebP, without loss.  Below the picture are links to it and to
    its numbers.  Drawings get colours for both themes.  The name, caption and alternative text of the cell's
    ``mystnb`` metadata keep their meaning.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                shown = _INLINE.sub(lambda m: _from_inline(m[1], book), data["text/html"])
                data["text/html"] = _DRAWN.sub(lambda m: _frame(m[1]), shown)
            mime = next((m for m in ("image/svg+xml", "image/png") if m in data and MORE in data), None)
            if mime is None:
                continue
            options = cell.metadata.get("mystnb", {})
            name = options.get("figure", {}).get("name", "figure")
            alternative = options.get("image", {}).get("alt", "")
            wide = _stored(book, mime, data[mime], **output.metadata[mime])
            narrow = _stored(book, **data[MORE]["narrow"])
            numbers = _written(book, data[MORE]["numbers"].encode(), "csv")
            output.data = {"text/html": _picture(wide, narrow, alternative) + _links(wide, numbers, name)}
            output.metadata = {}


def _from_inline(data: str, book: Path) -> str:
    """Put a picture that is part of a page, as the still of the explorer, into a file of its own."""
    return f'src="{_stored(book, "image/png", data)["address"]}" loading="lazy"'


def _frame(data: str) -> str:
    """Give a drawing that stays in the page, among others that a slider shows, both themes."""
    sheet = quote(f"<style>{dark_sheet(unquote(data))}</style>", safe=" ':;=*!()[]{}\n")
    return f'src="data:image/svg+xml,{data.removesuffix(_END)}{sheet}{_END}"'


def _stored(book: Path, mime: str, data: str, **size: int) -> dict[str, Any]:
    if mime == "image/svg+xml":
        address = _written(book, in_both_themes(data).encode(), "svg")
    else:
        file = io.BytesIO()
        Image.open(io.BytesIO(b64decode(data))).convert("RGB").save(file, "webp", lossless=True, method=6)
        address = _written(book, file.getvalue(), "webp")
    return {"address": address, **size}


def _written(book: Path, content: bytes, ending: str) -> str:
    """Write a file whose name changes with its content, so that no browser shows an old one."""
    path = book / FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"../_static/pictures/{path.name}"


def _picture(wide: dict[str, Any], narrow: dict[str, Any], alternative: str) -> str:
    size = 'width="{width}" height="{height}"'
    return (
        f'<picture><source media="{_NARROW_SCREEN}" srcset="{narrow["address"]}" {size.format(**narrow)}>'
        f'<img src="{wide["address"]}" {size.format(**wide)} alt="{html.escape(alternative)}" '
        f'loading="lazy" decoding="async"></picture>'
    )


def _links(picture: dict[str, Any], numbers: str, name: str) -> str:
    ending = Path(picture["address"]).suffix
    return (
        f'<p class="picture-links">Download <a href="{picture["address"]}" download="{name}{ending}" '
        f'aria-label="the picture {name}">the picture</a> or <a href="{numbers}" download="{name}.csv" '
        f'aria-label="its numbers, {name} as CSV">its numbers</a></p>'
    )
