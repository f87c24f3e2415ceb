"""Oracles: singular values of matrices cut by hand, shapes known by construction."""

import numpy as np
import pytest
import torch
from torch import nn

from htlib.models.checkpoints import entries_of
from htlib.models.entries import CheckpointError, Entry
from htlib.models.layers import Layer, Selection, Skipped, layers_of


def cut(model, **selection):
    """Name -> layer, or reason."""
    found = layers_of(entries_of(model), Selection(**selection))
    return {part.name: part.reason if isinstance(part, Skipped) else part for part in found}


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def squared(*matrices):
    """Pooled squares of NumPy's singular values in float64, ascending."""
    arrays = [matrix.detach().double().numpy() for matrix in matrices]
    return np.sort(np.concatenate([np.linalg.svd(a, compute_uv=False) ** 2 for a in arrays]))


def assert_spectrum(layer, *matrices):
    expected = squared(*matrices)
    # eigenvalues of a float64 Gram matrix: an error of a few eps times the largest
    assert np.allclose(layer.eigenvalues(), expected, rtol=1e-12, atol=1e-13 * expected[-1])


def test_a_linear_layer_is_its_weight_as_stored():
    module = nn.Linear(30, 20)
    found = cut(module)
    layer = found["weight"]
    assert (layer.kind, layer.shape, len(layer.matrices)) == ("linear", (20, 30), 1)
    assert layer.dtype == torch.float32
    assert not layer.matrices.requires_grad
    assert_spectrum(layer, module.weight)
    assert found["bias"] == "a vector (bias or normalisation)"


@pytest.mark.parametrize(
    ("module", "shape", "count"),
    [
        (nn.Conv1d(12, 16, 3), (16, 12), 3),
        (nn.Conv2d(12, 16, (3, 2)), (16, 12), 6),
        (nn.Conv3d(12, 16, 2), (16, 12), 8),
        (nn.Conv2d(24, 32, 3, groups=2), (32, 12), 9),  # a file does not say that it is grouped
        (nn.ConvTranspose2d(12, 16, 3), (12, 16), 9),
        (nn.Conv2d(3, 64, 7), (64, 3), 49),
    ],
)
def test_a_convolution_is_a_matrix_per_position(module, shape, count):
    layer = cut(module)["weight"]
    assert (layer.kind, layer.shape, len(layer.matrices)) == ("conv", shape, count)
    kernel = module.weight.detach().flatten(2)
    assert_spectrum(layer, *(kernel[:, :, place] for place in range(count)))
    (flat,) = [x for x in cut(module, conv="flat").values() if isinstance(x, Layer)]
    assert_spectrum(flat, module.weight.detach().flatten(1))
    depthwise = nn.Conv2d(32, 32, 5, groups=32)
    assert "no spectrum" in cut(depthwise)["weight"]


def test_attention_is_query_key_and_value():
    module = nn.MultiheadAttention(16, 4)
    found = cut(module)
    for kind, block in zip(("query", "key", "value"), module.in_proj_weight.chunk(3), strict=True):
        layer = found[f"in_proj_weight[{kind}]"]
        assert (layer.kind, layer.shape) == (kind, (16, 16))
        assert_spectrum(layer, block)
    assert found["out_proj.weight"].kind == "linear"
    assert "in_proj_weight" not in found


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("h.0.attn.c_attn.weight", (16, 48), 1),  # GPT-2 stores (in, out)
        ("c_attn.weight", (48, 16), 0),
        ("blocks.3.attn.qkv.weight", (48, 16), 0),
        ("mixer.Wqkv.weight", (48, 16), 0),
        ("self_attn.qkv_proj.weight", (48, 16), 0),
    ],
)
def test_fused_projections_are_cut_along_their_long_side(name, shape, axis):
    W = gaussian(*shape)
    found = cut({name: W})
    assert list(found) == [f"{name}[{kind}]" for kind in ("query", "key", "value")]
    for layer, block in zip(found.values(), W.chunk(3, dim=axis), strict=True):
        assert_spectrum(layer, block)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("attention.query_key_value.weight", (48, 16)),  # interleaved by heads
        ("attn.qkv.weight", (32, 16)),  # grouped-query attention: no thirds
        ("myqkv.weight", (48, 16)),
        ("attn.qkv.bias_table", (48, 16)),
    ],
)
def test_other_projections_stay_whole(name, shape):
    W = gaussian(*shape)
    found = cut({name: W})
    assert list(found) == [name]
    assert found[name].kind == "linear"
    assert_spectrum(found[name], W)


EMBEDDINGS = ["wte", "transformer.wpe", "model.embed_tokens", "embeddings.word_embeddings", "tok_emb"]


