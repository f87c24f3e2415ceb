"""Metrics of one state of the student, which share every factorisation.

One eigendecomposition serves the ESD, the alphas, ranks, outliers and the alignment; one Gram matrix of the
features serves the ridge refits and the kernel-target alignment.

A metric is an entry of `METRICS`: its value, and how figures show it.  Metrics of the features depend on a
`htlib.student.config.Reading`; one training can have many readings.  Metrics on request (`ON_REQUEST`) are
those of the training itself and cost more; a field of the configuration asks for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from htlib.spectra import linalg
from htlib.spectra.measures import SpectrumMeasures, spectrum_measures
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.spectra.vectors import SingularSystem
from htlib.student import network, readout
from htlib.student.config import Reading
from htlib.student.functions import ScalarFunction
from htlib.student.readout import kernel_target_alignment, teacher_alignment

_FEW = 3  # up to so many ridge parameters: a Cholesky factorisation of each and no GCV scores

Sample = tuple[Tensor, Tensor]  # inputs (n, d) and targets (n,), in the precision and on the device of a run


class Refit(NamedTuple):
    """The results of stage 2 for one state and one reading.

    With a trained readout there is no refit: the losses are then the student's own.
    """

    ridge_train_loss: float  # mean squared error on the probe set, to which the readout is fitted
    test_loss: float  # mean squared error on the test set
    kta: float  # kernel-target alignment on the probe set; NaN if every feature or every target is zero
    gcv: float  # generalised cross-validation on the probe set; NaN for `_FEW` ridge parameters or fewer


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One state of the student, and everything that its metrics share, each computed once."""

    train_loss: float  # mean squared error of the student itself on the training set (stage 1)
    weights: Tensor  # W, (h, d)
    trained_readout: Tensor | None  # (h,), used at the scale of training in place of a ridge refit
    system: SingularSystem  # W factorised
    probe: Sample  # stage 2 is fitted to it
    test: Sample
    activation: ScalarFunction
    teacher_direction: Tensor  # (d,)
    _refits: dict[tuple[Reading, ...], dict[Reading, Refit]] = field(
        default_factory=dict[tuple[Reading, ...], dict[Reading, Refit]], init=False, repr=False
    )

    def metrics(self, refit: Refit) -> dict[str, float]:
        """Compute a value for each of `METRICS`, given the refit of one reading."""
        return {name: metric.value(self, refit) for name, metric in METRICS.items()}

    def refits(self, *readings: Reading) -> dict[Reading, Refit]:
        """Compute stage 2 for some readings; those of one feature scale share its Gram matrix.

        The same readings give the same numbers, whichever readings of this state were computed before.
        """
        if readings not in self._refits:
            lambdas: dict[str, list[float]] = {}
            for scale, value in readings:
                lambdas.setdefault(scale, []).append(value)
            found = {
                Reading(scale, value): refit
                for scale, values in lambdas.items()
                for value, refit in zip(values, self._refits_at(scale, values), strict=True)
            }
            self._refits[readings] = {reading: found[reading] for reading in readings}
        return self._refits[readings]

    @cached_property
    def spectrum(self) -> SpectrumMeasures:
        """The measures of the spectrum of W."""
        return spectrum_measures(self.system.eigenvalues)

    @cached_property
    def alignment(self) -> float:
        """The absolute cosine between the leading right singular vector of W and the teacher."""
        return teacher_alignment(self.system.right(1)[:, 0], self.teacher_direction)

    @cached_property
    def n_outliers(self) -> int:
        """The number of eigenvalues above the 99 % Tracy-Widom quantile of the Gaussian start."""
        return int((self.system.eigenvalues > largest_eigenvalue_quantile(*self.weights.shape)).sum())

    def _refits_at(self, scale: str, lambdas: list[float]) -> list[Refit]:
        """Compute stage 2 at one feature scale, one refit for each ridge parameter."""
        W, (X, y), (X_test, y_test) = self.weights, self.probe, self.test
        F, y_fit = probe_features(W, X, self.activation, scale), y.double()
        gram = linalg.gram(F)
        if not torch.isfinite(gram.sum()):
            return [Refit(math.inf, math.inf, math.nan, math.nan)] * len(lambdas)
        # NaN where all features (dead relu units) or all targets are zero
        kta = kernel_target_alignment(F, y_fit, gram=gram) if gram.any() and y_fit.any() else math.nan
        if self.trained_readout is not None:
            own, fresh = (
                network.loss(W, self.trained_readout, *sample, self.activation)
                for sample in (self.probe, self.test)
            )
            return [Refit(own, fresh, kta, math.nan)] * len(lambdas)
        F_test, y_fresh = probe_features(W, X_test, self.activation, scale), y_test.double()
        if len(lambdas) > _FEW:
            coefficients, scores = readout.ridge_path(F, y_fit, lambdas, gram_matrix=gram)
            fits, gcv = list(coefficients.T.contiguous()), scores.tolist()
        else:
            fits = [readout.ridge(F, y_fit, value, gram_matrix=gram) for value in lambdas]
            gcv = [math.nan] * len(lambdas)
        # one product for each, so that a few readings have the last digits that each has by itself
        losses = (
            [(Z @ fit - targets).square().mean().item() for fit in fits]
            for Z, targets in ((F, y_fit), (F_test, y_fresh))
        )
        return [Refit(own, fresh, kta, score) for own, fresh, score in zip(*losses, gcv, strict=True)]


