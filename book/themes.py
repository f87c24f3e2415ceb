"""Give a drawing the colours of the dark theme beside its own; the page that shows it decides.

A browser tells a picture the colour scheme of the element that shows it, so one file serves both themes.
"""

from __future__ import annotations

import re

from htlib.figures import style

GROUND, INK = "#121212", "#f0f0f0"  # of the pages in the dark theme; what is black on paper
# Lighter colours of the same hues, as far apart as the originals for people with colour blindness.
DARK = {
    style.BLUE: "#3a93db",
    style.ORANGE: "#ee6c1a",
    style.GREEN: "#1fb78b",
    style.PINK: "#e08fbb",
    style.SKY: "#9ad8fa",
    style.GOLD: "#f7bc45",
    style.GREY: style.GREY,
    style.BLACK: INK,
    style.PURPLE: "#8560ea",
    style.BROWN: "#a3651c",
}
_USED = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")


def in_both_themes(drawing: str) -> str:
    """Return a drawing of Matplotlib (SVG) with a style sheet that applies in the dark theme only.

    Colours that are no tint of the book's palette stay, as do pictures in the drawing (heat maps) and the
    texts on them, whose id is `htlib.figures.style.ON_PICTURE`.

    >>> in_both_themes('<svg><path style="fill: #0072b2"/></svg>')[-60:]
    '{fill: #3a93db !important}\\n}</style></svg>'
    """
    kept = f"[id='{style.ON_PICTURE}']"
    rules = [f"svg {{fill: {INK}}}", f"{kept} {{fill: #000}}"]  # Matplotlib does not write black as a fill
    for what, color in sorted(set(_USED.findall(drawing))):
        other = dark(color)
        if other != color:
            rules.append(f"[style*='{what}: {color}']:not({kept} *) {{{what}: {other} !important}}")
    body, end, _ = drawing.rpartition("</svg>")
    newline = "\n"
    return f"{body}<style>@media (prefers-color-scheme: dark) {{\n{newline.join(rules)}\n}}</style>{end}"


def dark(color: str) -> str:
    """Return the colour of the dark theme for a tint of the palette, and any other colour as it is.

    A tint is a mixture with white; it becomes the same mixture with the dark ground.  Greys are tints of
    black.

    >>> dark("#d55e00"), dark("#ffffff"), dark("#e28e4d"), dark("#123456")
    ('#ee6c1a', '#121212', '#ac511e', '#123456')
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
