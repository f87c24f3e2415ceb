"""A spectrum as text; oracle: spectra whose bins are counted by hand."""

import io
import sys

import numpy as np
import pytest

from htlib.commands.terminal import spectrum_lines


def test_bars_edge_and_counts_by_hand():
    """Seven eigenvalues in the lowest bin, one alone at the top, which is beyond the edge."""
    bars, axis, pointer = spectrum_lines(np.array([0.0, *[1.0] * 7, 100.0]), edge=10.0, width=20)
    assert (bars[0], bars[1:-1].strip(), len(bars)) == ("█", "", 20)
    assert bars[-1] == "▃"  # log 2 / log 8 of the height
    assert axis.split() == ["1", "105"]
    # log 10 / log 105 of twenty bins
    assert pointer == " " * 9 + "^ noise ends at 10; 1 of 9 eigenvalues lie beyond"


def test_a_pointer_far_to_the_right_comes_after_its_note():
    bars, _, pointer = spectrum_lines(np.array([1.0, 2.0]), edge=1000.0)
    assert pointer.endswith("0 of 2 eigenvalues lie beyond ^")
    assert len(bars) < len(pointer) <= 64


@pytest.mark.parametrize("eigenvalues", [[3.0], [2.0, 2.0]])
def test_a_single_value_is_drawn(eigenvalues):
    assert spectrum_lines(np.array(eigenvalues), edge=1.0)[0].strip() == "█"


def test_a_terminal_without_blocks_gets_letters(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert spectrum_lines(np.array([1.0, 5.0]), edge=2.0)[0].isascii()
