"""Prune a pretrained encoder, or tune experts beside its weights, to tell the packages of sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache, lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from htlib.networks.config import NetworkConfig, Pruning
from htlib.networks.data import Data, data_of
from htlib.networks.methods import allocated, measure_units
from htlib.networks.minilm import WIDTH, Encoder, add_experts, embed, inner_weights, load_encoder
from htlib.networks.models import Unit
from htlib.networks.pruning import prune, sparsities
from htlib.networks.run import LAYER_MEASURES, NetworkRun, assemble
from htlib.networks.schedule import batches_of, rate_of
from htlib.spectra.power_law import hill_alpha
from htlib.spectra.windows import spectrum_windows

Array = NDArray[np.float64]

_SHARPNESS = 20.0  # before training the logits are this times cosines
_POSITIONS = 3  # of windows, along each axis
_KEPT = 4  # pruned encoders, and starts, that a process keeps for its next runs


def prune_encoder(config: NetworkConfig, readings: Iterable[Pruning]) -> NetworkRun:
    """Measure the published encoder, and what each pruning does to it.

    The test loss is one minus the mean cosine between the embeddings of the test sentences and those without
    pruning.  The accuracy is that of the nearest class mean, in the same embedding of the training sentences.
    """
    data, train, test = _start(config.sentences, config.fraction, config.labels, config.seed)
    readings, table = list(readings), _exponents()
    if any(reading.pruned_by == "windows" for reading in readings):
        table = table.assign(windows=_exponents_of_windows())
    found: dict[tuple[float, ...], Array] = {}  # columns may give the same
    refits: dict[Pruning, Array] = {}
    for reading in readings:
        given = tuple(sparsities(table, reading, config.seed).tolist())
        if given not in found:
            encoder = _pruned(given)
            moved = embed(encoder, data.test_inputs)
            means = _class_means(embed(encoder, data.inputs), data.targets)
            distance = 1 - (moved * test).sum(-1).double().mean().item()
            found[given] = np.array([distance, _accuracy(moved @ means.T, data.test_targets)])
        refits[reading] = found[given]
    accuracy = _accuracy(test @ _class_means(train, data.targets).T, data.test_targets)
    metrics = np.array([[0.0, 0.0, accuracy, 0.0]])
    return _run(config, data, [0], metrics, np.ones(len(table)), refits)


def tune_experts(
    config: NetworkConfig, *, keep_weights: bool = False, on_step: Callable[[], None] | None = None
) -> NetworkRun:
    """Train the experts of an allocation, and a classifier that begins as the nearest class mean.

    The losses are cross entropies, the shares numbers of experts, and the kept weights those that are
    trained.
    """
    data, train, test = _start(config.sentences, config.fraction, config.labels, config.seed)
    shares = allocated(_exponents(), "alphalora", config.column, config.seed, total=config.experts)
    encoder, units = load_encoder(), _units()
    counts = {unit.name.split(".")[1]: int(share) for unit, share in zip(units, shares, strict=True)}
    add_experts(encoder, list(counts.values()), config.rank, config.seed)
    classes = _class_means(train, data.targets)
    head = nn.Linear(classes.shape[1], len(classes), bias=False)
    head.weight.data = _SHARPNESS * classes
    network = nn.Sequential(encoder, head)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), weight_decay=config.weight_decay, fused=True)
    steps, metrics = list[int](), list[list[float]]()
    weights: dict[int, dict[str, Array]] = {}

    @torch.no_grad()
    def probe(step: int, lr: float, train: Tensor, test: Tensor) -> None:
        steps.append(step)
        losses = cross_entropy(head(train), data.targets), cross_entropy(head(test), data.test_targets)
        metrics.append([*(loss.item() for loss in losses), _accuracy(head(test), data.test_targets), lr])
        if keep_weights and step in (0, config.steps):
            weights[step] = {name: p.detach().double().numpy().copy() for name, p in trained.items()}

    probe(0, 0.0, train, test)
    rng = np.random.default_rng([config.seed, 2])
    batches = batches_of(len(data.inputs), min(config.batch, len(data.inputs)), rng)
    diverged_at = None
    for step in range(1, config.steps + 1):
        optimizer.param_groups[0]["lr"] = lr = config.lr * rate_of(config, step)
        chosen = next(batches)
        loss = cross_entropy(network(data.inputs[chosen]), data.targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not math.isfinite(loss.item()):
            diverged_at = step
            break
        if step % config.probe_every == 0 or step == config.steps:
            probe(step, lr, embed(encoder, data.inputs), embed(encoder, data.test_inputs))
        if on_step is not None:
            on_step()
    return _run(config, data, steps, np.array(metrics), shares, {}, weights, diverged_at)


def _run(
    config: NetworkConfig,
    data: Data,
    steps: list[int],
    metrics: Array,
    shares: Array,
    refits: dict[Pruning, Array],
    weights: dict[int, dict[str, Array]] | None = None,
    diverged_at: int | None = None,
) -> NetworkRun:
    table = _exponents().assign(share=shares)
    layers = np.tile(table[list(LAYER_MEASURES)].to_numpy(np.float64), (len(steps), 1))
    units = table["name"].tolist(), table["shape"].tolist(), table["n_matrices"].tolist()
    places = np.array(steps, np.int64)
    return assemble(
        config.training, places, metrics, units, layers, data.digest, refits, weights or {}, diverged_at
    )


@lru_cache(maxsize=_KEPT)
def _start(sentences: int, fraction: float, labels: str, seed: int) -> tuple[Data, Tensor, Tensor]:
    """Return the data, and the published embeddings of their sentences for training and test."""
    config = NetworkConfig(
        network="minilm", steps=0, sentences=sentences, fraction=fraction, labels=labels, seed=seed
    )
    data, encoder = data_of(config), load_encoder()
    return data, embed(encoder, data.inputs), embed(encoder, data.test_inputs)


@lru_cache(maxsize=_KEPT)
def _pruned(given: tuple[float, ...]) -> Encoder:
    encoder = load_encoder()
    prune(inner_weights(encoder), np.array(given))
    return encoder


@cache
def _exponents() -> pd.DataFrame:
    """Measure the inner weights: they are frozen, and the same in all runs."""
    return measure_units(_units())


@cache
def _exponents_of_windows() -> Array:
    """Return PL_Alpha_Hill of each inner weight, pooled over windows of half the width (FARMS)."""
    pooled = [spectrum_windows(unit.matrices[0], WIDTH // 2, positions=_POSITIONS) for unit in _units()]
    return np.array([hill_alpha(values) for values in pooled])


def _units() -> list[Unit]:
    return inner_weights(load_encoder())


def _class_means(embedded: Tensor, targets: Tensor) -> Tensor:
    """Return the (n_classes, width) mean directions of the classes."""
    return normalize(
        torch.stack([embedded[targets == k].mean(0) for k in range(int(targets.max()) + 1)]), dim=-1
    )


def _accuracy(scores: Tensor, targets: Tensor) -> float:
    return (scores.argmax(-1) == targets).double().mean().item()
