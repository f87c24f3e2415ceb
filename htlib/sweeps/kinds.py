"""The kinds of runs that a sweep computes and a store keeps, and a task: one training of such a kind.

There are the student of the paper and real networks.

A kind is one entry of `KINDS`.  Its configurations have ``seed``, ``training``, ``reading``, ``digest``,
``replace`` and ``to_dict`` as those of `htlib.ExperimentConfig`; its runs have ``config``, ``metrics``,
``refits``, ``weights``, ``overlaps``, ``diverged_at``, ``seconds``, ``read`` and ``save`` as an
`htlib.Trajectory`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from htlib.networks.config import NetworkConfig
from htlib.student.config import ExperimentConfig
from htlib.sweeps.numerics import NETWORKS, RUNS

if TYPE_CHECKING:  # a store is opened, and a preset read, without torch
    from htlib.networks.run import NetworkRun
    from htlib.student.run import Trajectory

_OVERHEAD = 2e6  # operations that take as long as the calls of a step do
_GRADIENTS_OF_SHARPNESS = 80  # gradients that take as long as a measurement of the sharpness

Config: TypeAlias = "ExperimentConfig | NetworkConfig"
Run: TypeAlias = "Trajectory | NetworkRun"


@dataclass(frozen=True)
class Task:
    """One training, with all that is to be read of it.

    Attributes
    ----------
    config : ExperimentConfig or NetworkConfig
    readings : tuple
    device : str
    keep_weights, keep_overlaps : bool
    """

    config: Any  # of one of the kinds of `htlib.sweeps.kinds`
    readings: tuple[Any, ...]
    device: str = "cpu"
    keep_weights: bool = False
    keep_overlaps: bool = False

    def joined(self, other: Task) -> Task:
        """Return the task that reads and keeps all that this one and another one of its training do."""
        return replace(
            self,
            readings=tuple(dict.fromkeys(self.readings + other.readings)),
            keep_weights=self.keep_weights or other.keep_weights,
            keep_overlaps=self.keep_overlaps or other.keep_overlaps,
        )

    @cached_property
    def training(self) -> Config:
        """Equal for tasks that train alike, whatever they read."""
        return self.config.training

    @property
    def start_key(self) -> str:
        """Tasks with the same one share their problem, first gradient and first probe."""
        return kind_of(self.config).start_key(self.config)


def by_training(tasks: Iterable[Task]) -> dict[Config, Task]:
    """Join the tasks that train alike: each training, with all that is asked of it."""
    joined: dict[Config, Task] = {}
    for task in tasks:
        known = joined.get(task.training)
        joined[task.training] = task if known is None else known.joined(task)
    return joined


class Kind(ABC):
    """What a sweep and a store need to know of a kind of runs."""

    config: type[Any]
    code: tuple[str, ...]  # modules whose code decides the numbers

    @abstractmethod
    def load(self, path: Path) -> Any:
        """Read a run from a file that its ``save`` has written."""

    @abstractmethod
    def train(self, task: Task, on_step: Callable[[], None]) -> Any:
        """Compute a task; `on_step` is called after each step, and its exception ends the run."""

    @abstractmethod
    def start_key(self, config: Any) -> str:
        """Return a text that is the same for configurations that share work at their start."""

    @abstractmethod
    def work(self, task: Task) -> float:
        """Estimate the floating-point operations of a task."""

    @abstractmethod
    def bytes(self, config: Any) -> float:
        """Estimate the memory of a run at work."""


class _Student(Kind):
    config, code = ExperimentConfig, RUNS

    def load(self, path: Path) -> Trajectory:
        from htlib.student.run import Trajectory

        return Trajectory.load(path)

    def train(self, task: Task, on_step: Callable[[], None]) -> Trajectory:
        from htlib.student.training import train

        return train(
            task.config,
            device=task.device,
            keep_weights=task.keep_weights,
            keep_overlaps=task.keep_overlaps,
            readings=task.readings,
            progress=False,
            on_step=on_step,
        )

    def start_key(self, config: ExperimentConfig) -> str:
        from htlib.student.start import start_key

        return start_key(config)

    def work(self, task: Task) -> float:
        c: ExperimentConfig = task.config
        probes = 1 + c.steps / c.probe_every
        small, fit = min(c.h, c.d), min(c.n, c.h)
        gradients = c.steps + (_GRADIENTS_OF_SHARPNESS * probes if c.probe_sharpness else 0)
        training = gradients * (4.0 * c.n * c.h * c.d + _OVERHEAD)
        features = 2.0 * (2 * c.n + c.n_test) * c.h * c.d
        # float64 counts twice; a tridiagonalisation runs at a fifth of the speed of a product
        spectrum = 2 * (c.h * c.d * small + 5 * small**3 * (4 if task.keep_overlaps else 1))
        refit = 2 * (c.n * c.h * fit + len(task.readings) * fit**3 / 3)
        return training + probes * (features + spectrum + refit)

    def bytes(self, config: ExperimentConfig) -> float:
        """Data, weights and their float64 copies, features, Gram matrices."""
        c = config
        single = 4.0 * ((2 * c.n + c.n_test) * c.d + 8 * c.h * c.d + 3 * c.n * c.h)
        squares = 3 * min(c.n, c.h) ** 2 + 3 * min(c.h, c.d) ** 2
        return single + 8.0 * (2 * c.h * c.d + (c.n + c.n_test) * c.h + squares)


class _Network(Kind):
    config, code = NetworkConfig, NETWORKS

    def load(self, path: Path) -> NetworkRun:
        from htlib.networks.run import NetworkRun

        return NetworkRun.load(path)

    def train(self, task: Task, on_step: Callable[[], None]) -> NetworkRun:
        from htlib.networks.training import train_network

        return train_network(
            task.config, readings=task.readings, keep_weights=task.keep_weights, on_step=on_step
        )

    def start_key(self, config: NetworkConfig) -> str:
        if config.network == "minilm":
            return f"minilm {config.sentences} {config.seed}"
        return config.network

    def work(self, task: Task) -> float:
        c: NetworkConfig = task.config
        if c.network == "minilm":
            weights, tokens, n_packages = 1.1e7, 16, 7
            read = n_packages * c.sentences * (1 + c.fraction) * (1 + len(task.readings))
            return 2 * weights * tokens * (read + 3 * c.batch * c.steps)
        if c.network == "transformer":
            weights, batch, tested = 12.0 * c.depth * c.width**2, c.batch * c.context, 128 * c.context
        else:
            positions = 1 if c.network == "mlp" else 16  # of an image at which a weight is used
            weights = 5.0 * c.width**2 if c.network == "mlp" else 72.0 * c.width**2
            batch, tested = positions * (c.batch or 1000 * c.fraction), positions * 1800
        readings = 1 + c.steps / c.probe_every + len(task.readings)
        return 2 * weights * (3 * batch * c.steps + tested * readings) + _OVERHEAD * c.steps

    def bytes(self, config: NetworkConfig) -> float:
        """Data, weights and what the optimizer keeps, the activations of a batch: little in all.

        A process keeps a few copies of MiniLM.
        """
        return 1e9 if config.network == "minilm" else 2e8


KINDS: dict[str, Kind] = {"student": _Student(), "network": _Network()}


def kind_of(config: Config) -> Kind:
    """Return the kind of a configuration."""
    return next(kind for kind in KINDS.values() if isinstance(config, kind.config))
