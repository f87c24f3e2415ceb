"""Oracles: outcomes by hand, what was written before, and ledgers of one claim."""

from __future__ import annotations

import numpy as np
import pytest

from htlib.ledger import verdicts
from htlib.ledger.claims import Check, Expectation, LedgerError, load_ledger
from htlib.ledger.verdicts import PROFILES, confirm, evaluate, judge, load_verdicts, record, stale
from tests.ledgers import LEDGER, PRESET, project
from tests.refusals import refused


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    return load_ledger()


def checked(values, expect):
    return judge(np.array(values), Check("x", "tiny", "value", {}, Expectation.parse(expect)))


def test_of_several_columns_the_worst_is_shown_and_all_count():
    errors = [[0.01, -0.05], [0.02, -0.07], [0.015, -0.06], [0.012, -0.06]]
    found = checked(errors, "< 0.1")
    assert (found.effect, found.outcome) == (pytest.approx(0.06), "holds")
    assert 0.05 <= found.low < 0.06 < found.high <= 0.07
    for bound, outcome in (("< 0.065", "open"), ("< 0.04", "fails")):
        assert checked(errors, bound).outcome == outcome


def test_of_several_columns_each_must_lie_in_the_range():
    values = [[1.30, 1.50], [1.32, 1.55], [1.28, 1.60], [1.31, 1.52]]
    found = checked(values, "1.2 to 1.7")
    assert (found.effect, found.outcome) == (pytest.approx(1.3025), "holds")  # the nearest to an end
    assert checked(values, "1.2 to 1.54").outcome == "open"
    assert checked(values, "1.4 to 1.7").outcome == "fails"
    assert checked(values, "> 1").outcome == "holds"


@pytest.mark.parametrize(
    ("expect", "outcome"),
    [("> 0.5", "holds"), ("> 1", "open"), ("> 2", "fails"), ("< 0.5", "fails"), ("0.5 to 1.5", "holds")],
)
def test_outcomes(expect, outcome):
    assert checked([[1.0], [1.1], [0.9], [1.05]], expect).outcome == outcome
    with refused("", "not finite"):
        checked([[1.0], [np.nan]], expect)


@pytest.mark.parametrize(
    ("ranges", "word"),
    [
        (["> -100"], "reproduced"),
        (["> -100", "> 100"], "partly"),
        (["> 100", "> 200"], "not reproduced"),
        ([], "untested"),
        (["OPEN"], "undecided"),
    ],
)
def test_the_words_of_a_verdict(ranges, word, tmp_path, monkeypatch):
    head, check = LEDGER.split("      - says")[0], "      - says" + LEDGER.split("      - says")[1]
    check = check.split("  - id: open-question")[0]
    text = head + "".join(check.replace("> -100", r) for r in ranges)
    if ranges == ["OPEN"]:  # a range that ends at the mean of the seeds
        monkeypatch.chdir(project(tmp_path))
        (found,) = evaluate(load_ledger().claims[:1], "fast", tmp_path / "store", progress=False).values()
        text = text.replace("OPEN", f"> {found.checks[0].effect:.6f}")
    if not ranges:
        text = text.replace("    checks:\n", "    comment: none\n")
    monkeypatch.chdir(project(tmp_path, text))
    found = evaluate(load_ledger().claims, "fast", tmp_path / "store", progress=False)
    assert found["falls"].verdict == word
    assert len(found["falls"].checks) == len(ranges)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("> -100", "> -99", True),
        ("alpha_hill", "alpha_ks", True),
        ("The exponent changes.", "It changes.", False),
        ("Hill, last minus start", "Hill", False),
    ],
)
def test_the_fingerprint_is_of_the_test_and_not_of_its_words(old, new, changes, ledger, tmp_path):
    before = verdicts.fingerprints(ledger.claims, "paper")
    project(tmp_path, LEDGER.replace(old, new))
    after = verdicts.fingerprints(load_ledger().claims, "paper")
    assert (after["falls"] != before["falls"]) == changes
    assert after["open-question"] == before["open-question"]


def test_a_check_that_asks_for_what_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path, LEDGER.replace("of: {lr: 1.0}", "of: {lr: 7.0}")))
    with refused("", "'falls'", "'Hill, last minus start'", "setting", "7.0", error=LedgerError):
        evaluate(load_ledger().claims, "fast", tmp_path / "store", progress=False)


def test_verdicts_come_back_from_the_file(ledger, tmp_path):
    path = tmp_path / "verdicts.yml"
    assert load_verdicts(path) == {profile: {} for profile in PROFILES}
    found = evaluate(ledger.claims, "fast", tmp_path / "store", progress=False)
    record(found, "fast", path)
    record({"falls": found["falls"]}, "paper", path)
    back = load_verdicts(path)
    assert back["fast"].keys() == found.keys()
    assert back["paper"].keys() == {"falls"}
    assert back["fast"]["falls"].checks[0].effect == pytest.approx(found["falls"].checks[0].effect, rel=1e-3)
    assert verdicts.contradictions(found, back["fast"], "fast") == []
    path.write_text("fast: [1]")
    with refused("", path, "not a record of verdicts", error=LedgerError):
        load_verdicts(path)


def test_the_book_stops_at_what_is_not_as_recorded(ledger, tmp_path):
    options = {"store": tmp_path / "store", "progress": False}
    with refused("", "falls: no verdict", "profile fast", error=LedgerError):
        confirm(ledger, "fast", **options)
    for profile in PROFILES:
        record(evaluate(ledger.claims, profile, **options), profile, ledger.verdicts)
    assert confirm(ledger, "fast", **options)["falls"].verdict == "reproduced"
    ledger.verdicts.write_text(ledger.verdicts.read_text().replace("outcome: holds", "outcome: open"))
    with refused("", "['open']", "profile fast", "['holds']", error=LedgerError):
        confirm(ledger, "fast", **options)


def test_other_runs_or_other_code_make_verdicts_stale_without_running_them(ledger, tmp_path, monkeypatch):
    options = {"store": tmp_path / "store", "progress": False}
    recorded = {profile: evaluate(ledger.claims, profile, **options) for profile in PROFILES}
    assert stale(ledger.claims, recorded) == []
    with monkeypatch.context() as patch:
        patch.setattr("htlib.ledger.verdicts.code_digest", lambda roots: "0123456789abcdef")
        assert stale(ledger.claims, recorded) == [
            f"{claim.id}: the verdict recorded at profile {profile} is of other code"
            for profile in PROFILES
            for claim in ledger.claims
        ]
    project(tmp_path, preset=PRESET.replace("1003]", "1004]"))  # another seed only at the paper's scale
    (line,) = stale(ledger.claims, recorded)
    assert line.startswith("falls: the verdict recorded at profile paper is of another test")
    line = stale(ledger.claims[:1], recorded)[-1]
    assert line == "open-question: a verdict at profile paper without a claim"


def test_no_recorded_verdict_of_the_book_is_stale():
    """Nothing is run: a test or a formula that was changed after its verdict is seen by its fingerprint."""
    ledger = load_ledger()
    assert stale(ledger.claims, load_verdicts(ledger.verdicts)) == []
