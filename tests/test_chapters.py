"""Numbers for the prose; oracles: by hand, and the recorded verdicts."""

import pytest

from htlib.chapters import begin, mean_and_spread, quote, show_verdicts


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 2.0, 3.0], "2.0 ± 1.0"),
        ([1000.0, 1020.0, 1040.0], "1020 ± 20"),
        ([0.4271, 0.4302, 0.4130], "0.4234 ± 0.0092"),
        (2.44912, "2.449"),
        ([3.0, 3.0], "3"),
        ([182.862, 182.862 + 3e-14], "182.9"),  # rounding is not a spread
    ],
)
def test_mean_and_standard_deviation(values, text):
    """By hand: sample standard deviation, two digits of it."""
    assert mean_and_spread(values) == text


def test_a_chapter_cannot_quote_what_is_not_finite():
    with pytest.raises(ValueError, match="values must be finite to be quoted"):
        quote("key", [1.0, float("nan")])


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="profile must be 'fast' or 'paper'; got 'quick'"):
        begin("quick")


@pytest.mark.parametrize("values", [[], [[1.0, 2.0, 3.0]]])
def test_only_one_value_per_seed_has_a_spread(values):
    with pytest.raises(ValueError, match="one per seed"):
        mean_and_spread(values)


def test_badges_are_the_recorded_verdicts(monkeypatch):
    glued = {}
    monkeypatch.setattr(
        "myst_nb.glue", lambda name, value, display: glued.update({name: value._repr_html_()})
    )
    show_verdicts("adam-rate", "no-gradient-noise")
    assert list(glued) == ["verdict-adam-rate", "verdict-no-gradient-noise"]
    assert 'href="09-ledger.html#adam-rate"' in glued["verdict-adam-rate"]
    with pytest.raises(ValueError, match="no verdict is recorded of a claim 'adams-rate'"):
        show_verdicts("adams-rate")
