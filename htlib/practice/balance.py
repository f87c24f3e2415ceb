"""Balance learning rates or weight decay over layers while a model is trained."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from htlib.models.allocation import PRESETS, allocate
from htlib.models.allocation_rows import By, tensor_of_row
from htlib.models.table import analyze
from htlib.practice.weights import by_parameter, parameters_of_weights

_SCALES = "_htlib_scales"  # an attribute of the optimizer: option -> parameter -> multiplier


class TempBalance:
    """Multiply the learning rate of each layer by what `htlib.allocate` gives it, again every few steps.

    The multiplier acts inside ``optimizer.step()``: the optimizer then sees groups that are cut by layer, and
    afterwards its own groups again, unchanged.  So any other scheduler can stand beside it, in any order and
    made before or after it, and what is multiplied is always the rate that the others have set.  `rates`
    has the product.  (With decoupled weight decay, as in AdamW, the decay is multiplied with the rate.)

    Parameters
    ----------
    optimizer : Optimizer
        Any torch optimizer except L-BFGS, whose groups cannot be cut, with any parameter groups.
    model : Module
        The module whose parameters it has.  What is tied is one layer, and what is frozen takes no part; the
        rows of one parameter (gates of an LSTM; query, key and value) are one layer with the mean of their
        values.
    preset : str
        A preset of `htlib.allocate` that gives multipliers: "tempbalance", "model-balancing", "llr", or
        "alphadecay" for weight decay.
    rule : {"linear", "sigmoid"}, optional
        In place of a preset.
    every : int
        Calls of `step` between two measurements.  TempBalance measures every epoch, Model Balancing after
        100 steps at most, LLR after 40 to 100, AlphaDecay after 500.
    begin, end : int
        The first call of `step` that may measure (0: measure now), and the first that no longer may, by
        default none.  Until the first measurement all multipliers are 1; after the last one they stay.
    scales : str, optional
        The option of the groups that is multiplied, by default that of the preset, "lr" for a rule.
    measure : callable, optional
        Makes a table from the model, by default ``htlib.analyze(model, null=None)``; for a control, one
        with its column: ``lambda model: htlib.with_controls(htlib.analyze(model, progress=False))``.
    column, by, **options
        As for `htlib.allocate`.

    Attributes
    ----------
    multipliers : Series
        By the name of the parameter; 1 where there is none.
    left_out : dict of str to str
        The parameters without a multiplier of their own, with the reason.
    table : DataFrame
        The rows of the last measurement that took part.
    steps : int
        Calls of `step`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, the optimizer has no such option, or no layer can be measured.

    Notes
    -----
    Shards of parameters (FSDP, DeepSpeed) are not supported: no process has a whole matrix.  Neither is a
    step that is compiled or captured in a CUDA graph, which would keep the first multipliers.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(60, 80), nn.ReLU(), nn.Linear(80, 70), nn.ReLU(), nn.Linear(70, 60))
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    >>> schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    >>> balance = TempBalance(optimizer, model, rule="linear", every=10)
    >>> for _ in range(20):
    ...     model(torch.ones(1, 60)).square().mean().backward()
    ...     optimizer.step()
    ...     schedule.step()
    ...     balance.step()
    >>> sorted(set(balance.multipliers.round(2))), balance.left_out["0.bias"]
    ([0.5, ..., 1.5], 'a vector (bias or normalisation)')
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        preset: str = "tempbalance",
        *,
        rule: str | None = None,
        every: int = 100,
        begin: int = 0,
        end: int | None = None,
        scales: str | None = None,
        measure: Callable[[nn.Module], pd.DataFrame] | None = None,
        column: str = "alpha_hill",
        by: By | None = None,
        **options: Any,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        if rule is None and not (preset in PRESETS and PRESETS[preset].scales):
            multiplying = [name for name, one in PRESETS.items() if one.scales]
            raise ValueError(f"preset must be one of {', '.join(multiplying)}; got {preset!r}")
        if rule not in (None, "linear", "sigmoid"):
            raise ValueError(f"rule must be 'linear' or 'sigmoid', which give multipliers; got {rule!r}")
        published = None if rule else PRESETS[preset]
        self._option = scales or (published.scales if published else "lr")
        _check_optimizer(optimizer, self._option)
        own = published.by if published and published.by != "row" else "tensor"
        self._allocate = functools.partial(
            allocate, rule=rule, preset=None if rule else preset, column=column, by=by or own, **options
        )
        embeddings = bool(published and published.embeddings)
        self._measure = measure or functools.partial(
            analyze, null=None, embeddings=embeddings, progress=False
        )
        self._optimizer, self._model, self._column = optimizer, model, column
        self._every, self._begin, self._end = every, begin, end
        self.steps = 0
        self.table = pd.DataFrame()
        self.left_out: dict[str, str] = {}
        trained = self._trained()
        if not trained:
            raise ValueError("model must have parameters that the optimizer trains; it has none")
        self._set(dict.fromkeys(trained.values(), 1.0))
        if begin <= 0:
            self.update()

    @property
    def rates(self) -> pd.Series:
        """The option as the next step of the optimizer uses it, by the name of the parameter."""
        groups = self._optimizer.param_groups
        plain = {parameter: float(group[self._option]) for group in groups for parameter in group["params"]}
        rates = {name: plain[p] * self.multipliers[name] for p, name in self._trained().items()}
        return pd.Series(rates, name=self._option, dtype=float)

    def step(self) -> None:
        """Count a step of training, and measure if it is time."""
        self.steps += 1
        since = self.steps - max(self._begin, 0)
        if since >= 0 and since % self._every == 0 and (self._end is None or self.steps < self._end):
            self.update()

    def update(self) -> None:
        """Measure now, and allocate anew."""
        table = self._measure(self._model)
        parameters, trained = parameters_of_weights(self._model), self._trained()
        usable = {weight for weight, own in parameters.items() if not trained.keys().isdisjoint(own)}
        defined = np.isfinite(table[self._column].to_numpy(dtype=np.float64))
        own = np.array([tensor_of_row(str(name)) in usable for name in table["name"]], dtype=bool)
        self.table = table[defined & own]
        reasons = _by_weight(table.attrs.get("skipped", {}))
        reasons |= {str(name): f"{self._column} is not defined" for name in table["name"][~defined]}
        if not len(self.table):
            listed = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3])
            raise ValueError(f"model must have a weight that is trained and can be measured; {listed}")
        multiplier = by_parameter("multipliers", self._allocate(self.table), parameters)
        weight_of = {parameter: weight for weight, own in parameters.items() for parameter in own}
        self.left_out = {}
        for name, parameter in self._model.named_parameters():
            if parameter not in trained:
                self.left_out[name] = "not trained by the optimizer"
            elif parameter not in multiplier:
                reason = reasons.get(name) or reasons.get(weight_of[parameter])
                self.left_out[name] = reason or "not in the table of measure"
        self._set({name: multiplier.get(parameter, 1.0) for parameter, name in trained.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return what a later `load_state_dict` needs to go on exactly: the steps and the multipliers."""
        return {"steps": self.steps, "multipliers": {str(n): float(m) for n, m in self.multipliers.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with the arguments that this object was made with.

        Raises
        ------
        ValueError
            If the state is of other parameters.
        """
        saved = state["multipliers"]
        if set(saved) != set(self.multipliers.index):
            different = sorted(set(saved) ^ set(self.multipliers.index))[0]
            raise ValueError(
                f"state must be of the parameters of this optimizer; {different!r} is only in one"
            )
        self.steps = int(state["steps"])
        self._set(saved)

    def _trained(self) -> dict[nn.Parameter, str]:
        """Return the parameters that the optimizer trains, with their names."""
        held = {parameter for group in self._optimizer.param_groups for parameter in group["params"]}
        named = self._model.named_parameters()
        return {parameter: name for name, parameter in named if parameter in held and parameter.requires_grad}

    def _set(self, multipliers: Mapping[str, float]) -> None:
        trained = self._trained()
        values = {name: float(multipliers[name]) for name in trained.values()}
        self.multipliers = pd.Series(values, name="multiplier", dtype=float)
        _scales_of(self._optimizer)[self._option] = {p: values[name] for p, name in trained.items()}


def _check_optimizer(optimizer: Any, option: str) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch optimizer; got {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("optimizer must be one with parameter groups; got LBFGS, which allows only one")
    if missing := [group for group in optimizer.param_groups if option not in group]:
        raise ValueError(
            f"scales must be an option of the groups of {type(optimizer).__name__},"
            f" {', '.join(key for key in missing[0] if key != 'params')}; got {option!r}"
        )
    if not any(float(group[option]) for group in optimizer.param_groups):
        raise ValueError(f"scales must be an option that is not zero in all groups; {option!r} is")


def _by_weight(skipped: Mapping[str, str]) -> dict[str, str]:
    return {tensor_of_row(name): reason for name, reason in skipped.items()} | dict(skipped)


def _scales_of(optimizer: torch.optim.Optimizer) -> dict[str, dict[Tensor, float]]:
    """Return the multipliers that act while the optimizer steps; those of one option replace the former."""
    scales: dict[str, dict[Tensor, float]] | None = getattr(optimizer, _SCALES, None)
    if scales is not None:
        return scales
    scales = {}
    setattr(optimizer, _SCALES, scales)
    step: Callable[..., Any] = optimizer.step

    @functools.wraps(step)
    def scaled_step(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        whole = self.param_groups
        cut = [_cut(group, scales) for group in whole]
        self.param_groups = [part for parts in cut for part in parts]
        try:
            return step(*args, **kwargs)
        finally:
            self.param_groups = whole
            for group, parts in zip(whole, cut, strict=True):  # some optimizers count steps in their groups
                kept = {
                    key: value for key, value in parts[0].items() if key != "params" and key not in scales
                }
                group.update(kept)

    # schedulers of torch expect a bound method
    optimizer.step = types.MethodType(scaled_step, optimizer)
    return scales


def _cut(group: dict[str, Any], scales: Mapping[str, Mapping[Tensor, float]]) -> list[dict[str, Any]]:
    """Cut a group into parts of equal multipliers."""
    parts: dict[tuple[float, ...], dict[str, Any]] = {}
    for parameter in group["params"]:
        own = tuple(multiplier.get(parameter, 1.0) for multiplier in scales.values())
        if own not in parts:
            scaled = {option: group[option] * m for option, m in zip(scales, own, strict=True)}
            parts[own] = group | scaled | {"params": []}
        parts[own]["params"].append(parameter)
    return list(parts.values()) or [group]
