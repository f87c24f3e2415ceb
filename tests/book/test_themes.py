"""Colours of the dark theme.  Oracles: WCAG's contrast; simulated colour blindness (Machado et al., 2009)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import themes
from numpy.typing import NDArray

from htlib.figures import style

Array = NDArray[np.float64]
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(color: str) -> Array:
    part = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(color) @ (0.2126, 0.7152, 0.0722)) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(light: Array) -> Array:
    cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    opponents = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.array(opponents) @ np.cbrt(np.array(cones) @ light.clip(0, 1))


def closest(colors: list[str], vision: str) -> float:
    seen = [oklab(VISION[vision] @ linear(color)) for color in colors]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


def test_colours_stand_out_from_the_dark_ground() -> None:
    """By three to one, which WCAG 1.4.11 asks of graphics; dark blue as on paper would not."""
    assert min(contrast(color, themes.GROUND) for color in themes.DARK.values()) >= 3
    assert contrast(style.PURPLE, themes.GROUND) < 3


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_as_far_apart_as_on_paper(vision: str) -> None:
    assert closest(list(themes.DARK.values()), vision) > closest(list(themes.DARK), vision)


def test_the_palette_is_that_of_the_figures() -> None:
    names = ("BLUE", "ORANGE", "GREEN", "PINK", "SKY", "GOLD", "GREY", "BLACK", "PURPLE", "BROWN")
    assert list(themes.DARK) == [getattr(style, name).lower() for name in names]
    assert themes.ON_PICTURE == style.ON_PICTURE


def test_a_drawing_keeps_its_heat_maps_and_what_is_written_on_them() -> None:
    text = f'<g id="{themes.ON_PICTURE}"><g style="fill: #ffffff"/></g>'
    drawing = f'<svg>{text}<path style="stroke: #f7fbff"/><path style="fill: #262626"/></svg>'
    both = themes.in_both_themes(drawing)
    assert both.startswith(drawing.removesuffix("</svg>"))
    assert f"[style*='fill: #ffffff']:not([id='{themes.ON_PICTURE}'] *) {{fill: {themes.GROUND}" in both
    assert "[style*='fill: #262626']" in both
    assert "[style*='stroke: #f7fbff']" not in both  # the lower end of a colour map
