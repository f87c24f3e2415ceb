"""Oracles: scikit-learn's digits, the docstrings that Python itself reports, and shapes by hand."""

import numpy as np
import pytest
import torch

from htlib.networks.config import NetworkConfig
from htlib.networks.data import ALPHABET, N_SYMBOLS, data_of, docstrings, symbols
from tests.refusals import refused

DIGITS = NetworkConfig(fraction=0.1)
TEXT = NetworkConfig(network="transformer", characters=3000, batch=4)


@pytest.mark.parametrize("config", [DIGITS, TEXT], ids=["digits", "text"])
def test_the_data_are_the_same_twice(config):
    first, second = data_of(config), data_of(config)
    assert first.digest == second.digest
    assert torch.equal(first.inputs, second.inputs)


def test_the_seed_draws_the_split_of_digits_and_a_smaller_part_is_in_a_larger_one():
    larger, other = data_of(DIGITS.replace(fraction=0.5)), data_of(DIGITS.replace(seed=1))
    small = data_of(DIGITS)
    assert [len(small.targets), len(larger.targets), len(small.test_targets)] == [100, 500, 797]
    assert torch.equal(larger.targets[:100], small.targets)
    assert not torch.equal(other.test_targets, small.test_targets)


def test_training_and_test_digits_are_all_digits_once():
    data = data_of(DIGITS.replace(fraction=1.0))
    from sklearn.datasets import load_digits

    classes = torch.cat([data.targets, data.test_targets])
    assert torch.bincount(classes).tolist() == np.bincount(load_digits()["target"]).tolist()


def test_shuffled_labels_are_the_same_labels_in_another_order():
    real, shuffled = data_of(DIGITS), data_of(DIGITS.replace(labels="shuffled"))
    assert torch.equal(real.inputs, shuffled.inputs)
    assert torch.equal(real.test_targets, shuffled.test_targets)
    assert not torch.equal(real.targets, shuffled.targets)
    assert torch.equal(real.targets.sort().values, shuffled.targets.sort().values)


def test_docstrings_are_those_that_python_reports():
    import networkx

    text = docstrings("networkx", 50_000)
    assert len(text) == 50_000
    assert networkx.__doc__.strip()[:200] in text
    assert docstrings("networkx", 10_000) == text[:10_000]


def test_symbols_are_places_in_the_alphabet_and_others_are_one_more():
    places = symbols("a\nZ ~é☃")
    assert "".join(ALPHABET[k] for k in places[:5]) == "a\nZ ~"
    assert places[5:].tolist() == [N_SYMBOLS - 1] * 2


def test_text_for_training_and_test_are_of_different_packages():
    data = data_of(TEXT)
    assert len(data.inputs) == 3000
    assert torch.equal(data.inputs[:1000], symbols(docstrings("networkx", 1000)))
    assert torch.equal(data.test_inputs[:1000], symbols(docstrings("sympy", 1000)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "rnn"}, ["network must be one of mlp, cnn, transformer, minilm", "'rnn'"]),
        ({"fraction": 0.0}, ["fraction must be in (0, 1]", "0.0"]),
        ({"steps": 0}, ["steps must be an integer, at least 1", "0"]),
        ({"lr": -1.0}, ["lr must be positive", "-1.0"]),
        ({"column": "depth"}, ["column = 'depth' has no meaning without a method"]),
        ({"sparsity": 0.5}, ["sparsity must be in (0, 1) with pruned_by", "0.5"]),
        ({"method": "alphadecay"}, ["method = 'alphadecay'", "give weight_decay"]),
        ({"network": "transformer", "batch": 0}, ["batch = 0, the full batch, is for digits"]),
    ],
)
def test_refuses(changes, message):
    with refused(*message):
        NetworkConfig(**changes)


def test_refuses_a_rate_that_is_no_number():
    with refused("lr must be a number", "'a'", error=TypeError):
        NetworkConfig(lr="a")


def test_the_digest_names_what_differs_from_the_defaults():
    assert NetworkConfig().digest() == NetworkConfig(lr=0.1).digest()
    assert NetworkConfig().digest() != NetworkConfig(seed=1).digest()
    assert NetworkConfig().digest() != NetworkConfig(network="transformer").digest()
