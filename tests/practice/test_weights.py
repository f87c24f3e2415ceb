"""Oracles: the allocation itself, and the parameters of the module."""

import pandas as pd
import pytest
import torch
from torch import nn

import htlib as ht
from tests.practice.models import KINDS, seeded, train
from tests.refusals import refused


def table_of(model):
    return ht.analyze(model, null=None, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_hold_every_trained_parameter_once(kind):
    model, x = seeded(kind)
    multipliers = ht.allocate(table_of(model), "linear", by="tensor")
    groups = ht.parameter_groups(model, multipliers, others=0.25, weight_decay=0.1, lr=0.01)
    held = [parameter for group in groups for parameter in group["params"]]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(p) for p in held} == {id(p) for p in trained}
    assert len(held) == len(trained)
    decay = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
    rate = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    named = {name.split("[")[0]: m for name, m in multipliers.items()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter in decay and name in named:
            assert (decay[parameter], rate[parameter]) == pytest.approx(
                (0.1 * named[name], 0.01 * named[name])
            )
    biases = [p for name, p in model.named_parameters() if "bias" in name and p.requires_grad]
    assert {decay[bias] for bias in biases} == {0.025}
    optimizer = torch.optim.AdamW(groups)
    train(model, x, optimizer, 1)


def test_a_tied_weight_is_found_under_each_of_its_names():
    """The first name of the head's weight is that of the embedding, which is no row."""
    model, _ = seeded("transformer")
    multipliers = ht.allocate(table_of(model), "linear", by="tensor")
    assert "head.weight" in multipliers
    groups = ht.parameter_groups(model, multipliers, lr=1.0)
    (own,) = [g["lr"] for g in groups if any(p is model.embedding.weight for p in g["params"])]
    assert own == multipliers["head.weight"]


def test_ingredients_share_the_multiplier_of_their_weight():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(40, 60)), nn.Linear(60, 50))
    nn.utils.parametrizations.orthogonal(model.append(nn.Linear(50, 50))[2])
    multipliers = pd.Series({"0.weight": 2.0, "1.weight": 3.0, "2.weight": 4.0})
    groups = {group["lr"]: len(group["params"]) for group in ht.parameter_groups(model, multipliers, lr=1.0)}
    assert groups == {1.0: 3, 2.0: 2, 3.0: 1, 4.0: 1}


def test_low_rank_updates_are_weights():
    """LoRA by hand, with the names of PEFT."""

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.lora_A = nn.Linear(60, 12, bias=False)
            self.lora_B = nn.Linear(12, 50, bias=False)

    model = nn.Sequential(Adapted(), nn.Linear(50, 40))
    rows = table_of(model).name.tolist()
    assert rows == ["0.lora", "1.weight"]
    groups = ht.parameter_groups(model, pd.Series([2.0, 3.0], index=rows), lr=1.0)
    assert {g["lr"]: len(g["params"]) for g in groups} == {1.0: 1, 2.0: 2, 3.0: 1}


def test_experts_and_bits_by_module():
    """Oracle: `allocate`, for the blocks or the tensors."""
    model, _ = seeded("transformer")
    table = table_of(model)
    counts = ht.lora_experts(table, total=20)
    blocks = {name.split(".linear")[0]: n for name, n in counts.items() if "linear1" in name}
    assert sum(blocks.values()) == 20
    assert counts["encoder.layers.1.linear1"] == counts["encoder.layers.1.self_attn.out_proj"]
    bits = ht.bit_widths(table, 3.0)
    expected = ht.allocate(table, preset="alphaq", mean_bits=3.0, by="tensor")
    assert bits["encoder.layers.2.linear2"] == expected["encoder.layers.2.linear2.weight"]
    assert bits["encoder.layers.2.self_attn.in_proj_weight"] in (2, 3, 4)


def test_refusals():
    model, _ = seeded("lstm")
    multipliers = pd.Series({"fc.weight": 2.0})
    with refused("options must name"):
        ht.parameter_groups(model, multipliers)
    with refused("multipliers must be a Series", "dict", error=TypeError):
        ht.parameter_groups(model, {"fc.weight": 2.0}, lr=1.0)
    with refused("multipliers must be of weights of the model", "'head.weight'"):
        ht.parameter_groups(model, pd.Series({"head.weight": 2.0}), lr=1.0)
    with refused("multipliers must be finite", "nan for fc.weight"):
        ht.parameter_groups(model, multipliers * float("nan"), lr=1.0)
