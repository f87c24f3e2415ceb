"""Oracles: counts of zeros, scores by explicit loops, and torch's own pruning."""

import copy

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import htlib as ht
from tests.practice.models import KINDS, seeded, train
from tests.refusals import refused


def sparsity_of(model, target=0.6):
    return ht.allocate(ht.analyze(model, null=None, progress=False), "sparsity", target=target, by="tensor")


def pruned_modules(model):
    return [
        (module, name.removesuffix("_mask"))
        for module in model.modules()
        for name, _ in module.named_buffers(recurse=False)
        if name.endswith("_mask")
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score", ["magnitude", "wanda"])
def test_every_kind_of_module_is_pruned_as_told_or_says_why_not(kind, score):
    model, x = seeded(kind)
    sparsity = sparsity_of(model)
    table = ht.prune_(model, sparsity, score, [x, x] if score == "wanda" else None)
    tensors = {name.split("[")[0] for name in sparsity.index}
    assert set(table.name) | set(table.attrs["skipped"]) == tensors
    assert not set(table.name) & set(table.attrs["skipped"])
    share = {name.split("[")[0]: value for name, value in sparsity.items()}
    for row in table.itertuples():
        assert row.sparsity * row.n_entries == pytest.approx(round(share[row.name] * row.n_entries))
    reasons = {reason.split(":")[0] for reason in table.attrs["skipped"].values()}
    if score == "magnitude":
        assert reasons == ({"made of several parameters"} if kind == "mixed" else set())
    modules = pruned_modules(model)
    assert len(modules) >= len(table)
    zeros = [getattr(module, name) == 0 for module, name in modules]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    before = [getattr(module, name).detach().clone() for module, name in modules]
    train(model, x, optimizer, 2)
    model(x)
    after = [getattr(module, name) for module, name in modules]
    assert all((a[z] == 0).all() for a, z in zip(after, zeros, strict=True))
    frozen = [not getattr(module, f"{name}_orig").requires_grad for module, name in modules]
    moved = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert moved == [not one for one in frozen]
    out = model.eval()(x)
    for module, name in modules:
        prune.remove(module, name)
    assert torch.equal(model(x), out)
    copy.deepcopy(model)


def test_the_smallest_magnitudes_go_and_the_budget_is_kept():
    model, _ = seeded("cnn")
    sparsity = sparsity_of(model, 0.55)
    weights = {name: model.get_parameter(name).detach().clone() for name in sparsity.index}
    table = ht.prune_(model, sparsity).set_index("name")
    total = (table.sparsity * table.n_entries).sum() / table.n_entries.sum()
    assert total == pytest.approx(0.55, abs=len(table) / table.n_entries.sum())
    for name, weight in weights.items():
        module = model.get_submodule(name.rpartition(".")[0])
        kept = module.weight_mask.bool()
        assert weight[kept].abs().min() >= weight[~kept].abs().max()


def wanda_by_loops(layer, x):
    """Norm of the input that each entry meets: a convolution with a single entry has outputs equal to it."""
    scores = torch.zeros_like(layer.weight)
    probe = copy.deepcopy(layer)
    nn.init.zeros_(probe.bias)
    for index in torch.cartesian_prod(*[torch.arange(n) for n in layer.weight.shape]).tolist():
        with torch.no_grad():
            probe.weight.zero_()
            probe.weight[tuple(index)] = 1.0
            scores[tuple(index)] = probe(x).norm() * layer.weight[tuple(index)].abs()
    return scores


@pytest.mark.parametrize(
    ("layer", "shape", "outputs"),
    [
        (nn.Linear(7, 12), (5, 3, 7), lambda s: s),
        (nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2), (4, 6, 9, 9), lambda s: s.flatten(1)),
        (
            nn.Conv1d(5, 10, 3, padding=2, dilation=2, padding_mode="circular"),
            (4, 5, 9),
            lambda s: s.flatten(1),
        ),
        (
            nn.ConvTranspose2d(6, 10, 3, stride=2, groups=2),
            (4, 6, 5, 5),
            # (in, out / groups, k, k): the outputs of the second group meet the inputs 3 to 5
            lambda s: torch.cat([s[:3].transpose(0, 1).flatten(1), s[3:].transpose(0, 1).flatten(1)]),
        ),
    ],
)
def test_wandas_scores_by_explicit_loops(layer, shape, outputs):
    """The third of the entries with the smallest score goes in each output, to one entry."""
    torch.manual_seed(4)
    x = torch.randn(shape) * torch.rand(shape[1:])
    scores = outputs(wanda_by_loops(layer, x))
    table = ht.prune_(layer, pd.Series({"weight": 1 / 3}), "wanda", [x[:2], x[2:]])
    mask = outputs(layer.weight_mask)
    assert mask.eq(0).sum() == round(scores.numel() / 3)
    each = mask.eq(0).sum(dim=1)
    assert each.max() - each.min() <= 1
    for row, kept in zip(scores, mask.bool(), strict=True):
        assert row[kept].min() >= row[~kept].max() * (1 - 1e-5)
    assert table.name.tolist() == ["weight"]


