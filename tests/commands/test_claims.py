"""Oracle: exit status, what is printed, what is written; on a ledger of one claim and a tiny preset."""

from __future__ import annotations

import pytest

from htlib.commands.main import main
from htlib.ledger.claims import load_ledger
from htlib.ledger.verdicts import load_verdicts
from tests.ledgers import LEDGER, project


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(project(tmp_path))
    return tmp_path


def test_a_verdict_is_recomputed_recorded_and_confirmed(capsys):
    assert main(["claims", "falls"]) == 6
    said = capsys.readouterr()
    assert "falls: reproduced" in said.out
    assert "holds" in said.out
    assert "3 seeds: Hill, last minus start" in said.out
    assert "falls: no verdict is recorded at profile fast" in said.err
    assert main(["claims", "--record", "--quiet"]) == 0
    assert "recorded 2 verdicts" in capsys.readouterr().out
    assert load_verdicts(load_ledger().verdicts)["fast"]["open-question"].verdict == "untested"
    assert main(["claims", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_contradiction_is_reported_and_a_later_record_mends_it(folder, capsys):
    main(["claims", "--record", "--quiet"])
    project(folder, LEDGER.replace("> -100", "> 100"))
    assert main(["claims"]) == 6
    said = capsys.readouterr()
    assert "falls: not reproduced" in said.out
    assert "falls: the verdict recorded at profile fast is of another test" in said.err
    main(["claims", "falls", "--record", "--quiet"])
    assert main(["claims", "--quiet"]) == 0


def test_the_other_profile_keeps_its_verdicts(folder):
    main(["claims", "--record", "--quiet", "--profile", "paper"])
    main(["claims", "--record", "--quiet"])
    recorded = load_verdicts(folder / "book" / "verdicts.yml")
    assert recorded["paper"]["falls"].checks[0].n_seeds == 4
    assert recorded["fast"]["falls"].checks[0].n_seeds == 3
