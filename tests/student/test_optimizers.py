"""Oracles: torch.optim, to the last digit where the arithmetic is the same; steps worked out by hand.

A line of `MEMBERS` has options away from the defaults, an oracle, and the share of its update that may err.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import htlib as ht
from htlib.commands.main import main
from htlib.explorer import Explorer
from htlib.explorer.graphs import GRAPH_OPTIMIZERS
from htlib.figures import style
from htlib.student import config
from htlib.student.config import CHOICES
from htlib.student.optimizers import HYPERPARAMETERS, OPTIMIZERS
from htlib.theory.one_step import law_of_config
from tests.refusals import refused

RATE, DECAY = 0.3, 0.7
DECAYED = {"weight_decay": 0.1}


def by_torch(make):
    """The weights after steps of a torch.optim optimizer under StepLR."""

    def walk(W, gradients, options):
        parameter = torch.nn.Parameter(W.clone())
        optimizer = make(parameter, options)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=DECAY)
        for G in gradients:
            parameter.grad = G.clone()
            optimizer.step()
            schedule.step()
        return parameter.detach()

    return walk


def by_hand(direction):
    """The weights after steps against a direction, given the weights and the gradients so far."""

    def walk(W, gradients, options):
        for t in range(len(gradients)):
            W = W - RATE * DECAY**t * direction(W, gradients[: t + 1])
        return W

    return walk


def heavy_ball(W, gradients):
    return sum(0.9**-s * G for s, G in enumerate(gradients)).sign()


torch_adam = by_torch(lambda W, o: torch.optim.Adam([W], RATE, eps=o.pop("adam_eps"), **o))
torch_sgd = by_torch(lambda W, o: torch.optim.SGD([W], RATE, **o))
torch_muon = by_torch(lambda W, o: torch.optim.Muon([W], RATE, **o))
MEMBERS = [
    ("adam", {}, torch_adam, 0),
    ("adam", {**DECAYED, "adam_eps": 1e-3}, torch_adam, 0),
    ("gd", {}, torch_sgd, 0),
    ("gd", DECAYED, by_hand(lambda W, Gs: Gs[-1] + 0.1 * W), 1e-6),
    ("gd", {**DECAYED, "momentum": 0.9}, torch_sgd, 0),
    ("gd", {**DECAYED, "momentum": 0.9, "nesterov": True}, torch_sgd, 0),
    ("signsgd", DECAYED, by_hand(lambda W, Gs: (Gs[-1] + 0.1 * W).sign()), 1e-6),
    ("signsgd", {"momentum": 0.9}, by_hand(heavy_ball), 1e-6),
    # torch computes its iterates in bfloat16, which has eight bits
    ("muon", {**DECAYED, "momentum": 0.9, "nesterov": True}, torch_muon, 0.03),
]
EACH = pytest.mark.parametrize("name", OPTIMIZERS)


def tensors(number, shape=(7, 5), dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(number)]


def walk(name, W, gradients, fields=None):
    """The weights and the state after steps at falling rates."""
    optimizer, lr = OPTIMIZERS[name], RATE
    options = optimizer.options(ht.ExperimentConfig(optimizer=name, **(fields or {})))
    state = optimizer.init(W)
    for t, G in enumerate(gradients, 1):
        W, state = optimizer.update(G, W, state, t, lr, **options)
        lr *= DECAY
    return W, state


def test_every_member_has_its_lines():
    missing = OPTIMIZERS.keys() - {name for name, *_ in MEMBERS}
    assert not missing, f"add lines for {sorted(missing)} to MEMBERS"


@pytest.mark.parametrize(("name", "fields", "oracle", "tolerance"), MEMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(37, 53), (67, 31), (61,)])
def test_seven_steps_are_those_of_the_oracle(name, fields, oracle, tolerance, dtype, shape):
    if len(shape) == 1 and OPTIMIZERS[name].matrices_only:
        return
    W, *gradients = tensors(8, shape, dtype)
    options = OPTIMIZERS[name].options(ht.ExperimentConfig(optimizer=name, **fields))
    expected = oracle(W, gradients, options)
    found, _ = walk(name, W, gradients, fields)
    assert (found.dtype, found.shape) == (dtype, shape)
    if tolerance == 0:
        assert torch.equal(found, expected)
    assert (found - expected).norm() <= tolerance * (expected - W).norm()


@EACH
def test_an_update_is_pure_and_goes_on_from_a_copy_of_its_state(name):
    W, G, other = tensors(3)
    new, state = walk(name, W, [G])
    given = [x.clone() for x in (W, G, *state)]
    optimizer = OPTIMIZERS[name]
    options = optimizer.options(ht.ExperimentConfig(optimizer=name))
    once = optimizer.update(other, new, state, 2, RATE, **options)[0]
    again = optimizer.update(other, new, pickle.loads(pickle.dumps(state)), 2, RATE, **options)[0]
    assert torch.equal(once, again)
    assert all(torch.equal(x, y) for x, y in zip((W, G, *state), given, strict=True))
    assert len(state) == optimizer.n_state
    assert all((x.dtype, x.shape) == (W.dtype, W.shape) for x in state)


@EACH
def test_it_moves_against_the_gradient_and_not_without_one(name):
    W, G = tensors(2)
    assert ((walk(name, W, [G])[0] - W) * G).sum() < 0
    assert torch.equal(walk(name, W, [torch.zeros_like(W)])[0], W)


@EACH
def test_its_first_step_is_the_one_declared(name):
    """An update parallel to the gradient or to its signs; the others have no law."""
    W, G = tensors(2)
    step, declared = walk(name, W, [G])[0] - W, OPTIMIZERS[name].first_step
    config = ht.ExperimentConfig(n=60, d=20, h=30, optimizer=name)
    for kind, direction in (("gradient", G), ("sign", torch.sign(G))):
        assert torch.allclose(step, -RATE * direction, rtol=1e-5) == (kind == declared)
    if declared is None:
        with refused("optimizer must", repr(name)):
            law_of_config(config)
        return
    law = law_of_config(config)
    assert law.optimizer == name
    moved = law.sample(RATE, seed=0)[0] - law.sample(0.0, seed=0)[0]
    assert np.allclose(np.abs(moved), RATE) == (declared == "sign")


@pytest.mark.parametrize("shape", [(37, 53), (67, 31)])
def test_muon_keeps_the_singular_vectors_and_levels_the_values(shape):
    """Oracle: the published polynomial on the singular values, and the band that it is known for."""
    W, G = tensors(2, shape)
    left, s, right = torch.linalg.svd(G, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = max(1, shape[0] / shape[1]) ** 0.5 * (left * s) @ right
    torch.testing.assert_close((W - walk("muon", W, [G])[0]) / RATE, expected, rtol=1e-9, atol=1e-9)
    assert s.min() > 0.68
    assert s.max() < 1.21


@EACH
def test_it_trains_from_the_command_line(name, capsys):
    call = ["run", "--n", "20", "--d", "5", "--h", "7", "--n-test", "9", "--steps", "2", "--lr", "0.01"]
    assert main([*call, "--optimizer", name]) == 0
    assert "alpha_hill" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["run", "--optimizer", "sgd"])
    assert f"'{name}'" in capsys.readouterr().err


@EACH
def test_it_trains_both_layers_or_refuses(name):
    fields = {"n": 20, "d": 5, "h": 7, "n_test": 9, "steps": 2, "lr": 0.01, "optimizer": name}
    if OPTIMIZERS[name].matrices_only:
        with refused("train_readout = True", repr(name), "train_readout=False"):
            ht.ExperimentConfig(**fields, train_readout=True)
    else:
        assert ht.train(ht.ExperimentConfig(**fields, train_readout=True)).diverged_at is None


@EACH
def test_it_is_in_choices_figures_and_menus(name):
    optimizer = OPTIMIZERS[name]
    assert name == optimizer.name
    assert list(CHOICES["optimizer"]) == list(OPTIMIZERS)
    assert config.HYPERPARAMETERS[name] == optimizer.hyperparameters
    assert (name in config.MATRICES_ONLY) == optimizer.matrices_only
    assert (name in config.SHARPNESS_OF) == (optimizer.edge is not None)
    assert (name in GRAPH_OPTIMIZERS) == (optimizer.n_state <= 2)
    look = style.OPTIMIZER_COLORS[name], style.OPTIMIZER_MARKERS[name], style.OPTIMIZER_NAMES[name]
    assert look == (optimizer.color, optimizer.marker, optimizer.label)
    widget = Explorer(n=20, d=5, h=7)
    assert name in widget.options["choices"]["optimizer"]
    assert widget.options["names"][name] == optimizer.label
    widget.close()


def test_looks_differ_and_fields_are_those_of_the_config():
    looks = [(o.color, o.marker, o.label) for o in OPTIMIZERS.values()]
    assert all(len(set(values)) == len(looks) for values in zip(*looks, strict=True))
    assert set(ht.ExperimentConfig().to_dict()) >= HYPERPARAMETERS


@pytest.mark.parametrize("fields", [{"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}], ids=str)
def test_a_first_step_that_the_law_does_not_know_is_refused(fields):
    with pytest.raises(ValueError, match="for a prediction of the first step"):
        law_of_config(ht.ExperimentConfig(optimizer="gd", **fields))
