"""``htlib analyze``: measure the spectra of a checkpoint, or compare two."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htlib.commands.outputs import PICTURES, add_outputs, check_output, save_figure, write_table

if TYPE_CHECKING:
    import pandas as pd

_TABLES = (".csv", ".parquet", ".json")
_SHOWN = (
    *("name", "shape", "alpha_hill", "alpha_hill_null", "alpha_hill_z", "alpha_ks", "alpha_error"),
    *("stable_rank", "n_spikes", "soft_rank"),
)
_CHANGES = (
    *("name", "shape", "relative_change", "alpha_hill_before", "alpha_hill_after"),
    *("left_overlap", "right_overlap", "right_chance"),
)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "analyze",
        help="measure the spectra of a checkpoint",
        description="Measure the spectrum of every weight matrix of a checkpoint, each beside pure noise of "
        "its shape. Every tensor that is not analysed is listed with its reason.",
    )
    parser.add_argument(
        "path", help="a .safetensors, .index.json, .pt, .pth, .bin or .ckpt file, or a folder"
    )
    parser.add_argument("--against", metavar="PATH", help="compare with a second checkpoint, taken as later")
    parser.add_argument("--include", action="append", default=[], metavar="PATTERN", help="names to take")
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="names to leave")
    parser.add_argument("--embeddings", action="store_true", help="analyse embeddings, too")
    parser.add_argument(
        "--min-size", type=int, default=10, metavar="N", help="fewest singular values (default: 10)"
    )
    parser.add_argument(
        "--null",
        choices=("gaussian", "shuffle", "profile", "none"),
        default="gaussian",
        help="what to compare with (default: gaussian)",
    )
    parser.add_argument("--replicates", type=int, default=20, metavar="N", help="of the null (default: 20)")
    parser.add_argument("--compare", action="store_true", help="likelihood ratios against other laws")
    parser.add_argument("--device", default="cpu", help="any torch device (default: cpu)")
    add_outputs(parser, output="write the table (.csv, .parquet, .json)", plot="draw the model")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw each spectrum into a folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no table")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command; return 0 if at least one matrix was analysed, 5 if none was."""
    check_output("--output", options.output, _TABLES)
    check_output("--plot", options.plot, PICTURES)
    check_output("--plots", options.plots and options.plots / "0.png", PICTURES)
    if options.against is not None and (options.plot or options.plots or options.compare):
        raise ValueError("--plot, --plots and --compare are of one checkpoint; leave out --against")
    import pandas as pd

    from htlib.models.table import analyze, compare_models, summarize

    layers: dict[str, Any] = {
        name: getattr(options, name) for name in ("include", "exclude", "embeddings", "min_size", "device")
    }
    layers["progress"] = not options.quiet
    if options.against is not None:
        table = compare_models(options.path, options.against, **layers)
    else:
        table = analyze(
            options.path,
            **layers,
            null=None if options.null == "none" else options.null,
            n_replicates=options.replicates,
            compare=options.compare,
            keep_eigenvalues=options.plot is not None or options.plots is not None,
        )
    skipped: dict[str, str] = table.attrs["skipped"]
    numbers = table.drop(columns="eigenvalues", errors="ignore")
    if options.output is not None:
        as_text = options.output.suffix == ".csv"
        shapes = [f"{h}x{d}" if as_text else [h, d] for h, d in numbers["shape"]]
        write_table(numbers.assign(shape=shapes), options.output)
    if len(table):
        _draw(table, options)
    if not options.quiet:
        shown = [name for name in (_CHANGES if options.against else _SHOWN) if name in numbers]
        print(pd.DataFrame(numbers[shown]).to_string(index=False, float_format=_short))
        if len(table) and options.against is None:
            print(f"\n{summarize(table).map(_short).to_string()}")
        print(f"\n{len(table)} analysed, {len(skipped)} skipped{':' if skipped else ''}")
        for reason, names in _by_reason(skipped).items():
            print(f"  {len(names):4d}  {reason}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
    if not len(table):
        print(f"htlib analyze: {options.path} holds no weight matrix to analyse", file=sys.stderr)
        return 5
    return 0


def _short(value: float) -> str:
    return f"{value:.4g}"


def _draw(table: pd.DataFrame, options: argparse.Namespace) -> None:
    if options.plot is None and options.plots is None:
        return
    from matplotlib import pyplot as plt

    from htlib.figures.models import layer_spectrum, model_overview
    from htlib.figures.style import rc_params

    with plt.rc_context(rc_params()):
        if options.plot is not None:
            save_figure(model_overview(table), options.plot)
        if options.plots is not None:
            for i, row in enumerate(table.to_dict("records")):
                figure, ax = plt.subplots(figsize=(7, 4.4))
                layer_spectrum(row, ax=ax)
                name = "".join(c if c.isalnum() or c in ".-_[]" else "_" for c in row["name"])
                save_figure(figure, options.plots / f"{i:03d}-{name[-120:]}.png", dpi=120)
                plt.close(figure)


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        groups.setdefault(reason, []).append(name)
    return groups
