"""The networks: small, without dropout and batch normalisation, so that numbers are easy to reproduce."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from htlib.networks.config import NetworkConfig
from htlib.networks.data import N_SYMBOLS

_SEEDED = threading.Lock()  # torch draws weights from one generator, which threads would seed for each other


@dataclass(frozen=True)
class Unit:
    """A weight to which something is allocated: a linear layer, or a convolution, inside the network."""

    name: str  # of its weight in the state dict
    weight: nn.Parameter

    @property
    def matrices(self) -> Tensor:
        """(count, out, in): one matrix, or one for each position of a kernel; a copy in float64."""
        weight = self.weight.detach().double()
        return weight.flatten(2).permute(2, 0, 1) if weight.ndim == 4 else weight[None]


def build(config: NetworkConfig) -> nn.Module:
    """Make the network of a configuration, with weights that its seed draws."""
    with _SEEDED, torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.network == "mlp":
            return _mlp(config.width)
        return (
            _cnn(config.width)
            if config.network == "cnn"
            else Transformer(config.width, config.depth, config.context)
        )


def units_of(network: nn.Module) -> list[Unit]:
    """List the inner weights in order: all matrices except the first, the last and embeddings."""
    weights = [(name, p) for name, p in network.named_parameters() if p.ndim in (2, 4)]
    if isinstance(network, Transformer):
        return [Unit(name, p) for name, p in weights if name.startswith("blocks.")]
    return [Unit(name, p) for name, p in weights[1:-1]]


def _mlp(width: int) -> nn.Sequential:
    sizes = (64, width, width, width // 2, width, width, 10)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return _drawn(nn.Sequential(*layers[:-1]))


def _cnn(width: int) -> nn.Sequential:
    network = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )
    return _drawn(network)


def _drawn(network: nn.Sequential) -> nn.Sequential:
    """Draw normal weights of variance 2 / fan-in (He et al. 2015), so that deep ones train at once."""
    for layer in network:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network


class Block(nn.Module):
    """A block of a transformer, normalised before each half, with four heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, context, width) to the same shape."""
        y = self.before_attention(x)
        heads = (
            part(y).unflatten(-1, (4, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(gelu(self.up(self.before_mlp(x))))


class Transformer(nn.Module):
    """A causal transformer over symbols, with learnt positions."""

    def __init__(self, width: int, depth: int, context: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(N_SYMBOLS, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, N_SYMBOLS, bias=False)

    def forward(self, symbols: Tensor) -> Tensor:
        """Map (batch, context) symbols to (batch, context, n_symbols) logits of the next ones."""
        x = self.embedding(symbols) + self.positions.weight[: symbols.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
