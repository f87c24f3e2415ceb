"""Draw real networks: their exponents beside noise, along training, and what is allocated by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from htlib.figures.runs import figure_of_networks
from htlib.figures.style import (
    BLACK,
    BROWN,
    GREEN,
    GREY,
    OPTIMIZER_COLORS,
    PINK,
    PURPLE,
    WIDTH,
    in_book_style,
    legend_key,
    shades,
)
from htlib.networks.run import NetworkRun

_METHODS = {
    "tempbalance": "TempBalance",
    "model-balancing": "Model Balancing",
    "alphadecay": "AlphaDecay",
    "alphalora": "AlphaLoRA",
    "pruning": "AlphaPruning",
}
_CONTROLS = {
    "none": "no method",
    "windows": "alpha of windows (FARMS)",
    "uniform": "uniform",
    "mean": "uniform, same mean",
    "noise": "alpha of noise, same shape",
    "excess": "alpha minus noise",
    "z": "z-score",
    "permuted": "permuted alphas",
    "depth": "depth",
    "reversed": "alphas reversed",
}
_LOOKS = {
    "alpha": (GREEN, "o", "-"),
    "uniform": (BLACK, "s", "--"),
    "excess": (PURPLE, "^", "-"),
    "noise": (GREY, "v", ":"),
    "depth": (BROWN, "D", "-."),
    "permuted": (PINK, "P", ":"),
}
_RESULTS = {"helps": GREEN, "tie": GREY, "harms": BROWN}
_MEASURES = {"test_loss": "test loss", "accuracy": "test accuracy"}
_NETWORKS = {
    "mlp": "digits, MLP",
    "cnn": "digits, CNN",
    "transformer": "text, transformer",
    "minilm": "MiniLM",
}


@figure_of_networks
def practice_layers(runs: Sequence[NetworkRun]) -> Figure:
    """Draw PL_Alpha_Hill of each inner layer after training beside noise of its shape, one panel per network.

    Parameters
    ----------
    runs : sequence of NetworkRun
        Without a method; the layers of a network are ordered by the exponent minus that of noise, the
        heaviest on top.

    Returns
    -------
    Figure
    """
    plain = [run for run in runs if run.config.method == "none" and run.config.labels == "real"]
    if not plain:
        raise ValueError("practice_layers needs runs without a method and with real labels; there are none")
    networks = list(dict.fromkeys(run.config.network for run in plain))
    most = {name: max(r.config.fraction for r in plain if r.config.network == name) for name in networks}
    n_rows = max(run.layers["name"].nunique() for run in plain)
    size = (WIDTH, max(4.4, 0.2 * n_rows))
    figure, axes = plt.subplots(1, len(networks), figsize=size, squeeze=False)
    for ax, network in zip(axes[0], networks, strict=True):
        last: Any = pd.concat(
            [
                run.layers[run.layers["step"] == run.metrics.index[-1]]
                for run in plain
                if run.config.network == network and run.config.fraction == most[network]
            ]
        )
        excess = (last["alpha_hill"] - last["alpha_hill_null"]).groupby(last["name"], sort=False).mean()
        names = excess.sort_values().index.tolist()
        rows = last["name"].map(names.index)
        ax.plot(last["alpha_hill_null"], rows, "|", color=GREY, ms=12, mew=2.5)
        ax.plot(last["alpha_hill"], rows, "o", color=GREEN, ms=5, alpha=0.7)
        shapes = last.drop_duplicates("name").set_index("name")["shape"]
        ax.set_yticks(range(len(names)), [_short(name, shapes[name]) for name in names], fontsize=8.5)
        ax.invert_yaxis()
        ax.set(xlabel="PL_Alpha_Hill", title=_NETWORKS[network])
    figure.legend(
        handles=[
            legend_key("trained (dots: seeds)", color=GREEN, marker="o", ls=""),
            legend_key("noise of that shape", color=GREY, marker="|", ls="", ms=12, mew=2.5),
        ],
        loc="outside upper center",
        ncols=2,
    )
    return figure


@figure_of_networks
def practice_story(runs: Sequence[NetworkRun]) -> Figure:
    """Draw the mean exponent of the inner layers minus that of noise along the steps: full and mini batch.

    Real labels are drawn through, shuffled ones dashed; a colour is a rate.

    Parameters
    ----------
    runs : sequence of NetworkRun

    Returns
    -------
    Figure
    """
    batches = sorted({run.config.batch for run in runs})
    rates = sorted({run.config.lr for run in runs})
    colors = shades(OPTIMIZER_COLORS["gd"], len(rates))
    figure, axes = plt.subplots(1, len(batches), figsize=(WIDTH, 3.9), sharey=True, squeeze=False)
    for ax, batch in zip(axes[0], batches, strict=True):
        for rate, color in zip(rates, colors, strict=True):
            for labels, dashes in (("real", "-"), ("shuffled", "--")):
                group = [
                    run
                    for run in runs
                    if (run.config.batch, run.config.lr, run.config.labels) == (batch, rate, labels)
                ]
                if not group:
                    continue
                curves = pd.concat([_excess(run) for run in group], axis=1)
                ax.plot(curves.index, curves.mean(axis=1), color=color, ls=dashes)
                low, high = curves.min(axis=1), curves.max(axis=1)
                ax.fill_between(curves.index, low, high, color=color, alpha=0.12, lw=0)
        ax.axhline(0, color=GREY, lw=1)
        ax.set(xlabel="step", title="full batch" if batch == 0 else f"batches of {batch}")
    axes[0, 0].set_ylabel("PL_Alpha_Hill minus noise")
    handles = [legend_key(f"rate {rate:g}", color=c) for rate, c in zip(rates, colors, strict=True)]
    handles += [legend_key("real labels", ls="-"), legend_key("shuffled labels", ls="--")]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


@figure_of_networks
def practice_rates(runs: Sequence[NetworkRun]) -> Figure:
    """Draw the test loss against the largest rate, with and without a method, one panel per amount of data.

    Parameters
    ----------
    runs : sequence of NetworkRun

    Returns
    -------
    Figure
    """
    table: Any = pd.DataFrame(
        [
            {
                "fraction": run.config.fraction,
                "lr": run.config.lr,
                "method": run.config.method,
                "test_loss": run.metrics["test_loss"].iloc[-1],
            }
            for run in runs
            if run.diverged_at is None
        ]
    )
    if table.empty:
        raise ValueError("practice_rates needs a run that did not diverge; there is none")
    fractions = sorted(table["fraction"].unique())
    figure, axes = plt.subplots(1, len(fractions), figsize=(WIDTH, 3.6), squeeze=False)
    for ax, fraction in zip(axes[0], fractions, strict=True):
        here = table[table["fraction"] == fraction]
        for method, color, marker in (("none", BLACK, "s"), ("tempbalance", GREEN, "o")):
            group = here[here["method"] == method]
            if len(group):
                ax.plot(group["lr"], group["test_loss"], marker, color=color, ms=4, alpha=0.5)
                means = group.groupby("lr")["test_loss"].mean()
                ax.plot(means.index, means, color=color, label=_METHODS.get(method, "cosine, no method"))
        ax.set(xscale="log", yscale="log", xlabel="largest rate", title=f"{100 * fraction:g} % of the data")
        rates = sorted(here["lr"].unique())
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates], fontsize=9, rotation=45)
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel(_MEASURES["test_loss"])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


@figure_of_networks
def practice_pruning(runs: Sequence[NetworkRun], *, measure: str = "accuracy") -> Figure:
    """Draw a measure of pruned networks against the sparsity, one curve per column that decides.

    Parameters
    ----------
    runs : sequence of NetworkRun
        With and without ``pruned_by``.
    measure : {"accuracy", "test_loss"}

    Returns
    -------
    Figure
    """
    pruned = [run for run in runs if run.config.pruned_by != "none"]
    if not pruned:
        raise ValueError("practice_pruning needs runs that were pruned; there are none")
    networks = list(dict.fromkeys(run.config.network for run in pruned))
    figure, axes = plt.subplots(1, len(networks), figsize=(WIDTH, 3.9), squeeze=False)
    for ax, network in zip(axes[0], networks, strict=True):
        for column, (color, marker, dashes) in _LOOKS.items():
            values: dict[float, list[float]] = {}
            for run in pruned:
                if (run.config.network, run.config.pruned_by) == (network, column):
                    values.setdefault(run.config.sparsity, []).append(float(run.metrics[measure].iloc[-1]))
            if not values:
                continue
            sparsities = sorted(values)
            means = [np.mean(values[s]) for s in sparsities]
            label = "alpha" if column == "alpha" else _CONTROLS[column]
            ax.plot(sparsities, means, color=color, ls=dashes, marker=marker, ms=5, label=label)
        ax.set(xlabel="sparsity of the inner layers", title=_NETWORKS[network])
    axes[0, 0].set_ylabel(_MEASURES[measure])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


@in_book_style
def practice_controls(table: pd.DataFrame, *, measure: str = "accuracy") -> Figure:
    """Draw how much better alpha is than each control, with intervals over seeds; right of zero it helps.

    Parameters
    ----------
    table : DataFrame
        Of `htlib.against_controls`.
    measure : str
        That of the table.

    Returns
    -------
    Figure
        One panel for each fraction of the data, or for each network or sparsity, at most three.
    """
    panels = [
        name
        for name in ("method", "network", "fraction", "sparsity")
        if name in table and len(set(table[name])) > 1
    ]
    groups: list[tuple[Any, Any]] = list(table.groupby(panels, sort=True)) if panels else [((), table)]
    groups = groups[:3]
    rows = [name for name in _CONTROLS if name in set(table["against"])]
    figure, axes = plt.subplots(
        1, len(groups), figsize=(WIDTH, 1.7 + 0.36 * len(rows)), sharey=True, squeeze=False
    )
    sign = -1 if measure == "test_loss" else 1
    for ax, (key, group) in zip(axes[0], groups, strict=True):
        for _, row in group.iterrows():
            y = rows.index(str(row["against"]))
            color = _RESULTS[str(row["result"])]
            ax.plot([sign * row["low"], sign * row["high"]], [y, y], color=color, lw=2)
            ax.plot(sign * row["difference"], y, "o", color=color, ms=6)
        ax.axvline(0, color=GREY, lw=1)
        ax.set_title(_panel_title(panels, key), fontsize=11)
        ax.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(range(len(rows)), [_CONTROLS[name] for name in rows])
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(f"how much alpha is better in {_MEASURES[measure]} than …", fontsize=11.5)
    handles = [
        legend_key(f"alpha {name}" if name != "tie" else name, color=c) for name, c in _RESULTS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _panel_title(panels: Sequence[str], key: object) -> str:
    values = key if isinstance(key, tuple) else (key,)
    words: list[str] = []
    for name, value in zip(panels, values, strict=True):
        if name == "method":
            words.append(_METHODS[str(value)])
        elif name == "network":
            words.append(_NETWORKS[str(value)])
        elif name == "fraction":
            words.append(f"{100 * float(str(value)):g} % of the data")
        else:
            words.append(f"sparsity {value}")
    return "\n".join(words)


def _excess(run: NetworkRun) -> Any:
    excess: Any = run.layers["alpha_hill"] - run.layers["alpha_hill_null"]
    return excess.groupby(run.layers["step"]).mean()


def _short(name: str, shape: tuple[int, int]) -> str:
    plain = name.removesuffix(".weight").removeprefix("blocks.")
    return f"{plain}  {shape[0]}x{shape[1]}"
