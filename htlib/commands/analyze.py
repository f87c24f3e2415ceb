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
    *("name", "kind", "n_matrices", "shape", "alpha_hill", "alpha_hill_null", "alpha_hill_z", "verdict"),
    *("alpha_ks", "alpha_error", "stable_rank", "n_spikes", "soft_rank"),
)
_CHANGES = (
    *("name", "kind", "shape", "relative_change", "alpha_hill_before", "alpha_hill_after"),
    *(
        "update_stable_rank",
        "update_n_spikes",
        "left_overlap",
        "left_chance",
        "right_overlap",
        "right_chance",
    ),
)
_NULLS = ("gaussian", "uniform", "truncated", "shuffle", "profile")
_RULES = ("ks", "median", "peak")
_KINDS = ("linear", "conv", "stack", "query", "key", "value", "gate", "update", "embedding")
_K = 10  # leading directions that --against compares
_LEAST = {"-k": 1, "--min-size": 1, "--max-size": 2, "--top": 3, "--replicates": 2}
_READING = """\
A smaller alpha is a heavier tail. Report three numbers of a layer, each beside its null:
  1. alpha_hill beside that of noise of the same shape: alpha_hill_null with --null gaussian;
  2. alpha_hill_z again with --null shuffle and --null profile: what its entries, or the lengths of its rows
     and columns, would give without any other structure;
  3. n_spikes beside 0, which noise has; "no bulk" where the rest is not noise and the number counts nothing.
alpha_ks depends on a threshold that jumps from layer to layer: trust it less."""
_READING_OF_CHANGES = """\
left_overlap and right_overlap are of the leading {k} directions before and after: 1 if they are kept, and
left_chance or right_chance for random ones. A stable rank of the update near 1, or spikes of it (NaN if the
rest of the update is not as noise), mean that the weights moved along few directions."""
_HELP = """\
what is read
  safetensors, torch (also TorchScript), NumPy, ONNX and HDF5 files, the index of a sharded model, or a folder
  as training programs and hubs write it. No code in a file is run. Scales, masks, norms and low-rank factors
  are put together to the weight in use; embeddings, buffers and optimizer states are left out, with a reason.
what a row is
  One weight: a matrix (h, d), or n_matrices of this shape (positions of a kernel, stacked experts), whose
  spectra are pooled. Fused query, key and value, and the gates of LSTM and GRU layers, are rows of their own.
how to read the numbers
  Noise has an exponent too, which depends on the shape, so the verdict compares alpha_hill with its null:
  "heavier" or "lighter" by three standard deviations. Never compare alpha_ks between layers of different
  n_tail. The lines below a table say which three numbers to report.

example: htlib analyze model.safetensors --exclude '*lm_head*' --output table.csv --plot model.png
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a group of sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "analyze",
        help="measure the spectra of a checkpoint",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_HELP,
        description="Measure the spectrum of every weight matrix of a checkpoint, each beside pure noise of "
        "its shape. Every tensor that is not analysed is listed with its reason.",
    )
    parser.add_argument("path", help="a file or a folder, see below")
    parser.add_argument("--describe", action="store_true", help="only say what would be analysed")
    parser.add_argument("--base", metavar="PATH", help="the model that an adapter (LoRA) belongs to")
    parser.add_argument("--against", metavar="PATH", help="compare with a second checkpoint, taken as later")
    parser.add_argument(
        "-k",
        type=int,
        metavar="K",
        help="leading directions that --against compares (default: 10)",
    )
    parser.add_argument("--include", action="append", default=[], metavar="PATTERN", help="names to take")
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="names to leave")
    parser.add_argument("--kind", action="append", default=[], choices=_KINDS, help="kinds of layers to take")
    parser.add_argument("--embeddings", action="store_true", help="analyse embeddings, too")
    parser.add_argument(
        "--min-size", type=int, default=10, metavar="N", help="fewest singular values (default: 10)"
    )
    parser.add_argument("--max-size", type=int, metavar="N", help="longest shorter side of a matrix")
    parser.add_argument(
        "--conv",
        choices=("slices", "flat"),
        default="slices",
        help="a kernel is a matrix per position, or one (out, in k...) (default: slices)",
    )
    parser.add_argument(
        "--layout",
        choices=("auto", "torch", "keras"),
        default="auto",
        help="axes of a kernel: (out, in, k...) or (k..., in, out) (default: auto)",
    )
    parser.add_argument(
        "--xmin", default="ks", help="threshold of alpha_ks: ks, median, peak, or a number (default: ks)"
    )
    parser.add_argument("--xmax", type=float, help="upper end of the fit of alpha_ks (default: none)")
    parser.add_argument("--top", type=int, metavar="K", help="of larger matrices, only K singular values")
    parser.add_argument(
        "--null",
        choices=(*_NULLS, "none"),
        default="gaussian",
        help="what to compare with: noise, also that of a uniform or truncated initialisation, or the "
        "entries of the layer in random order, or noise with its row and column norms (default: gaussian)",
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
    if options.against is not None and (options.plots or options.compare or options.base or options.describe):
        raise ValueError(
            "--plots, --compare, --base and --describe are of one checkpoint; leave out --against"
        )
    if options.against is None and options.k is not None:
        raise ValueError("-k is of two checkpoints; name the second with --against, or leave out -k")
    _check_numbers(options)
    check_output("--output", options.output, _TABLES)
    check_output("--plot", options.plot, PICTURES)
    for option, path in (("path", options.path), ("--against", options.against), ("--base", options.base)):
        if path is not None and not Path(path).expanduser().exists():
            raise FileNotFoundError(f"{option}: there is no file or folder {path}")
    check_output("--plots", options.plots and options.plots / "0.png", PICTURES, make_folder=True)
    import pandas as pd

    from htlib.models.table import closing_sentence, summarize

    table = _computed(options)
    skipped: dict[str, str] = table.attrs["skipped"]
    numbers = table.drop(columns=["eigenvalues", "live_shape"], errors="ignore")
    if not options.quiet:
        shown = numbers[[name for name in (_CHANGES if options.against else _SHOWN) if name in numbers]]
        if "n_spikes" in shown:
            spikes = [
                f"{n:g}" if bulk else "no bulk"
                for n, bulk in zip(table.n_spikes, table.has_bulk, strict=True)
            ]
            shown = shown.assign(n_spikes=spikes)
        if len(shown):
            print(pd.DataFrame(shown).to_string(index=False, float_format=_short))
        if len(table) and "alpha_hill" in table:
            print(f"\n{summarize(table).map(_short).to_string()}")
            print("\n".join(["", closing_sentence(table), _READING]))
        elif len(table) and options.against:
            print(f"\n{_READING_OF_CHANGES.format(k=options.k or _K)}")
        print(f"\n{len(table)} analysed, {len(skipped)} skipped{':' if skipped else ''}")
        for reason, names in _by_reason(skipped).items():
            print(f"  {len(names):4d}  {reason}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
    if options.output is not None:
        as_text = options.output.suffix == ".csv"
        shapes = [f"{h}x{d}" if as_text else [h, d] for h, d in numbers["shape"]]
        write_table(numbers.assign(shape=shapes), options.output)
    if len(table):
        _draw(table, options)
    if not len(table):
        print(f"htlib analyze: {_nothing(options, skipped)}", file=sys.stderr)
        return 5
    return 0


def _computed(options: argparse.Namespace) -> pd.DataFrame:
    """Return the table that the options ask for."""
    from htlib.models.comparison import compare_models
    from htlib.models.table import analyze, describe

    chosen: dict[str, Any] = {
        name: getattr(options, name) for name in ("include", "exclude", "embeddings", "min_size")
    }
    if options.against is not None:
        chosen |= {"device": options.device, "progress": not options.quiet}
        return compare_models(options.path, options.against, k=options.k or _K, **chosen)
    chosen |= {name: getattr(options, name) for name in ("base", "max_size", "conv", "layout")}
    chosen["kinds"] = options.kind
    if options.describe:
        return describe(options.path, **chosen)
    return analyze(
        options.path,
        **chosen,
        xmin=_threshold(options.xmin),  # a text that is no number is the name of a rule
        xmax=options.xmax,
        top=options.top,
        null=None if options.null == "none" else options.null,
        n_replicates=options.replicates,
        compare=options.compare,
        keep_eigenvalues=options.plot is not None or options.plots is not None,
        device=options.device,
        progress=not options.quiet,
    )


def _check_numbers(options: argparse.Namespace) -> None:
    """Refuse a number that is too small before torch is imported."""
    for option, least in _LEAST.items():
        value = getattr(options, option.lstrip("-").replace("-", "_"))
        if value is not None and value < least:
            raise ValueError(f"{option} must be at least {least}; got {value}")
    xmin = _threshold(options.xmin)
    if xmin not in _RULES and (isinstance(xmin, str) or not xmin > 0):
        raise ValueError(f"--xmin must be {', '.join(_RULES)} or a positive number; got {options.xmin}")
    if options.xmax is not None and not options.xmax > 0:
        raise ValueError(f"--xmax must be positive; got {options.xmax}")


def _threshold(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _nothing(options: argparse.Namespace, skipped: dict[str, str]) -> str:
    """Say why no weight matrix was found."""
    reasons = set(skipped.values())
    if skipped and reasons <= {"not included by the filter", "excluded by the filter"}:
        names = ", ".join(list(skipped)[:3])
        return f"the filters leave none of the {len(skipped)} names in {options.path}, such as {names}"
    others = sorted({reason.split("'")[1] for reason in reasons if reason.startswith("of the kind")})
    if others:
        wanted = " or ".join(options.kind)
        return f"no layer of {options.path} is of the kind {wanted}; it has {', '.join(others)}"
    return f"{options.path} holds no weight matrix to analyse"


def _short(value: float) -> str:
    return f"{value:.4g}"


def _draw(table: pd.DataFrame, options: argparse.Namespace) -> None:
    if options.plot is None and options.plots is None:
        return
    from matplotlib import pyplot as plt

    from htlib.figures.models import changes_overview, layer_spectrum, model_overview
    from htlib.figures.style import rc_params

    with plt.rc_context(rc_params()):
        if options.plot is not None:
            draw = changes_overview if options.against is not None else model_overview
            save_figure(draw(table), options.plot)
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
