"""Numbers for the prose; oracles: by hand, and the recorded verdicts."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from htlib.chapters import ask, begin, mean_and_spread, quote, quote_table, show_table, show_verdicts


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


def glued(monkeypatch):
    """What `glue` gets from here on, as the prose shows it."""
    items = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: items.update({name: repr(value)}))
    return items


def test_a_table_is_quoted_with_the_names_of_its_rows_and_columns(monkeypatch):
    """By hand, as above."""
    items = glued(monkeypatch)
    index = pd.MultiIndex.from_product([["adam"], [0.1, 1.0], range(3)], names=["optimizer", "lr", "seed"])
    table = pd.DataFrame({"hill": [1.0, 2.0, 3.0, 3.0, 3.0, 3.0], "ks": [1000.0, 1020.0, 1040.0] * 2}, index)
    texts = quote_table("end", table)
    assert items == {
        "end_adam_0.1_hill": "2.0 ± 1.0",
        "end_adam_0.1_ks": "1020 ± 20",
        "end_adam_1_hill": "3",
        "end_adam_1_ks": "1020 ± 20",
    }
    assert texts.loc[("adam", 1.0), "hill"] == "3"
    quote_table("all", table.loc[("adam", 0.1)])
    assert items["all_hill"] == "2.0 ± 1.0"
    with pytest.raises(ValueError, match="table must have a level 'seed'"):
        quote_table("end", table.droplevel("seed"))


def test_a_table_has_a_header_for_every_row_and_column():
    table = pd.DataFrame({"a < b": ["x"], "n": [0.123456]}, pd.Index([0.5], name="rate"))
    soup = BeautifulSoup(show_table(table, "A & B"), "html.parser")
    assert soup.caption.text == "A & B"
    assert [th.text for th in soup.thead.find_all("th", scope="col")] == ["rate", "a < b", "n"]
    assert [[cell.text for cell in row.find_all(["th", "td"])] for row in soup.tbody.find_all("tr")] == [
        ["0.5", "x", "0.1235"]
    ]
    assert len(soup.tbody.find_all("th", scope="row")) == 1


def test_a_question_holds_its_answer_and_no_script_or_style():
    box = BeautifulSoup(ask("Which?", [1.0, 2.0, 3.0], low=0, high=5, unit=" %"), "html.parser").div
    assert box.details.p.text == box["data-text"] == "2.0 ± 1.0 % (3 seeds)"
    assert (box["data-answer"], box["data-spread"]) == ("2", "1")
    assert not [
        name for tag in box.find_all() for name in tag.attrs if name.startswith("on") or name == "style"
    ]
    other = BeautifulSoup(ask("Which other?", 2.0, low=0, high=5), "html.parser").div
    assert other.p["id"] != box.p["id"]  # two questions of a page
    with pytest.raises(ValueError, match="low and high must lie on both sides of the answer, 2; got 3, 5"):
        ask("Which?", 2.0, low=3, high=5)
    with pytest.raises(ValueError, match="low must be positive for log=True; got 0"):
        ask("Which?", 2.0, low=0, high=5, log=True)
