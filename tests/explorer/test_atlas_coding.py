"""Oracle: by hand, and the bounds that the codes promise."""

import numpy as np
import pytest

from htlib.explorer.atlas_coding import TOLERANCE_STEPS, Scale, knots_of, largest_error, spectra_of, summed


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_keeps_its_error_and_marks_what_is_no_number(log):
    values = np.array([0.5, 1.003, np.nan, 700.0])
    scale = Scale.fit(values, 1e-2, log=log)
    again = scale.values(scale.words(values))
    assert np.isnan(again[2])
    assert 0 < largest_error(again, values, relative=log) <= 1e-2


def test_a_range_too_wide_for_the_words_is_coarser_and_still_covered():
    values = np.array([0.0, 1e9])
    scale = Scale.fit(values, 1.0, log=False)
    assert scale.step > 2
    np.testing.assert_allclose(scale.values(scale.words(values)), values, atol=scale.step / 2)


def test_a_straight_line_needs_its_ends_alone():
    gaps, heights = knots_of(2.0 * np.arange(100))
    assert (gaps.tolist(), heights.tolist()) == ([0, 99], [0, 198])


def test_a_broken_line_passes_every_point_within_the_tolerance_and_never_falls():
    positions = np.sort(np.random.default_rng(0).uniform(0, 4000, 700))
    gaps, heights = knots_of(positions)
    assert len(gaps) < 700
    unit = Scale(log=False, low=0.0, step=1.0)
    (line,) = spectra_of(np.array([[1e6]]), [(gaps, heights)], unit)
    assert line[-1] == 1e6
    assert np.abs(line[:-1] - positions).max() <= TOLERANCE_STEPS + 1e-9
    assert (np.diff(line) >= 0).all()


def test_differences_wrap_around():
    words = np.array([[5, 65530, 3]], dtype=np.uint16)
    np.testing.assert_array_equal(summed(np.diff(words, axis=-1, prepend=np.uint16(0))), words)
