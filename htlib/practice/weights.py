"""Find the parameters that the rows of a table of `htlib.analyze` are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from htlib.models.allocation import allocate
from htlib.models.allocation_rows import By, tensor_of_row
from htlib.models.checkpoints import entries_of

_PARAMETRISED = re.compile(r"^(.*?)parametrizations\.(\w+)\.\w+$")


def parameters_of_weights(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """List the parameters that each weight is made of: itself, or its ingredients.

    Weights have the names of `htlib.analyze`, without the part in brackets of gates and of fused queries,
    keys and values; a tied parameter is there under each of its names.
    """
    whole = {entry.name: entry.part_of for entry in entries_of(model)}
    result: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        made = _PARAMETRISED.match(name)
        weight = whole.get(name) or (made[1] + made[2] if made else name)
        result.setdefault(weight, []).append(parameter)
    return result


def means_by_tensor(name: str, allocation: pd.Series) -> dict[str, float]:
    """Return one number per tensor: the mean over the rows cut from it, which are of equal size.

    Raises TypeError or ValueError, with the name of the argument, if it is not an allocation.
    """
    if not isinstance(allocation, pd.Series):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"{name} must be a Series, such as htlib.allocate makes; got {type(allocation).__name__}"
        )
    numbers: dict[str, list[float]] = {}
    for row, number in zip(allocation.index, allocation.to_numpy(dtype=np.float64), strict=True):
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite; it is {number} for {row}")
        numbers.setdefault(tensor_of_row(str(row)), []).append(float(number))
    return {tensor: math.fsum(several) / len(several) for tensor, several in numbers.items()}


def by_parameter(
    name: str, allocation: pd.Series, parameters: Mapping[str, list[nn.Parameter]]
) -> dict[nn.Parameter, float]:
    """Give each parameter the number of the weight that it makes; other errors as `means_by_tensor`."""
    result: dict[nn.Parameter, float] = {}
    for weight, number in means_by_tensor(name, allocation).items():
        if weight not in parameters:
            raise ValueError(f"{name} must be of weights of the model; it has no weight {weight!r}")
        result |= dict.fromkeys(parameters[weight], number)
    return result


def parameter_groups(
    model: nn.Module, multipliers: pd.Series, *, others: float = 1.0, **options: float
) -> list[dict[str, Any]]:
    """Make the parameter groups of an optimizer, with options multiplied per layer.

    One call serves learning rates and weight decay, whose groups differ only in the option that is scaled.

    Parameters
    ----------
    model : Module
    multipliers : Series
        Of `htlib.allocate` for the model's table.  All ingredients of a weight (of weight normalisation,
        a parametrisation, a low-rank update) get its multiplier, and so does a weight that is cut into rows
        (gates, query, key and value) the mean of theirs.
    others : float
        The multiplier of all other parameters: biases, normalisation, embeddings, layers without a row.
    **options : float
        Options to multiply, such as ``lr=1e-3`` or ``weight_decay=0.1``.

    Returns
    -------
    list of dict
        For any optimizer: every parameter that requires a gradient, once, in groups of equal multipliers.

    Raises
    ------
    TypeError, ValueError
        If `multipliers` is not of weights of the model, or there is no option to multiply.

    Examples
    --------
    >>> import torch, htlib
    >>> model = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.Linear(60, 30))
    >>> multipliers = htlib.allocate(htlib.analyze(model, progress=False), "linear")
    >>> groups = parameter_groups(model, multipliers, others=0.0, weight_decay=0.1)
    >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    >>> sorted(round(group["weight_decay"], 3) for group in optimizer.param_groups)
    [0.0, 0.05, 0.15]
    """
    if not options:
        raise ValueError("options must name what is multiplied, such as lr=1e-3 or weight_decay=0.1")
    parameters = parameters_of_weights(model)
    multiplier = by_parameter("multipliers", multipliers, parameters)
    groups: dict[float, dict[str, Any]] = {}
    for parameter in model.parameters():  # tied ones once
        if parameter.requires_grad:
            own = multiplier.get(parameter, others)
            new = {"params": []} | {option: value * own for option, value in options.items()}
            groups.setdefault(own, new)["params"].append(parameter)
    return list(groups.values())


def lora_experts(
    table: pd.DataFrame, total: int = 160, *, column: str = "alpha_hill", by: By = "block", **options: Any
) -> dict[str, int]:
    """Count the low-rank experts that each module gets, as AlphaLoRA does.

    Parameters
    ----------
    table, column, by, options
        As for `htlib.allocate` with ``preset="alphalora"``.
    total : int
        The sum over the units, by default blocks; all modules of a block get the same number.

    Returns
    -------
    dict of str to int
        By the name of the module, without ".weight".  Where the ranks of PEFT are divided rather than
        experts, the counts times the rank of an expert are the ``rank_pattern`` of its ``LoraConfig``.

    Examples
    --------
    >>> names = ["h.0.up.weight", "h.0.down.weight", "h.1.up.weight"]
    >>> shapes = [(9, 9)] * 3
    >>> lora_experts(pd.DataFrame({"name": names, "shape": shapes, "alpha_hill": [2.0, 2.0, 4.0]}), total=7)
    {'h.0.up': 1, 'h.0.down': 1, 'h.1.up': 6}
    """
    counts = allocate(table, preset="alphalora", column=column, by=by, total=total, **options)
    return {module: int(count) for module, count in _by_module(counts).items()}


def bit_widths(
    table: pd.DataFrame,
    mean_bits: float = 3.5,
    *,
    column: str = "alpha_hill",
    by: By = "tensor",
    **options: Any,
) -> dict[str, float]:
    """Choose the number of bits of each module's weight, as AlphaQ does.

    Parameters
    ----------
    table, column, by, options
        As for `htlib.allocate` with ``preset="alphaq"``, whose table needs ``frobenius_norm``, unless
        ``variance=False``.
    mean_bits : float
        The most that the mean over all entries may be.

    Returns
    -------
    dict of str to float
        By the name of the module, without ".weight": the form in which quantisers take exceptions.

    Examples
    --------
    >>> names = ["up.weight", "down.weight"]
    >>> table = pd.DataFrame({"name": names, "shape": [(9, 9)] * 2, "alpha_hill": [2.0, 4.0]})
    >>> bit_widths(table, variance=False)
    {'up': 4, 'down': 3}
    """
    return _by_module(allocate(table, preset="alphaq", column=column, by=by, mean_bits=mean_bits, **options))


def _by_module(allocation: pd.Series) -> dict[str, Any]:
    return {tensor_of_row(str(name)).removesuffix(".weight"): number for name, number in allocation.items()}
