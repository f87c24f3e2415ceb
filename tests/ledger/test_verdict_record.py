"""Oracles: what was written before, and ledgers of one claim that is changed after its verdict."""

from __future__ import annotations

import pytest

from htlib.ledger.claims import LedgerError, load_ledger
from htlib.ledger.verdict_record import PROFILES, confirm, contradictions, load_verdicts, record, stale
from htlib.ledger.verdicts import evaluate
from tests.ledgers import PRESET, project


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    return load_ledger()


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
    assert contradictions(found, back["fast"], "fast") == []
    path.write_text("fast: [1]")
    with pytest.raises(LedgerError, match="is not a record of verdicts; write it anew"):
        load_verdicts(path)


def test_the_book_stops_at_what_is_not_as_recorded(ledger, tmp_path):
    options = {"store": tmp_path / "store", "progress": False}
    with pytest.raises(LedgerError, match="falls: no verdict is recorded at profile fast"):
        confirm(ledger, "fast", **options)
    for profile in PROFILES:
        record(evaluate(ledger.claims, profile, **options), profile, ledger.verdicts)
    assert confirm(ledger, "fast", **options)["falls"].verdict == "reproduced"
    ledger.verdicts.write_text(ledger.verdicts.read_text().replace("outcome: holds", "outcome: open"))
    with pytest.raises(
        LedgerError, match=r"recorded as reproduced \['open'\] at profile fast, found reproduced \['holds'\]"
    ):
        confirm(ledger, "fast", **options)


def test_other_runs_make_a_verdict_stale_without_running_them(ledger, tmp_path):
    for profile in PROFILES:
        found = evaluate(ledger.claims, profile, tmp_path / "store", progress=False)
        record(found, profile, ledger.verdicts)
    recorded = load_verdicts(ledger.verdicts)
    assert stale(ledger.claims, recorded) == []
    project(tmp_path, preset=PRESET.replace("1003]", "1004]"))  # another seed at the paper's scale alone
    assert stale(ledger.claims, recorded) == [
        "falls: the verdict recorded at profile paper is of another test or of other runs"
    ]
    assert (
        stale(ledger.claims[:1], recorded)[-1] == "open-question: a verdict at profile paper without a claim"
    )


def test_other_code_makes_every_verdict_stale(ledger, tmp_path, monkeypatch):
    options = {"store": tmp_path / "store", "progress": False}
    recorded = {profile: evaluate(ledger.claims, profile, **options) for profile in PROFILES}
    assert stale(ledger.claims, recorded) == []
    monkeypatch.setattr("htlib.verdicts.code_digest", lambda roots: "0123456789abcdef")
    assert stale(ledger.claims, recorded) == [
        f"{claim.id}: the verdict recorded at profile {profile} is of other code"
        for profile in PROFILES
        for claim in ledger.claims
    ]


def test_the_ledger_of_the_book_is_recorded_at_both_scales():
    """Nothing is run: a test or a formula that was changed after its verdict is seen by its fingerprint."""
    ledger = load_ledger()
    assert stale(ledger.claims, load_verdicts(ledger.verdicts)) == []
