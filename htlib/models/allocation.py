"""Allocate learning rates, sparsity, experts or bits to layers by a column of a table.

Each published system that uses exponents of spectra for this is a `Preset` of `allocate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.models.allocation_rows import By, Rows, block_of
from htlib.models.allocation_rules import RULES


@dataclass(frozen=True)
class Preset:
    """Describe a published system as a call of `allocate`."""

    rule: str
    options: Mapping[str, Any]
    source: str
    by: str = "row"
    scales: str = ""  # the option of a parameter group that the multipliers are for
    left_out: tuple[str, ...] = ()  # of _LEFT_OUT
    rest: float = 1.0  # what rows that are left out get
    embeddings: bool = False  # whether its table has embeddings


PRESETS: dict[str, Preset] = {
    "tempbalance": Preset(
        "linear",
        {"low": 0.5, "high": 1.5},
        "Zhou et al. 2023, arXiv 2312.00359",
        scales="lr",
        left_out=("ends", "small"),
    ),
    "model-balancing": Preset(
        "sigmoid",
        {"tau": 10.0, "above": 1.0, "below": 2.0},
        "arXiv 2410.12178",
        by="block",
        scales="lr",
        left_out=("outside",),
    ),
    "alphapruning": Preset(
        "sparsity",
        {"spread": 0.3},
        "Lu et al. 2024, arXiv 2410.10912",
        by="block",
        left_out=("outside",),
        rest=0.0,
    ),
    "alphalora": Preset(
        "experts",
        {"total": 160, "power": 2.5},
        "arXiv 2410.10054",
        by="block",
        left_out=("outside",),
        rest=0,
    ),
    "farms": Preset(
        "sparsity", {"spread": 0.3}, "arXiv 2506.06280", by="block", left_out=("outside",), rest=0.0
    ),
    "alphadecay": Preset(
        "linear",
        {"low": 0.67, "high": 3.0},
        "arXiv 2506.14562",
        scales="weight_decay",
        left_out=("ends",),
    ),
    "llr": Preset(
        "linear",
        {"low": 1.0, "high": 5.0},
        "arXiv 2605.22297",
        scales="lr",
        left_out=("outside",),
        rest=5.0,
        embeddings=True,
    ),
    "alphaq": Preset("bits", {"mean_bits": 3.5, "variance": True}, "arXiv 2606.04980"),
}


def allocate(
    table: pd.DataFrame,
    rule: str | None = None,
    *,
    column: str = "alpha_hill",
    preset: str | None = None,
    by: By | None = None,
    **options: Any,
) -> pd.Series:
    """Allocate learning rates, sparsity, experts or bits to layers by one number of each.

    A higher value of the column gets more, except of bits, where a lower one does.  The allocation does not
    depend on the order of the rows or on their names, except where equal layers must get different whole
    numbers: then size decides, and then the name.  Equal values get the uniform allocation.

    Parameters
    ----------
    table : DataFrame
        With the columns ``name``, ``shape`` and `column`, such as `htlib.analyze` makes (also read from its
        CSV file).  A layer counts with the product of ``shape``, times ``n_matrices`` if there is such a
        column.
    rule : {"linear", "sigmoid", "sparsity", "experts", "bits"}
        "linear": multipliers from `low` = 0.5 to `high` = 1.5; the highest value gets `high`, and equal
        values get 1.
        "sigmoid": multipliers 10^(s (1 / (1 + exp(-tau (value - mean))) - 1/2)) with `tau` = 10 and
        s = `above` = 1 above the mean of the values, s = `below` = 2 below it.
        "sparsity": shares of zeros whose mean, weighted by the number of entries, is exactly `target`:
        proportional to multipliers from 1 - `spread` to 1 + `spread` (0.3); what exceeds `cap` = 1 is given
        to the others in proportion.
        "experts": whole numbers that sum to `total`, proportional to value^`power` (2.5), rounded by largest
        remainders, and at least `least` = 1.
        "bits": widths out of `choices` = (2, 3, 4) whose mean, weighted by the number of entries, is at most
        `mean_bits`.  Each step goes to where (median / value)^`gamma` 4^(-bits) falls most per bit
        (`gamma` = 1), times the variance of the entries with `variance` = True; equal layers take it
        together, and the first step that does not fit is the last one.
    column : str
        What decides: an exponent, a z-score, or a control of `with_controls`.
    preset : str, optional
        A published system in place of a rule: "tempbalance", "model-balancing", "alphapruning", "alphalora",
        "farms", "alphadecay", "llr" or "alphaq", see the notes.  `by` and `options` change its defaults.
    by : {"row", "tensor", "block"} or callable, optional
        The units: rows, by default; "tensor", the rows cut from one tensor (gates of an LSTM, query, key and
        value); "block", the rows whose names are equal up to the first number ("encoder.layer.3"), where a
        name without a number is a unit of its own; or a function from a name to the name of its unit.  The
        value of a unit is the mean over its rows, which all get the same; `total` counts each unit once.
    **options
        Those of the rule.  "linear" and "sigmoid" also take `mean`, to which the mean weighted by the number
        of entries is then brought (published systems let it drift: AlphaDecay's is up to 2.8), "linear" and
        "sparsity" also `least_spread`: values that spread less than this use the range in proportion.

    Returns
    -------
    Series
        Indexed by name, in the order of the table.

    Raises
    ------
    TypeError
        If an option is unknown or missing.
    ValueError
        If a name is there twice, a column is missing, a value is NaN or infinite (the message names the
        layer), "experts" meets a negative value or "bits" one that is not positive, or a budget cannot be
        kept.

    Notes
    -----
    What is published, and where this differs:

    - "tempbalance" (Zhou et al. 2023): learning rates, "linear" from 0.5 to 1.5.  The first and the last
      unit and rows with fewer than 50 eigenvalues are left out and get 1.  Equal exponents get 1 here; there,
      all get the maximum.  A spread of 1e-6 uses the whole range, unless `least_spread` says what counts.
      At a random start exponents only know the shape of a layer, and so does the allocation of its first
      epoch; the column "excess" of `with_controls` does not.  Vectors are no rows: there, a batch
      normalisation follows the convolution that its name follows.
    - "model-balancing" (2410.12178): learning rates of blocks, "sigmoid".  Rows outside blocks get 1.
    - "alphapruning" (2410.10912): sparsity of blocks, `spread` 0.3; give `target`, which is the mean over the
      blocks.  Rows outside blocks (embedding, head, pooler) get 0.  Shares above 1, which the released code
      leaves, are given to the other blocks.  Its exponent is that of ``analyze(xmin="peak")``, column
      "alpha_ks".
    - "alphalora" (2410.10054): 160 experts over the blocks.  Sums are kept by largest remainders, with at
      least one expert; the released code compares powers of exponents with counts.
    - "farms" (2506.06280): "alphapruning" with exponents pooled over windows, in a column of yours.  It is
      published with wider ranges; here the range is that of its host, so that only exponents differ.
    - "alphadecay" (2506.14562): weight decay, "linear" from 0.67 to 3 (also published: 5).  The first and the
      last unit get 1.  Its mean is not 1: compare with ``mean=1``, or with uniform decay of the same mean.
    - "llr" (2605.22297): learning rates, "linear" from 1 to 5; rows outside blocks (embedding, head) get 5.
    - "alphaq" (2606.04980): bits, at most 3.5 on average, with the variance of the entries.  `choices` and
      `gamma` are ours.  Its exponent is that of the largest tenth of the eigenvalues of blocks of 128 x 128.

    What a preset leaves out is not left out where nothing would remain: a model without numbered blocks is
    allocated row by row.

    Examples
    --------
    >>> table = pd.DataFrame({"name": ["a", "b", "c"], "shape": [(4, 5)] * 3, "alpha_hill": [2.0, 3.0, 4.0]})
    >>> allocate(table, "linear").tolist()
    [0.5, 1.0, 1.5]
    >>> allocate(table, "experts", total=10, power=1).to_dict()
    {'a': 2, 'b': 3, 'c': 5}
    """
    chosen = _preset(preset, rule)
    name = chosen.rule if chosen else rule
    if name not in RULES:
        known = " (a preset: preset=...)" if name in PRESETS else ""
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {name!r}{known}")
    given = {**(chosen.options if chosen else {}), **options}
    _check_options(name, given)
    rows = Rows.of(table, column, by or (chosen.by if chosen else "row"))
    left_out = _left_out(rows, chosen.left_out if chosen else ())
    rows.check_values(~left_out)
    units, unit_of_row = rows.units(~left_out)
    number = RULES[name](units, **given)
    result = np.full(len(left_out), chosen.rest if chosen else 0, dtype=number.dtype)
    result[~left_out] = number[unit_of_row]
    return pd.Series(result, index=pd.Index(rows.name, name="name"), name=name)


def _preset(preset: str | None, rule: str | None) -> Preset | None:
    if preset is None:
        if rule is None:
            raise TypeError("rule must be given, or preset")
        return None
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    if rule not in (None, PRESETS[preset].rule):
        raise ValueError(f"rule of the preset {preset!r} is {PRESETS[preset].rule!r}; got {rule!r}")
    return PRESETS[preset]


def _check_options(rule: str, options: Mapping[str, Any]) -> None:
    taken = dict(list(inspect.signature(RULES[rule]).parameters.items())[1:])
    if unknown := [name for name in options if name not in taken]:
        raise TypeError(f"{unknown[0]} is no option of the rule {rule!r}, which takes {', '.join(taken)}")
    needed = [name for name, option in taken.items() if option.default is option.empty]
    if missing := [name for name in needed if name not in options]:
        raise TypeError(f"{missing[0]} must be given for the rule {rule!r}")


def _left_out(rows: Rows, criteria: tuple[str, ...]) -> NDArray[np.bool_]:
    result = np.zeros(len(rows.name), dtype=bool)
    for criterion in criteria:
        more = result | _LEFT_OUT[criterion](rows)
        result = result if more.all() else more
    return result


def _ends(rows: Rows) -> NDArray[np.bool_]:
    return np.array([unit in (rows.unit[0], rows.unit[-1]) for unit in rows.unit])


_LEFT_OUT: dict[str, Callable[[Rows], NDArray[np.bool_]]] = {
    "ends": _ends,
    "small": lambda rows: rows.rank < 50,
    "outside": lambda rows: np.array([block_of(name) is None for name in rows.name]),
}
