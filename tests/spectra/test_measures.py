"""Oracle: the definitions of the papers that the docstrings name, in plain NumPy."""

import math
from dataclasses import astuple, fields

import numpy as np
import pytest
import torch

import htlib as ht
from tests import reference

FITTED = {"alpha_hill", "alpha_ks", "alpha_error", "ks_distance", "ks_xmin"}
FITTED |= {"alpha_weighted", "log_alpha_norm"}


def expected(values):
    """Every field, from the positive eigenvalues."""
    values = np.sort(values)
    N, sigma, p = len(values), np.sqrt(values), values / values.sum()
    alpha, distance, first = reference.ks_scan(values)
    q = sigma / sigma.sum()
    return {
        "alpha_hill": 1 + (N - N // 2) / np.log(values[N // 2 :] / values[N // 2]).sum(),
        "alpha_ks": alpha,
        "alpha_error": (alpha - 1) / math.sqrt(N - first),
        "ks_distance": distance,
        "ks_xmin": values[first],
        "n_tail": N - first,
        "spectral_norm": sigma.max(),
        "frobenius_norm": math.sqrt(values.sum()),
        "stable_rank": values.sum() / values.max(),
        "effective_rank": math.exp(-(q * np.log(q)).sum()),
        "entropy": -(p * np.log(p)).sum() / math.log(N),
        "alpha_weighted": alpha * math.log10(values.max()),
        "log_alpha_norm": math.log10((values**alpha).sum()),
    }


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).pareto(1.5, 200) + 1,
        np.random.default_rng(1).lognormal(size=51),
        np.linalg.svd(np.random.default_rng(2).standard_normal((30, 20)), compute_uv=False) ** 2,
        [0.1, 0.5, 1.5],
    ],
    ids=["pareto", "lognormal", "noise", "three"],
)
def test_every_field_agrees_with_its_formula(values):
    measures = ht.spectrum_measures(values)
    assert list(measures.as_dict()) == [field.name for field in fields(measures)]
    # logarithms and sums of 200 terms
    assert measures.as_dict() == pytest.approx(expected(values), rel=1e-10, abs=1e-12)
    padded = np.random.default_rng(0).permutation([*values, 0.0, 0.0])
    assert ht.spectrum_measures(padded).as_dict() == pytest.approx(measures.as_dict(), rel=1e-13)
    assert ht.spectrum_measures(torch.tensor(np.array(values))) == measures


def test_scale_moves_only_the_norms():
    values = np.random.default_rng(0).pareto(2, 60) + 1
    scaled = {"spectral_norm": 1e3, "frobenius_norm": 1e3, "ks_xmin": 1e6}
    before, after = (ht.spectrum_measures(c * values).as_dict() for c in (1.0, 1e6))
    for name in before.keys() - {"alpha_weighted", "log_alpha_norm"}:
        assert after[name] == pytest.approx(scaled.get(name, 1.0) * before[name], rel=1e-10)
    # log10 of lambda^alpha gains alpha times 6
    for name in ("alpha_weighted", "log_alpha_norm"):
        assert after[name] == pytest.approx(before[name] + 6 * before["alpha_ks"], rel=1e-10)


@pytest.mark.parametrize(
    ("values", "stable", "effective", "entropy"),
    [
        ([4.0], 1, 1, 0),
        ([0.0, 0.0, 0.0, 4.0], 1, 1, 0),
        ([4.0, 4.0], 2, 2, 1),
        ([0.0, 4.0, 4.0, 4.0, 4.0, 4.0], 5, 5, 1),
    ],
    ids=["one", "rank one", "two", "flat"],
)
def test_no_fit_is_possible_but_the_rest_is_defined(values, stable, effective, entropy):
    """By hand; fewer than three positive values, or all of them equal, have no tail."""
    measures = ht.spectrum_measures(values).as_dict()
    assert {name for name, value in measures.items() if math.isnan(value)} == FITTED
    assert measures["n_tail"] == 0
    assert measures["spectral_norm"] == 2
    assert measures["frobenius_norm"] == pytest.approx(math.sqrt(sum(values)), rel=1e-15)
    ranks = [measures[name] for name in ("stable_rank", "effective_rank", "entropy")]
    assert ranks == pytest.approx([stable, effective, entropy], rel=1e-14)


def test_a_constant_upper_half_has_an_infinite_hill_exponent_and_a_fit():
    measures = ht.spectrum_measures([1.0, 2.0, 2.0])
    assert measures.alpha_hill == math.inf
    # the only candidate threshold is 1: alpha = 1 + 3 / (2 ln 2)
    assert measures.alpha_ks == pytest.approx(1 + 3 / (2 * math.log(2)), rel=1e-14)
    assert (measures.ks_xmin, measures.n_tail) == (1, 3)


def test_extreme_scales_do_not_overflow():
    for values in ([1e-300, 1e-299, 1e-298, 1e-297], [1e300, 1e301, 1e302, 1e303]):
        measures = ht.spectrum_measures(values)
        assert np.isfinite(astuple(measures)).all()
        assert measures.stable_rank == pytest.approx(1.111, rel=1e-12)
