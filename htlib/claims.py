"""The ledger of claims: what is claimed, how it is tested, and what the test said.

`book/claims.yml` is written by people: claims, sources, tests and thresholds.  `book/verdicts.yml` is
written by `record`: what the tests said at each profile, with a fingerprint of the test.  The two are
apart so that a threshold can be committed before its verdict, and so that a test that was changed
afterwards is seen.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from htlib.effects import EFFECTS
from htlib.experiments import load_experiment
from htlib.records import Trajectory
from htlib.store import Store

Array = NDArray[np.float64]

VERDICTS = ("reproduced", "partly", "not reproduced", "untested")
PROFILES = ("fast", "paper")
_REPLICATES = 10_000


class LedgerError(ValueError):
    """A ledger that cannot be read, or a verdict that no longer holds."""


@dataclass(frozen=True)
class Expectation:
    """What a claim says of an effect: that it lies between two numbers."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Expectation:
        """From "> 0.2", "< -0.1" or "0.9 to 1.1".

        Examples
        --------
        >>> Expectation.parse("0.9 to 1.1")
        Expectation(low=0.9, high=1.1)
        """
        number = r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)"
        if match := re.fullmatch(rf"([<>]) *{number}", text):
            bound = float(match[2])
            return cls(bound, math.inf) if match[1] == ">" else cls(-math.inf, bound)
        if match := re.fullmatch(rf"{number} to {number}", text):
            low, high = float(match[1]), float(match[2])
            if low < high:
                return cls(low, high)
        raise ValueError(f"expect must be like '> 0.2', '< -0.1' or '0.9 to 1.1'; got {text!r}")

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"> {self.low:g}"
        return f"< {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Check:
    """One test of a claim.

    Attributes
    ----------
    says : str
        The effect in words.
    experiment : str
        Preset whose runs are looked at.
    effect : str
        Name of a function of `htlib.effects`.
    arguments : dict
        Its arguments.
    expect : Expectation
        Where the effect lies if the claim holds.
    """

    says: str
    experiment: str
    effect: str
    arguments: Mapping[str, Any]
    expect: Expectation


