"""The learning problem: teacher direction, three datasets and the initial weights.

Each part draws from its own stream of the seed, row by row.  So two configurations with the same seed share
everything that they can: the first 500 samples of n = 2000 are the samples of n = 500, and a control of the
labels changes only the training targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.student.config import ExperimentConfig
from htlib.student.functions import ScalarFunction, gaussian_mean, get_teacher

Array = NDArray[np.float64]

# Streams of a seed.  Appending one is safe; reordering changes every number of the book.
_STREAMS = (
    "teacher",
    "hidden",
    "readout",
    "train_inputs",
    "train_noise",
    "probe_inputs",
    "probe_noise",
    "test_inputs",
    "test_noise",
    "label_control",
    "update_control",
    "batches",
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples of the teacher.  Tensors and lists are accepted, too, and kept as float64 arrays.

    Attributes
    ----------
    inputs : (n, d) float64 array
    targets : (n,) float64 array

    Raises
    ------
    ValueError
        If the shapes do not fit; the message names them.
    """

    inputs: Array
    targets: Array

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            object.__setattr__(self, name, _as_array(getattr(self, name)))
        if self.inputs.ndim != 2 or 0 in self.inputs.shape:
            raise ValueError(f"inputs must be a non-empty (n, d) array; got shape {self.inputs.shape}")
        if self.targets.shape != self.inputs.shape[:1]:
            raise ValueError(
                f"targets must have shape ({len(self.inputs)},), one per row of inputs; "
                f"got {self.targets.shape}"
            )


@dataclass(frozen=True, eq=False)
class Problem:
    """The data and the weights with which a run starts.  Use `dataclasses.replace` to change it.

    Attributes
    ----------
    teacher_direction : (d,) float64 array
        Unit vector beta, the first of several.
    train, probe, test : Dataset
        Stage 1 trains on `train`, stage 2 fits the readout on `probe`; `test` is fresh.
    hidden_weights : (h, d) float64 array
        W at the start.
    readout_weights : (h,) float64 array
        a, fixed during stage 1 unless ``train_readout`` is set.

    Raises
    ------
    ValueError
        If a shape does not fit `hidden_weights`; the message names it.
    """

    teacher_direction: Array
    train: Dataset
    probe: Dataset
    test: Dataset
    hidden_weights: Array
    readout_weights: Array

    def __post_init__(self) -> None:
        for name in ("teacher_direction", "hidden_weights", "readout_weights"):
            object.__setattr__(self, name, _as_array(getattr(self, name)))
        if self.hidden_weights.ndim != 2 or 0 in self.hidden_weights.shape:
            raise ValueError(
                f"hidden_weights must be a non-empty (h, d) array; got shape {self.hidden_weights.shape}"
            )
        h, d = self.hidden_weights.shape
        shapes = {
            "teacher_direction": (self.teacher_direction.shape, (d,)),
            "readout_weights": (self.readout_weights.shape, (h,)),
            **{
                f"{name}.inputs": (data.inputs.shape, (len(data.inputs), d))
                for name, data in (("train", self.train), ("probe", self.probe), ("test", self.test))
            },
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise ValueError(
                    f"{name} must have shape {expected} to fit hidden_weights {(h, d)}; got {shape}"
                )


def make_problem(config: ExperimentConfig) -> Problem:
    """Draw the problem that a configuration describes.

    y = teacher(<beta, x>) + noise_std xi with x ~ N(0, I_d), |beta| = 1 and xi ~ N(0, 1);
    W and a have standard normal entries (arXiv 2406.04657, released code).  The fields ``inputs``,
    ``readout`` and ``teacher_rank`` of the configuration change x, a and the teacher.

    Parameters
    ----------
    config : ExperimentConfig

    Returns
    -------
    Problem
        The same for the same configuration, on any machine with the same version of NumPy.

    Examples
    --------
    >>> problem = make_problem(ExperimentConfig(n=20, d=5, h=7, n_test=10))
    >>> problem.train.inputs.shape, problem.hidden_weights.shape
    ((20, 5), (7, 5))
    """
    teacher = get_teacher(config.teacher)
    directions = teacher_directions(config)
    train, probe, test = (
        _draw(config, name, size, directions, teacher)
        for name, size in (("train", config.n), ("probe", config.n), ("test", config.n_test))
    )
    if config.labels == "centred":
        mean = gaussian_mean(teacher.value) * teacher_weights(config).sum()
        train, probe, test = (Dataset(s.inputs, s.targets - mean) for s in (train, probe, test))
    else:
        train = Dataset(train.inputs, _control(config, train.targets, teacher))
    return Problem(
        teacher_direction=directions[:, 0],
        train=train,
        probe=probe,
        test=test,
        hidden_weights=stream(config.seed, "hidden").standard_normal((config.h, config.d)),
        readout_weights=draw_readout(config),
    )


def draw_readout(config: ExperimentConfig) -> Array:
    """Draw only the readout weights of `make_problem`, an (h,) array."""
    a = stream(config.seed, "readout").standard_normal(config.h)
    return np.sign(a) if config.readout == "signs" else a


def teacher_directions(config: ExperimentConfig) -> Array:
    """Draw only the directions of the teacher, orthonormal columns of a (d, teacher_rank) array."""
    generator = stream(config.seed, "teacher")
    first = generator.standard_normal(config.d)
    first /= np.linalg.norm(first)
    if config.teacher_rank == 1:
        return first[:, None]
    others = generator.standard_normal((config.d, config.teacher_rank - 1))
    Q = np.linalg.qr(np.column_stack([first, others]))[0]
    Q[:, 0] = first  # up to its sign it is that already
    return Q


def teacher_weights(config: ExperimentConfig) -> Array:
    """Compute the weights of the teacher's directions, a (teacher_rank,) array of norm 1."""
    weights = np.arange(1.0, config.teacher_rank + 1) ** -config.teacher_decay
    return weights / np.linalg.norm(weights)


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random generator for one named part of a run."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(name),)))


def _as_array(x: Tensor | ArrayLike) -> Array:
    return np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)


def _draw(
    config: ExperimentConfig, name: str, size: int, directions: Array, teacher: ScalarFunction
) -> Dataset:
    inputs = stream(config.seed, f"{name}_inputs").standard_normal((size, config.d))
    if name == "train" and config.inputs == "whitened":
        left, _, right = np.linalg.svd(inputs, full_matrices=False)
        inputs = math.sqrt(max(size, config.d)) * left @ right
    noise = config.noise_std * stream(config.seed, f"{name}_noise").standard_normal(size)
    if config.teacher_rank == 1:
        signal = teacher.value(torch.from_numpy(inputs @ directions[:, 0])).numpy()
    else:
        signal = teacher.value(torch.from_numpy(inputs @ directions)).numpy() @ teacher_weights(config)
    return Dataset(inputs, signal + noise)


def _control(config: ExperimentConfig, targets: Array, teacher: ScalarFunction) -> Array:
    generator = stream(config.seed, "label_control")
    if config.labels == "shuffled":
        return generator.permutation(targets)
    if config.labels == "noise":
        mean = gaussian_mean(teacher.value)
        variance = gaussian_mean(lambda z: (teacher.value(z) - mean) ** 2) + config.noise_std**2
        mean *= teacher_weights(config).sum()
        return mean + math.sqrt(variance) * generator.standard_normal(len(targets))
    return targets
