"""Oracle: the text and links of small ledgers, read by an HTML parser."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup

from htlib.ledger import page as ledger_page
from htlib.ledger.claims import Check, Claim, Expectation, load_ledger
from htlib.ledger.verdicts import CheckResult, Verdict
from tests.ledgers import project

CHECK = Check("A & B", "tiny", "value", {}, Expectation.parse("> 1"))
CLAIM = Claim("it-falls", "It falls <fast>.", "nowhere", "01-setting", "", (CHECK,))
TITLES = {"01-setting": "The setting"}


def verdict(word, outcome, effect):
    return Verdict(word, "0", [CheckResult("A & B", "> 1", effect, effect - 0.5, effect + 0.5, 5, outcome)])


BOTH = {
    "fast": {"it-falls": verdict("not reproduced", "fails", 0.0)},
    "paper": {"it-falls": verdict("reproduced", "holds", 2.0)},
}


def parsed(html):
    return BeautifulSoup(html, "html.parser")


def test_a_badge_is_the_verdict_at_the_largest_scale_and_links_to_the_card():
    link = parsed(ledger_page.badge("it-falls", BOTH)).a
    assert link.text == (
        "Ledger, it-falls: reproduced at the paper's sizes, but not reproduced at small sizes"
    )
    assert link["href"] == "09-ledger.html#it-falls"
    assert (
        parsed(ledger_page.badge("it-falls", {**BOTH, "paper": {}})).text
        == "Ledger, it-falls: not reproduced at small sizes"
    )
    alike = dict.fromkeys(BOTH, BOTH["paper"])
    assert parsed(ledger_page.badge("it-falls", alike)).text == "Ledger, it-falls: reproduced at both sizes"
    with pytest.raises(ValueError, match="no verdict is recorded of a claim 'it-rises'"):
        ledger_page.badge("it-rises", BOTH)


def test_a_badge_of_a_part_says_which_part():
    (check,) = BOTH["paper"]["it-falls"].checks
    checks = [replace(check, outcome=outcome) for outcome in ("fails", "holds", "fails")]
    mixed = Verdict("partly", "0", checks)
    badge = ledger_page.badge("it-falls", {"fast": {}, "paper": {"it-falls": mixed}})
    assert parsed(badge).text == "Ledger, it-falls: partly (1 check holds, 2 fail) at the paper's sizes"


def test_a_card_says_everything():
    document = parsed(ledger_page.card(CLAIM, BOTH, TITLES))
    assert document.section["id"] == "it-falls"
    assert document.summary.text == "Source and 1 check of: It falls <fast>."
    assert [chip.text for chip in document.section.select("section > p > span")] == [
        "not reproduced at small sizes",
        "reproduced at the paper's sizes",
    ]
    text = document.get_text(" ")
    for part in (
        "It falls <fast>.",
        "A & B",
        "Expected > 1",
        "experiment tiny",
        "nowhere",
        "✓ holds",
        "✗ fails",
    ):
        assert part in text
    assert "small sizes: 0 [-0.5, 0.5], 5 seeds" in text
    assert "htlib claims it-falls --profile paper" in text
    assert document.find("a")["href"] == "01-setting.html"


def test_the_picture_says_in_words_what_it_shows():
    picture = parsed(ledger_page.card(CLAIM, BOTH, TITLES)).svg
    assert picture["role"] == "img"
    assert (
        picture["aria-label"]
        == "expected > 1; at small sizes 0 [-0.5, 0.5]; at the paper's sizes 2 [1.5, 2.5]"
    )


@pytest.mark.parametrize("expect", ["> 1", "< 1", "0.5 to 1.5"])
def test_marks_lie_inside_the_picture_and_the_range_where_it_should(expect):
    """The range of "> 1" begins at the mark of 1 and ends at the right border, and so on."""
    claim = replace(CLAIM, checks=(replace(CHECK, expect=Expectation.parse(expect)),))
    picture = parsed(ledger_page.card(claim, BOTH, TITLES)).svg
    width = float(picture["viewbox"].split()[2])
    marks = [float(circle["cx"]) for circle in picture.find_all("circle")]
    assert all(0 < x < width for x in marks)
    assert marks == sorted(marks)
    band = picture.rect
    left, right = float(band["x"]), float(band["x"]) + float(band["width"])
    assert (left == 0) == expect.startswith("<")
    assert (right == width) == expect.startswith(">")


def test_a_point_and_a_missing_verdict_can_be_drawn():
    flat = {
        "fast": {"it-falls": Verdict("reproduced", "0", [CheckResult("x", "> 1", 1, 1, 1, 5, "open")])},
        "paper": {},
    }
    text = parsed(ledger_page.card(CLAIM, flat, TITLES)).get_text(" ")
    assert "not recorded" in text
    assert "nan" not in ledger_page.card(CLAIM, flat, TITLES)


def test_the_overview_has_a_row_per_claim_and_a_column_per_scale():
    rows = parsed(ledger_page.overview([CLAIM, replace(CLAIM, id="other")], BOTH)).tbody.find_all("tr")
    assert [row.th.a["href"] for row in rows] == ["#it-falls", "#other"]
    assert [[td.text for td in row.find_all("td")] for row in rows] == [
        ["not reproduced", "reproduced"],
        ["not recorded", "not recorded"],
    ]


def test_the_table_of_experiments_names_figures_parameters_and_times(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    one = {
        "what": "Two rates",
        "preset": "tiny",
        "page": "01-setting",
        "figures": ["fig-a"],
        "deviation": "none",
    }
    (row,) = parsed(ledger_page.experiments_table([one], TITLES, {"tiny": 1.25})).tbody.find_all("tr")
    assert row.find("a", string="fig-a")["href"] == "01-setting.html#fig-a"
    assert "n 40, d 12, h 18" in row.text
    assert "lr 0.1 / 1" in row.text
    assert "4 seeds" in row.text
    assert "1.2 s" in row.text


def test_titles_are_the_headings_of_the_notebooks(tmp_path, monkeypatch):
    folder = project(tmp_path) / "book"
    monkeypatch.chdir(folder)
    cell = {"cell_type": "markdown", "source": ["# The start\n", "\n", "# Not this"]}
    (folder / "01-setting.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert ledger_page.page_titles(load_ledger()) == {"01-setting": "The start"}
