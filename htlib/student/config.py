"""The description of an experiment, checked when it is made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
import re
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

_DEFAULTS_VERSION = 1  # add one when a default changes: digests leave out fields that have their default
_LARGEST_LR = 1e36  # optimizers multiply the rate by up to ten and must not overflow

# The registries in `htlib.student.optimizers` and `htlib.student.functions` need torch, whose import takes
# seconds.  A configuration is made and checked without it; tests compare these names with the registries.
HYPERPARAMETERS: dict[str, tuple[str, ...]] = {  # optimizer -> the fields that it reads besides lr
    "adam": ("weight_decay", "adam_eps"),
    "gd": ("weight_decay", "momentum", "nesterov"),
    "signsgd": ("weight_decay", "momentum"),
    "muon": ("weight_decay", "momentum", "nesterov"),
}
MATRICES_ONLY = frozenset({"muon"})  # optimizers that cannot update the readout, a vector
TEACHERS = ("softplus", "relu", "identity", "hermite2", "hermite3")
_HERMITE = re.compile(r"hermite[1-9]\d?")

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("tanh", "relu", "erf", "gelu", "arctan"),
    "optimizer": tuple(HYPERPARAMETERS),
    "dtype": ("float32", "float64"),
    "feature_scale": ("paper", "released-code"),
    "labels": ("real", "shuffled", "noise", "centred"),
    "update": ("full", "no-top", "shuffled"),
    "inputs": ("gaussian", "whitened"),
    "readout": ("gaussian", "signs"),
}
SHARPNESS_OF = ("adam", "gd")  # optimizers whose edge of stability is known


class Reading(NamedTuple):
    """The settings with which stage 2 reads the features of a state; training does not depend on them."""

    feature_scale: str
    ridge_lambda: float


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that decides the numbers of one run.

    The defaults are the sizes of arXiv 2406.04657, except ``n_test``, which is 200 in its code: 200 test
    points leave a spread of .08 in the test loss, which is larger than most effects.

    Parameters
    ----------
    n : int
        Number of training samples.  The probe set has n samples, too.
    d : int
        Input dimension.
    h : int
        Hidden width.
    n_test : int
        Number of fresh samples for the test loss.
    noise_std : float
        Standard deviation of the label noise.
    teacher : str
        Link function of the teacher: softplus, relu, identity, or hermite1 to hermite99.
    activation : {"tanh", "relu", "erf", "gelu", "arctan"}
        Activation of the student.
    optimizer : {"adam", "gd", "signsgd", "muon"}
        Full-batch update of the first layer.
    lr : float
        Learning rate (eta).
    steps : int
        Number of full-batch updates.
    momentum : float
        Momentum of "gd", "signsgd" and "muon", below 1; for "gd" as in torch.optim.SGD.
    nesterov : bool
        Nesterov's form of the momentum of "gd" and "muon".
    weight_decay : float
        Weight decay: "muon" keeps it apart from the gradient, the others add weight_decay W to it.
    adam_eps : float
        Added to the denominator of Adam's update.
    dtype : {"float32", "float64"}
        Precision of training.  Measures are taken in float64 where they need it.
    lr_decay : float or None
        Gamma of StepLR: the rate is multiplied by it after every step.  None keeps the rate constant.
    normalize_weights : bool
        Reset the Frobenius norm of W to sqrt(h d) before every step.  Measures are of the weights after a
        step, before the next reset.
    train_readout : bool
        Train both layers.  All losses are then those of the network itself, without a ridge refit; its kernel
        is still that of the hidden layer.
    ridge_lambda : float
        Ridge parameter of the refitted readout: the penalty is ``ridge_lambda * n / h``.  Together with
        ``feature_scale`` it makes a reading of the run; one training can have many readings.
    feature_scale : {"paper", "released-code"}
        Pre-activations that the probes see: ``W x / sqrt(d)``, or ``W x / d``, which the released code
        of the paper computes.  Training always uses ``1 / sqrt(d)``.
    labels : {"real", "shuffled", "noise", "centred"}
        Negative controls.  "shuffled" permutes the training targets; "noise" replaces them by Gaussians
        of the same mean and variance; both leave the probe and test sets real.  "centred" subtracts the
        teacher's population mean from all three sets.
    update : {"full", "no-top", "shuffled"}
        Controls on every update of W: "no-top" removes its leading rank-one part, "shuffled" permutes
        its entries.
    inputs : {"gaussian", "whitened"}
        "whitened" replaces the training inputs X by the nearest matrix with equal singular values, so that
        X^T X = n I (for n < d, X X^T = d I); the targets follow from them.
    readout : {"gaussian", "signs"}
        "signs" replaces the readout a of the start by its signs, so that all |a_i| = 1.
    teacher_rank : int
        Number r of the teacher's directions: y is a sum of r teachers along orthonormal directions, with
        weights proportional to k^-teacher_decay and squares that sum to 1.  Measures of the alignment are
        with the first.
    teacher_decay : float
        Exponent of these weights.
    batch_size : int or None
        Number of training samples in a gradient: every epoch goes through all of them in a new random order.
        None is the full batch.
    probe_every : int
        Number of steps from one measurement to the next; the start and the last step are always measured.
    probe_sharpness : bool
        Measure the metric ``sharpness``, too: the rate times the largest eigenvalue of the Hessian in W, over
        the value at which "gd" or "adam" becomes unstable (for "adam" the Hessian divided by the denominator
        of its update).  A measurement costs some twenty gradients.
    seed : int
        Seed of all random numbers of the run.

    Raises
    ------
    TypeError, ValueError
        If a value is not allowed; the message names the argument, its value and what is allowed.

    Examples
    --------
    >>> ExperimentConfig(lr=0.1).replace(steps=1).lr
    0.1
    """

    n: int = 2000
    d: int = 1000
    h: int = 1500
    n_test: int = 2000
    noise_std: float = 0.3
    teacher: str = "softplus"
    activation: str = "tanh"
    optimizer: str = "adam"
    lr: float = 1.0
    steps: int = 10
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    adam_eps: float = 1e-8
    dtype: str = "float32"
    lr_decay: float | None = None
    normalize_weights: bool = False
    train_readout: bool = False
    ridge_lambda: float = 0.01
    feature_scale: str = "paper"
    labels: str = "real"
    update: str = "full"
    inputs: str = "gaussian"
    readout: str = "gaussian"
    teacher_rank: int = 1
    teacher_decay: float = 1.0
    batch_size: int | None = None
    probe_every: int = 1
    probe_sharpness: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n", "d", "h", "n_test", "teacher_rank", "probe_every"):
            self._set(name, _integer(name, getattr(self, name), minimum=1))
        for name in ("steps", "seed"):
            self._set(name, _integer(name, getattr(self, name), minimum=0))
        for name in (
            "noise_std",
            "lr",
            "momentum",
            "weight_decay",
            "adam_eps",
            "ridge_lambda",
            "teacher_decay",
        ):
            self._set(name, _number(name, getattr(self, name)))
        for name in ("nesterov", "normalize_weights", "train_readout", "probe_sharpness"):
            value = getattr(self, name)
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name} must be True or False; got {value!r}")
            self._set(name, bool(value))
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        if self.teacher not in TEACHERS and not _HERMITE.fullmatch(str(self.teacher)):
            raise ValueError(
                f"teacher must be one of {', '.join(TEACHERS)}, or hermite1 to hermite99; "
                f"got {self.teacher!r}"
            )
        if self.lr_decay is not None:
            self._set("lr_decay", _number("lr_decay", self.lr_decay))
            if not 0 < self.lr_decay <= 1:
                raise ValueError(f"lr_decay must be None or in (0, 1]; got {self.lr_decay}")
        if not self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1); got {self.momentum}")
        self._check_optimizer()
        self._check_teacher()
        if self.batch_size is not None:
            self._set("batch_size", _integer("batch_size", self.batch_size, minimum=1))
            if not self.batch_size < self.n:
                raise ValueError(
                    f"batch_size must be below n = {self.n}, or None for all samples; got {self.batch_size}"
                )
        if self.dtype == "float32" and self.lr > _LARGEST_LR:
            raise ValueError(f"lr must be at most {_LARGEST_LR:g} in float32; got {self.lr}")
        if not self.ridge_lambda > 0:
            raise ValueError(f"ridge_lambda must be positive; got {self.ridge_lambda}")

    def replace(self, **changes: Any) -> ExperimentConfig:
        """Return a copy with some fields changed, checked again; an unknown field is a TypeError."""
        unknown = sorted(changes.keys() - self.__dataclass_fields__.keys())
        if unknown:
            raise TypeError(
                f"unknown field {unknown[0]!r}; ExperimentConfig has "
                f"{', '.join(f.name for f in dataclasses.fields(self))}"
            )
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values, in the order of the signature."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def reading(self) -> Reading:
        """The reading that this configuration names; a run can have others, too."""
        return Reading(self.feature_scale, self.ridge_lambda)

    @property
    def training(self) -> ExperimentConfig:
        """This configuration with the default reading: the same for all that share one training."""
        default = Reading(ExperimentConfig.feature_scale, ExperimentConfig.ridge_lambda)
        return self if self.reading == default else self.replace(**default._asdict())

    def digest(self) -> str:
        """Return 16 hexadecimal digits that name this configuration, the same on every machine.

        Only fields that differ from their defaults count, so that a new field does not change old digests.
        """
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        changed = {name: value for name, value in self.to_dict().items() if value != fields[name]}
        canonical = json.dumps([_DEFAULTS_VERSION, changed], sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def _check_optimizer(self) -> None:
        """Refuse settings that the optimizer would not read."""
        name = f"optimizer={self.optimizer!r}"
        for field in sorted({field for fields in HYPERPARAMETERS.values() for field in fields}):
            value, default = getattr(self, field), getattr(type(self), field)
            if value != default and field not in HYPERPARAMETERS[self.optimizer]:
                readers = [other for other, fields in HYPERPARAMETERS.items() if field in fields]
                raise ValueError(
                    f"{field} = {value} has no meaning for {name}; "
                    f"use {field}={default} or one of {', '.join(readers)}"
                )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov = True has no meaning for momentum = 0; use a momentum above 0")
        if self.train_readout and self.optimizer in MATRICES_ONLY:
            raise ValueError(
                f"train_readout = True has no meaning for {name}, which updates matrices and not the "
                "readout, a vector; use train_readout=False or another optimizer"
            )
        if self.probe_sharpness and self.optimizer not in SHARPNESS_OF:
            raise ValueError(
                f"probe_sharpness = True has no meaning for {name}, whose edge of stability is not known; "
                f"use probe_sharpness=False or one of {', '.join(SHARPNESS_OF)}"
            )

    def _check_teacher(self) -> None:
        if self.teacher_rank > self.d:
            raise ValueError(f"teacher_rank must be at most d = {self.d}; got {self.teacher_rank}")
        if self.teacher_rank == 1 and self.teacher_decay != type(self).teacher_decay:
            raise ValueError(
                f"teacher_decay = {self.teacher_decay} has no meaning for teacher_rank = 1; "
                f"use teacher_decay={type(self).teacher_decay} or a larger rank"
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def for_profile(profile: str, *, fast: T, paper: T) -> T:
    """Return the value for a profile of the book; any other profile is a ValueError.

    "fast" takes minutes; "paper" is what the published book shows.
    """
    if profile == "fast":
        return fast
    if profile == "paper":
        return paper
    raise ValueError(f"profile must be 'fast' or 'paper'; got {profile!r}")


def _integer(name: str, value: Any, minimum: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, at least {minimum}; got {value!r}") from None
    if integer < minimum:
        raise ValueError(f"{name} must be an integer, at least {minimum}; got {integer}")
    return integer


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number, zero or more; got {value!r}") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name} must be finite and not negative; got {number}")
    return number + 0.0  # -0.0 and 0.0 are the same configuration
