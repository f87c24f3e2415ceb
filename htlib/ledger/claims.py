"""Read the ledger of claims: what is claimed, where it was read, and how it is tested.

People write `book/claims.yml`.  The verdicts are in another file beside it (`htlib.ledger.verdicts`), so that
a threshold can be committed before its verdict.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

# Kind of a field -> the classes that YAML gives for it, and its name in an error
_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text"),
    float: ((int, float), "a number"),
    list: ((list,), "a list"),
    Mapping: ((dict,), "a setting"),
}
_EXPERIMENT = {**dict.fromkeys(("what", "preset", "page", "deviation"), str), "figures": list}


class LedgerError(ValueError):
    """A ledger that cannot be read, or a verdict that no longer holds."""


@dataclass(frozen=True)
class Expectation:
    """The range in which a claim expects an effect."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Expectation:
        """Make an expectation from "> 0.2", "< -0.1" or "0.9 to 1.1"; raises ValueError for other texts."""
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
    """One test of a claim."""

    says: str  # the effect in words
    experiment: str  # the preset whose runs are tested
    effect: str  # a name of `htlib.ledger.effects.EFFECTS`
    arguments: Mapping[str, Any]
    expect: Expectation  # where the effect lies if the claim holds


@dataclass(frozen=True)
class Claim:
    """An entry of the ledger."""

    id: str
    claim: str  # in our own words
    source: str  # where it was read
    shown: str  # the page that shows it
    comment: str  # what a reader should know about the verdict
    checks: tuple[Check, ...]  # empty if the claim is untested


@dataclass(frozen=True)
class Ledger:
    """The content of ``claims.yml``."""

    path: Path
    claims: list[Claim]
    # The paper's experiments and what this book has for each: "what" it is, the "preset" in experiments/, the
    # "page" with its "figures", and the "deviation" from the released code.
    experiments: list[dict[str, Any]]

    @property
    def verdicts(self) -> Path:
        """The file of recorded verdicts, beside the ledger."""
        return self.path.with_name("verdicts.yml")


def read_yaml(path: Path) -> Any:
    """Parse a file with the C library where PyYAML was built with it: that takes a tenth of the time."""
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load_ledger(path: str | os.PathLike[str] | None = None, need: Iterable[str] = ()) -> Ledger:
    """Read a ledger; without a path, ``claims.yml`` here, or ``book/claims.yml`` here or in a folder above.

    Raises FileNotFoundError, or a LedgerError that names the entry and the fault.  An id in `need` that no
    claim has is a ValueError, which is raised before the effects and torch are imported.
    """
    path = _find() if path is None else Path(path)
    try:
        content = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} is not YAML: {error}") from error
    content = {"experiments": [], **content} if isinstance(content, dict) else {}
    for name in ("claims", "experiments"):
        if not isinstance(content.get(name), list):
            raise LedgerError(f"{path}: {name!r} must be a list")
    ids = [str(entry.get("id")) for entry in content["claims"] if isinstance(entry, dict)]
    if unknown := [name for name in need if name not in ids]:
        raise ValueError(f"no claim {unknown[0]!r} in {path}; it has {', '.join(ids)}")
    claims = [_claim(entry, f"{path}: claim {i}") for i, entry in enumerate(content["claims"], 1)]
    names = [claim.id for claim in claims]
    if twice := {name for name in names if names.count(name) > 1}:
        raise LedgerError(f"{path}: two claims have the id {min(twice)!r}")
    experiments = [_checked(entry, _EXPERIMENT, f"{path}: an experiment") for entry in content["experiments"]]
    return Ledger(path, claims, experiments)


def _find() -> Path:
    folders = (Path.cwd(), *Path.cwd().parents)
    candidates = [Path.cwd() / "claims.yml", *(folder / "book" / "claims.yml" for folder in folders)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileNotFoundError("no claims.yml here, and no book/claims.yml here or above")
    return found


def _claim(entry: Any, where: str) -> Claim:
    where = f"{where} ({entry.get('id', 'without an id')})" if isinstance(entry, dict) else where
    texts = dict.fromkeys(("id", "claim", "source", "shown", "comment"), str)
    entry = _checked(entry, {**texts, "checks": list}, where, optional=("comment", "checks"))
    if not re.fullmatch(r"[a-z0-9-]+", entry["id"]):
        raise LedgerError(f"{where}: an id has small letters, digits and hyphens; got {entry['id']!r}")
    checks = tuple(_check(check, where) for check in entry.pop("checks", ()))
    if not checks and not entry.get("comment"):
        raise LedgerError(f"{where}: a claim without checks needs a comment that says why it is untested")
    return Claim(**{"comment": "", **entry}, checks=checks)


def _check(entry: Any, where: str) -> Check:
    from htlib.ledger.controls import EFFECTS  # all of them; imports torch

    function = EFFECTS.get(str(entry.get("effect"))) if isinstance(entry, dict) else None
    if function is None:
        raise LedgerError(
            f"{where}: the effect of a check must be one of {', '.join(EFFECTS)}; got {entry!r}"
        )
    where = f"{where}, {entry.get('says')!r}"
    texts = dict.fromkeys(("says", "experiment", "effect", "expect"), str)
    hints, parameters = get_type_hints(function), list(inspect.signature(function).parameters.values())[1:]
    kinds = {p.name: hints[p.name] for p in parameters}
    optional = [p.name for p in parameters if p.default is not p.empty]
    entry = _checked(entry, {**texts, **kinds}, where, optional)
    try:
        expect = Expectation.parse(entry["expect"])
    except ValueError as error:
        raise LedgerError(f"{where}: {error}") from error
    arguments = {name: given for name, given in entry.items() if name in kinds}
    return Check(entry["says"], entry["experiment"], entry["effect"], arguments, expect)


def _checked(
    entry: Any, fields: Mapping[str, Any], where: str, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a copy of an entry, which must have these fields, of these kinds, and no others."""
    if not isinstance(entry, dict):
        raise LedgerError(f"{where} must be a mapping; got {entry!r}")
    if unknown := [name for name in entry if name not in fields]:
        raise LedgerError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(fields)}")
    for name, hint in fields.items():
        allowed = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        classes, words = zip(*(_KINDS[get_origin(kind) or kind] for kind in allowed), strict=True)
        if not isinstance(entry.get(name), classes) and (name in entry or name not in optional):
            raise LedgerError(f"{where}: {name!r} must be {' or '.join(words)}; got {entry.get(name)!r}")
    return dict(entry)
