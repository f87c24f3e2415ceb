"""Oracles: simulated Gaussian matrices by two-sample tests, chi-squared laws, binomial bounds on how often
noise looks significant, matrices whose structure is planted, hand-made tables."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import htlib as ht
from htlib.spectra.nulls import NOISE, NULLS, against_null, gaussian_esd
from tests.refusals import refused

MEASURES = ["alpha_hill", "alpha_ks", "ks_distance"]
MEASURES += ["stable_rank", "effective_rank", "entropy", "spectral_norm"]
H, D = 90, 60
ALL = pytest.mark.parametrize("null", list(NULLS))


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """On matrices this small threads only wait for each other, on a busy machine for very long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normal(seed=0, shape=(H, D)):
    return np.random.default_rng(seed).standard_normal(shape)


def spike(seed=0):
    """A rank-one signal at three times the critical strength, dense, so that no entry stands out."""
    rng = np.random.default_rng(seed)
    u, v = (rng.standard_normal(side) for side in (H, D))
    return normal(seed + 100) + 3 * (H * D) ** 0.25 * np.outer(u, v) / np.linalg.norm(u) / np.linalg.norm(v)


def student(seed=0):
    return np.random.default_rng(seed).standard_t(2, (H, D))


def uneven(seed=0):
    return normal(seed) * np.linspace(0.3, 3, H)[:, None]


