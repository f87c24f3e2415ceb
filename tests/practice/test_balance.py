"""Oracles: plain training with parameter groups that are cut by hand, and an interrupted run's other half."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import htlib as ht
from htlib.models.allocation import PRESETS
from tests.practice.models import KINDS, seeded, train
from tests.refusals import refused

SCHEDULERS = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 9, eta_min=1e-4),
    "a closed form": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=20),
}


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_module_is_balanced_and_nothing_is_left_out_in_silence(kind):
    model, x = seeded(kind)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    balance = ht.TempBalance(optimizer, model, rule="linear", every=2)
    train(model, x, optimizer, 4, balance.step)
    assert balance.multipliers.min() >= 0.5
    assert balance.multipliers.max() == 1.5
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert balance.multipliers.index.tolist() == trained
    assert balance.rates.to_numpy() == pytest.approx(1e-3 * balance.multipliers.to_numpy())
    at_one = balance.multipliers[balance.multipliers == 1].index
    assert set(at_one) <= set(balance.left_out)
    assert all(balance.left_out.values())


LEFT_OUT = {
    "transformer": {"embedding.weight": None, "encoder.layers.0.norm1.weight": "a vector"},
    "cnn": {"1.weight": "a vector", "0.bias": "a vector"},
    "lstm": {"lstm.bias_hh_l1": "a vector"},
    "mixed": {"frozen.weight": "not trained", "quantised": "not trained"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_has_a_reason(kind):
    model, _ = seeded(kind)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    balance = ht.TempBalance(optimizer, model, rule="linear")
    for name, reason in LEFT_OUT[kind].items():
        assert balance.left_out.get(name, "in").startswith(reason or "in")


def test_the_rows_of_a_parameter_share_the_mean():
    """Gates are rows of the table and one parameter; ingredients of a weight share its multiplier."""
    model, _ = seeded("lstm")
    balance = ht.TempBalance(torch.optim.SGD(model.parameters(), 0.1), model, rule="linear")
    means = balance.table.groupby(balance.table.name.str.split("[").str[0])["alpha_hill"].mean()
    share = (means - means.min()) / (means.max() - means.min())
    assert balance.multipliers[share.index].to_numpy() == pytest.approx(0.5 + share.to_numpy())
    assert len(balance.table) == 4 * 4 + 1
    model, _ = seeded("mixed")
    balance = ht.TempBalance(
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1), model, rule="linear"
    )
    parts = balance.multipliers[[f"normed.parametrizations.weight.original{i}" for i in (0, 1)]]
    assert parts.nunique() == 1
    assert "normed.weight" in set(balance.table.name)
    assert "frozen.weight" not in set(balance.table.name)


OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam with a tensor": lambda groups: torch.optim.Adam(groups, lr=torch.tensor(0.01)),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=0.01),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_that_of_groups_cut_by_hand(kind, name):
    model, x = seeded(kind)
    twin = copy.deepcopy(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = OPTIMIZERS[name](trained)
    balance = ht.TempBalance(optimizer, model, rule="linear", every=1000)
    groups = []
    for path, parameter in twin.named_parameters():
        if parameter.requires_grad:
            groups.append(
                {"params": [parameter], "lr": optimizer.param_groups[0]["lr"] * balance.multipliers[path]}
            )
    train(model, x, optimizer, 3, balance.step)
    train(twin, x, OPTIMIZERS[name](groups), 3)
    assert same(state_of(model), state_of(twin))
    untouched = seeded(kind)[0]
    train(untouched, x, OPTIMIZERS[name]([p for p in untouched.parameters() if p.requires_grad]), 3)
    assert not same(state_of(model), state_of(untouched))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_any_scheduler_stands_beside_in_any_order(name, before, first):
    """A layer's rate is the schedule's times its multiplier, and the optimizer's groups stay as they are."""
    model, x = seeded("lstm")
    lone = torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=1e-3)
    expected = SCHEDULERS[name](lone)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = SCHEDULERS[name](optimizer) if before else None
    balance = ht.TempBalance(optimizer, model, rule="linear", every=2)
    schedule = schedule or SCHEDULERS[name](optimizer)
    used = []
    optimizer.register_step_pre_hook(lambda one, *_: used.append([g["lr"] for g in one.param_groups]))
    for _ in range(8):
        plain = expected.get_last_lr()[0]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([plain])
        cut = sorted({round(float(m), 12) for m in balance.multipliers})
        train(
            model,
            x,
            optimizer,
            1,
            *((balance.step, schedule.step) if first else (schedule.step, balance.step)),
        )
        assert sorted(used[-1]) == pytest.approx([plain * m for m in cut])
        lone.step()
        expected.step()


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_exactly(kind, tmp_path):
    """Six steps equal three, a file, and three more; at the break the multipliers are old ones."""

    def start(seed):
        model, x = seeded(kind, seed)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        schedule = lr_scheduler.CosineAnnealingLR(optimizer, 6)
        balance = ht.TempBalance(optimizer, model, rule="linear", every=2)
        return model, x, optimizer, schedule, balance

    model, x, optimizer, schedule, balance = start(0)
    train(model, x, optimizer, 3, schedule.step, balance.step)
    kept = {"model": model, "optimizer": optimizer, "schedule": schedule, "balance": balance}
    torch.save({name: one.state_dict() for name, one in kept.items()}, tmp_path / "run.pt")
    train(model, x, optimizer, 3, schedule.step, balance.step)

    other, _, optimizer, schedule, again = start(1)
    saved = torch.load(tmp_path / "run.pt")
    for name, one in {"model": other, "optimizer": optimizer, "schedule": schedule, "balance": again}.items():
        one.load_state_dict(saved[name])
    train(other, x, optimizer, 3, schedule.step, again.step)
    assert same(state_of(model), state_of(other))
    assert again.multipliers.equals(balance.multipliers)
    assert again.steps == 6


