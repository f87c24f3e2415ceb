"""The ledger of claims: what is claimed, where it was read, and how it is tested.

`book/claims.yml` is written by people.  What the tests found is kept beside it (`htlib.ledger.verdicts`), so
that a threshold can be committed before its verdict.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from htlib.ledger.effects import EFFECTS


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
        Name of a function of `htlib.ledger.effects`.
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
class PaperExperiment:
    """An experiment of the paper and what stands for it here.

    Attributes
    ----------
    what : str
    preset : str
        Of ``experiments/``.
    page : str
        Where it is shown.
    figures : tuple of str
        Names of the figures there.
    deviation : str
        In what it differs from the released code's.
    """

    what: str
    preset: str
    page: str
    figures: tuple[str, ...]
    deviation: str


@dataclass(frozen=True)
class Ledger:
    """All of ``claims.yml``.

    Attributes
    ----------
    path : Path
    claims : list of Claim
    experiments : list of PaperExperiment
    """

    path: Path
    claims: list[Claim]
    experiments: list[PaperExperiment]

    @property
    def verdicts(self) -> Path:
        """Where verdicts are recorded: beside the ledger."""
        return self.path.with_name("verdicts.yml")


def load_ledger(path: str | os.PathLike[str] | None = None) -> Ledger:
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
    path = _find() if path is None else Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} is not YAML: {error}") from error
    content = {"experiments": [], **content} if isinstance(content, dict) else {}
    for name in ("claims", "experiments"):
        if not isinstance(content.get(name), list):
            raise LedgerError(f"{path}: {name!r} must be a list")
    claims = [_claim(entry, f"{path}: claim {i}") for i, entry in enumerate(content["claims"], 1)]
    names = [claim.id for claim in claims]
    if twice := {name for name in names if names.count(name) > 1}:
        raise LedgerError(f"{path}: two claims have the id {min(twice)!r}")
    return Ledger(path, claims, [_experiment(e, str(path)) for e in content["experiments"]])


def _find() -> Path:
    """``claims.yml`` here, or ``book/claims.yml`` here or above."""
    folders = (Path.cwd(), *Path.cwd().parents)
    candidates = [Path.cwd() / "claims.yml", *(folder / "book" / "claims.yml" for folder in folders)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileNotFoundError("no claims.yml here, and no book/claims.yml here or above")
    return found


_TEXTS = ("id", "claim", "source", "shown")


def _claim(entry: Any, where: str) -> Claim:
    if not isinstance(entry, dict):
        raise LedgerError(f"{where} must be a mapping; got {entry!r}")
    where = f"{where} ({entry.get('id', 'without an id')})"
    if wrong := [key for key in entry if key not in (*_TEXTS, "comment", "checks")]:
        raise LedgerError(f"{where}: unknown key {wrong[0]!r}")
    for name in (*_TEXTS, *(["comment"] if "comment" in entry else [])):
        if not isinstance(entry.get(name), str):
            raise LedgerError(f"{where}: {name!r} must be a text; got {entry.get(name)!r}")
    if not isinstance(entry.get("checks") or [], list):
        raise LedgerError(f"{where}: 'checks' must be a list; got {entry['checks']!r}")
    if not re.fullmatch(r"[a-z0-9-]+", entry["id"]):
        raise LedgerError(f"{where}: an id has small letters, digits and hyphens; got {entry['id']!r}")
    checks = tuple(_check(check, where) for check in entry.get("checks") or ())
    if not checks and not entry.get("comment"):
        raise LedgerError(f"{where}: a claim without checks needs a comment that says why it is untested")
    texts: list[str] = [entry[name] for name in _TEXTS]
    return Claim(*texts, comment=entry.get("comment", ""), checks=checks)


def _check(entry: Any, where: str) -> Check:
    if not isinstance(entry, dict) or not all(
        isinstance(entry.get(k), str) for k in ("says", "experiment", "effect", "expect")
    ):
        raise LedgerError(f"{where}: a check has says, experiment, effect and expect, texts; got {entry!r}")
    arguments = {k: v for k, v in entry.items() if k not in ("says", "experiment", "effect", "expect")}
    function = EFFECTS.get(entry["effect"])
    if function is None:
        raise LedgerError(f"{where}: effect must be one of {', '.join(EFFECTS)}; got {entry['effect']!r}")
    for name in ("of", "minus", "whole", "over"):
        if isinstance(arguments.get(name, {}), (int, float, list)):
            raise LedgerError(
                f"{where}, {entry['says']!r}: {name} must be a setting; got {arguments[name]!r}"
            )
    for name in ("measure", "x", "y", "along"):
        if not isinstance(arguments.get(name, ""), str):
            raise LedgerError(f"{where}, {entry['says']!r}: {name} must be a text; got {arguments[name]!r}")
    try:
        inspect.signature(function).bind([], **arguments)
        expect = Expectation.parse(entry["expect"])
    except (TypeError, ValueError) as error:
        raise LedgerError(f"{where}, {entry['says']!r}: {error}") from error
    return Check(entry["says"], entry["experiment"], entry["effect"], arguments, expect)


def _experiment(entry: Any, where: str) -> PaperExperiment:
    texts = ("what", "preset", "page", "deviation")
    if (
        not isinstance(entry, dict)
        or entry.keys() != {*texts, "figures"}
        or not all(isinstance(entry[name], str) for name in texts)
        or not isinstance(entry["figures"], list)
    ):
        raise LedgerError(
            f"{where}: an experiment has {', '.join(texts)} and a list of figures; got {entry!r}"
        )
    return PaperExperiment(
        what=entry["what"],
        preset=entry["preset"],
        page=entry["page"],
        figures=tuple(map(str, entry["figures"])),
        deviation=entry["deviation"],
    )
