"""Weights put together from their ingredients; oracles: torch's own modules, and products by hand."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import htlib as ht
from htlib.models.checkpoints import entries_of


def weights(model, **options):
    """Name -> tensor of what counts as a weight, and name -> reason of the rest."""
    entries = entries_of(model, **options)
    return (
        {e.name: e.load().detach() for e in entries if e.reason is None},
        {e.name: e.reason for e in entries if e.reason is not None},
    )


def changed(module, seed=0):
    """The module with other lengths of its rows, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("_g", "original0")):
                parameter.mul_(torch.exp(torch.randn(parameter.shape, generator=generator)))
    return module


IMAGE = torch.ones(2, 12, 9, 9)
MODULES = {
    "linear": (lambda: changed(parametrizations.weight_norm(nn.Linear(20, 30))), torch.ones(2, 20)),
    "conv": (lambda: changed(parametrizations.weight_norm(nn.Conv1d(12, 16, 3))), IMAGE[:, :, 0]),
    "transposed": (
        lambda: changed(parametrizations.weight_norm(nn.ConvTranspose1d(12, 16, 3), dim=1)),
        IMAGE[:, :, 0],
    ),
    "whole": (lambda: changed(parametrizations.weight_norm(nn.Linear(20, 30), dim=None)), torch.ones(2, 20)),
    "old": (lambda: changed(weight_norm(nn.Conv2d(12, 16, 3))), IMAGE),
    "spectral": (lambda: parametrizations.spectral_norm(nn.Linear(20, 30)).eval(), torch.ones(2, 20)),
    "spectral transposed": (
        lambda: parametrizations.spectral_norm(nn.ConvTranspose2d(12, 16, 3)).eval(),
        IMAGE,
    ),
    "spectral old": (lambda: spectral_norm(nn.Conv2d(12, 16, 3)).eval(), IMAGE),
    "pruned": (lambda: prune.l1_unstructured(nn.Linear(20, 30), "weight", 0.5), torch.ones(2, 20)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", MODULES)
def test_module_and_file_give_the_weight_in_use(name, tmp_path):
    make, inputs = MODULES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().train()
    for _ in range(
        10
    ):  # until the vectors of a spectral norm fit: before, its norm may be a small difference
        module(inputs)
    module.eval()(inputs)  # the old hooks compute the weight then
    torch.save({"net": module.state_dict()}, tmp_path / "m.pt")
    for model, prefix in ((module, ""), (module.state_dict(), ""), (tmp_path / "m.pt", "net.")):
        found, rest = weights(model)
        assert torch.allclose(found[f"{prefix}weight"], module.weight.detach(), rtol=1e-6, atol=1e-7)
        assert set(found) <= {f"{prefix}weight", f"{prefix}bias"}
        assert f"a part of {prefix}weight" in rest.values()


def test_another_parametrisation_is_that_of_the_module_and_not_of_the_file(tmp_path):
    module = parametrizations.orthogonal(nn.Linear(20, 20))
    found, _ = weights(module)
    assert torch.equal(found["weight"], module.weight.detach())
    torch.save(module.state_dict(), tmp_path / "m.pt")
    table = ht.analyze(tmp_path / "m.pt", progress=False)
    assert not len(table)
    assert "parametrised" in table.attrs["skipped"]["parametrizations.weight.original"]


SPREAD = torch.exp(torch.randn(260, 384, generator=torch.Generator().manual_seed(0)))


def blocks(matrix, rows, columns):
    """The largest entry of each block, and the same repeated to the shape of the matrix."""
    h, d = matrix.shape
    largest = torch.stack(
        [
            torch.stack([matrix[i : i + rows, j : j + columns].abs().max() for j in range(0, d, columns)])
            for i in range(0, h, rows)
        ]
    )
    grown = largest.repeat_interleave(rows, 0)[:h].repeat_interleave(columns, 1)[:, :d]
    return largest, grown


@pytest.mark.parametrize("name", ["weight_scale_inv", "weight_scale", "scale_weight"])
@pytest.mark.parametrize("block", [(128, 128), (1, 384), (260, 384), (64, 32), (260, 1)])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_scales_of_eight_bits_are_applied(dtype, block, name):
    scale, grown = blocks(SPREAD, *block)
    top = 127 if dtype == torch.int8 else torch.finfo(dtype).max
    stored = (
        (SPREAD / grown * top).round().to(dtype) if dtype == torch.int8 else (SPREAD / grown * top).to(dtype)
    )
    model = {"mlp.weight": stored, f"mlp.{name}": scale / top}
    found, rest = weights(model)
    assert torch.allclose(found["mlp.weight"], stored.float() * grown / top, rtol=1e-6)
    assert rest == {f"mlp.{name}": "a part of mlp.weight"}
    table = ht.analyze(model, progress=False, null=None)
    assert table["name"].tolist() == ["mlp.weight"]
    assert table["dtype"][0] == str(dtype).removeprefix("torch.")


def test_rows_of_bitsandbytes_and_of_quanto():
    grown = SPREAD.abs().amax(dim=1)
    stored = (SPREAD / grown[:, None] * 127).round().to(torch.int8)
    expected = stored.float() * grown[:, None] / 127
    found, rest = weights({"fc.weight": stored, "fc.SCB": grown, "fc.bias": torch.ones(3)})
    assert torch.allclose(found["fc.weight"], expected, rtol=1e-6)
    assert rest == {"fc.SCB": "a part of fc.weight"}
    found, _ = weights({"fc.weight._data": stored, "fc.weight._scale": grown[:, None] / 127})
    assert torch.allclose(found["fc.weight"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        {
            "q.qweight": torch.int32,
            "q.qzeros": torch.int32,
            "q.scales": torch.float16,
            "q.g_idx": torch.int32,
        },
        {"q.weight": torch.uint8, "q.weight_scale": torch.float16, "q.weight_scale_2": torch.float32},
        {"q.weight": torch.uint8, "q.weight.absmax": torch.float32, "q.weight.quant_map": torch.float32},
        {"q.weight_packed": torch.int32, "q.weight_scale": torch.bfloat16, "q.weight_shape": torch.int64},
        {"e.gate_up_proj_blocks": torch.uint8, "e.gate_up_proj_scales": torch.uint8},
        {"attn.k_scale": torch.float32, "attn.input_scale": torch.float32},
    ],
    ids=lambda names: "+".join(n.split(".", 1)[1] for n in names),
)
def test_packed_weights_and_their_scales_are_no_rows(names):
    model = {name: torch.ones(32, 64).to(dtype) for name, dtype in names.items()}
    model["good"] = torch.randn(20, 20)
    table = ht.analyze(model, progress=False, null=None)
    assert table["name"].tolist() == ["good"]
    assert set(names) <= set(table.attrs["skipped"])


A, B, W = torch.randn(4, 24), torch.randn(40, 4), torch.randn(40, 24)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("q.lora_A.weight", "q.lora_B.weight"),
        ("q.lora_A.default.weight", "q.lora_B.default.weight"),
        ("q.lora_A", "q.lora_B"),
        ("q.lora_down.weight", "q.lora_up.weight"),
        ("q.lora.down.weight", "q.lora.up.weight"),
        ("q.lora_linear_layer.down.weight", "q.lora_linear_layer.up.weight"),
        ("q.lora_embedding_A", "q.lora_embedding_B"),
    ],
)
def test_an_update_is_the_product_of_its_factors(down, up):
    found, rest = weights({down: A, up: B})
    (name,) = found
    assert name.startswith("q.lora")
    assert torch.allclose(found[name], B @ A, atol=1e-5)
    assert set(rest) == {down, up}
    found, _ = weights({down: A, up: B, "q.alpha": torch.tensor(8.0)})
    assert torch.allclose(found[name], 2 * B @ A, atol=1e-5)


