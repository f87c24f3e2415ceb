"""Try the estimators of a tail on samples and matrices whose tails are known.

Tables are tidy, one row per estimate.  A matrix is judged by two rules: its alpha is below a cutoff, as
practitioners read it, or below the k-th smallest alpha of n noise matrices of its shape, k = (n + 1) / 20
rounded, at least 1.  If it is noise itself, the second happens with the probability k / (n + 1), for every
estimator and every shape.  With k = 1 the level is the minimum, which scatters: take n = 99 or so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from htlib.spectra.alternatives import compare_distributions
from htlib.spectra.eigenvalues import esd
from htlib.spectra.estimators import ESTIMATORS, measure_noise, tail_exponent
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.spectra.nulls import NULLS, gaussian_esd
from htlib.spectra.power_law import fit_power_law, hill_alpha
from htlib.spectra.spikes import critical_strength, fit_marchenko_pastur
from htlib.spectra.traps import det_x
from htlib.spectra.windows import spectrum_windows

Array = NDArray[np.float64]
Generator = np.random.Generator

WINDOWS = "windows"  # the median estimator on the pooled spectrum of square windows, beside `ESTIMATORS`
_POSITIONS = 3
_LEVEL = 0.05


@dataclass(frozen=True)
class Law:
    """Describe a law of independent values: its label, its density exponent, and how to draw n of them.

    The exponent is infinite where the tail is lighter than every power law.
    """

    label: str
    alpha: float
    draw: Callable[[int, Generator], Array]


@dataclass(frozen=True)
class Kind:
    """Describe a kind of matrix: its label, whether a share of its eigenvalues is a tail, how to draw it."""

    label: str
    heavy: bool
    draw: Callable[[int, int, Generator], Array]


def try_noise(
    ratios: Iterable[float], estimators: Iterable[str], size: int = 500, n_seeds: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Apply estimators to pure noise of several shapes.

    Parameters
    ----------
    ratios : iterable of float
        Shorter side over longer side.
    estimators : iterable of str
        Keys of `ESTIMATORS`.
    size : int
        The shorter side.
    n_seeds : int
        Matrices per shape.
    seed : int

    Returns
    -------
    DataFrame
        Columns ``ratio``, ``estimator``, ``seed``, ``alpha``.
    """
    rows = [
        {"ratio": ratio, "estimator": estimator, "seed": one, "alpha": alpha}
        for ratio in ratios
        for estimator in estimators
        for one, alpha in enumerate(measure_noise(estimator, round(size / ratio), size, n_seeds, seed))
    ]
    return pd.DataFrame(rows)


def try_samples(n: int = 500, n_seeds: int = 20, seed: int = 0) -> pd.DataFrame:
    """Apply every estimator to samples of every law.

    Parameters
    ----------
    n : int
        Values per sample.
    n_seeds : int
        Samples per law.
    seed : int

    Returns
    -------
    DataFrame
        Columns ``law``, ``truth`` (its exponent), ``seed``, ``estimator``, ``alpha``.
    """
    rows: list[dict[str, object]] = []
    for k, (name, law) in enumerate(LAWS.items()):
        for one in range(n_seeds):
            values = np.sort(law.draw(n, np.random.default_rng([seed, k, one])))
            for estimator in ESTIMATORS:
                alpha = tail_exponent(values, estimator)
                rows.append(
                    {"law": name, "truth": law.alpha, "seed": one, "estimator": estimator, "alpha": alpha}
                )
    return pd.DataFrame(rows)


def draw_kinds(
    h: int, d: int, kinds: Iterable[str], n_seeds: int = 8, seed: int = 0
) -> dict[str, list[Array]]:
    """Draw (h, d) matrices of some kinds, keys of `KINDS`: the name of a kind -> one matrix per seed."""
    given = list(kinds)
    if unknown := set(given) - set(KINDS):
        raise ValueError(f"kinds must be among {', '.join(KINDS)}; got {min(unknown)!r}")
    return {
        kind: [KINDS[kind].draw(h, d, np.random.default_rng([seed, k, one])) for one in range(n_seeds)]
        for k, kind in enumerate(KINDS)
        if kind in given
    }


def judge_matrices(matrices: Mapping[str, Sequence[Array]], n_noise: int = 99, seed: int = 0) -> pd.DataFrame:
    """Apply every estimator, and "windows", to matrices of one shape, and to noise of that shape.

    Parameters
    ----------
    matrices : mapping of str to sequences of arrays
        Name of a kind -> one matrix per seed.  Windows are squares of half the shorter side.
    n_noise : int
        Gaussian matrices to compare with.
    seed : int

    Returns
    -------
    DataFrame
        Columns ``kind``, ``seed``, ``estimator``, ``alpha``, ``noise`` (median of the noise) and
        ``below_noise`` (whether alpha is below the k-th smallest of the noise).
    """
    shape = next(iter(matrices.values()))[0].shape
    rng = np.random.default_rng([seed, *shape])
    null = [_of_matrix(rng.standard_normal(shape)) for _ in range(n_noise)]
    return _judged({name: [_of_matrix(W) for W in group] for name, group in matrices.items()}, null)


