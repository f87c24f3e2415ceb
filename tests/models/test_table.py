"""Whole models; oracles: the functions of single spectra, and structure planted into noise."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import htlib as ht
from htlib.models.table import closing_sentence, summarize
from htlib.spectra.nulls import NOISE as LAWS
from htlib.spectra.nulls import NULLS
from tests.refusals import refused

RNG = np.random.default_rng(7)
NOISE = RNG.standard_normal((60, 40))
SPIKED = NOISE + 40 * np.outer(np.eye(60)[0], np.eye(40)[0])
HEAVY = RNG.standard_t(2.5, (60, 40))


def analyze(model, **options):
    return ht.analyze(model, progress=False, **options)


def compare(before, after, **options):
    return ht.compare_models(before, after, progress=False, **options)


def small_model():
    torch.manual_seed(3)
    first = (nn.Conv2d(12, 16, 3), nn.BatchNorm2d(16), nn.Linear(40, 30))
    return nn.Sequential(*first, nn.MultiheadAttention(20, 2), nn.Embedding(50, 20), nn.Linear(30, 5))


def test_one_model_in_any_form_gives_one_table(tmp_path):
    module = small_model()
    state = module.state_dict()
    save_file(state, tmp_path / "m.safetensors")
    torch.save(state, tmp_path / "m.pt")
    expected = analyze(module, embeddings=True)
    assert len(expected) == 7  # a convolution, a linear, q, k, v, the output, the embedding
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for model in (state, arrays, tmp_path / "m.safetensors", str(tmp_path / "m.pt")):
        table = analyze(model, embeddings=True)
        # the name "4.weight" is not that of an embedding, and a file does not have the order of the module
        table = (
            table.set_index("name").loc[expected["name"]].reset_index().assign(kind=expected["kind"], file="")
        )
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
        assert table.attrs["skipped"] == expected.attrs["skipped"]


@pytest.mark.parametrize("W", [NOISE, SPIKED, HEAVY, HEAVY.T], ids=["noise", "spiked", "heavy", "wide"])
def test_a_row_has_the_values_of_the_functions_of_one_spectrum(W):
    row = analyze({"w": W}, keep_eigenvalues=True, compare=True).iloc[0]
    eigenvalues = ht.esd(W)
    assert np.array_equal(row["eigenvalues"], eigenvalues)
    for name, value in ht.spectrum_measures(eigenvalues).as_dict().items():
        assert row[name] == value, name
    bulk = ht.fit_marchenko_pastur(eigenvalues, *W.shape)
    expected = (bulk.variance, bulk.edge, bulk.ks_distance, bulk.n_spikes, bulk.soft_rank)
    names = ["mp_variance", "mp_edge", "mp_ks_distance", "n_spikes", "soft_rank"]
    assert tuple(row[names]) == expected
    assert (row["shape"], row["n_matrices"], row["dtype"], row["rank"]) == (W.shape, 1, "float64", 40)
    table = ht.compare_distributions(eigenvalues, ht.fit_power_law(eigenvalues))
    assert len(table) > 1
    for name in table.index:
        assert row[f"{name}_ratio"] == table.normalized_ratio[name]
        assert row[f"{name}_p_value"] == table.p_value[name]


@pytest.mark.parametrize("null", [null for null in NULLS if null not in LAWS])
def test_matrix_nulls_are_those_of_null_distribution(null):
    row = analyze({"w": HEAVY}, null=null, n_replicates=5, seed=3).iloc[0]
    table = ht.null_distribution(HEAVY, null, n_replicates=5, seed=3).table
    for name in table.index:
        assert row[f"{name}_z"] == pytest.approx(table.z[name], rel=1e-12)
        assert row[f"{name}_percentile"] == table.percentile[name]
    assert row["alpha_hill_null"] == pytest.approx(table.null_mean["alpha_hill"], rel=1e-12)


@pytest.mark.parametrize(("null", "m"), [(null, 300 if null == "gaussian" else 60) for null in LAWS])
def test_the_nulls_of_noise_agree_with_null_distribution_in_law(null, m):
    row = analyze({"w": 3 * NOISE}, null=null, n_replicates=m).iloc[0]
    table = ht.null_distribution(3 * NOISE, null, n_replicates=m, seed=1).table
    # two independent means of m: 5 of their standard errors, sqrt(2 / m) of a standard deviation
    error = table.null_std["alpha_hill"] * np.sqrt(2 / m)
    assert row["alpha_hill_null"] == pytest.approx(table.null_mean["alpha_hill"], abs=5 * error)
    for name in ("alpha_hill", "stable_rank", "spectral_norm", "entropy"):
        # z scatters with the mean, sqrt(2/m), and with the deviation, z / sqrt(m)
        scatter = np.hypot(np.sqrt(2 / m), table.z[name] / np.sqrt(m))
        assert row[f"{name}_z"] == pytest.approx(table.z[name], abs=5 * scatter)


def test_noise_is_noise_and_a_spike_is_not():
    rngs = [np.random.default_rng(i) for i in range(7)]
    model = {f"noise{i}": rng.standard_normal((60, 40)) * 10.0 ** (i - 3) for i, rng in enumerate(rngs)}
    table = analyze(model | {"spiked": SPIKED, "heavy": HEAVY}, n_replicates=100).set_index("name")
    z = table[[name for name in table if name.endswith("_z")]]
    # 7 measures x 7 matrices: a normal z passes 4.5 in one of 3000 such tables
    assert (z.iloc[:7].abs() < 4.5).all(axis=None)
    assert table.loc["spiked", "spectral_norm_z"] > 10
    assert table.loc["spiked", "n_spikes"] == 1
    assert table.loc["heavy", "stable_rank_z"] < -5
    assert table["stable_rank_percentile"].between(0, 100).all()


def test_shuffling_sees_arrangement_and_not_heavy_entries():
    sorted_columns = np.sort(NOISE, axis=0)  # all nearly the same column
    table = analyze({"heavy": HEAVY, "sorted": sorted_columns}, null="shuffle", n_replicates=50)
    heavy, arranged = table["stable_rank_z"]
    assert abs(heavy) < 4.5
    assert arranged < -5


def test_convolutions_are_compared_with_pooled_noise():
    conv = np.random.default_rng(2).standard_normal((30, 20, 3, 3))
    table = analyze({"conv": conv}, n_replicates=50)
    assert table.loc[0, ["kind", "shape", "n_matrices"]].tolist() == ["conv", (30, 20), 9]
    assert table.loc[0, "rank"] == 180
    z = table[["alpha_hill_z", "stable_rank_z", "entropy_z", "spectral_norm_z"]]
    assert (z.abs() < 4.5).all(axis=None)  # as above


def test_without_a_null_there_are_no_columns_of_it():
    with_null, without = analyze({"w": NOISE}), analyze({"w": NOISE}, null=None)
    lost = set(with_null) - set(without)
    assert lost == {name for name in with_null if name.endswith(("_z", "_percentile", "_null", "verdict"))}
    assert len(lost) == 16
    pd.testing.assert_frame_equal(with_null[list(without)], without)
    assert "eigenvalues" not in with_null  # they are kept only on request


@pytest.mark.parametrize("null", list(NULLS))
def test_a_seed_gives_the_same_table_again_and_another_does_not(null):
    first, again, other = (analyze({"w": NOISE}, null=null, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert first["alpha_hill_null"][0] != other["alpha_hill_null"][0]


def test_the_numbers_of_a_layer_do_not_depend_on_its_neighbours():
    alone = analyze({"w": NOISE}).iloc[0]
    among = analyze({"v": HEAVY, "u": HEAVY[:30], "w": NOISE}).iloc[2]
    pd.testing.assert_series_equal(alone, among, check_names=False)


def test_a_bad_layer_is_reported_and_the_rest_analysed():
    bad = NOISE.copy()
    bad[3, 4] = np.nan
    table = analyze({"a": NOISE, "bad": bad, "low": np.ones((20, 20)), "b": HEAVY})
    assert table["name"].tolist() == ["a", "low", "b"]
    assert table.attrs["skipped"]["bad"] == "NaN or infinity in 1 of 2400 entries"
    low = table.set_index("name").loc["low"]  # of rank one: a row, with what can be said
    assert low["rank"] == 1
    assert low["spectral_norm"] == pytest.approx(20)
    assert not low["has_bulk"]
    assert np.isnan([low["alpha_hill"], low["mp_variance"], low["n_spikes"]]).all()


@pytest.mark.parametrize("model", [{}, {"bias": np.ones(5)}, nn.ReLU(), nn.LayerNorm(20)])
def test_a_model_without_matrices_gives_an_empty_table(model):
    table = analyze(model)
    assert len(table) == len(summarize(table)) == 0
    assert {"name", "kind", "shape"} <= set(table)
    assert set(table.attrs["skipped"]) == set(model if isinstance(model, dict) else model.state_dict())


MODELS = {
    "small": small_model,
    "transformer": lambda: nn.TransformerEncoderLayer(24, 4, 40),
    "decoder": lambda: nn.TransformerDecoderLayer(16, 4, 20),
    "recurrent": lambda: nn.LSTM(12, 16, 2, bidirectional=True),
    "convolutions": lambda: nn.Sequential(nn.Conv3d(10, 12, 2), nn.ConvTranspose1d(24, 20, 2, groups=2)),
    "bilinear": lambda: nn.Bilinear(11, 12, 13),
    "adaptive": lambda: nn.AdaptiveLogSoftmaxWithLoss(20, 60, [20, 40]),
}


@pytest.mark.parametrize("options", [{}, {"min_size": 1, "embeddings": True}, {"include": ("*weight",)}])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_every_tensor_is_a_row_or_has_a_reason(make, options):
    module = make()
    table = analyze(module, null=None, **options)
    rows = {name.partition("[")[0] for name in table["name"]}
    assert rows.isdisjoint(table.attrs["skipped"])
    assert rows | set(table.attrs["skipped"]) == set(module.state_dict())
    assert all(table.attrs["skipped"].values())
    assert table["name"].is_unique


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"null": "iid"}, ("null", "gaussian, uniform, truncated, shuffle, profile", "'iid'")),
        ({"xmin": "3x"}, ("xmin", "'median'", "'3x'")),
        ({"xmin": (1.0, -2.0)}, ("xmin", "positive", "-2.0")),
        ({"xmax": 0}, ("xmax", "positive", 0)),
        ({"kinds": "cnv"}, ("kinds", "linear, conv", "'cnv'")),
        ({"n_replicates": 1}, ("n_replicates", 2, 1)),
        ({"min_size": 0}, ("min_size", 0)),
    ],
)
def test_a_bad_option_is_refused_before_the_file_is_opened(options, named):
    with refused(*named):
        analyze("no-such-file.pt", **options)
    with refused("device", "'nowhere'"):
        analyze({"w": NOISE}, device="nowhere")


def test_the_reasons_survive_what_is_done_with_a_table():
    table = analyze({"w": NOISE, "bias": np.ones(3)})
    for changed in (table.copy(), table[["name", "alpha_hill"]], table.assign(a=1), table[table["rank"] > 0]):
        assert changed.attrs["skipped"] == {"bias": "a vector (bias or normalisation)"}


MEMORY = """
import sys
import htlib
def peak():  # of this program; ru_maxrss would count that of the one that started it
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
htlib.analyze(sys.argv[1], progress=False)
before = peak()
assert len(htlib.analyze(sys.argv[2], n_replicates=2, progress=False)) == 2
print(peak() - before)
"""


@pytest.mark.process
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_tensor_is_held_a_few_times_at_most(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name, size in (("small", 200), ("large", 1400)):
        model = {key: torch.randn(size, size, generator=generator) for key in ("v", "w")}
        save_file(model, tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("small", "large")]
    size = 4 * 1400**2
    # The tensor itself, its Gram matrix in float64 (twice its size), and buffers: 4.5.  The other tensor, if
    # it were kept, would make 5.5, and a copy of the Gram matrix 6.5.  On a busy machine a thread that waits
    # holds its buffers for longer, now and then; what is kept for good is there each time.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *files], capture_output=True, text=True, check=True
        )
        if int(done.stdout) < 5 * size:
            break
    assert 3 * size < int(done.stdout) < 5 * size


def test_a_model_has_not_changed_against_itself():
    module = small_model()
    table = compare(module, module.state_dict())
    assert table["name"].tolist()[1:3] == ["2.weight", "3.in_proj_weight[query]"]
    assert (table["relative_change"] == 0).all()
    assert table["update_stable_rank"].isna().all()
    assert (table["alpha_hill_before"] == table["alpha_hill_after"]).all()
    single = table["kind"] != "conv"
    assert np.allclose(table.loc[single, ["left_overlap", "right_overlap"]], 1, rtol=1e-10)
    assert table.loc[~single, ["left_overlap", "right_overlap"]].isna().all(axis=None)


def test_a_rank_one_update_is_found():
    u, v = np.linalg.svd(SPIKED)[0][:, 0], np.eye(40)[5]
    row = compare({"w": SPIKED}, {"w": SPIKED + 2 * np.outer(u, v)}, k=1).iloc[0]
    assert row["relative_change"] == pytest.approx(2 / np.linalg.norm(SPIKED), rel=1e-12)
    assert row["update_stable_rank"] == pytest.approx(1, rel=1e-12)
    assert row["update_left_overlap"] == pytest.approx(1, rel=1e-10)  # along u, by construction
    first = np.linalg.svd(SPIKED)[2][0]
    assert row["update_right_overlap"] == pytest.approx(first[5] ** 2, rel=1e-8)
    assert row["right_overlap"] > 0.95
    assert (row["left_chance"], row["right_chance"]) == (1 / 60, 1 / 40)
    after = np.linalg.norm(SPIKED + 2 * np.outer(u, v), 2)
    assert row["spectral_norm_after"] == pytest.approx(after, rel=1e-12)
    assert row["spectral_norm_before"] == pytest.approx(np.linalg.norm(SPIKED, 2), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_vectors_beyond_the_rank_of_an_update_do_not_count(dtype):
    W = NOISE.astype(dtype)
    left, _, right = np.linalg.svd(W.astype(float))
    update = 20 * np.outer(left[:, 2], right[3]) + 10 * np.outer(
        left[:, 30], right[4]
    )  # as an adapter of rank 2
    row = compare({"w": W}, {"w": (W + update).astype(dtype)}, k=10).iloc[0]
    assert row["update_left_overlap"] == pytest.approx(
        1 / 2, abs=0.01
    )  # the second is not among the leading ten
    assert row["update_right_overlap"] == pytest.approx(1, abs=0.01)


def test_unrelated_matrices_overlap_as_chance_has_it():
    other = np.random.default_rng(11).standard_normal((60, 40))
    row = compare({"w": NOISE}, {"w": other}, k=10).iloc[0]
    assert row["relative_change"] == pytest.approx(np.sqrt(2), rel=0.05)  # |W|_F scatters by 1/sqrt(2 h d)
    # tr P Q / k has mean k/d and a standard deviation of about (1 - k/d) sqrt(2) / d
    for side, size in (("left", 60), ("right", 40)):
        chance = row[f"{side}_chance"]
        assert chance == 10 / size
        assert row[f"{side}_overlap"] == pytest.approx(chance, abs=5 * (1 - chance) * np.sqrt(2) / size)


def test_k_is_lowered_to_the_side_of_the_matrix():
    row = compare({"w": NOISE}, {"w": HEAVY}, k=1000).iloc[0]
    assert row["right_overlap"] == pytest.approx(1, rel=1e-10)  # all of the space
    assert (row["left_chance"], row["right_chance"]) == (40 / 60, 1)
    with refused("k", 1, 0):
        compare({"w": NOISE}, {"w": HEAVY}, k=0)


def test_what_has_no_partner_is_named():
    bad = np.where(np.eye(60, 40) > 0, np.nan, NOISE)
    same = {"bias": np.ones(3), "qkv.weight": NOISE + 1, "b[0]": NOISE + 2}
    names = ("both", "old", "shape", "bad")
    before = {name: NOISE.copy() for name in names} | {"large": NOISE * 1e160}
    after = {"both": HEAVY, "new": NOISE, "shape": NOISE.T, "bad": bad, "large": NOISE * 1e160}
    table = compare(before | same, after | same)
    assert table["name"].tolist() == ["both", "qkv.weight", "b[0]"]
    assert "overflow" in table.attrs["skipped"].pop("large")  # in its squares
    assert table.attrs["skipped"] == {
        "old": "only in the first model",
        "new": "only in the second model",
        "shape": "shapes differ: (1, 60, 40) and (1, 40, 60)",
        "bad": "in the second model: NaN or infinity in 40 of 2400 entries",
        "bias": "a vector (bias or normalisation)",
    }
    nothing = compare({"a": NOISE}, {"b": NOISE})
    assert len(nothing) == 0
    assert set(nothing.attrs["skipped"]) == {"a", "b"}


def test_a_summary_is_of_the_columns():
    table = analyze({"a": NOISE, "b": SPIKED, "c": HEAVY})
    summary = summarize(table)
    values = np.sort(table["alpha_hill"])
    assert summary.loc["alpha_hill", ["min", "median", "max"]].tolist() == values.tolist()
    assert summary.loc["spectral_norm", "above_null"] == (table["spectral_norm_z"] > 3).sum() >= 2
    assert summary.loc["stable_rank", "below_null"] == (table["stable_rank_z"] < -3).sum() >= 1
    assert summarize(analyze({"a": NOISE}, null=None))[["below_null", "above_null"]].isna().all(axis=None)
    both = summarize({"one": table, "two": table})
    assert both["two"].equals(summary)
    assert "of 3 spectra" in closing_sentence(table)


def test_patterns_may_be_one_string():
    assert analyze({"a.w": NOISE, "b.w": NOISE}, include="b.*")["name"].tolist() == ["b.w"]


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("null", ["gaussian", "shuffle", "profile"])
def test_scales_near_the_ends_of_float32(scale, null):
    """Exponents and z-scores do not depend on scale; squares of such entries are out of float32's range."""
    W = torch.from_numpy(NOISE).float()
    one, other = (analyze({"w": W * s}, null=null, n_replicates=3) for s in (1, scale))
    columns = ["alpha_hill", "alpha_hill_z", "stable_rank", "rank", "n_spikes"]
    # entries round anew at another scale, by 6e-8; a z-score divides that by a spread of a hundredth
    np.testing.assert_allclose(one[columns].astype(float), other[columns].astype(float), rtol=1e-5, atol=1e-4)


