"""The record of verdicts: written by `record`, held against what is found by `confirm`.

A verdict is kept with a fingerprint of its test and of the code that decided it, so that a check, a range, a
preset or a formula which was changed after the verdict is seen without running anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from htlib.files import write_atomically
from htlib.ledger.claims import Claim, Ledger, LedgerError
from htlib.ledger.verdicts import CheckResult, Verdict, evaluate, fingerprints

PROFILES = ("fast", "paper")


def load_verdicts(path: str | os.PathLike[str]) -> dict[str, dict[str, Verdict]]:
    """Recorded verdicts, profile -> claim id -> Verdict; none if there is no such file."""
    path = Path(path)
    if not path.is_file():
        return {profile: {} for profile in PROFILES}
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            profile: {
                name: Verdict(
                    entry["verdict"], str(entry["fingerprint"]), [CheckResult(**c) for c in entry["checks"]]
                )
                for name, entry in (content.get(profile) or {}).items()
            }
            for profile in PROFILES
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise LedgerError(f"{path} is not a record of verdicts; write it anew: {error}") from error


def record(verdicts: Mapping[str, Verdict], profile: str, path: str | os.PathLike[str]) -> None:
    """Write verdicts of a profile beside those that are there."""
    path = Path(path)
    known = load_verdicts(path)
    known[profile] |= verdicts
    content = {
        name: {key: _plain(verdict) for key, verdict in sorted(entries.items())}
        for name, entries in known.items()
    }
    head = "# Written by 'htlib claims --record'. Do not edit: change claims.yml and record again.\n"
    write_atomically(path, (head + yaml.safe_dump(content, sort_keys=False, width=110)).encode())


def confirm(ledger: Ledger, profile: str, **options: Any) -> dict[str, Verdict]:
    """Test all claims, and fail unless the verdicts are the recorded ones.

    Parameters
    ----------
    ledger : Ledger
    profile : {"fast", "paper"}
    **options
        As for `evaluate`.

    Raises
    ------
    LedgerError
        With a line for each verdict that is missing, stale or contradicted, at this profile; and for each
        that is missing or stale at the other.
    """
    recorded = load_verdicts(ledger.verdicts)
    found = evaluate(ledger.claims, profile, **options)
    wrong = contradictions(found, recorded[profile], profile)
    wrong += [line for line in stale(ledger.claims, recorded) if line not in wrong]
    if wrong:
        raise LedgerError(
            "the ledger is not as recorded (if that is meant, 'htlib claims --record' at each profile):\n  "
            + "\n  ".join(wrong)
        )
    return found


def contradictions(found: Mapping[str, Verdict], recorded: Mapping[str, Verdict], profile: str) -> list[str]:
    """A line for each verdict that is not the recorded one."""
    lines = [_unrecorded(name, profile, verdict.fingerprint, recorded) for name, verdict in found.items()]
    lines += [
        f"{name}: recorded as {recorded[name].verdict} {recorded[name].outcomes()} at profile {profile}, "
        f"found {verdict.verdict} {verdict.outcomes()}"
        for name, verdict in found.items()
        if name in recorded and recorded[name].outcomes() != verdict.outcomes()
    ]
    return [line for line in lines if line]


def stale(claims: Sequence[Claim], recorded: Mapping[str, Mapping[str, Verdict]]) -> list[str]:
    """A line for each verdict that is missing, superfluous, or of another test or code.  Nothing is run."""
    lines = [
        _unrecorded(name, profile, mark, recorded[profile])
        for profile in PROFILES
        for name, mark in fingerprints(claims, profile).items()
    ]
    names = {claim.id for claim in claims}
    lines += [
        f"{name}: a verdict at profile {profile} without a claim"
        for profile in PROFILES
        for name in recorded[profile]
        if name not in names
    ]
    return [line for line in lines if line]


def _unrecorded(name: str, profile: str, mark: str, recorded: Mapping[str, Verdict]) -> str:
    if name not in recorded:
        return f"{name}: no verdict is recorded at profile {profile}"
    known = recorded[name].fingerprint
    if known == mark:
        return ""
    same_test = known.partition("-")[0] == mark.partition("-")[0]
    other = "other code" if same_test else "another test or of other runs"
    return f"{name}: the verdict recorded at profile {profile} is of {other}"


def _plain(verdict: Verdict) -> dict[str, Any]:
    content = asdict(verdict)
    for check in content["checks"]:
        for name in ("effect", "low", "high"):
            check[name] = float(f"{check[name]:.4g}")
    return content
