"""All measures of one snapshot of the weights, sharing every factorisation.

One eigendecomposition serves ESD, alphas, ranks, outliers and alignment; one Gram matrix of the
features serves the ridge refit and the kernel-target alignment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from htlib.spectra import linalg
from htlib.spectra.eigenvalues import stable_rank
from htlib.spectra.power_law import fit_power_law, hill_alpha
from htlib.spectra.vectors import SingularSystem
from htlib.student import network, readout
from htlib.student.alignment import kernel_target_alignment, teacher_alignment
from htlib.student.functions import ScalarFunction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """A dataset on the device of the run: inputs (n, d) and targets (n,)."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class StageTwo:
    """What the features of a snapshot are worth.

    Attributes
    ----------
    ridge_train_loss, test_loss : float
        Mean squared error of the refit readout on the probe set it was fitted to, and on the
        test set.  With a trained readout there is no refit: the student's own error on the two.
    kta : float
        Kernel-target alignment on the probe set; NaN if every feature or every target is zero.
    """

    ridge_train_loss: float
    test_loss: float
    kta: float


@dataclass(frozen=True)
class SpectralMeasures:
    """What one factorisation of the weights gives.

    Attributes
    ----------
    alignment : float
        Absolute cosine between the leading right singular vector of W and the teacher.
    alpha_hill, alpha_ks, ks_distance, ks_xmin : float
        `hill_alpha` and the exact KS fit of the spectrum; NaN where W has fewer than three
        positive singular values, or they are all equal.
    stable_rank, spectral_norm : float
        |W|_F^2 / |W|_2^2 and |W|_2.
    n_outliers : int
        Eigenvalues above the 99 % Tracy-Widom quantile of the Gaussian start.
    """

    alignment: float
    alpha_hill: float
    alpha_ks: float
    ks_distance: float
    ks_xmin: float
    stable_rank: float
    spectral_norm: float
    n_outliers: int


# Columns of Trajectory.metrics.  train_loss is the mean squared error of the student itself on
# the training set (stage 1).
METRICS = ("train_loss", *(f.name for c in (StageTwo, SpectralMeasures) for f in fields(c)))


class Reading(NamedTuple):
    """How stage 2 looks at a snapshot; training knows nothing of it."""

    feature_scale: str
    ridge_lambda: float


def stage_two(
    W: Tensor,
    probe: Samples,
    test: Samples,
    *,
    activation: ScalarFunction,
    feature_scale: str,
    ridge_lambda: float,
    trained_readout: Tensor | None = None,
) -> StageTwo:
    """Refit the readout on the probe set and test it; measure the alignment of the kernel.

    Parameters
    ----------
    W : (h, d) tensor
    probe, test : Samples
    activation : ScalarFunction
    feature_scale : {"paper", "released-code"}
        Features tanh(W x / sqrt d) or tanh(W x / d).
    ridge_lambda : float
    trained_readout : (h,) tensor, optional
        Use this readout, at the scale of training, in place of a ridge refit.

    Returns
    -------
    StageTwo
    """
    reading = Reading(feature_scale, ridge_lambda)
    return stage_two_readings(
        W, probe, test, [reading], activation=activation, trained_readout=trained_readout
    )[reading]


def stage_two_readings(
    W: Tensor,
    probe: Samples,
    test: Samples,
    readings: Iterable[Reading],
    *,
    activation: ScalarFunction,
    trained_readout: Tensor | None = None,
) -> dict[Reading, StageTwo]:
    """`stage_two` for several readings; those of one feature scale share its Gram matrix.

    Every result is bit for bit that of its reading alone.
    """
    results: dict[Reading, StageTwo] = {}
    of_scale: dict[str, list[Reading]] = {}
    for reading in readings:
        of_scale.setdefault(reading.feature_scale, []).append(reading)
    y, y_test = probe.targets.double(), test.targets.double()
    for scale, wanted in of_scale.items():
        F = probe_features(W, probe.inputs, activation, scale)
        gram = linalg.gram(F)
        if not torch.isfinite(gram.sum()):
            results |= dict.fromkeys(wanted, StageTwo(math.inf, math.inf, math.nan))
            continue
        kta = _kta(F, y, gram)
        if trained_readout is not None:
            own, fresh = (
                network.loss(W, trained_readout, s.inputs, s.targets, activation) for s in (probe, test)
            )
            results |= dict.fromkeys(wanted, StageTwo(own, fresh, kta))
            continue
        F_test = probe_features(W, test.inputs, activation, scale)
        for reading in wanted:
            a_hat = readout.ridge(F, y, reading.ridge_lambda, gram_matrix=gram)
            results[reading] = StageTwo(
                readout.mean_squared_error(F, y, a_hat),
                readout.mean_squared_error(F_test, y_test, a_hat),
                kta,
            )
    return results