@pytest.mark.parametrize("name", [f"{name}.weight" for name in EMBEDDINGS])
def test_embeddings_are_found_by_name_and_taken_on_request(name):
    W = gaussian(40, 16)
    assert cut({name: W})[name] == "an embedding (embeddings=True takes them)"
    layer = cut({name: W}, embeddings=True)[name]
    assert layer.kind == "embedding"
    assert_spectrum(layer, W)


def test_the_type_of_a_layer_counts_before_its_name():
    module = nn.ModuleDict({"words": nn.Embedding(40, 16), "embed": nn.Linear(16, 20)})
    found = cut(module)
    assert found["words.weight"] == "an embedding (embeddings=True takes them)"
    assert found["embed.weight"].kind == "linear"
    assert cut(nn.EmbeddingBag(40, 16), embeddings=True)["weight"].kind == "embedding"


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("moe.experts.w1", (4, 20, 9), "stack"),
        ("block_sparse_moe.input_linear.weight", (32, 24, 12), "stack"),
        ("bilinear.weight", (12, 20, 30), "stack"),
        ("conv.weight", (20, 12, 4), "conv"),
        ("encoder.pos_conv.weight", (24, 12, 128), "conv"),
        ("0.weight", (20, 12, 3), "conv"),
        ("0.weight", (20, 12, 25), "conv"),
    ],
)
def test_weights_of_three_axes_are_kernels_or_stacks(name, shape, kind):
    W = gaussian(*shape)
    layer = cut({name: W})[name]
    matrices = list(W) if kind == "stack" else list(W.permute(2, 0, 1))
    assert (layer.kind, layer.shape, len(layer.matrices)) == (kind, tuple(matrices[0].shape), len(matrices))
    assert_spectrum(layer, *matrices)


@pytest.mark.parametrize(("name", "layout"), [("c.kernel", "auto"), ("c/kernel:0", "auto"), ("w", "keras")])
def test_kernels_of_keras_have_their_channels_last(name, layout):
    W = gaussian(3, 2, 12, 16)
    (layer,) = cut({name: W}, layout=layout).values()
    assert (layer.kind, layer.shape, len(layer.matrices)) == ("conv", (16, 12), 6)
    assert_spectrum(layer, *W.reshape(6, 12, 16))


def test_a_kernel_of_torch_is_known_by_its_short_last_axes():
    W = gaussian(16, 12, 3, 2)  # as in MinkowskiEngine and others, whose weight is called kernel
    (layer,) = cut({"conv.kernel": W}).values()
    assert (layer.kind, layer.shape, len(layer.matrices)) == ("conv", (16, 12), 6)


@pytest.mark.parametrize(
    ("module", "gates"),
    [
        (nn.LSTM(12, 16, num_layers=2, bidirectional=True), 4),
        (nn.GRU(12, 16), 3),
        (nn.RNN(12, 16), 1),
        (nn.LSTM(12, 16, proj_size=11), 4),
        (nn.LSTMCell(12, 16), 4),
        (nn.GRUCell(16, 16), 3),
    ],
)
def test_gates_are_cut_apart(module, gates):
    for model in (module, module.state_dict()):
        found = {n: x for n, x in cut(model).items() if isinstance(x, Layer) and "weight_hr" not in n}
        weights = {n: p for n, p in module.named_parameters() if p.ndim == 2 and "weight_hr" not in n}
        assert len(found) == gates * len(weights)
        for name, weight in weights.items():
            own = [x for n, x in found.items() if n.split("[")[0] == name]
            for layer, block in zip(own, weight.chunk(gates), strict=True):
                assert_spectrum(layer, block)
                assert layer.kind == ("gate" if gates > 1 else "linear")


def test_tied_weights_are_reported_once(tmp_path):
    module = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16))
    module[2].weight = module[0].weight
    torch.save(module.state_dict(), tmp_path / "m.pt")
    array = gaussian(16, 16).numpy()
    for model in (module, module.state_dict(), tmp_path / "m.pt"):
        found = cut(model)
        assert found["2.weight"] == "the same tensor as 0.weight"
        assert isinstance(found["0.weight"], Layer)
        assert isinstance(found["1.weight"], Layer)
        assert isinstance(cut(model, exclude=("0.*",))["2.weight"], Layer)
    assert cut({"a": array, "b": array, "c": array.copy()})["b"] == "the same tensor as a"


@pytest.mark.parametrize("shape", [(20, 12), (1, 20, 12), (20, 12, 1, 1)])
def test_views_and_strides_do_not_matter(shape):
    W = gaussian(20, 24)[:, ::2]
    (layer,) = cut({"w": W}).values()
    assert_spectrum(layer, W)
    (layer,) = cut({"experts": W.reshape(shape)}, min_size=12).values()
    assert_spectrum(layer, W)