def probe_features(W: Tensor, X: Tensor, activation: ScalarFunction, feature_scale: str) -> Tensor:
    """Compute the features of stage 2, sigma(W x / scale) / sqrt(h), as an (n, h) float64 tensor."""
    h, d = W.shape
    input_scale = {"paper": 1 / math.sqrt(d), "released-code": 1 / d}[feature_scale]
    return network.features(W, X, activation, input_scale).double().div_(math.sqrt(h))


@dataclass(frozen=True)
class Look:
    """How figures show a column of `htlib.Trajectory.metrics`."""

    name: str
    label: str  # of an axis, as Matplotlib takes it
    scale: str  # of an axis: "linear" or "log"


@dataclass(frozen=True)
class Metric(Look):
    """A column of `htlib.Trajectory.metrics`."""

    reads: str  # "training", "features" (such a metric has one value per reading) or "spectrum"
    value: Callable[[Probe, Refit], float]


def _participation_ratio(probe: Probe, _: Refit) -> float:
    """Compute (sum lambda)^2 / sum lambda^2: the number of equal eigenvalues with the same spread."""
    values = probe.system.eigenvalues / probe.system.eigenvalues[-1]  # so that no square overflows
    return float(values.sum() ** 2 / (values**2).sum())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("train_loss", "training loss (stage 1)", "log", "training", lambda p, _: p.train_loss),
        Metric(
            "ridge_train_loss", "refit loss, probe set", "linear", "features", lambda _, r: r.ridge_train_loss
        ),
        Metric("test_loss", "test loss after refit", "linear", "features", lambda _, r: r.test_loss),
        Metric("kta", "kernel-target alignment", "linear", "features", lambda _, r: r.kta),
        Metric(
            "alignment",
            r"alignment $|\langle v_1, \beta\rangle|$",
            "linear",
            "spectrum",
            lambda p, _: p.alignment,
        ),
        Metric("alpha_hill", "PL_Alpha_Hill", "linear", "spectrum", lambda p, _: p.spectrum.alpha_hill),
        Metric("alpha_ks", "PL_Alpha_KS", "log", "spectrum", lambda p, _: p.spectrum.alpha_ks),
        Metric(
            "ks_distance", "KS distance of the fit", "linear", "spectrum", lambda p, _: p.spectrum.ks_distance
        ),
        Metric("ks_xmin", r"KS threshold $x_{\min}$", "log", "spectrum", lambda p, _: p.spectrum.ks_xmin),
        Metric("stable_rank", "stable rank", "linear", "spectrum", lambda p, _: p.spectrum.stable_rank),
        Metric(
            "spectral_norm", r"spectral norm $s_1$", "log", "spectrum", lambda p, _: p.spectrum.spectral_norm
        ),
        Metric(
            "n_outliers", "eigenvalues beyond the noise edge", "linear", "spectrum", lambda p, _: p.n_outliers
        ),
        Metric("participation_ratio", "participation ratio", "linear", "spectrum", _participation_ratio),
    )
}
ON_REQUEST: dict[str, Look] = {"sharpness": Look("sharpness", "sharpness over the edge of stability", "log")}
SHOWN: dict[str, Look] = {**METRICS, **ON_REQUEST}
