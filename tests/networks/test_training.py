"""Oracles: training twice, plain training, steps of torch, the drop-in of htlib.practice, numbers by hand."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.networks.config import COLUMNS, NetworkConfig, Pruning
from htlib.networks.data import data_of
from htlib.networks.methods import measure_units, noise_alpha
from htlib.networks.models import build, units_of
from htlib.networks.pruning import prune, sparsities
from htlib.networks.run import NetworkRun
from htlib.networks.training import train_network
from htlib.student.run import RecordError
from tests.refusals import refused

MLP = NetworkConfig(width=64, fraction=0.1, lr=0.02, steps=12, batch=25, every=5, probe_every=6)
TEXT = NetworkConfig(
    network="transformer", optimizer="adamw", weight_decay=0.1, lr=0.01, width=16, depth=3, context=16,
    characters=3000, batch=4, steps=6, every=3, probe_every=6,
)  # fmt: skip
CNN = NetworkConfig(network="cnn", width=16, fraction=0.1, lr=0.02, steps=4, probe_every=4)
READINGS = [Pruning(column, 0.8) for column in ("alpha", "permuted", "noise", "uniform")]


@pytest.fixture(scope="module")
def run():
    return train_network(MLP, readings=READINGS, keep_weights=True)


@pytest.mark.parametrize("config", [MLP, CNN, TEXT], ids=["mlp", "cnn", "transformer"])
def test_the_same_config_gives_the_same_numbers(config):
    first, second = train_network(config), train_network(config)
    assert first.metrics.equals(second.metrics)
    assert first.layers.equals(second.layers)
    assert not train_network(config.replace(seed=1)).metrics.equals(first.metrics)
    assert first.metrics.index.tolist() == sorted({0, config.probe_every, config.steps})


@pytest.mark.parametrize("method", ["tempbalance", "model-balancing", "alphadecay"])
def test_uniform_is_plain_training_to_the_bit(method):
    decay = {"optimizer": "adamw", "weight_decay": 0.5}
    plain = train_network(MLP.replace(**decay), keep_weights=True)
    uniform = train_network(MLP.replace(method=method, column="uniform", **decay), keep_weights=True)
    for name, W in plain.weights[12].items():
        np.testing.assert_array_equal(W, uniform.weights[12][name])
    by_alpha = train_network(MLP.replace(method=method, **decay), keep_weights=True)
    assert any((by_alpha.weights[12][name] != W).any() for name, W in plain.weights[12].items())


def test_threads_draw_the_weights_of_their_own_seeds():
    """Runs of a sweep may be threads of one process, and torch has one generator.  Oracle: one by one."""
    configs = [NetworkConfig(network="transformer", seed=seed) for seed in range(24)]
    alone = [torch.cat([p.flatten() for p in build(config).parameters()]) for config in configs]
    with ThreadPoolExecutor(8) as threads:
        for weights, network in zip(alone, threads.map(build, configs), strict=True):
            assert torch.equal(torch.cat([p.flatten() for p in network.parameters()]), weights)


def test_every_control_gives_other_rates_and_another_training():
    runs = {column: train_network(MLP.replace(method="tempbalance", column=column)) for column in COLUMNS}
    losses = [float(one.metrics.train_loss.iloc[-1]) for one in runs.values()]
    assert len(set(losses)) == len(COLUMNS)
    share = {column: one.layers["share"].to_numpy()[-4:] for column, one in runs.items()}
    assert share["alpha"].min() == 0.5
    assert share["alpha"].max() == 1.5
    assert np.ptp(share["mean"]) == 0
    assert (share["uniform"] == 1).all()
    assert (np.diff(share["depth"]) > 0).all()
    # the middle layers of the MLP have one shape, the outer ones another
    assert share["noise"][1] == share["noise"][2] > share["noise"][0] == share["noise"][3]


def test_permuted_alphas_are_the_alphas_with_none_in_its_place():
    from htlib.networks.methods import allocated

    table = measure_units(units_of(build(MLP)))
    alpha = allocated(table, "tempbalance", "alpha", 0)
    for seed in range(8):
        permuted = allocated(table, "tempbalance", "permuted", seed)
        assert sorted(permuted) == pytest.approx(sorted(alpha))
        assert (permuted != alpha).all()


def test_blocks_of_a_transformer_share_their_rate():
    share = (
        train_network(TEXT.replace(method="model-balancing"))
        .layers.tail(18)["share"]
        .to_numpy()
        .reshape(3, 6)
    )
    assert (share == share[:, :1]).all()
    assert len(set(share[:, 0])) == 3


def test_a_step_is_that_of_torch():
    """Oracle: one step of SGD on the whole network, without groups."""
    config = MLP.replace(steps=1, batch=0, schedule="constant", probe_every=1)
    network, data = build(config), data_of(config)
    optimizer = torch.optim.SGD(network.parameters(), lr=config.lr, momentum=config.momentum)
    torch.nn.functional.cross_entropy(network(data.inputs), data.targets).backward()
    optimizer.step()
    ours = train_network(config, keep_weights=True).weights[1]
    for name, p in network.named_parameters():
        np.testing.assert_array_equal(ours[name], p.detach().double().numpy())


def test_the_drop_in_balances_as_the_experiments_do():
    """`ht.TempBalance` on the inner layers, beside a constant rate, gives the same weights."""
    config = MLP.replace(method="tempbalance", schedule="constant", batch=0, every=4)
    network, data = build(config), data_of(config)
    optimizer = torch.optim.SGD(network.parameters(), lr=config.lr, momentum=config.momentum)
    inner = [unit.name for unit in units_of(network)]
    measure = partial(ht.analyze, include=inner, null=None, progress=False)
    balance = ht.TempBalance(optimizer, network, rule="linear", every=4, measure=measure)
    for _ in range(config.steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(data.inputs), data.targets).backward()
        optimizer.step()
        balance.step()
    ours = train_network(config, keep_weights=True).weights[config.steps]
    for name, p in network.named_parameters():
        np.testing.assert_allclose(ours[name], p.detach().double().numpy(), rtol=1e-5, atol=1e-7)


def test_alphas_are_those_of_analyze_and_noise_is_that_of_its_shape(run):
    weights = {name: W for name, W in run.weights[12].items() if W.ndim == 2}
    table = ht.analyze(weights, null=None, progress=False).set_index("name")
    last = run.layers[run.layers.step == 12].set_index("name")
    for name in last.index:
        assert last.alpha_hill[name] == pytest.approx(table.alpha_hill[name], rel=1e-6)
    start = train_network(MLP.replace(width=128, steps=1)).layers.head(4)
    assert (start["alpha_hill_z"].abs() < 4).all()  # He's start is Gaussian noise
    assert noise_alpha(300, 300)[0] == pytest.approx(2.13, abs=0.02)  # 2.12 for large square matrices


@pytest.mark.parametrize("config", [MLP, CNN, TEXT], ids=["mlp", "cnn", "transformer"])
@pytest.mark.parametrize("column", ["alpha", "permuted", "uniform"])
def test_pruning_keeps_its_budget_and_the_largest_entries(config, column):
    units = units_of(build(config))
    before = [unit.weight.detach().clone() for unit in units]
    given = sparsities(measure_units(units), Pruning(column, 0.6), seed=0)
    prune(units, given)
    sizes = np.array([unit.weight.numel() for unit in units])
    assert given @ sizes / sizes.sum() == pytest.approx(0.6)
    zeros = sum(int((unit.weight == 0).sum()) for unit in units)
    assert zeros / sizes.sum() == pytest.approx(0.6, abs=len(units) / sizes.sum())
    for unit, old in zip(units, before, strict=True):
        kept = unit.weight != 0
        assert old[~kept].abs().max() <= old[kept].abs().min()
        assert torch.equal(unit.weight[kept], old[kept])


def test_a_reading_changes_the_last_row_and_nothing_of_the_training(run):
    pruned = run.read("uniform", 0.8)
    assert pruned.metrics.iloc[:-1].equals(run.metrics.iloc[:-1])
    assert pruned.metrics.test_loss.iloc[-1] != run.metrics.test_loss.iloc[-1]
    assert pruned.config.training == run.config
    direct = train_network(MLP.replace(pruned_by="uniform", sparsity=0.8))
    assert direct.metrics.equals(pruned.metrics)
    assert (
        run.read("alpha", 0.8).metrics.test_loss.iloc[-1]
        != run.read("permuted", 0.8).metrics.test_loss.iloc[-1]
    )
    with refused("this run was not read as ('depth', 0.8)"):
        run.read("depth", 0.8)


def test_a_run_that_diverges_says_when():
    run = train_network(MLP.replace(lr=1e4, schedule="constant"))
    assert run.diverged_at is not None
    assert run.metrics.index[-1] < run.diverged_at


def test_what_is_stored_is_what_was_computed(run, tmp_path):
    path = run.save(tmp_path / "run.safetensors")
    loaded = NetworkRun.load(path)
    assert loaded.config == run.config
    assert loaded.metrics.equals(run.metrics)
    assert loaded.layers.equals(run.layers)
    assert loaded.data_digest == run.data_digest
    assert loaded.read("alpha", 0.8).metrics.equals(run.read("alpha", 0.8).metrics)
    assert all((loaded.weights[12][name] == W).all() for name, W in run.weights[12].items())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RecordError):
        NetworkRun.load(path)


def test_a_run_can_be_read_from_any_reading_and_is_stored_without_one(run, tmp_path):
    pruned = run.read("alpha", 0.8)
    assert pruned.read("uniform", 0.8).metrics.equals(run.read("uniform", 0.8).metrics)
    assert pruned.read().metrics.equals(run.metrics)
    loaded = NetworkRun.load(pruned.save(tmp_path / "run.safetensors"))
    assert loaded.metrics.equals(run.metrics)
    assert loaded.config == run.config
