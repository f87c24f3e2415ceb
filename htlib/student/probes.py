"""Metrics of one state of the student, sharing every factorisation.

One eigendecomposition serves ESD, alphas, ranks, outliers and alignment; one Gram matrix of the
features serves the ridge refits and the kernel-target alignment.

A metric is an entry of `METRICS`: its value, and how figures show it.  Those that read the features depend
on a `htlib.student.config.Reading`, of which one training can have many.
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

_FEW = 3  # ridge parameters of a feature scale: a Cholesky factorisation of each, and no GCV scores

Sample = tuple[Tensor, Tensor]  # inputs (n, d) and targets (n,), in the precision and on the device of a run


class Refit(NamedTuple):
    """What the features of a state are worth, as one reading sees them.

    Attributes
    ----------
    ridge_train_loss, test_loss : float
        Mean squared error of the refit readout on the probe set it was fitted to, and on the
        test set.  With a trained readout there is no refit: the student's own error on the two.
    kta : float
        Kernel-target alignment on the probe set; NaN if every feature or every target is zero.
    gcv : float
        Generalised cross-validation score of the ridge parameter, from the probe set.  NaN where a
        feature scale was read at three ridge parameters or fewer, which spares its factorisation.
    """

    ridge_train_loss: float
    test_loss: float
    kta: float
    gcv: float


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One state of the student, and what its metrics have in common, each computed once.

    Attributes
    ----------
    train_loss : float
        Mean squared error of the student itself on the training set (stage 1).
    weights : (h, d) tensor
        W.
    trained_readout : (h,) tensor or None
        Used, at the scale of training, in place of a ridge refit.
    system : SingularSystem
        W factorised.
    probe, test : pair of tensors
        Inputs (n, d) and targets (n,) that stage 2 fits and is tested on.
    activation : ScalarFunction
    teacher_direction : (d,) tensor
    """

    train_loss: float
    weights: Tensor
    trained_readout: Tensor | None
    system: SingularSystem
    probe: Sample
    test: Sample
    activation: ScalarFunction
    teacher_direction: Tensor
    _refits: dict[tuple[Reading, ...], dict[Reading, Refit]] = field(
        default_factory=dict[tuple[Reading, ...], dict[Reading, Refit]], init=False, repr=False
    )

    def metrics(self, refit: Refit) -> dict[str, float]:
        """A value for each of `METRICS`, given what one reading sees."""
        return {name: metric.value(self, refit) for name, metric in METRICS.items()}

    def refits(self, *readings: Reading) -> dict[Reading, Refit]:
        """Stage 2 for some readings; those of one feature scale share its Gram matrix.

        The same readings have the same numbers, whatever was read of this state before.
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
        """Numbers of the spectrum of W."""
        return spectrum_measures(self.system.eigenvalues)

    @cached_property
    def alignment(self) -> float:
        """Absolute cosine between the leading right singular vector of W and the teacher."""
        return teacher_alignment(self.system.right(1)[:, 0], self.teacher_direction)

    @cached_property
    def n_outliers(self) -> int:
        """Eigenvalues above the 99 % Tracy-Widom quantile of the Gaussian start."""
        return int((self.system.eigenvalues > largest_eigenvalue_quantile(*self.weights.shape)).sum())

    def _refits_at(self, scale: str, lambdas: list[float]) -> list[Refit]:
        """Stage 2 at one feature scale, a refit for each ridge parameter."""
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
            path = readout.ridge_path(F, y_fit, lambdas, gram_matrix=gram)
            fresh = (F_test @ path.coefficients - y_fresh[:, None]).square().mean(dim=0).tolist()
            rows = zip(path.train_loss.tolist(), fresh, path.gcv.tolist(), strict=True)
            return [Refit(own, test, kta, gcv) for own, test, gcv in rows]
        fits = [readout.ridge(F, y_fit, value, gram_matrix=gram) for value in lambdas]
        return [
            Refit(
                readout.mean_squared_error(F, y_fit, a_hat),
                readout.mean_squared_error(F_test, y_fresh, a_hat),
                kta,
                math.nan,
            )
            for a_hat in fits
        ]


def probe_features(W: Tensor, X: Tensor, activation: ScalarFunction, feature_scale: str) -> Tensor:
    """Features of stage 2, sigma(W x / scale) / sqrt(h), as an (n, h) float64 tensor."""
    h, d = W.shape
    input_scale = {"paper": 1 / math.sqrt(d), "released-code": 1 / d}[feature_scale]
    return network.features(W, X, activation, input_scale).double().div_(math.sqrt(h))


@dataclass(frozen=True)
class Metric:
    """A column of `htlib.Trajectory.metrics`.

    Attributes
    ----------
    name : str
    label : str
        Axis label of figures, as Matplotlib takes it.
    scale : {"linear", "log"}
        Axis that suits it.
    reads : {"training", "features", "spectrum"}
        Those that read the features have a value per reading.
    value : callable
        Takes a Probe and the Refit of a reading.
    """

    name: str
    label: str
    scale: str
    reads: str
    value: Callable[[Probe, Refit], float]


def _participation_ratio(probe: Probe, _: Refit) -> float:
    """(sum lambda)^2 / sum lambda^2: the number of equal eigenvalues with the same spread."""
    values = probe.system.eigenvalues / probe.system.eigenvalues[-1]  # no square overflows
    return float(values.sum() ** 2 / (values**2).sum())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("train_loss", "training loss (stage 1)", "log", "training", lambda p, _: p.train_loss),
        Metric(
            "ridge_train_loss",
            "refit loss, probe set",
            "linear",
            "features",
            lambda _, refit: refit.ridge_train_loss,
        ),
        Metric(
            "test_loss",
            "test loss after refit",
            "linear",
            "features",
            lambda _, refit: refit.test_loss,
        ),
        Metric("kta", "kernel-target alignment", "linear", "features", lambda _, refit: refit.kta),
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
            "ks_distance",
            "KS distance of the fit",
            "linear",
            "spectrum",
            lambda p, _: p.spectrum.ks_distance,
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