def test_an_update_with_its_weight_and_of_a_folder_with_its_base(tmp_path):
    merged = W + 2 * B @ A
    state = {"q.lora_A.weight": A, "q.lora_B.weight": B, "q.alpha": torch.tensor(8.0)}
    for base in ("q.base_layer.weight", "q.weight"):
        found, _ = weights(state | {base: W})
        assert list(found) == ["q.lora", "q.weight"]
        assert torch.allclose(found["q.weight"], merged, atol=1e-5)
    without_scale, _ = weights(
        {n: t for n, t in state.items() if n != "q.alpha"} | {"q.base_layer.weight": W}
    )
    assert set(without_scale) == {"q.lora", "q.base_layer.weight"}  # the sum is not known
    adapter = {f"base_model.model.{name}": t for name, t in state.items() if name != "q.alpha"}
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, "r": 4}))
    found, _ = weights(tmp_path, base={"q.weight": W, "k.weight": W + 1})
    assert torch.allclose(found["q.lora"], 2 * B @ A, atol=1e-5)
    assert torch.allclose(found["q.weight"], merged, atol=1e-5)
    assert torch.equal(found["k.weight"], W + 1)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, "r": 4, "use_rslora": True}))
    assert torch.allclose(weights(tmp_path)[0]["base_model.model.q.lora"], 4 * B @ A, atol=1e-5)


def test_an_update_of_a_kernel():
    down, up = torch.randn(4, 12, 3, 3), torch.randn(20, 4, 1, 1)
    found, _ = weights({"c.lora_A.weight": down, "c.lora_B.weight": up})
    expected = torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
    assert torch.allclose(found["c.lora"], expected, atol=1e-5)


def test_parts_that_do_not_fit_are_a_reason_and_no_error():
    table = ht.analyze(
        {
            "a.lora_A.weight": A,
            "a.lora_B.weight": B.T,
            "b.weight": W.to(torch.int8),
            "b.weight_scale": W[:7, :5],
        },
        progress=False,
    )
    assert not len(table)
    assert "do not fit" in table.attrs["skipped"]["a.lora"]
    assert "scales" in table.attrs["skipped"]["b.weight"]


def test_names_say_what_is_no_weight():
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 40, 30))).float()
    names = [
        "attn_mask",
        "layers.0.mask",
        "pos_embed",
        "encoder.pe",
        "rotary.cos_cached",
        "stft.basis_buffer",
    ]
    names += [
        "optimizer_G.state.exp_avg",
        "exp_avg_sq.w",
        "relative_position_bias_table",
        "x.momentum_buffer",
    ]
    table = ht.analyze(dict.fromkeys(names, noise) | {"mask_head.fc": noise[0]}, progress=False, null=None)
    assert table["name"].tolist() == ["mask_head.fc"]
    assert set(table.attrs["skipped"]) == set(names)
