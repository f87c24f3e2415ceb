"""Train a real network, with rates or weight decay allocated to its layers, and measure it on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from htlib.models.allocation import PRESETS
from htlib.networks.config import NetworkConfig, Pruning
from htlib.networks.data import Data, data_of
from htlib.networks.methods import allocated, measure_units
from htlib.networks.models import Transformer, Unit, build, units_of
from htlib.networks.pruning import pruned, sparsities
from htlib.networks.run import LAYER_MEASURES, NetworkRun, assemble
from htlib.networks.schedule import batches_of, rate_of
from htlib.networks.tuning import prune_encoder, tune_experts

Array = NDArray[np.float64]

_WINDOWS = 128  # of text, for a loss
_AT_ONCE = 64  # windows in one forward pass


def train_network(
    config: NetworkConfig,
    *,
    readings: Iterable[Pruning] = (),
    keep_weights: bool = False,
    on_step: Callable[[], None] | None = None,
) -> NetworkRun:
    """Train a network and measure it; MiniLM, which is trained already, is pruned or fine-tuned.

    Parameters
    ----------
    config : NetworkConfig
    readings : iterable of Pruning
        How the trained network is pruned, each time anew; that of the config is added.
    keep_weights : bool
        Keep the weights of the start and the end.
    on_step : callable, optional
        Called after each step; an exception ends the run.

    Returns
    -------
    NetworkRun
        The same numbers for the same config on the same machine.

    Examples
    --------
    >>> config = NetworkConfig(width=32, steps=20, probe_every=20)
    >>> run = train_network(config)
    >>> bool(run.metrics.test_loss[20] < run.metrics.test_loss[0])
    True
    """
    if config.network == "minilm":
        if config.steps:
            return tune_experts(config, keep_weights=keep_weights, on_step=on_step)
        return prune_encoder(config, _wanted(config, readings)).read(*config.reading)
    data, network = data_of(config), build(config)
    units = units_of(network)
    scales = PRESETS[config.method].scales if config.method != "none" else ""
    optimizer = _optimizer(config, network, units if scales else [])
    shares = np.ones(len(units))
    steps, metrics, layers = list[int](), list[list[float]](), list[pd.DataFrame]()
    weights: dict[int, dict[str, Array]] = {}
    batches = _batches(config, data)

    def probe(step: int, lr: float) -> None:
        steps.append(step)
        train_loss, _ = _loss(network, data.inputs, data.targets)
        metrics.append([train_loss, *_loss(network, data.test_inputs, data.test_targets), lr])
        layers.append(measure_units(units).assign(share=shares))
        if keep_weights and step in (0, config.steps):
            weights[step] = {
                name: p.detach().double().numpy().copy() for name, p in network.named_parameters()
            }

    probe(0, 0.0)
    diverged_at = None
    for step in range(1, config.steps + 1):
        if scales and (step - 1) % config.every == 0:
            table = layers[-1] if steps[-1] == step - 1 else measure_units(units)
            shares = allocated(table, config.method, config.column, config.seed)
        lr = config.lr * rate_of(config, step)
        for group, share in zip(optimizer.param_groups, [*shares, 1.0] if scales else [1.0], strict=True):
            group["lr"] = lr * (share if scales == "lr" else 1.0)
            group["weight_decay"] = config.weight_decay * (share if scales == "weight_decay" else 1.0)
        inputs, targets = next(batches)
        loss = _cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not math.isfinite(loss.item()):
            diverged_at = step
            break
        if step % config.probe_every == 0 or step == config.steps:
            probe(step, lr)
        if on_step is not None:
            on_step()
    refits = {
        r: np.array(
            _pruned(network, units, data, layers[-1], r, config) if diverged_at is None else [math.nan] * 2
        )
        for r in _wanted(config, readings)
    }
    start = layers[0]
    run = assemble(
        config.training,
        np.array(steps, np.int64),
        np.array(metrics),
        (start["name"].tolist(), start["shape"].tolist(), start["n_matrices"].tolist()),
        pd.concat(layers)[list(LAYER_MEASURES)].to_numpy(np.float64),
        data.digest,
        refits,
        weights,
        diverged_at,
    )
    return run.read(*config.reading)


def _wanted(config: NetworkConfig, readings: Iterable[Pruning]) -> list[Pruning]:
    return [r for r in dict.fromkeys([*readings, config.reading]) if r != Pruning("none", 0.0)]


def _pruned(
    network: nn.Module,
    units: Sequence[Unit],
    data: Data,
    table: pd.DataFrame,
    reading: Pruning,
    config: NetworkConfig,
) -> list[float]:
    """Return test loss and accuracy of the pruned network, which is itself as before afterwards."""
    with pruned(units, sparsities(table, reading, config.seed)):
        return list(_loss(network, data.test_inputs, data.test_targets))


def _optimizer(config: NetworkConfig, network: nn.Module, units: Sequence[Unit]) -> torch.optim.Optimizer:
    """Make the optimizer, with a group for each of these units and a last one for everything else.

    The networks are so small that a step in pieces takes as long as the gradient: hence ``fused``.
    """
    inner = {id(unit.weight) for unit in units}
    groups: list[dict[str, Any]] = [{"params": [unit.weight]} for unit in units]
    groups.append({"params": [p for p in network.parameters() if id(p) not in inner]})
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def _batches(config: NetworkConfig, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end; an epoch of digits goes through all samples in a new order."""
    rng = np.random.default_rng([config.seed, 2])
    n = len(data.inputs)
    while config.network == "transformer":
        starts = rng.integers(0, n - config.context - 1, config.batch)
        yield _windows(data.inputs, starts, config.context)
    while not 0 < config.batch < n:
        yield data.inputs, data.targets
    for chosen in batches_of(n, config.batch, rng):
        yield data.inputs[chosen], data.targets[chosen]


def _windows(text: Tensor, starts: NDArray[np.int64], context: int) -> tuple[Tensor, Tensor]:
    """Return (n, context) symbols from each start on, and the symbols that follow them."""
    places = torch.from_numpy(starts)[:, None] + torch.arange(context)
    return text[places], text[places + 1]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


@torch.no_grad()
def _loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return mean loss and accuracy; of text, on windows that are spread evenly over it."""
    if not isinstance(network, Transformer):
        logits = network(inputs)
        return _cross_entropy(logits, targets).item(), (logits.argmax(-1) == targets).double().mean().item()
    context = network.positions.num_embeddings
    count = min(_WINDOWS, (len(inputs) - 1) // context)
    starts = np.linspace(0, len(inputs) - context - 1, count).astype(np.int64)
    losses, hits = list[float](), list[float]()
    for some in np.array_split(starts, math.ceil(count / _AT_ONCE)):
        windows, following = _windows(inputs, some, context)
        logits = network(windows)
        losses.append(_cross_entropy(logits, following).item() * len(some))
        hits.append((logits.argmax(-1) == following).double().mean().item() * len(some))
    return sum(losses) / count, sum(hits) / count