@dataclass(frozen=True)
class Claim:
    """An entry of the ledger.

    Attributes
    ----------
    id : str
    claim : str
        In our own words.
    source : str
        Where it was read.
    shown : str
        Page of the book that shows it.
    comment : str
        What to know about the verdict.
    checks : tuple of Check
        Empty for a claim that is untested.
    """

    id: str
    claim: str
    source: str
    shown: str
    comment: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes
    ----------
    says, expect : str
    effect : float
        Mean over seeds; of several columns the one furthest from zero, as a size.
    low, high : float
        95 % bootstrap interval over seeds.
    n_seeds : int
    holds : bool
        Whether the whole interval lies where the claim says.
    """

    says: str
    expect: str
    effect: float
    low: float
    high: float
    n_seeds: int
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """A claim after its checks.

    Attributes
    ----------
    verdict : str
        One of `VERDICTS`: all checks hold, some, none, or there are none.
    fingerprint : str
        Of the checks and the experiments that they look at.
    checks : list of CheckResult
    """

    verdict: str
    fingerprint: str
    checks: list[CheckResult] = field(default_factory=list)


def load_claims(path: str | os.PathLike[str] | None = None) -> list[Claim]:
    """Read a ledger.

    Parameters
    ----------
    path : path, optional
        Default ``claims.yml`` here or ``book/claims.yml`` here or above.

    Raises
    ------
    FileNotFoundError
    LedgerError
        Naming the entry and what is wrong with it.
    """
    path = find_ledger() if path is None else Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list):
        raise LedgerError(f"{path}: 'claims' must be a list")
    claims = [_claim(entry, f"{path}: claim {i}") for i, entry in enumerate(content["claims"], 1)]
    names = [claim.id for claim in claims]
    if twice := {name for name in names if names.count(name) > 1}:
        raise LedgerError(f"{path}: two claims have the id {min(twice)!r}")
    return claims


def find_ledger() -> Path:
    """``claims.yml`` here, or ``book/claims.yml`` here or above."""
    folders = (Path.cwd(), *Path.cwd().parents)
    candidates = [Path.cwd() / "claims.yml", *(folder / "book" / "claims.yml" for folder in folders)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileNotFoundError("no claims.yml here, and no book/claims.yml here or above")
    return found


def evaluate(
    claims: Iterable[Claim], profile: str, store: Store | str | os.PathLike[str] | None = None, **options: Any
) -> dict[str, Verdict]:
    """Test claims.

    Parameters
    ----------
    claims : iterable of Claim
    profile : {"fast", "paper"}
    store, **options
        As for `htlib.Experiment.runs`.

    Returns
    -------
    dict
        Claim id -> Verdict.

    Raises
    ------
    LedgerError
        If a check asks for what its experiment does not have.
    """
    runs: dict[str, list[Trajectory]] = {}
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
        held = sum(result.holds for result in results)
        word = "untested" if not results else VERDICTS[0 if held == len(results) else 1 if held else 2]
        verdicts[claim.id] = Verdict(word, fingerprint(claim, profile), results)
    return verdicts


def judge(values: ArrayLike, check: Check) -> CheckResult:
    """Effect, interval and whether the interval lies where the claim says.

    Parameters
    ----------
    values : (n_seeds, k) array
    check : Check

    Raises
    ------
    ValueError
        If a value is not finite, or there are fewer than two seeds.
    """
    table = np.asarray(values, dtype=np.float64)
    if not np.isfinite(table).all():
        raise ValueError(f"the effect is not finite for every seed: {table.ravel().tolist()}")
    effect, low, high = interval(table)
    holds = check.expect.low < low and high < check.expect.high
    return CheckResult(check.says, str(check.expect), effect, low, high, len(table), holds)


def interval(values: Array) -> tuple[float, float, float]:
    """Mean over seeds with its expanded 95 % bootstrap interval.

    Percentiles of the mean over seeds drawn with replacement, at levels widened so that the interval of a
    normal sample has the width of Student's (Hesterberg 2015, sec. 5.3): plain percentiles are too narrow
    for few seeds.  Of several columns the largest absolute mean is taken, in each resample anew.

    Parameters
    ----------
    values : (n_seeds, k) array

    Returns
    -------
    effect, low, high : float

    Examples
    --------
    >>> [round(x, 2) for x in interval(np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]))]
    [3.0, 1.2, 4.8]
    """
    n, k = values.shape
    if n < 2:
        raise ValueError(f"an interval needs two seeds or more; got {n}")
    draws = np.random.default_rng(0).integers(n, size=(_REPLICATES, n))
    means = values[draws].mean(axis=1)  # (replicates, k)
    level = norm.cdf(-math.sqrt(n / (n - 1)) * student_t.ppf(0.975, n - 1))
    resampled = means[:, 0] if k == 1 else np.abs(means).max(axis=1)
    effect = values.mean(axis=0)[0] if k == 1 else np.abs(values.mean(axis=0)).max()
    low, high = np.quantile(resampled, (level, 1 - level))
    return float(effect), float(low), float(high)


def fingerprint(claim: Claim, profile: str) -> str:
    """Eight digits that change when a check, its threshold or its experiment does, but not with words."""
    tests = [(check.experiment, check.effect, check.arguments, str(check.expect)) for check in claim.checks]
    digests = {
        name: [config.digest() for config in load_experiment(name, profile).configs()]
        for name in sorted({check.experiment for check in claim.checks})
    }
    text = json.dumps([tests, digests], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
    known[profile] = {**known[profile], **verdicts}
    content = {
        name: {key: _plain(verdict) for key, verdict in sorted(entries.items())}
        for name, entries in known.items()
    }
    head = "# Written by 'htlib claims --record'. Do not edit: change claims.yml and record again.\n"
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(head + yaml.safe_dump(content, sort_keys=False, width=110), encoding="utf-8")
    unfinished.replace(path)


def contradictions(found: Mapping[str, Verdict], recorded: Mapping[str, Verdict], profile: str) -> list[str]:
    """A line for each verdict that is missing, or was recorded of another test, or differs."""
    lines: list[str] = []
    for name, verdict in found.items():
        old = recorded.get(name)
        if old is None:
            lines.append(f"{name}: no verdict is recorded at profile {profile}; found: {verdict.verdict}")
        elif old.fingerprint != verdict.fingerprint:
            lines.append(f"{name}: the recorded verdict is of another test or other runs")
        elif old.verdict != verdict.verdict:
            lines.append(f"{name}: recorded as {old.verdict!r}, found {verdict.verdict!r}")
    return lines


def stale(claims: Sequence[Claim], recorded: Mapping[str, Mapping[str, Verdict]]) -> list[str]:
    """A line for each verdict, at any profile, that is missing or was recorded of another test; nothing is run."""
    lines: list[str] = []
    for profile in PROFILES:
        for claim in claims:
            old = recorded[profile].get(claim.id)
            if old is None:
                lines.append(f"{claim.id}: no verdict is recorded at profile {profile}")
            elif old.fingerprint != fingerprint(claim, profile):
                lines.append(f"{claim.id}: the verdict at profile {profile} is of another test or other runs")
        names = {claim.id for claim in claims}
        lines += [f"{name}: a verdict without a claim" for name in recorded[profile] if name not in names]
    return lines


def _plain(verdict: Verdict) -> dict[str, Any]:
    content = asdict(verdict)
    for check in content["checks"]:
        for name in ("effect", "low", "high"):
            check[name] = float(f"{check[name]:.4g}")
    return content


_TEXTS = ("id", "claim", "source", "shown")


def _claim(entry: Any, where: str) -> Claim:
    if not isinstance(entry, dict):
        raise LedgerError(f"{where} must be a mapping; got {entry!r}")
    where = f"{where} ({entry.get('id', 'without an id')})"
    if wrong := sorted(entry.keys() - {*_TEXTS, "comment", "checks"}):
        raise LedgerError(f"{where}: unknown key {wrong[0]!r}")
    for name in _TEXTS:
        if not isinstance(entry.get(name), str):
            raise LedgerError(f"{where}: {name!r} must be a text; got {entry.get(name)!r}")
    if not re.fullmatch(r"[a-z0-9-]+", entry["id"]):
        raise LedgerError(f"{where}: an id has small letters, digits and hyphens; got {entry['id']!r}")
    checks = tuple(_check(check, where) for check in entry.get("checks") or ())
    if not checks and not entry.get("comment"):
        raise LedgerError(f"{where}: a claim without checks needs a comment that says why it is untested")
    return Claim(*(entry[name] for name in _TEXTS), entry.get("comment", ""), checks)


def _check(entry: Any, where: str) -> Check:
    if not isinstance(entry, dict) or not all(
        isinstance(entry.get(k), str) for k in ("says", "experiment", "effect", "expect")
    ):
        raise LedgerError(f"{where}: a check has says, experiment, effect and expect, texts; got {entry!r}")
    arguments = {k: v for k, v in entry.items() if k not in ("says", "experiment", "effect", "expect")}
    function: Callable[..., Array] | None = EFFECTS.get(entry["effect"])
    if function is None:
        raise LedgerError(f"{where}: effect must be one of {', '.join(EFFECTS)}; got {entry['effect']!r}")
    try:
        inspect.signature(function).bind([], **arguments)
        expect = Expectation.parse(entry["expect"])
    except (TypeError, ValueError) as error:
        raise LedgerError(f"{where}, {entry['says']!r}: {error}") from error
    return Check(entry["says"], entry["experiment"], entry["effect"], arguments, expect)
