"""Does an allocation by alpha help, and more than a control does?  Runs of networks, within the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from htlib.ledger.effects import EFFECTS, effect
from htlib.networks.config import NetworkConfig
from htlib.networks.run import NetworkRun
from htlib.sweeps.seeds import seed_interval

__all__ = ["EFFECTS", "against_controls", "network_difference", "network_value"]

Array = NDArray[np.float64]
Setting = Mapping[str, Any]

HIGHER_IS_BETTER = {"test_loss": False, "accuracy": True}
# Fields that have their default unless a setting names them; the others are free, and one run per seed must
# fit.
_FIXED = {
    name: getattr(NetworkConfig, name) for name in ("labels", "method", "column", "pruned_by", "sparsity")
}
# Fields by which runs are compared with each other.
_ALLOCATION = ("method", "column", "pruned_by")
_SETTING = ("network", "fraction", "optimizer", "labels", "batch", "lr", "sparsity")


@effect
def network_value(runs: Sequence[NetworkRun], *, measure: str, of: Setting) -> Array:
    """Return a measure of networks at the end of their training."""
    return _measured(runs, measure, of)[:, None]


@effect
def network_difference(runs: Sequence[NetworkRun], *, measure: str, of: Setting, minus: Setting) -> Array:
    """Return a measure of networks at the end of their training in one setting, minus that in another.

    A measure is "test_loss", "accuracy", or "excess": PL_Alpha_Hill minus its mean over noise of the layer's
    shape, averaged over the inner layers, where a run that diverged counts with its last measurement.
    """
    return (_measured(runs, measure, of) - _measured(runs, measure, minus))[:, None]


def against_controls(runs: Sequence[NetworkRun], measure: str = "test_loss") -> pd.DataFrame:
    """Compare what is allocated by alpha with the same by each control, within the seeds.

    Parameters
    ----------
    runs : sequence of NetworkRun
        Of an experiment such as "practice-digits".
    measure : {"test_loss", "accuracy"}

    Returns
    -------
    DataFrame
        One row per setting and control: ``method``; the fields that vary; ``against``, the control;
        ``alpha``, the mean of the measure with alpha; ``difference`` from the control, with ``low`` and
        ``high``, its 95 % interval over seeds (`htlib.sweeps.seeds.seed_interval`); ``n_seeds``; ``result``:
        "helps" or "harms" if the interval excludes 0, else "tie".

    Raises
    ------
    ValueError
        If the measure is another one, or no run is allocated by alpha.
    """
    if measure not in HIGHER_IS_BETTER:
        raise ValueError(f"measure must be one of {', '.join(HIGHER_IS_BETTER)}; got {measure!r}")
    table: Any = pd.DataFrame([_row(run, measure) for run in runs])
    varying = [name for name in _SETTING if table[name].nunique(dropna=False) > 1]
    rows = list[dict[str, Any]]()
    for (method, *setting), of_alpha in _groups(table[table["by"] == "alpha"], ["method", *varying]):
        here = dict(zip(varying, setting, strict=True))
        alike = (table[list(here)] == pd.Series(here)).all(axis=1) if here else pd.Series(True, table.index)
        plain = table["method"].eq("none") & alike
        others = table[alike & table["method"].eq(method) & table["by"].ne("alpha")]
        for control, of_control in [("none", table[plain]), *_groups(others, ["by"])]:
            control = control if isinstance(control, str) else control[0]
            if not len(of_control) or (method == "pruning" and control == "none"):
                continue
            pairs: Any = of_alpha.set_index("seed")["value"] - of_control.set_index("seed")["value"]
            mean, low, high = seed_interval(pairs.dropna().to_numpy())
            sign = 1 if HIGHER_IS_BETTER[measure] else -1
            better, worse = min(sign * low, sign * high) > 0, max(sign * low, sign * high) < 0
            rows.append(
                {
                    "method": method,
                    **here,
                    "against": control,
                    "alpha": of_alpha["value"].mean(),
                    "difference": float(mean),
                    "low": float(low),
                    "high": float(high),
                    "n_seeds": int(pairs.notna().sum()),
                    "result": "helps" if better else "harms" if worse else "tie",
                }
            )
    if not rows:
        raise ValueError("no run is allocated by alpha, or none beside it by a control")
    return pd.DataFrame(rows)


def _groups(table: Any, by: list[str]) -> list[tuple[tuple[Any, ...], Any]]:
    return list(table.groupby(by, sort=False, dropna=False)) if len(table) else []


def _row(run: NetworkRun, measure: str) -> dict[str, Any]:
    config = run.config
    pruned = config.pruned_by != "none"
    return {
        **{name: getattr(config, name) for name in _SETTING},
        "method": "pruning" if pruned else config.method,
        "by": config.pruned_by if pruned else config.column if config.method != "none" else "none",
        "seed": config.seed,
        "value": _last(run, measure),
    }


def _measured(runs: Sequence[NetworkRun], measure: str, setting: Setting) -> Array:
    if unknown := [name for name in setting if name not in NetworkConfig.__dataclass_fields__]:
        raise ValueError(f"unknown field {unknown[0]!r} in setting {dict(setting)}")
    wanted = {**_FIXED, **setting}
    found = [run for run in runs if all(getattr(run.config, name) == v for name, v in wanted.items())]
    seeds = [run.config.seed for run in found]
    if not found or sorted(set(seeds)) != sorted(seeds) or set(seeds) != {run.config.seed for run in runs}:
        raise ValueError(
            f"setting {dict(setting)} must pick one run per seed; it picks seeds {sorted(seeds)}"
        )
    return np.array([_last(run, measure) for run in sorted(found, key=lambda run: run.config.seed)])


def _last(run: NetworkRun, measure: str) -> float:
    if measure == "excess":
        last: Any = run.layers[run.layers["step"] == run.metrics.index[-1]]
        return float((last["alpha_hill"] - last["alpha_hill_null"]).mean())
    if measure not in HIGHER_IS_BETTER:
        raise ValueError(f"measure must be excess or one of {', '.join(HIGHER_IS_BETTER)}; got {measure!r}")
    return float("nan") if run.diverged_at is not None else float(run.metrics[measure].iloc[-1])
