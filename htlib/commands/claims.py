"""``htlib claims``: recompute the verdicts of the ledger."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htlib.commands.outputs import check_output, writing

if TYPE_CHECKING:
    from htlib.ledger.claims import Claim
    from htlib.ledger.verdicts import Verdict


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "claims",
        help="recompute verdicts of the ledger of claims",
        description="Run the experiments behind claims of book/claims.yml, or read them from the store, and "
        "compare what is found with the recorded verdicts. Exit status 6 if they differ.",
    )
    parser.add_argument("id", nargs="*", metavar="ID", help="claims to test (default: all)")
    parser.add_argument("--profile", choices=("fast", "paper"), default="fast", help="sizes (default: fast)")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="default: book/claims.yml here or above")
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="default: $HTLIB_STORE or the user's cache"
    )
    parser.add_argument("--record", action="store_true", help="write the verdicts beside the ledger")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and only contradictions")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command; return 0 if all verdicts are as recorded, 6 if not."""
    if options.ledger is not None and not options.ledger.is_file():
        raise FileNotFoundError(f"no file {options.ledger}; --ledger names a ledger such as book/claims.yml")
    from htlib.ledger.claims import load_ledger

    ledger = load_ledger(options.ledger, need=options.id)
    if options.record:
        check_output("--record", ledger.verdicts)
    from htlib.ledger.verdicts import contradictions, evaluate, load_verdicts, record

    chosen = [claim for claim in ledger.claims if claim.id in options.id or not options.id]
    found = evaluate(chosen, options.profile, options.store, progress=not options.quiet)
    if not options.quiet:
        for claim in chosen:
            print(describe(claim, found[claim.id]))
    if options.record:
        with writing(ledger.verdicts):
            record(found, options.profile, ledger.verdicts)
        print(f"recorded {len(found)} verdicts at profile {options.profile} in {ledger.verdicts}")
        return 0
    wrong = contradictions(found, load_verdicts(ledger.verdicts)[options.profile], options.profile)
    for line in wrong:
        print(f"htlib claims: {line}", file=sys.stderr)
    return 6 if wrong else 0


def describe(claim: Claim, verdict: Verdict) -> str:
    """Describe a claim by its verdict and one line per check."""
    lines = [f"{claim.id}: {verdict.summary()}", f"  {claim.claim}"]
    lines += [
        f"  {check.outcome:5}  {check.effect:9.4g}  [{check.low:.4g}, {check.high:.4g}]"
        f"  expected {check.expect}, {check.n_seeds} seeds: {check.says}"
        for check in verdict.checks
    ]
    return "\n".join(lines)
