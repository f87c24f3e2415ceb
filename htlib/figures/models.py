"""Draw the table of `htlib.analyze`: the spectrum of one layer, or a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from htlib.figures.spectra import spectrum
from htlib.figures.style import BLACK, BROWN, GOLD, GREEN, GREY, ORANGE, PINK, PURPLE, SKY, in_book_style
from htlib.spectra.noise import MarchenkoPastur

_LOOKS = {
    "linear": ("o", PURPLE),
    "query": ("<", PINK),
    "key": (">", GREEN),
    "value": ("^", SKY),
    "conv": ("s", GOLD),
    "stack": ("D", BROWN),
    "gate": ("P", BROWN),
    "update": ("X", BLACK),
    "embedding": ("v", BLACK),
}


def layer_spectrum(row: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw the ESD of one layer with the fitted bulk of noise, its edge, and the threshold of the KS fit.

    Parameters
    ----------
    row : mapping
        A row of `htlib.analyze(..., keep_eigenvalues=True)`.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = plt.gca() if ax is None else ax
    h, d = row["shape"]
    law, edge, beyond = None, None, "no bulk"
    if row["has_bulk"]:
        # without its spikes, the bulk is of a smaller matrix
        lost = int(row["n_spikes"]) // row["n_matrices"]
        rows, columns = row["live_shape"]
        law = MarchenkoPastur.of_gaussian_esd(rows - lost, columns - lost, row["mp_variance"])
        edge = row["mp_edge"]
        beyond = f"{row['n_spikes']:g} beyond the edge"
    spectrum(_eigenvalues(row), law=law, edge=edge, label=f"{row['rank']} eigenvalues", ax=ax)
    if np.isfinite(row["ks_xmin"]):
        ax.axvline(row["ks_xmin"], color=BROWN, ls="--", lw=1.4, label=r"KS threshold $x_{\min}$")
    ax.set_title(f"{_plain(row['name'])}, {h} x {d}", fontsize=10.5)
    alpha = f"Hill {row['alpha_hill']:.2f}"
    if "alpha_hill_null" in row:
        alpha += f" (noise {row['alpha_hill_null']:.2f})"
    alpha += f", KS {row['alpha_ks']:.2f} ± {row['alpha_error']:.2f}, {beyond}"
    ax.text(0.02, 0.97, alpha, transform=ax.transAxes, va="top", fontsize=9.5)
    ax.legend(loc="center left", fontsize=9)
    return ax


@in_book_style
def model_overview(table: pd.DataFrame) -> Figure:
    """Draw a whole model: all spectra, and each exponent beside that of noise of the same shape.

    Parameters
    ----------
    table : DataFrame
        The table of `htlib.analyze(..., keep_eigenvalues=True)`.

    Returns
    -------
    Figure
        One row per layer: on the left the share of eigenvalues by their distance from the noise edge (of
        the fitted bulk; without one, of noise with the norm of the layer), on the right PL_Alpha_Hill, with
        its value for Gaussian matrices of the same shape in grey.
    """
    n = len(table)
    height = min(14.0, 2.6 + 0.17 * max(n, 8))
    figure, (spectra, alphas) = plt.subplots(1, 2, figsize=(11, height), sharey=True, width_ratios=(1.5, 1))
    ratios = [np.log10(_eigenvalues(row) / _edge(row)) for row in table.to_dict("records")]
    low = max(-4.0, min(float(np.quantile(r, 0.02)) for r in ratios))
    high = max(0.3, max(float(r[-1]) for r in ratios))
    edges = np.linspace(low, high, 61)
    image = np.array([np.histogram(r, edges)[0] / len(r) for r in ratios])
    image = 100 * np.where(image > 0, image, np.nan)
    mesh = spectra.pcolormesh(
        10.0**edges, np.arange(n + 1) - 0.5, image, norm=PowerNorm(0.5), cmap="cividis", rasterized=True
    )
    spectra.axvline(1, color=ORANGE, lw=1.4)
    spectra.set(xscale="log", xlabel="eigenvalue / noise edge", title="Where the eigenvalues lie")
    place = spectra.get_xaxis_transform()
    spectra.text(1, 1.005, " noise edge", color=ORANGE, fontsize=9.5, transform=place)
    bar = figure.colorbar(mesh, ax=spectra, location="bottom", shrink=0.7)
    bar.set_label("percent of the layer's eigenvalues")
    rows = np.arange(n)
    if "alpha_hill_null" in table:
        alphas.plot(table["alpha_hill_null"], rows, "|", color=GREY, ms=9, mew=2, label="noise of that shape")
    for kind, (marker, color) in _LOOKS.items():
        chosen = (table["kind"] == kind).to_numpy()
        if chosen.any():
            alphas.plot(table["alpha_hill"][chosen], rows[chosen], marker, color=color, ms=5, label=kind)
    alphas.set(xlabel="PL_Alpha_Hill", title="Exponent against noise")
    alphas.legend(loc="best", fontsize=9)
    names = [_plain(name).removesuffix(".weight") for name in table["name"]]
    every = max(1, int(np.ceil(n / 60)))
    spectra.set_yticks(rows[::every], names[::every], fontsize=7.5)
    spectra.set_ylim(n - 0.5, -0.5)
    return figure


def _plain(name: str) -> str:
    """Shorten a name to one line, and escape dollar signs so that Matplotlib sees no formula."""
    return (name if len(name) <= 70 else f"...{name[-67:]}").replace("$", r"\$")


def _edge(row: Mapping[str, Any]) -> float:
    """Return the noise edge of the fitted bulk, or else that of noise with the norm of the layer."""
    if row["has_bulk"]:
        return row["mp_edge"]
    h, d = row["shape"]
    return (np.sqrt(h) + np.sqrt(d)) ** 2 * row["frobenius_norm"] ** 2 / (h * d * row["n_matrices"])


@in_book_style
def changes_overview(table: pd.DataFrame) -> Figure:
    """Draw a table of `htlib.compare_models`: how far each layer moved, and what it kept.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    Figure
        One row per layer: on the left the relative change of the weights, on the right the overlap of the
        leading right directions before and after (dots), and that of random ones (line).
    """
    n = len(table)
    figure, (moved, kept) = plt.subplots(1, 2, figsize=(11, min(14.0, 2.6 + 0.17 * max(n, 8))), sharey=True)
    rows = np.arange(n)
    moved.plot(table["relative_change"], rows, "o", color=PURPLE)
    moved.set(xscale="log", xlabel="relative change of the weights", ylim=(n - 0.5, -0.5))
    moved.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))  # the changes may share one decade
    moved.xaxis.set_major_formatter("{x:g}")
    moved.xaxis.set_minor_formatter(NullFormatter())
    kept.plot(table["right_overlap"], rows, "o", color=PURPLE, label="before and after")
    kept.plot(table["right_chance"], rows, color=GREY, ls="--", label="random directions")
    kept.set(xlabel="overlap of the leading right directions", xlim=(-0.02, 1.02))
    if n <= 60:
        moved.set_yticks(rows, [_plain(name) for name in table["name"]], fontsize=8)
    figure.legend(*kept.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _eigenvalues(row: Mapping[str, Any]) -> NDArray[np.float64]:
    if "eigenvalues" not in row:
        raise ValueError(
            "the table has no eigenvalues: make it with htlib.analyze(..., keep_eigenvalues=True)"
        )
    values = np.asarray(row["eigenvalues"], dtype=np.float64)
    return values[values > 0]
