"""Verdicts: effects are judged over seeds, checks are counted, and the book is compared with the record.

A verdict is stored with a fingerprint of its test and of the code that decided it.  A later change of a
check, a range, a preset or a formula is therefore found without running anything.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike

from htlib.ledger.claims import Check, Claim, Ledger, LedgerError, read_yaml
from htlib.ledger.controls import EFFECTS
from htlib.student.files import write_atomically
from htlib.sweeps.kinds import KINDS
from htlib.sweeps.numerics import VERDICTS, code_digest
from htlib.sweeps.presets import Experiment, load_experiment
from htlib.sweeps.seeds import seed_interval
from htlib.sweeps.store import Store

PROFILES = ("fast", "paper")


@dataclass(frozen=True)
class CheckResult:
    """The result of a check."""

    says: str
    expect: str
    effect: float  # mean over seeds; of several columns the one nearest to failing, of errors as a size
    low: float  # of its 95 % bootstrap interval over seeds, simultaneous for all columns
    high: float
    n_seeds: int
    # "holds" if the interval of every column lies entirely where the claim expects it, "fails" if that of at
    # least one column lies entirely elsewhere, otherwise "open"
    outcome: str


_COUNTED = (("holds", "hold"), ("open", "open"), ("fails", "fail"))  # one, several


@dataclass(frozen=True)
class Verdict:
    """A claim after its checks.

    The verdict is "reproduced" if all checks hold, "partly" if some do, "not reproduced" if none holds and
    one fails, "undecided" if all are open, and "untested" if there are none.
    """

    verdict: str
    fingerprint: str  # two marks, as `fingerprints` makes them
    checks: list[CheckResult] = field(default_factory=list)

    def outcomes(self) -> list[str]:
        """Return the outcomes of the checks, in their order."""
        return [check.outcome for check in self.checks]

    def summary(self) -> str:
        """Return the verdict; if the outcomes differ, add how many there are of each."""
        counts = {words: self.outcomes().count(words[0]) for words in _COUNTED}
        several = [f"{count} {words[count > 1]}" for words, count in counts.items() if count]
        return f"{self.verdict} ({', '.join(several)})" if len(several) > 1 else self.verdict


def evaluate(
    claims: Iterable[Claim], profile: str, store: Store | str | os.PathLike[str] | None = None, **options: Any
) -> dict[str, Verdict]:
    """Test claims; return the verdicts by claim id.

    The store and the options are those of `htlib.Experiment.runs`.  A check that asks for something that its
    experiment does not have is a LedgerError.
    """
    claims = list(claims)
    marks = fingerprints(claims, profile)
    runs: dict[str, list[Any]] = {}
    verdicts: dict[str, Verdict] = {}
    for claim in claims:
        results: list[CheckResult] = []
        for check in claim.checks:
            if check.experiment not in runs:
                runs[check.experiment] = load_experiment(check.experiment, profile).runs(store, **options)
            try:
                values = EFFECTS[check.effect](runs[check.experiment], **check.arguments)
                results.append(judge(values, check))
            except (TypeError, ValueError) as error:
                raise LedgerError(f"claim {claim.id!r}, {check.says!r}: {error}") from error
        word = _word([result.outcome for result in results])
        verdicts[claim.id] = Verdict(word, marks[claim.id], results)
    return verdicts


def judge(values: ArrayLike, check: Check) -> CheckResult:
    """Compute an effect and its interval from (n_seeds, k) values, and judge whether it lies where expected.

    Values that are not finite, and fewer than two seeds, are a ValueError.
    """
    table = np.asarray(values, dtype=np.float64)
    if not np.isfinite(table).all():
        raise ValueError(f"the effect is not finite for every seed: {table.ravel().tolist()}")
    means, lows, highs = seed_interval(table)
    inside, outside = check.expect.low, check.expect.high
    errors = len(means) > 1 and math.isinf(inside)  # each must lie between minus and plus the bound
    if errors:
        inside = -outside
    worst = int(np.minimum(means - inside, outside - means).argmin())
    effect, low, high = (float(x[worst]) for x in (means, lows, highs))
    if errors and effect < 0:
        effect, low, high = -effect, -high, -low
    if (lows > inside).all() and (highs < outside).all():
        outcome = "holds"
    else:
        outcome = "fails" if ((highs <= inside) | (lows >= outside)).any() else "open"
    return CheckResult(check.says, str(check.expect), effect, low, high, len(table), outcome)


def fingerprints(claims: Iterable[Claim], profile: str) -> dict[str, str]:
    """Make for each claim id two marks with a hyphen between them; prose changes neither.

    The first mark changes when a check, its threshold or its runs change; the second changes with the code
    that makes the runs and judges them (`htlib.sweeps.numerics`).
    """
    experiments: dict[str, Experiment] = {}
    digests: dict[str, list[str]] = {}
    marks: dict[str, str] = {}
    for claim in claims:
        tests = [
            (check.experiment, check.effect, check.arguments, str(check.expect)) for check in claim.checks
        ]
        names = sorted({check.experiment for check in claim.checks})
        for name in names:
            if name not in digests:
                experiments[name] = load_experiment(name, profile)
                digests[name] = [config.digest() for config in experiments[name].configs()]
        kinds = {KINDS[experiments[name].kind].code for name in names}
        code = code_digest((*VERDICTS, *sorted(root for roots in kinds for root in roots)))[:8]
        text = json.dumps([tests, {name: digests[name] for name in names}], sort_keys=True)
        marks[claim.id] = f"{hashlib.sha256(text.encode()).hexdigest()[:8]}-{code}"
    return marks


def load_verdicts(path: str | os.PathLike[str]) -> dict[str, dict[str, Verdict]]:
    """Read the recorded verdicts, profile -> claim id -> Verdict; there are none if the file is missing."""
    path = Path(path)
    if not path.is_file():
        return {profile: {} for profile in PROFILES}
    try:
        content: dict[str, Any] = read_yaml(path)
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
    """Write the verdicts of a profile, and keep the others that the file has."""
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
    """Test all claims and return the verdicts, if they are the recorded ones.

    Otherwise a LedgerError has one line for each verdict that is missing, stale or contradicted at this
    profile, and for each that is stale at the other profile, where a verdict may be missing: the page says
    "not recorded".  The options are those of `evaluate`.
    """
    recorded = load_verdicts(ledger.verdicts)
    found = evaluate(ledger.claims, profile, **options)
    wrong = contradictions(found, recorded[profile], profile)
    wrong += stale(ledger.claims, recorded, [other for other in PROFILES if other != profile])
    if wrong:
        raise LedgerError(
            "the ledger is not as recorded (if that is meant, 'htlib claims --record' at each profile):\n  "
            + "\n  ".join(wrong)
        )
    return found


def contradictions(found: Mapping[str, Verdict], recorded: Mapping[str, Verdict], profile: str) -> list[str]:
    """Return one line for each verdict that is not the recorded one."""
    lines = [_unrecorded(name, profile, verdict.fingerprint, recorded) for name, verdict in found.items()]
    lines += [
        f"{name}: recorded as {recorded[name].verdict} {recorded[name].outcomes()} at profile {profile}, "
        f"found {verdict.verdict} {verdict.outcomes()}"
        for name, verdict in found.items()
        if name in recorded and recorded[name].outcomes() != verdict.outcomes()
    ]
    return [line for line in lines if line]


def stale(
    claims: Sequence[Claim],
    recorded: Mapping[str, Mapping[str, Verdict]],
    profiles: Collection[str] = PROFILES,
) -> list[str]:
    """Return one line for each recorded verdict that is superfluous, or from another test or other code.

    The latter is asked at some profiles only.  Nothing is run.
    """
    lines = [
        _unrecorded(name, profile, mark, recorded[profile])
        for profile in profiles
        for name, mark in fingerprints(claims, profile).items()
        if name in recorded[profile]
    ]
    names = {claim.id for claim in claims}
    lines += [
        f"{name}: a verdict at profile {profile} without a claim"
        for profile in PROFILES
        for name in recorded[profile]
        if name not in names
    ]
    return [line for line in lines if line]


def _word(outcomes: Sequence[str]) -> str:
    if not outcomes:
        return "untested"
    if "holds" in outcomes:
        return "reproduced" if set(outcomes) == {"holds"} else "partly"
    return "not reproduced" if "fails" in outcomes else "undecided"


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