def judge_spectra(
    spectra: Mapping[str, Sequence[Array]], h: int, d: int, n_noise: int = 99, seed: int = 0
) -> pd.DataFrame:
    """Apply every estimator to given spectra of (h, d) matrices, and to noise of their shape.

    Parameters
    ----------
    spectra : mapping of str to sequences of arrays
        Name of a kind -> one spectrum per seed.
    h, d : int
    n_noise, seed : int

    Returns
    -------
    DataFrame
        As that of `judge_matrices`, without "windows".
    """
    rng = np.random.default_rng([seed, h, d])
    null = [_of_spectrum(gaussian_esd(h, d, rng)) for _ in range(n_noise)]
    return _judged({name: [_of_spectrum(one) for one in group] for name, group in spectra.items()}, null)


def try_ratios(spectra: Mapping[str, Sequence[Array]]) -> pd.DataFrame:
    """Compare the KS tail of every spectrum with other laws, by `htlib.compare_distributions`.

    Parameters
    ----------
    spectra : mapping of str to sequences of arrays
        Name of a kind -> one spectrum per seed.

    Returns
    -------
    DataFrame
        Columns ``kind``, ``seed``, ``alternative``, ``favours`` and ``n_tail``.
    """
    tables: list[pd.DataFrame] = []
    for kind, group in spectra.items():
        for one, values in enumerate(group):
            fit = fit_power_law(values)
            table = compare_distributions(values, fit)[["favours"]].reset_index()
            tables.append(table.assign(kind=kind, seed=one, n_tail=fit.n_tail))
    return pd.concat(tables, ignore_index=True)