ONES = torch.ones(20, 20)


def with_entries(*values):
    W = gaussian(20, 20)
    W.view(-1)[: len(values)] = torch.tensor(values)
    return W


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(20), "a vector (bias or normalisation)"),
        (torch.tensor(2.0), "a single number"),
        (ONES.to(torch.int8), "integers, quantised weights or a buffer (int8)"),
        (ONES.bool(), "integers, quantised weights or a buffer (bool)"),
        (ONES.to(torch.complex64), "complex (complex64)"),
        (ONES.to_sparse(), "not dense (torch.sparse_coo)"),
        (ONES.to("meta"), "on the meta device: it has no values"),
        (torch.ones(20, 0), "empty: its shape is (20, 0)"),
        (torch.ones((10,) + (1,) * 5), "6 axes"),
        (with_entries(torch.nan), "NaN or infinity in 1 of 400 entries"),
        (with_entries(torch.inf, -torch.inf, torch.nan), "NaN or infinity in 3 of 400 entries"),
        (with_entries(torch.inf).to(torch.float16), "NaN or infinity in 1 of 400 entries"),
        (with_entries(torch.nan).to(torch.float8_e5m2), "NaN or infinity in 1 of 400 entries"),
        (
            ONES.byte().view(torch.float4_e2m1fn_x2),
            "of a type that torch does not convert (float4_e2m1fn_x2)",
        ),
        (torch.zeros(20, 20), "all entries are zero"),
        (torch.zeros(20, 20, 3), "all entries are zero"),
        (torch.ones(20, 9), "20 x 9 has 9 singular values, fewer than 10"),
        (torch.ones(3, 20, 3), "3 x 3 x 20 has 9 singular values, fewer than 10"),
        (torch.ones(20, 1, 5), "5 x 20 x 1 has 5 singular values, fewer than 10"),
    ],
)
def test_a_skipped_tensor_is_named_with_its_reason(tensor, reason):
    found = cut({"bad": tensor, "good": gaussian(20, 20)})
    assert found["bad"] == reason
    assert isinstance(found["good"], Layer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_tensors_are_skipped():
    W = torch.quantize_per_tensor(gaussian(20, 20), 0.1, 0, torch.qint8)
    assert cut({"w": W})["w"] == "quantised (torch.qint8): dequantise the model first"


def test_an_entry_that_cannot_be_loaded_is_skipped_with_its_reason():
    def fail():
        raise CheckpointError("it is gone")

    (part,) = layers_of([Entry("w", fail)], Selection())
    assert part == Skipped("w", "it is gone")


def test_filters_are_shell_patterns_and_spare_the_loading():
    def never():
        pytest.fail("loaded")

    model = {name: gaussian(12, 12) for name in ("a.x", "a.y", "b.x")}
    found = cut(model, include=("a.*",), exclude=("*.y",))
    assert isinstance(found["a.x"], Layer)
    assert found["a.y"] == "excluded by the filter"
    assert found["b.x"] == "not included by the filter"
    assert list(layers_of([Entry("w", never)], Selection(include=("v",))))


def test_entries_whose_sum_overflows_float16_are_finite():
    W = torch.full((300, 300), 60_000.0, dtype=torch.float16) * torch.sign(gaussian(300, 300)).half()
    assert isinstance(cut({"w": W})["w"], Layer)
    assert isinstance(cut({"w": W.abs()})["w"], Layer)


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])


@DTYPES
@pytest.mark.parametrize("rank", [1, 7, 30])
def test_singular_values_of_rounding_errors_are_zero(rank, dtype):
    # A product of rank r, rounded once on storing: its other singular values are those of rounding errors.
    W = (gaussian(120, rank, dtype=torch.float64) @ gaussian(rank, 90, seed=1, dtype=torch.float64)).to(dtype)
    eigenvalues = cut({"w": W})["w"].eigenvalues()
    assert len(eigenvalues) == 90
    assert np.count_nonzero(eigenvalues) == rank


@DTYPES
def test_a_matrix_of_full_rank_loses_nothing(dtype):
    W = gaussian(120, 90, dtype=dtype)
    layer = cut({"w": W})["w"]
    assert layer.dtype == dtype
    assert np.count_nonzero(layer.eigenvalues()) == 90
    assert_spectrum(layer, W)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_are_measured_as_the_numbers_they_are(dtype):
    W = gaussian(60, 40).to(dtype)
    layer = cut({"w": W})["w"]
    assert layer.dtype == dtype
    expected = squared(W.float())
    kept = layer.eigenvalues() > 0
    assert np.allclose(layer.eigenvalues()[kept], expected[kept], rtol=1e-11)
    assert kept.sum() >= 30  # of 40: the least are below the rounding of so few bits