def test_a_run_without_the_state_goes_on_otherwise():
    """The negative control of the one above: the multipliers matter."""
    model, x = seeded("lstm")
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    balance = ht.TempBalance(optimizer, model, rule="linear", every=10)
    train(model, x, optimizer, 2, balance.step)
    state = balance.state_dict()
    balance.update()
    assert balance.state_dict() != state
    with refused("state must be of the parameters", "'fc.bias'"):
        balance.load_state_dict({"steps": 1, "multipliers": {"fc.weight": 1.0}})


def test_measurements_begin_and_end_when_they_should():
    model, x = seeded("lstm")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    at = []
    balance = None

    def measure(module):
        at.append(0 if balance is None else balance.steps)
        return ht.analyze(module, null=None, progress=False)

    balance = ht.TempBalance(optimizer, model, rule="linear", every=3, begin=2, end=9, measure=measure)
    assert set(balance.multipliers) == {1.0}
    train(model, x, optimizer, 12, balance.step)
    assert at == [2, 5, 8]


@pytest.mark.parametrize("preset", [name for name, one in PRESETS.items() if one.scales])
def test_presets_multiply_what_they_are_published_for(preset):
    """The multipliers are those of `allocate` for the table of the tensors."""
    model, x = seeded("transformer")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    balance = ht.TempBalance(optimizer, model, preset, every=2)
    option = PRESETS[preset].scales
    assert balance.rates.name == option
    expected = ht.allocate(
        balance.table, preset=preset, by="block" if preset == "model-balancing" else "tensor"
    )
    name = "encoder.layers.1.linear1.weight"
    assert balance.rates[name] == pytest.approx(optimizer.param_groups[0][option] * expected[name])
    assert balance.multipliers[balance.table.name.iloc[0].split("[")[0]] == pytest.approx(expected.iloc[0])
    seen = []
    optimizer.register_step_pre_hook(lambda one, *_: seen.append({g[option] for g in one.param_groups}))
    train(model, x, optimizer, 1, balance.step)
    assert len(seen[0]) > 2
    assert len(optimizer.param_groups) == 1
    if preset == "llr":  # its table has the embedding, five times the rate
        assert balance.multipliers["embedding.weight"] == 5