def beside_nulls(
    matrices: Mapping[str, Sequence[Array]], n_replicates: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Set the median exponent of matrices beside three nulls, and their spikes beside those of a shuffle.

    Parameters
    ----------
    matrices : mapping of str to sequences of arrays
        Name of a kind -> one matrix per seed.
    n_replicates : int
        Replicates of each null, at least 2.
    seed : int

    Returns
    -------
    DataFrame
        Columns ``kind``, ``seed``; ``gaussian``, ``shuffle`` and ``profile``, the distance of the exponent
        from each null of `htlib.null_distribution` in its standard deviations; ``has_bulk`` and ``n_spikes``
        of `htlib.fit_marchenko_pastur`; ``traps``, the mean number of spikes after a shuffle; and ``det_x``,
        as a share of the eigenvalues.
    """
    rows: list[dict[str, object]] = []
    for kind, group in matrices.items():
        for one, W in enumerate(group):
            values, rng = esd(W), np.random.default_rng([seed, one])
            alpha, bulk = hill_alpha(values[values > 0]), fit_marchenko_pastur(values, *W.shape)
            row: dict[str, object] = {"kind": kind, "seed": one}
            for name in ("gaussian", "shuffle", "profile"):
                replicates = [NULLS[name](torch.from_numpy(W), rng) for _ in range(n_replicates)]
                null = [hill_alpha(spectrum[spectrum > 0]) for spectrum in replicates]
                row[name] = (alpha - np.mean(null)) / np.std(null, ddof=1)
                if name == "shuffle":
                    spikes = [fit_marchenko_pastur(spectrum, *W.shape).n_spikes for spectrum in replicates]
                    row["traps"] = np.mean(spikes)
            row |= {"has_bulk": bulk.has_bulk, "n_spikes": bulk.n_spikes}
            row["det_x"] = det_x(values) / len(values)
            rows.append(row)
    return pd.DataFrame(rows)


def try_spikes(
    h: int, d: int, sides: Sequence[int], strengths: Sequence[float], n_seeds: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Hide a spike in noise, and look for it in the whole matrix and in windows.

    Parameters
    ----------
    h, d : int
        Shape of the matrix.
    sides : sequence of int
        Sides of square windows.
    strengths : sequence of float
        Singular values of the spike, in units of the critical one of the whole matrix, (h d)^(1/4).
    n_seeds, seed : int

    Returns
    -------
    DataFrame
        Columns ``strength``, ``side`` (0 for the whole matrix), ``seed``, and ``seen``, the share of the
        windows whose largest eigenvalue is beyond the 99 % quantile for noise of their shape.
    """
    rows: list[dict[str, float]] = []
    for one in range(n_seeds):
        rng = np.random.default_rng([seed, one])
        noise, left, right = rng.standard_normal((h, d)), _unit(h, rng), _unit(d, rng)
        for strength in strengths:
            W = noise + strength * critical_strength(h, d) * np.outer(left, right)
            whole = float(esd(W)[-1] > largest_eigenvalue_quantile(h, d))
            rows.append({"strength": strength, "side": 0, "seed": one, "seen": whole})
            for side in sides:
                tops = spectrum_windows(W, side, positions=_POSITIONS, pool=False)[:, -1]
                seen = float((tops > largest_eigenvalue_quantile(side, side)).mean())
                rows.append({"strength": strength, "side": side, "seed": one, "seen": seen})
    return pd.DataFrame(rows)


def _of_spectrum(values: Array) -> dict[str, float]:
    positive = values[values > 0]
    return {name: tail_exponent(positive, name) for name in ESTIMATORS}


def _of_matrix(W: Array) -> dict[str, float]:
    pooled = spectrum_windows(W, min(W.shape) // 2, positions=_POSITIONS)
    return _of_spectrum(esd(W)) | {WINDOWS: tail_exponent(pooled[pooled > 0])}


def _judged(drawn: Mapping[str, list[dict[str, float]]], null: list[dict[str, float]]) -> pd.DataFrame:
    noise = pd.DataFrame(null)
    k = max(1, round(_LEVEL * (len(noise) + 1)))
    level, middle = dict(zip(noise, np.sort(noise.to_numpy(), axis=0)[k - 1], strict=True)), noise.median()
    rows = [
        {
            "kind": kind,
            "seed": seed,
            "estimator": name,
            "alpha": alpha,
            "noise": middle[name],
            "below_noise": alpha < level[name],
        }
        for kind, group in drawn.items()
        for seed, alphas in enumerate(group)
        for name, alpha in alphas.items()
    ]
    return pd.DataFrame(rows)


def _unit(n: int, rng: Generator) -> Array:
    v = rng.standard_normal(n)
    return v / np.linalg.norm(v)


def _spiked(count: int) -> Callable[[int, int, Generator], Array]:
    """Add spikes of three times the critical strength in random directions."""

    def draw(h: int, d: int, rng: Generator) -> Array:
        left, right = (np.linalg.qr(rng.standard_normal((n, count)))[0] for n in (h, d))
        return rng.standard_normal((h, d)) + 3 * critical_strength(h, d) * left @ right.T

    return draw


def _pareto_spectrum(h: int, d: int, rng: Generator) -> Array:
    """Draw independent eigenvalues of density exponent 2.5 and random singular vectors."""
    k = min(h, d)
    values = rng.pareto(1.5, k) + 1
    left, right = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in (h, d))
    return left * np.sqrt(values) @ right.T


def _signed(draw: Callable[[Generator, tuple[int, int]], Array]) -> Callable[[int, int, Generator], Array]:
    return lambda h, d, rng: draw(rng, (h, d)) * rng.choice([-1.0, 1.0], (h, d))


LAWS: dict[str, Law] = {
    "pareto": Law("Pareto", 2.5, lambda n, rng: rng.pareto(1.5, n) + 1),
    "student": Law("Student t, 1.5 degrees", 2.5, lambda n, rng: np.abs(rng.standard_t(1.5, n))),
    "lognormal": Law("lognormal", np.inf, lambda n, rng: rng.lognormal(size=n)),
    "exponential": Law("exponential", np.inf, lambda n, rng: rng.exponential(size=n)),
}

# Entries whose fourth moment is finite leave the bulk of noise; below two moments the bulk itself has a tail.
KINDS: dict[str, Kind] = {
    "noise": Kind("Gaussian noise", False, lambda h, d, rng: rng.standard_normal((h, d))),
    "exponential": Kind("exponential entries", False, _signed(lambda rng, n: rng.exponential(size=n))),
    "lognormal": Kind("lognormal entries", False, _signed(lambda rng, n: rng.lognormal(size=n))),
    "student": Kind("Student t(3) entries", False, lambda h, d, rng: rng.standard_t(3.0, (h, d))),
    "spike": Kind("noise and a spike", False, _spiked(1)),
    "spikes": Kind("noise and ten spikes", False, _spiked(10)),
    "rows": Kind(
        "noise, rows of unequal length",
        False,
        lambda h, d, rng: rng.lognormal(sigma=0.7, size=(h, 1)) * rng.standard_normal((h, d)),
    ),
    "levy": Kind("Student t(1.5) entries", True, lambda h, d, rng: rng.standard_t(1.5, (h, d))),
    "pareto": Kind("Pareto eigenvalues", True, _pareto_spectrum),
}