@dataclass(frozen=True, eq=False)
class LambdaPath:
    """Stage 2 along a list of ridge parameters.

    Attributes
    ----------
    lambdas, ridge_train_loss, test_loss, gcv : (k,) float64 array
        gcv is the generalised cross-validation score, from the probe set alone.
    kta : float
        Kernel-target alignment on the probe set; it knows no lambda.
    """

    lambdas: Array
    ridge_train_loss: Array
    test_loss: Array
    gcv: Array
    kta: float

    @property
    def best(self) -> int:
        """Index of the lambda that generalised cross-validation chooses."""
        return int(self.gcv.argmin())


def lambda_path(
    W: Tensor | Array,
    probe: Samples,
    test: Samples,
    *,
    activation: ScalarFunction,
    feature_scale: str,
    lambdas: ArrayLike,
) -> LambdaPath:
    """`stage_two` for many ridge parameters from one factorisation.

    Parameters
    ----------
    W : (h, d) tensor or array
    probe, test : Samples
    activation : ScalarFunction
    feature_scale : {"paper", "released-code"}
    lambdas : (k,) array

    Returns
    -------
    LambdaPath
    """
    W = torch.as_tensor(W).to(probe.inputs)
    F, F_test = (probe_features(W, s.inputs, activation, feature_scale) for s in (probe, test))
    y, y_test = probe.targets.double(), test.targets.double()
    gram = linalg.gram(F)
    if not torch.isfinite(gram.sum()):
        lost = np.full(np.shape(lambdas), math.inf)
        return LambdaPath(np.asarray(lambdas, dtype=np.float64), lost, lost, lost, math.nan)
    path = readout.ridge_path(F, y, lambdas, gram_matrix=gram)
    error = F_test @ path.coefficients - y_test[:, None]
    return LambdaPath(
        lambdas=path.lambdas,
        ridge_train_loss=path.train_loss,
        test_loss=error.square().mean(dim=0).cpu().numpy(),
        gcv=path.gcv,
        kta=_kta(F, y, gram),
    )


def probe_features(W: Tensor, X: Tensor, activation: ScalarFunction, feature_scale: str) -> Tensor:
    """Features of stage 2, sigma(W x / scale) / sqrt(h), as an (n, h) float64 tensor."""
    h, d = W.shape
    input_scale = {"paper": 1 / math.sqrt(d), "released-code": 1 / d}[feature_scale]
    return network.features(W, X, activation, input_scale).double().div_(math.sqrt(h))


def spectral_measures(system: SingularSystem, teacher_direction: Tensor, edge: float) -> SpectralMeasures:
    """Measures of the spectrum and of the leading singular vector.

    Parameters
    ----------
    system : SingularSystem
        Factorised W, (h, d).
    teacher_direction : (d,) tensor
    edge : float
        Eigenvalues above it count as outliers.

    Returns
    -------
    SpectralMeasures
    """
    eigenvalues = system.eigenvalues
    positive = eigenvalues[eigenvalues > 0]
    alpha_hill = alpha_ks = ks_distance = ks_xmin = math.nan
    if len(positive) >= 3 and positive[0] < positive[-1]:
        alpha_hill = hill_alpha(positive)
        fit = fit_power_law(positive)
        alpha_ks, ks_distance, ks_xmin = fit.alpha, fit.ks_distance, fit.xmin
    return SpectralMeasures(
        alignment=teacher_alignment(system.right(1)[:, 0], teacher_direction),
        alpha_hill=alpha_hill,
        alpha_ks=alpha_ks,
        ks_distance=ks_distance,
        ks_xmin=ks_xmin,
        stable_rank=stable_rank(eigenvalues),
        spectral_norm=math.sqrt(eigenvalues[-1]),
        n_outliers=int((eigenvalues > edge).sum()),
    )


def as_samples(inputs: Array, targets: Array, dtype: torch.dtype, device: torch.device) -> Samples:
    """Arrays of a dataset as tensors of one precision on one device."""
    return Samples(
        torch.tensor(inputs, dtype=dtype, device=device),
        torch.tensor(targets, dtype=dtype, device=device),
    )


def _kta(F: Tensor, y: Tensor, gram: Tensor) -> float:
    """Alignment of the kernel; NaN where all features (dead relu units) or all targets are zero."""
    return kernel_target_alignment(F, y, gram=gram) if gram.any() and y.any() else math.nan