def test_controls_are_one_argument_away():
    model, _ = seeded("lstm")

    def measure(module):
        return ht.with_controls(ht.analyze(module, n_replicates=3, progress=False))

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = [
        ht.TempBalance(optimizer, model, rule="linear", measure=measure, column=column).multipliers
        for column in ("alpha_hill", "excess", "z", "depth", "permuted", "reversed")
    ]
    assert len({tuple(one.round(9)) for one in found}) == 6
    uniform = ht.TempBalance(optimizer, model, rule="linear", measure=measure, column="uniform")
    assert set(uniform.multipliers) == {1.0}


def test_two_options_are_multiplied_at_once_and_the_last_of_one_option_counts():
    model, x = seeded("lstm")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    ht.TempBalance(optimizer, model, rule="linear", low=7, high=9)
    ht.TempBalance(optimizer, model, rule="linear", low=0.1, high=2)
    ht.TempBalance(optimizer, model, "alphadecay")
    seen = []
    optimizer.register_step_pre_hook(lambda one, *_: seen.extend(one.param_groups))
    train(model, x, optimizer, 1)
    rates, decays = ({group[option] for group in seen} for option in ("lr", "weight_decay"))
    assert (min(rates), max(rates)) == pytest.approx((1e-4, 2e-3))
    assert (min(decays), max(decays)) == pytest.approx((0.067, 0.3))
    parts = [parameter for group in seen for parameter in group["params"]]
    assert len(parts) == len(set(parts)) == len(list(model.parameters()))


def test_groups_come_back_if_a_step_fails():
    model, x = seeded("lstm")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    balance = ht.TempBalance(optimizer, model, rule="linear")
    groups = optimizer.param_groups

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert optimizer.param_groups is groups
    train(model, x, optimizer, 1, balance.step)


class Counting(torch.optim.SGD):
    """An optimizer that counts its steps in its groups, as schedule-free ones do."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
        return super().step(closure)


def test_what_an_optimizer_writes_into_its_groups_is_kept():
    model, x = seeded("lstm")
    optimizer = Counting(model.parameters(), 0.1)
    ht.TempBalance(optimizer, model, rule="linear")
    train(model, x, optimizer, 3)
    assert [(group["count"], group["lr"]) for group in optimizer.param_groups] == [(3, 0.1)]


def test_weights_that_break_keep_their_rate_and_are_listed():
    """A weight without an exponent does not end a training."""
    model, _ = seeded("lstm")
    with torch.no_grad():
        model.fc.weight.copy_(torch.eye(55, 60))
        model.lstm.weight_hh_l1.fill_(torch.nan)
    balance = ht.TempBalance(torch.optim.SGD(model.parameters(), 0.1), model, rule="linear")
    assert balance.multipliers[["fc.weight", "lstm.weight_hh_l1"]].tolist() == [1, 1]
    assert balance.left_out["fc.weight"] == "alpha_hill is not defined"
    assert "NaN" in balance.left_out["lstm.weight_hh_l1"]
    assert np.isfinite(balance.multipliers).all()


def test_refusals():
    model, _ = seeded("lstm")
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    for named, options in {
        "every must": {"every": 0},
        "preset must be one of tempbalance": {"preset": "alphapruning"},
        "rule must be 'linear' or": {"rule": "bits"},
        "scales must be an option of the groups of SGD, lr": {"scales": "betas"},
        "scales must be an option that is not zero": {"preset": "alphadecay"},
        "column": {"measure": lambda m: pd.DataFrame({"name": ["fc.weight"], "alpha_hill": [2.0]})},
    }.items():
        with pytest.raises(
            ValueError, match=named if named != "column" else "table must have the column 'shape'"
        ):
            ht.TempBalance(sgd, model, **options)
    with refused("optimizer must be one with parameter groups", "LBFGS"):
        ht.TempBalance(torch.optim.LBFGS(model.parameters()), model)
    with refused("optimizer must be a torch optimizer", "str", error=TypeError):
        ht.TempBalance("sgd", model)
    with refused("model must have parameters that the optimizer trains"):
        ht.TempBalance(sgd, nn.Linear(60, 60))
    small = nn.Linear(3, 4)
    with refused("model must have a weight", "weight: 4 x 3 has 3 singular values"):
        ht.TempBalance(torch.optim.SGD(small.parameters(), 0.1), small)