def test_wanda_differs_from_magnitude_where_inputs_differ():
    torch.manual_seed(0)
    x = torch.randn(50, 40) * torch.linspace(0.01, 3, 40)
    one, other, even = (copy.deepcopy(nn.Linear(40, 30)) for _ in range(3))
    other.load_state_dict(one.state_dict())
    ht.prune_(one, 0.5, "wanda", [x])
    ht.prune_(other, 0.5)
    assert not torch.equal(one.weight_mask, other.weight_mask)
    # with inputs of one size Wanda's order is that of the magnitudes of each row
    even.load_state_dict({"weight": one.weight_orig, "bias": one.bias})
    ht.prune_(even, 0.5, "wanda", [torch.eye(40)])
    for row, kept in zip(even.weight_orig.abs(), even.weight_mask.bool(), strict=True):
        assert row[kept].min() >= row[~kept].max()


def test_pruning_again_keeps_what_is_pruned():
    torch.manual_seed(0)
    model = nn.Linear(40, 30)
    ht.prune_(model, 0.3)
    first = model.weight_mask.clone()
    ht.prune_(model, 0.6)
    assert (model.weight_mask == 0).double().mean() == pytest.approx(0.6)
    assert not model.weight_mask[first == 0].any()
    twin = nn.Linear(40, 30)
    twin.load_state_dict({"weight": model.weight_orig, "bias": model.bias})
    prune.l1_unstructured(twin, "weight", 0.6)  # torch's own
    assert torch.equal(twin.weight_mask, model.weight_mask)


def test_analyze_sees_the_pruned_weights():
    model, _ = seeded("lstm")
    ht.prune_(model, 0.9)
    table = ht.analyze(model, null=None, progress=False)
    prune.remove(model.fc, "weight")
    for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"):
        prune.remove(model.lstm, name)
    assert table.alpha_hill.tolist() == ht.analyze(model, null=None, progress=False).alpha_hill.tolist()


def test_a_tied_weight_stays_tied():
    model, _ = seeded("transformer")
    ht.prune_(model, pd.Series({"head.weight": 0.5}))
    assert model.head.weight_orig is model.embedding.weight_orig
    assert torch.equal(model.head.weight, model.embedding.weight)
    assert (model.embedding.weight == 0).double().mean() == 0.5


def test_calibration_leaves_modes_and_hooks_as_they_were():
    model, x = seeded("transformer")
    model.encoder.layers[1].eval()
    modes = [module.training for module in model.modules()]
    ht.prune_(model, 0.5, "wanda", [{"tokens": x}, (x,), x])
    assert [module.training for module in model.modules()] == modes
    hooks = [h for m in model.modules() for h in m._forward_pre_hooks.values()]
    assert all(isinstance(hook, prune.BasePruningMethod) for hook in hooks)


def test_quantised_weights_and_layers_out_of_reach_are_listed():
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20))
    model.register_module("idle", nn.Linear(20, 20))
    model.forward = lambda x: model[1](model[0](x))
    model.register_parameter(
        "packed", nn.Parameter(torch.ones(20, 20, dtype=torch.int8), requires_grad=False)
    )
    sparsity = pd.Series(0.5, index=["0.weight", "idle.weight", "packed"])
    table = ht.prune_(model, sparsity, "wanda", [torch.randn(9, 40)])
    assert table.name.tolist() == ["0.weight"]
    assert table.attrs["skipped"] == {
        "idle.weight": "no batch reached it",
        "packed": "quantised: prune before quantising",
    }
    assert not hasattr(model[1], "weight_mask")


def test_refusals():
    model = nn.Linear(40, 30)
    with refused("score must be one of magnitude, wanda", "'sparsegpt'"):
        ht.prune_(model, 0.5, "sparsegpt")
    for score, batches in (("wanda", None), ("magnitude", [])):
        with refused("batches must"):
            ht.prune_(model, 0.5, score, batches)
    small = nn.Sequential(nn.Linear(40, 5), nn.Linear(40, 30))
    assert ht.prune_(small, 0.5).attrs["skipped"]["0.weight"].startswith("5 x 40 has 5 singular values")
    with refused("sparsity must be from 0 to 1", "weight has 1.5"):
        ht.prune_(model, pd.Series({"weight": 1.5}))
    with refused("sparsity must be of weights of the model", "'head.weight'"):
        ht.prune_(model, pd.Series({"head.weight": 0.5}))
    with refused("sparsity must be a Series or", "dict", error=TypeError):
        ht.prune_(model, {"weight": 0.5})
