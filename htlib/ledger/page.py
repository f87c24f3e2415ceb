"""Write the ledger as HTML: badges, an overview, a card for each claim, the table of the paper's experiments.

The pages of the book and a notebook in Jupyter show the same text.  Colours and columns come from the book's
style sheet, but the text can be read without it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from htlib.ledger.claims import Check, Claim, Expectation, Ledger
from htlib.ledger.verdicts import PROFILES, CheckResult, Verdict
from htlib.student.config import ExperimentConfig
from htlib.sweeps.grid import fields_of
from htlib.sweeps.presets import load_experiment

Verdicts = Mapping[str, Mapping[str, Verdict]]  # profile -> claim id -> verdict

_PAGE = "09-ledger.html"
_WIDTH, _HEIGHT = 200, 44
_MARKS = {"holds": "✓ holds", "open": "? open", "fails": "✗ fails"}
_SIZES = {"fast": "small sizes", "paper": "the paper's sizes"}


def badge(name: str, recorded: Verdicts) -> str:
    """Return the verdict of a claim at the largest profile at which it was tested, as a link to its card.

    It says at which sizes it was reached, in words that need no other page.  A page may show numbers of
    another profile, so that verdict is added if it differs.  Raises ValueError if no verdict is recorded.
    """
    found = {profile: recorded[profile][name] for profile in PROFILES if name in recorded[profile]}
    if not found:
        raise ValueError(f"no verdict is recorded of a claim {name!r}")
    largest = list(found)[-1]
    others = [
        f", but {verdict.verdict} at {_SIZES[profile]}"
        for profile, verdict in found.items()
        if verdict.verdict != found[largest].verdict
    ]
    alike = len(found) > 1 and len({verdict.summary() for verdict in found.values()}) == 1
    where = " at both sizes" if alike else f" at {_SIZES[largest]}{''.join(others)}"
    return _chip(found[largest], f"{_PAGE}#{name}", where, f"Ledger, {name}: ")


def overview(claims: Sequence[Claim], verdicts: Verdicts) -> str:
    """Return a table with one row per claim: its text and its verdict at each profile."""
    rows = "".join(
        f'<tr><th scope="row"><a href="#{claim.id}">{escape(claim.claim)}</a></th>'
        + "".join(f"<td>{_chip_of(verdicts[profile].get(claim.id))}</td>" for profile in PROFILES)
        + "</tr>"
        for claim in claims
    )
    head = "".join(f'<th scope="col">at {_SIZES[profile]}</th>' for profile in PROFILES)
    return (
        '<table class="ledger-overview"><caption>The verdicts on all claims, at two sizes</caption>'
        f'<thead><tr><th scope="col">claim</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def page_titles(ledger: Ledger) -> dict[str, str]:
    """Return page -> first heading for each page that a ledger names, from the notebooks beside it."""
    titles: dict[str, str] = {}
    for page in {one.shown for one in ledger.claims} | {one["page"] for one in ledger.experiments}:
        notebook = json.loads(ledger.path.with_name(f"{page}.ipynb").read_text(encoding="utf-8"))
        titles[page] = "".join(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")
    return titles


def card(claim: Claim, verdicts: Verdicts, titles: Mapping[str, str]) -> str:
    """Return a claim with its verdicts, and a box to open: its source, its checks, the command to recompute.

    The verdicts must belong to the claim's present checks.  `titles` maps pages to their titles.
    """
    chips = " ".join(
        f"<span>{_chip_of(verdicts[profile].get(claim.id))}<small> at {_SIZES[profile]}</small></span>"
        for profile in PROFILES
    )
    known = {profile: verdicts[profile][claim.id] for profile in PROFILES if claim.id in verdicts[profile]}
    checks = "".join(
        _check(check, {profile: verdict.checks[i] for profile, verdict in known.items()})
        for i, check in enumerate(claim.checks)
    )
    comment = f'<p class="claim-comment">{escape(claim.comment)}</p>' if claim.comment else ""
    shown = f'<a href="{claim.shown}.html">{escape(titles[claim.shown])}</a>'
    return (
        f'<section class="claim-card" id="{claim.id}"><h3 class="claim-text">{escape(claim.claim)}</h3>'
        f"<p>{chips}</p><details><summary>{_evidence(claim)}"
        f'<span class="visually-hidden"> of: {escape(claim.claim)}</span></summary>'
        f'<p class="claim-source">Source: {escape(claim.source)}. Shown in {shown}.</p>{comment}'
        f"{checks}{_command(claim) if checks else ''}</details></section>"
    )


def experiments_table(
    experiments: Sequence[Mapping[str, Any]], titles: Mapping[str, str], seconds: Mapping[str, float]
) -> str:
    """Return a table of the paper's experiments, our figures, parameters at the profile paper, and run times.

    `titles` maps pages to their titles, and `seconds` maps presets to the time of their first run.
    """
    rows = ""
    for one in experiments:
        page, preset = one["page"], load_experiment(one["preset"], "paper")
        figures = " ".join(f'<a href="{page}.html#{name}">{name}</a>' for name in one["figures"])
        n_seeds = preset.seeds if isinstance(preset.seeds, int) else len(preset.seeds)
        cells = (
            escape(one["what"]),
            f'<a href="{page}.html">{escape(titles[page])}</a>: {figures}',
            f"{escape(_parameters(preset.grid))}; {n_seeds} seeds",
            f"{seconds[one['preset']]:.1f} s",
            escape(one["deviation"]),
        )
        first, *others = cells
        rows += f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
    heads = (
        "experiment of the paper",
        "our figures",
        "parameters (the paper's sizes)",
        "one run",
        "deviation",
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<table class="ledger-experiments"><caption>The experiments of the paper, and ours</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _parameters(grid: Sequence[Mapping[str, Any]]) -> str:
    """Return the sizes, and every value of each field that the grids name, as text."""
    default = ExperimentConfig()
    values: dict[str, list[Any]] = {name: [] for name in dict.fromkeys(("n", "d", "h", *fields_of(grid)))}
    for one in grid:
        for name, seen in values.items():
            given = one.get(name, getattr(default, name))
            seen += [v for v in (given if isinstance(given, list) else [given]) if v not in seen]
    return ", ".join(f"{name} {' / '.join(map(_short, seen))}" for name, seen in values.items())


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chip_of(verdict: Verdict | None) -> str:
    return _chip(verdict) if verdict else "<em>not recorded</em>"


def _chip(verdict: Verdict, link: str = "", scale: str = "", spoken: str = "") -> str:
    tag, address = ("a", f' href="{link}"') if link else ("span", "")
    word = verdict.verdict
    # " (1 holds, 2 fail)": say of what
    tally = re.sub(
        r"\((\d+)",
        lambda m: f"({m[1]} check{'s' * (m[1] != '1')}",
        verdict.summary().removeprefix(word),
    )
    small = f"<small>{tally}{scale}</small>" if tally or scale else ""
    heard = f'<span class="visually-hidden">{spoken}</span>' if spoken else ""
    return f'<{tag} class="verdict verdict-{word.replace(" ", "-")}"{address}>{heard}{word}{small}</{tag}>'


def _evidence(claim: Claim) -> str:
    count = len(claim.checks)
    return f"Source and {count} check{'' if count == 1 else 's'}" if count else "Source"


def _command(claim: Claim) -> str:
    commands = " or ".join(
        f"<code>htlib claims {claim.id} --profile {profile}</code>" for profile in PROFILES
    )
    return f'<p class="claim-command">Recompute: {commands}</p>'


def _check(check: Check, results: Mapping[str, CheckResult]) -> str:
    """Return one check as words, a picture, and one line of numbers per profile."""
    lines = "".join(
        f"<div>{_SIZES[profile]}: {_text(result)}, {result.n_seeds} seeds: "
        f"<b>{_MARKS[result.outcome]}</b></div>"
        for profile, result in results.items()
    )
    return (
        f'<div class="claim-check"><div>{escape(check.says)}. '
        f"<small>Expected {escape(str(check.expect))}; experiment {check.experiment}.</small></div>"
        f"{_picture(check.expect, results)}<div>{lines}</div></div>"
    )


def _text(result: CheckResult) -> str:
    return f"{_number(result.effect)} [{_number(result.low)}, {_number(result.high)}]"


def _number(x: float) -> str:
    return f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def _picture(expect: Expectation, results: Mapping[str, CheckResult]) -> str:
    """Draw interval and mean of each profile above one axis, and shade the range that the claim expects."""
    bounds = [bound for bound in (expect.low, expect.high) if math.isfinite(bound)]
    numbers = [x for r in results.values() for x in (r.low, r.high)] + bounds
    low, high = min(numbers), max(numbers)
    room = 0.15 * (high - low) or 0.15 * abs(high) or 1.0
    low, high = low - room, high + room

    def at(x: float) -> float:
        return _WIDTH * (min(max(x, low), high) - low) / (high - low)

    left, right = at(expect.low), at(expect.high)
    marks = [f'<rect class="expected" x="{left:.1f}" width="{right - left:.1f}" height="30"/>']
    for y, (profile, result) in zip((9, 21), results.items(), strict=False):
        style = f'class="scale-{profile}"'
        marks += [
            f'<line {style} x1="{at(result.low):.1f}" x2="{at(result.high):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle {style} cx="{at(result.effect):.1f}" cy="{y}" r="4"/>',
        ]
    labels = "".join(
        f'<line class="bound" x1="{at(b):.1f}" x2="{at(b):.1f}" y1="0" y2="30"/>'
        f'<text x="{min(max(at(b), 14), _WIDTH - 14):.1f}" y="42">{b:g}</text>'
        for b in bounds
    )
    words = "; ".join(f"at {_SIZES[profile]} {_text(result)}" for profile, result in results.items())
    return (
        f'<svg class="check-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="expected {escape(str(expect))}; {words}">{"".join(marks)}{labels}</svg>'
    )