def hill(values):
    positive = np.sort(values)
    upper = positive[len(positive) // 2 :]
    return 1 + len(upper) / np.log(upper / upper[0]).sum()


@pytest.mark.parametrize(("h", "d"), [(40, 25), (25, 40), (30, 30), (3, 200), (3, 3)])
def test_gaussian_esd_has_the_law_of_gaussian_matrices(h, d):
    """Two-sample KS tests: one of these 20 fails by chance with probability .02."""
    rng = np.random.default_rng(0)
    W = math.sqrt(2.5) * rng.standard_normal((600, h, d))
    G = W @ W.transpose(0, 2, 1) if h < d else W.transpose(0, 2, 1) @ W
    matrices = np.linalg.eigvalsh(G)
    drawn = np.array([gaussian_esd(h, d, rng, 2.5) for _ in range(600)])
    assert drawn.shape == matrices.shape
    assert (np.diff(drawn) >= 0).all()
    for statistic in (lambda x: x[-1], lambda x: x[0], hill, np.median):
        one, other = (np.apply_along_axis(statistic, 1, sample) for sample in (drawn, matrices))
        assert stats.ks_2samp(one, other).pvalue > 1e-3
    # negative controls: one degree of freedom more, a tenth more variance
    wrong = np.array([gaussian_esd(h + 1, d + 1, rng, 2.5)[-1] for _ in range(600)])
    if min(h, d) > 3:
        assert stats.ks_2samp(wrong, matrices[:, -1]).pvalue < 1e-3
    assert stats.ks_2samp(1.3 * drawn[:, -1], matrices[:, -1]).pvalue < 1e-3


@pytest.mark.parametrize(("h", "d"), [(1, 7), (7, 1), (1, 1), (12, 9), (9, 12), (10, 10)])
def test_trace_of_gaussian_esd_is_chi_squared(h, d):
    """Exact: |W|_F^2 / variance has h d degrees of freedom; for a row or column it is the spectrum itself."""
    rng = np.random.default_rng(1)
    traces = np.array([gaussian_esd(h, d, rng, 0.3).sum() for _ in range(1000)]) / 0.3
    assert stats.kstest(traces, stats.chi2(h * d).cdf).pvalue > 1e-3
    assert traces.mean() == pytest.approx(h * d, rel=4 * math.sqrt(2 / (h * d * 1000)))  # 4 standard errors
    assert stats.kstest(traces, stats.chi2(h * d + math.sqrt(h * d)).cdf).pvalue < 1e-3


def test_gaussian_esd_follows_its_generator_and_refuses_empty_shapes():
    first, again, other = (gaussian_esd(20, 30, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_allclose(gaussian_esd(20, 30, np.random.default_rng(0), 4.0), 4 * first, rtol=1e-13)
    for h, d in ((0, 3), (3, 0)):
        with refused("h and d", f"h = {h}, d = {d}"):
            gaussian_esd(h, d, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("null", "law"),
    [
        ("gaussian", stats.halfnorm()),
        ("uniform", stats.uniform(0, math.sqrt(3))),
        ("truncated", stats.truncnorm(0, 2, scale=1 / stats.truncnorm.std(-2, 2))),
    ],
)
def test_noise_has_entries_of_variance_one_of_its_law(null, law):
    """The eigenvalue of a 1 x 1 matrix is its squared entry; the law of another entry is refused."""
    rng = np.random.default_rng(0)
    sizes = np.sqrt([NOISE[null](1, 1, rng)[0] for _ in range(2000)])
    assert stats.kstest(sizes, law.cdf).pvalue > 0.01
    assert stats.kstest(sizes, stats.expon.cdf).pvalue < 1e-9
    assert np.mean(sizes**2) == pytest.approx(1, abs=4 * math.sqrt(2 / 2000))  # a normal one scatters most


def test_the_law_of_the_entries_hardly_moves_the_exponent():
    """Universality: two means of 40 agree to a standard deviation, their error being 0.22 of one; heavy
    entries, the negative control, do not."""
    hills = {
        null: np.array([hill(draw(120, 80, np.random.default_rng([k, 3]))) for k in range(40)])
        for null, draw in NOISE.items()
    }
    heavy = np.mean([hill(ht.esd(np.random.default_rng(k).standard_t(2.5, (120, 80)))) for k in range(40)])
    scatter = hills["gaussian"].std()
    for values in hills.values():
        assert abs(values.mean() - hills["gaussian"].mean()) < scatter
    assert hills["gaussian"].mean() - heavy > 3 * scatter


@pytest.mark.parametrize("null", ["gaussian", "uniform", "shuffle"])
def test_pure_noise_is_as_extreme_as_its_replicates(null):
    """Matrix and replicates are exchangeable, so the rank of the value among 19 replicates is uniform on 20
    places: the first or last with probability .1 (for spectral_norm less, its scale being fitted).  The
    bounds hold with probability 1 - 1e-4 for each measure."""
    pairs = [(normal(seed, (30, 20)), 1000 + seed) for seed in range(40)]
    ranks = pd.DataFrame([ht.null_distribution(W, null, 19, seed).table.percentile for W, seed in pairs])
    extremes = ranks.isin([2.5, 97.5]).sum()  # half a place of 20
    assert list(extremes.index) == MEASURES
    assert extremes.max() <= stats.binom.isf(1e-4, 40, 0.1)
    # the mean of 40 uniform percentiles scatters by 29 / sqrt(40) = 4.6
    assert (ranks.mean() - 50).abs().max() < 4 * 4.6


@pytest.mark.parametrize("null", ["gaussian", "shuffle"])
def test_z_of_pure_noise_is_moderate(null):
    """|z| > 4 with 30 replicates has probability 4e-4 for the measures that are nearly normal."""
    pairs = [(normal(seed, (50, 30)), seed + 50) for seed in range(12)]
    tables = pd.DataFrame([ht.null_distribution(W, null, 30, seed).table.z for W, seed in pairs])
    z = tables[["alpha_hill", "effective_rank", "entropy"]]
    assert (z.abs() > 4).sum().max() <= 1
    assert 0.4 < z.std().min() <= z.std().max() < 2.5


@pytest.mark.parametrize(
    ("matrix", "null", "measures", "significant"),
    [
        (spike, "gaussian", ["stable_rank", "spectral_norm", "entropy"], True),
        (spike, "shuffle", ["stable_rank", "spectral_norm", "entropy"], True),
        (spike, "profile", ["stable_rank", "spectral_norm"], True),
        (student, "gaussian", ["alpha_hill", "stable_rank", "entropy", "spectral_norm"], True),
        # the entries explain it
        (student, "shuffle", ["alpha_hill", "stable_rank", "entropy", "spectral_norm"], False),
        (uneven, "gaussian", ["alpha_hill", "effective_rank", "entropy", "spectral_norm"], True),
        (uneven, "shuffle", ["alpha_hill", "effective_rank", "entropy", "spectral_norm"], True),
        # the norms of the rows explain it
        (uneven, "profile", ["alpha_hill", "stable_rank", "spectral_norm"], False),
    ],
)
def test_each_null_explains_what_it_keeps(matrix, null, measures, significant):
    """Five matrices, tall and wide: all with |z| > 4, or all but one with |z| < 4 (which noise exceeds once
    in a thousand)."""
    matrices = [matrix(seed).T if seed % 2 else matrix(seed) for seed in range(5)]
    tables = [ht.null_distribution(W, null, 30, seed).table for seed, W in enumerate(matrices)]
    z = pd.DataFrame([table.z for table in tables])[measures].abs()
    outside = pd.DataFrame([table.percentile for table in tables])[measures]
    outside = (outside - 50).abs() > 48  # beyond all of 30 replicates: 50 / 31 and 100 less of it
    if significant:
        assert z.min().min() > 4
        assert outside.all(axis=None)
    else:
        assert (z > 4).sum().max() <= 1
        assert not outside.all().any()


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_profile_keeps_norms_on_average(side):
    """A few long rows are nearly orthogonal, so that the eigenvalues are their squared norms: of one
    replicate to 3 sqrt(2 / 4000) = 7 %, of the mean of 20 to 2 %."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((4, 4000)) * np.array([1, 8, 2, 4])[:, None] * rng.uniform(0.5, 1.5, 4000)
    kept = np.sort((W**2).sum(axis=1))
    W = torch.from_numpy(W if side == "rows" else W.T.copy())
    spectra = [NULLS["profile"](W, rng) for _ in range(20)]
    np.testing.assert_allclose(np.mean(spectra, axis=0), kept, rtol=0.03)
    assert not np.allclose(spectra[0], spectra[1], rtol=1e-3)
    # negative control: the other nulls make all rows alike
    for null in ("gaussian", "shuffle"):
        assert np.ptp(NULLS[null](W, rng)) < 0.5 * kept.mean()


def test_profile_keeps_rows_and_columns_of_zeros():
    """Rank 2 by two rows that are not zero, whatever is drawn."""
    W = torch.zeros(6, 8, dtype=torch.float64)
    W[1], W[4] = torch.arange(8.0), torch.ones(8)
    values = NULLS["profile"](W, np.random.default_rng(0))
    assert (values[:4] == 0).all()
    assert (values[4:] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_shuffle_keeps_the_entries(dtype):
    """The sum of squares exactly, up to rounding of the sum; a row keeps its one eigenvalue."""
    W, rng = torch.from_numpy(student()).to(dtype), np.random.default_rng(0)
    total = float(W.double().square().sum())
    first, second = NULLS["shuffle"](W, rng), NULLS["shuffle"](W.T, rng)
    assert [first.sum(), second.sum()] == pytest.approx([total, total], rel=1e-12)
    assert not np.allclose(first, second, rtol=1e-3)
    assert not np.allclose(first, ht.esd(W), rtol=1e-3)
    assert NULLS["shuffle"](W[:1], rng) == pytest.approx(ht.esd(W[:1]), rel=1e-12)


def test_the_table_by_hand():
    """value 2 among 1, 2, 3, 4: mean 2.5, variance 5/3, the second or third place of five: 40 %."""
    replicates = pd.DataFrame({"some": [1.0, 2, 3, 4], "constant": [5.0] * 4, "undefined": [1.0, 2, 3, 4]})
    value = {"some": 2, "constant": 5.0, "undefined": math.nan, "unknown": 1.0}
    table = against_null(value, replicates)
    assert list(table.index) == ["some", "constant", "undefined"]
    assert list(table.columns) == ["value", "null_mean", "null_std", "z", "percentile"]
    std = math.sqrt(5 / 3)
    assert table.loc["some"].tolist() == pytest.approx([2, 2.5, std, -0.5 / std, 40])
    assert table.loc["constant"].tolist() == pytest.approx([5, 5, 0, math.nan, 50], nan_ok=True)
    undefined = [math.nan, 2.5, std, math.nan, math.nan]
    assert table.loc["undefined"].tolist() == pytest.approx(undefined, nan_ok=True)
    for some, percentile in ((0.5, 10), (4, 80), (4.5, 90)):
        assert against_null({**value, "some": some}, replicates).percentile["some"] == percentile


@ALL
def test_the_result_is_the_table_of_its_replicates(null):
    W = uneven()
    result = ht.null_distribution(W, null, 7, seed=3)
    assert result.null == null
    assert list(result.replicates.columns) == MEASURES
    assert len(result.replicates) == 7
    measures = ht.spectrum_measures(ht.esd(W)).as_dict()
    assert result.table.value.to_dict() == {name: measures[name] for name in MEASURES}
    pd.testing.assert_frame_equal(result.table, against_null(measures, result.replicates))


@ALL
def test_reproducible_by_seed_and_without_touching_the_global_state(null):
    before = torch.random.get_rng_state()
    first, again, other = (ht.null_distribution(uneven(), null, 4, seed).replicates for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.isclose(first, other).any(axis=0).all()
    assert first.stable_rank.nunique() == 4
    assert torch.equal(before, torch.random.get_rng_state())


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_lower_precisions_are_computed_as_their_values(null, dtype):
    """The same draws for the same values in float64; what is computed in float32 is good to 1e-6."""
    W = torch.from_numpy(spike()).to(dtype).T
    copy = W.clone()
    found, expected = (ht.null_distribution(A, null, 3, 5).replicates for A in (W, W.double()))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
    assert torch.equal(W, copy)
    leaf = torch.nn.Parameter(W.float())
    pd.testing.assert_frame_equal(ht.null_distribution(leaf, null, 3, 5).replicates, expected, rtol=1e-5)


@ALL
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 9)])
def test_small_matrices_have_ranks_and_no_exponents(null, shape):
    """Two eigenvalues have no tail: NaN, not an error."""
    table = ht.null_distribution(normal(0, shape), null, 5).table
    exponents = ["alpha_hill", "alpha_ks", "ks_distance"]
    assert table.loc[exponents].isna().all(axis=None)
    assert table.drop(exponents)[["value", "null_mean", "percentile"]].notna().all(axis=None)
    if 1 in shape:
        assert table.loc["stable_rank", ["value", "null_mean", "percentile"]].tolist() == [1, 1, 50]


def test_zero_matrices_and_bad_options_are_refused():
    for null in NULLS:
        with refused("", "zero matrix"):
            ht.null_distribution(np.zeros((3, 4)), null)
    with refused("null", ", ".join(NULLS), "'iid'"):
        ht.null_distribution(normal(), "iid")
    for n_replicates in (1, 0, -3):
        with refused("n_replicates", 2, n_replicates):
            ht.null_distribution(normal(), n_replicates=n_replicates)