def test_nested_and_flat_names_may_coincide():
    table = analyze({"a": {"b": NOISE}, "a.b": 2 * NOISE})
    assert table["name"].tolist() == ["a.b", "a.b (2)"]
    assert table["spectral_norm"][1] == pytest.approx(2 * table["spectral_norm"][0])


def test_bare_modules_are_judged_by_names_as_files_are():
    """They hold parameters of any use; a list of parameters says nothing of them either."""
    module = nn.Module()
    module.embeddings = nn.Module()
    module.embeddings.word = nn.ParameterDict({"weight": torch.from_numpy(NOISE)})
    module.dense = nn.Module()
    module.dense.weight = nn.Parameter(torch.from_numpy(HEAVY))
    for model in (module, module.state_dict()):
        assert analyze(model, null=None)["name"].tolist() == ["dense.weight"]


def test_the_state_of_an_optimizer_is_skipped():
    table = analyze({"model": {"w": NOISE}, "optimizer": {"state": {0: {"exp_avg": NOISE}}}})
    assert table["name"].tolist() == ["model.w"]
    assert table.attrs["skipped"] == {"optimizer.state.0.exp_avg": "state of an optimizer"}


def test_a_head_tied_to_a_skipped_embedding_is_analysed():
    model = nn.ModuleDict({"wte": nn.Embedding(60, 40), "head": nn.Linear(40, 60, bias=False)})
    model["head"].weight = model["wte"].weight
    assert analyze(model)["name"].tolist() == ["head.weight"]
    both = analyze(model, embeddings=True)
    assert both["name"].tolist() == ["wte.weight"]
    assert both.attrs["skipped"]["head.weight"] == "the same tensor as wte.weight"


def test_large_matrices_may_be_measured_by_their_top():
    model = {"large": HEAVY, "small": NOISE[:, :12]}
    table = analyze(model, top=15).set_index("name")
    whole = analyze(model).set_index("name")
    columns = ["spectral_norm", "frobenius_norm", "stable_rank"]
    assert np.allclose(
        table.loc["large", columns].astype(float), whole.loc["large", columns].astype(float), rtol=1e-6
    )
    assert 0 < table.loc["large", "top_error"] < 0.1
    assert np.isnan([table.loc["large", name] for name in ("alpha_hill", "rank", "n_spikes")]).all()
    assert table.loc["small", "alpha_hill"] == whole.loc["small", "alpha_hill"]
    assert "1 undecided" in closing_sentence(table.reset_index())
