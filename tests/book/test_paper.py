"""paper.md as the Journal of Open Source Education checks it.  Oracle: its author guide."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
_, HEAD, TEXT = (ROOT / "paper.md").read_text(encoding="utf-8").split("---\n", 2)
FRONT = yaml.safe_load(HEAD)


def test_the_front_matter_is_complete() -> None:
    assert FRONT["title"]
    assert len(FRONT["tags"]) >= 3
    indices = {place["index"] for place in FRONT["affiliations"] if place["name"]}
    for author in FRONT["authors"]:
        assert author["name"]
        assert {int(i) for i in str(author["affiliation"]).split(",")} <= indices
    assert re.fullmatch(r"\d{1,2} [A-Z][a-z]+ \d{4}", FRONT["date"])
    assert (ROOT / FRONT["bibliography"]).is_file()


def test_the_sections_that_reviewers_look_for() -> None:
    sections = re.findall(r"^# (.+)$", TEXT, re.MULTILINE)
    assert sections[:2] == ["Summary", "Statement of need"]
    assert {"Learning objectives", "Content and design", "Story of the project"} <= set(sections)
    assert sections[-1] == "References"
    assert 500 <= len(TEXT.split()) <= 1500


def test_citations_are_in_the_bibliography() -> None:
    entries = re.findall(r"@\w+\{([^,]+),", (ROOT / FRONT["bibliography"]).read_text(encoding="utf-8"))
    cited = re.findall(r"@(\w+)", TEXT)
    assert cited
    assert set(cited) <= set(entries)
