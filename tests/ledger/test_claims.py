"""Oracle: the ledger as written, by hand."""

from __future__ import annotations

import math

import pytest

from htlib.ledger.claims import Expectation, LedgerError, load_ledger
from htlib.ledger.effects import EFFECTS, effect
from htlib.ledger.settings import Setting
from tests.ledgers import LEDGER, project
from tests.refusals import refused

ENTRY = LEDGER.split("claims:\n")[1].split("  - id: open-question")[0]


def test_a_ledger_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    ledger = load_ledger()
    assert [claim.id for claim in ledger.claims] == ["falls", "open-question"]
    check = ledger.claims[0].checks[0]
    assert (check.experiment, check.effect) == ("tiny", "difference")
    assert check.expect == Expectation(-100, math.inf)
    assert check.arguments["minus"] == {"lr": 1.0, "step": 0}
    assert ledger.verdicts == tmp_path / "book" / "verdicts.yml"
    monkeypatch.chdir(tmp_path / "book")
    assert load_ledger().claims == ledger.claims


def test_no_ledger_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("no claims.yml", "book/claims.yml", error=FileNotFoundError):
        load_ledger()


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("> 0.2", 0.2, math.inf), ("<-0.1", -math.inf, -0.1), ("-1e-3 to 0.5", -0.001, 0.5)],
)
def test_expectations(text, low, high):
    assert Expectation.parse(text) == Expectation(low, high)
    assert Expectation.parse(str(Expectation(low, high))) == Expectation(low, high)


@pytest.mark.parametrize("text", ["", "0.2", ">= 1", "2 to 1", "about 3", "> x"])
def test_expectations_without_a_range_are_refused(text):
    with refused("expect must"):
        Expectation.parse(text)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("id: falls", "id: Falls!", ("small letters, digits and hyphens", "'Falls!'")),
        ("claim: The exponent changes.", "claim: 3", ("'claim' must", "text", 3)),
        ("    source: nowhere\n", "", ("'source' must", "text", None)),
        ("effect: difference", "effect: change", (", ".join(EFFECTS), "'change'")),
        ("minus: {lr: 1.0, step: 0}", "plus: {}", ("Hill, last minus start", "unknown key 'plus'", "minus")),
        ("minus: {lr: 1.0, step: 0}", "", ("Hill, last minus start", "'minus' must", "setting", None)),
        ('expect: "> -100"', "expect: big", ("expect must",)),
        ("        experiment: tiny\n", "", ("'experiment' must", "text", None)),
        ("    shown: 01-setting\n", "    shown: 01-setting\n    verdict: yes\n", ("unknown key 'verdict'",)),
        (ENTRY, ENTRY + ENTRY, ("two claims", "'falls'")),
        ("claims:", "entries:", ("'claims' must", "list")),
        ("of: {lr: 1.0}", "of: 5", ("'of' must", "setting", 5)),
        ("measure: alpha_hill", "measure: [1]", ("'measure' must", "text", "[1]")),
        ("comment: Nobody has looked.", "comment: 7", ("'comment' must", "text", 7)),
        ("    comment: Nobody has looked.\n", "    checks: 5\n", ("'checks' must", "list", 5)),
        ("claims:", "claims: [", ("not YAML",)),
        ("    comment: Nobody has looked.\n", "", ("without checks", "comment")),
    ],
)
def test_faults_name_the_entry(old, new, named, tmp_path):
    assert old in LEDGER
    project(tmp_path, LEDGER.replace(old, new, 1))
    with refused("", *named, error=LedgerError):
        load_ledger(tmp_path / "book" / "claims.yml")


def test_an_effect_is_one_function(tmp_path, monkeypatch):
    """Its name, and the names and kinds of its arguments, are what a check may write."""

    def deepest(runs, *, of: Setting, steps: float = 3):
        return runs

    monkeypatch.setitem(EFFECTS, "deepest", None)  # so that the registry is as before after the test
    assert effect(deepest) is deepest

    text = LEDGER.replace("effect: difference\n        measure: alpha_hill", "effect: deepest")
    text = text.replace("minus: {lr: 1.0, step: 0}", "steps: 2")
    load_ledger(project(tmp_path, text) / "book" / "claims.yml")
    with refused("", "'steps' must", "number", "'all'", error=LedgerError):
        load_ledger(project(tmp_path, text.replace("steps: 2", "steps: all")) / "book" / "claims.yml")


def test_experiments_are_read_and_checked(tmp_path):
    good = "experiments:\n  - {what: one, preset: tiny, page: p, figures: [f], deviation: none}\n"
    project(tmp_path, LEDGER + good)
    (one,) = load_ledger(tmp_path / "book" / "claims.yml").experiments
    assert (one["preset"], one["figures"]) == ("tiny", ["f"])
    project(tmp_path, LEDGER + good.replace("preset: tiny, ", ""))
    with refused("", "an experiment", "'preset' must", "text", None, error=LedgerError):
        load_ledger(tmp_path / "book" / "claims.yml")
