"""Give a drawing the colours of the dark theme beside its own; the page that shows it decides.

A browser tells a picture the colour scheme of the element that shows it, so one file serves both themes.
"""

from __future__ import annotations

import re

GROUND, INK = "#121212", "#f0f0f0"  # of the pages in the dark theme; what is black on paper
ON_PICTURE = "on-picture"  # as `htlib.figures.style.ON_PICTURE`
# The palette of htlib.figures.style, and lighter colours of the same hues, as far apart as the originals for
# people with colour blindness.  (A build that imported it would load Matplotlib before its kernels do.)
DARK = {
    "#0072b2": "#3a93db",
    "#d55e00": "#ee6c1a",
    "#009e73": "#1fb78b",
    "#cc79a7": "#e08fbb",
    "#56b4e9": "#9ad8fa",
    "#e69f00": "#f7bc45",
    "#8c8c8c": "#8c8c8c",
    "#000000": INK,
    "#6a4c93": "#8560ea",
    "#8c5a2b": "#a3651c",
}
_USED = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")


def in_both_themes(drawing: str) -> str:
    """Return a drawing of Matplotlib (SVG) with the style sheet of `dark_sheet`.

    >>> "{fill: #3a93db !important}" in in_both_themes('<svg><path style="fill: #0072b2"/></svg>')
    True
    """
    body, end, rest = drawing.rpartition("</svg>")
    return f"{body}<style>{dark_sheet(drawing)}</style>{end}{rest}"


def dark_sheet(drawing: str) -> str:
    """Return a style sheet that gives a drawing the colours of the dark theme where a page has it.

    Colours that are not a tint of the book's palette stay, as do pictures in the drawing (heat maps) and the
    texts on them, whose id is `ON_PICTURE`.
    """
    kept = f"[id='{ON_PICTURE}']"
    rules = [f"svg {{fill: {INK}}}", f"{kept} {{fill: #000}}"]  # Matplotlib does not write black as a fill
    for what, color in sorted(set(_USED.findall(drawing))):
        other = dark(color)
        if other != color:
            rules.append(f"[style*='{what}: {color}']:not({kept} *) {{{what}: {other} !important}}")
    return "\n".join(["@media (prefers-color-scheme: dark) {", *rules, "}"])


def dark(color: str) -> str:
    """Return the colour of the dark theme for a tint of the palette, and any other colour as it is.

    A tint is a mixture with white; it becomes the same mixture with the dark ground.  Greys are tints of
    black.

    >>> dark("#d55e00"), dark("#ffffff"), dark("#e28e4d"), dark("#123456")
    ('#ee6c1a', '#121212', '#ac5118', '#123456')
    """
    rgb = _channels(color)
    if color in DARK:
        return DARK[color]
    for full, other in DARK.items():
        paint = _channels(full)
        # most exact in the channel that differs most from white
        channel = min(range(3), key=paint.__getitem__)
        share = (255 - rgb[channel]) / (255 - paint[channel])
        mixed = [255 + share * (p - 255) for p in paint]
        if share <= 1 and all(abs(a - b) < 0.8 for a, b in zip(mixed, rgb, strict=True)):
            there = zip(_channels(other), _channels(GROUND), strict=True)
            return "#" + "".join(f"{round(g + share * (o - g)):02x}" for o, g in there)
    return color


def _channels(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]
