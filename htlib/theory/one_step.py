"""Predict what one step does to the spectrum, in closed form and without a fitted parameter.

One full-batch step from Gaussian weights adds to W0 a matrix that is nearly of rank one.  For gradient
descent it is lr a g^T up to a factor; for a step along the signs of the gradient's entries it is
lr sgn(a) p^T with p_k = erf(b z_k).  The first step of Adam is a step along signs: its moments are then those
of one gradient, so that it divides each entry by its own size.  W0 therefore changes along one left
direction and nearly nowhere else, and W1 is a spiked matrix (`htlib.spectra.spikes`).  But the spike is not
independent of the noise: the residual contains the student's own output, and so g contains the row a^T W0.
The strength of the spike follows from the excess of the Gram matrix of the rows concerned over that of noise,
which is d times the identity.  For signs, whose left direction sgn(a) is not a, the excess is

    [ gain lr^2 - 2 drag lr    cross lr ]
    [ cross lr                        0 ]

Its larger eigenvalue is theta^2, the squared strength of the spike, which leaves the bulk at sqrt(h d).
The book's appendix has the derivations, step by step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from htlib.spectra.generalized import GeneralizedMarchenkoPastur
from htlib.spectra.spikes import critical_strength, outlier_eigenvalue, outlier_overlaps
from htlib.student.config import ExperimentConfig
from htlib.student.optimizers import OPTIMIZERS
from htlib.student.problem import Problem
from htlib.theory.bulk import StepNoise, expected_noise, noise_of_problem
from htlib.theory.gradient import GradientConstants, gradient_constants
from htlib.theory.ridge_risk import RidgeRisk, risk_after_step

Array = NDArray[np.float64]

# Fields that change the first step, and that the law does not include.
_NOT_IN_THE_LAW = ("nesterov", "weight_decay", "update", "inputs", "readout", "teacher_rank", "batch_size")


@dataclass(frozen=True)
class OneStepPrediction:
    """Prediction for the weights after one step from Gaussian weights.

    Attributes
    ----------
    spectral_norm : float
        Largest singular value of W; without an outlier it is the edge sqrt(h) + sqrt(d).
    alignment : float
        |<v_1, beta>| of the first right singular vector and the teacher's direction; 0 without an outlier.
    critical_lr : float
        Rate above which the largest singular value leaves the bulk.
    has_outlier : bool
        True if the rate is above `critical_lr`.
    """

    spectral_norm: float
    alignment: float
    critical_lr: float
    has_outlier: bool


@dataclass(frozen=True)
class OneStepLaw:
    """The law of one step at every learning rate.  Made by `one_step_law` and `law_of_config`.

    Attributes
    ----------
    optimizer : str
    h, d : int
        Shape of W.
    gain, drag, cross : float
        Entries of the excess Gram matrix: the squared length of the update at rate 1, and minus its inner
        products with the row of W0 that it changes and with another row of W0 (zero for gradient descent).
    signal : float
        signal lr^2 is the squared length of the update along the teacher's direction.
    sharpness : float
        The number b of a step along signs: an entry of the gradient has the sign of its mean with probability
        (1 + erf(b |z|)) / 2, where z is the scaled entry of g.  Infinite for gradient descent.
    constants : GradientConstants
        The constants of the first gradient from which the law is made.
    """

    optimizer: str
    h: int
    d: int
    gain: float
    drag: float
    cross: float
    signal: float
    sharpness: float
    constants: GradientConstants

    @property
    def critical_lr(self) -> float:
        """The rate at which theta^2 = sqrt(h d)."""
        threshold = math.sqrt(self.h * self.d)
        gain = self.gain + self.cross**2 / threshold
        return (self.drag + math.sqrt(self.drag**2 + gain * threshold)) / gain

    @property
    def ceiling(self) -> float:
        """The alignment at large rates, which is the update's own alignment with the teacher."""
        return math.sqrt(self.signal / self.gain)

    def strength(self, lr: float) -> float:
        """Return the strength theta of the spike at a learning rate."""
        excess, cross = self.gain * lr**2 - 2 * self.drag * lr, self.cross * lr
        return math.sqrt((excess + math.hypot(excess, 2 * cross)) / 2)

    def __call__(self, lr: float) -> OneStepPrediction:
        """Return the prediction at a learning rate.

        Raises
        ------
        TypeError, ValueError
            If `htlib.ExperimentConfig` does not take the rate.
        """
        ExperimentConfig(lr=lr)  # raises for a rate that cannot be run
        theta = self.strength(lr)
        has_outlier = theta > critical_strength(self.h, self.d)
        alignment = 0.0
        if has_outlier:
            right = outlier_overlaps(theta, self.h, self.d)[1]
            main = theta**2 / math.hypot(theta**2, self.cross * lr)  # the spike's share of the row it changes
            alignment = main * math.sqrt(self.signal * right) * lr / theta
        norm = math.sqrt(outlier_eigenvalue(theta, self.h, self.d))
        return OneStepPrediction(norm, alignment, self.critical_lr, has_outlier)

    def bulk(self, lr: float, problem: Problem | None = None) -> GeneralizedMarchenkoPastur:
        """Return the law of the bulk: of all eigenvalues of W^T W except that of the spike, if it has left.

        Parameters
        ----------
        lr : float
            If infinite, the law is that of the eigenvalues over lr^2: the shape of the bulk at large rates.
        problem : Problem, optional
            Inputs, targets and weights that are at hand, of the law's shape.  By default they are typical
            ones, and none are drawn.

        Returns
        -------
        GeneralizedMarchenkoPastur
            With ``edge``, ``support``, ``pdf``, ``cdf``, ``ppf``, ``hill_alpha()`` and ``ks_alpha()``.  The
            largest eigenvalue of a finite matrix fluctuates about ``largest_quantile()``, below the edge.

        Raises
        ------
        TypeError, ValueError
            If `htlib.ExperimentConfig` does not take the rate, h or d is 1, or the problem has another shape.

        Notes
        -----
        `htlib.theory.bulk` has the formulas.  For whole spectra pass ``law(lr).spectral_norm**2`` to
        ``hill_alpha`` as the spike.

        Examples
        --------
        >>> law = one_step_law()
        >>> [round(float(law.bulk(lr).edge) ** 0.5, 1) for lr in (0.0, 1.0, 5.0)]
        [70.4, 87.2, 318.3]
        >>> round(law.bulk(math.inf).hill_alpha(), 2)  # a pure number
        1.6
        """
        if lr != math.inf:
            ExperimentConfig(lr=lr)  # raises for a rate that cannot be run
        self._check_size()
        noise = self._noise if problem is None else self._noise_of(problem)
        return noise.bulk(lr, lr == math.inf or self.strength(lr) > critical_strength(self.h, self.d))

    def ridge_risk(self, lr: float, feature_scale: str = "paper") -> RidgeRisk:
        """Return the test loss after one step and the refit of stage 2, at every ridge parameter.

        Parameters
        ----------
        lr : float
        feature_scale : {"paper", "released-code"}
            As in `htlib.ExperimentConfig`.  The probe set has n samples, too.

        Returns
        -------
        RidgeRisk
            Call it with ridge parameters; it has ``best`` and ``best_lambda``.

        Raises
        ------
        TypeError, ValueError
            If `htlib.ExperimentConfig` does not take the rate or the scale, or h or d is 1.

        References
        ----------
        Cui, Pesce, Dandi, Krzakala, Lu, Zdeborova & Loureiro (2024) and Dandi, Pesce, Cui, Krzakala, Lu &
        Loureiro (2024), for gradient descent.

        Examples
        --------
        >>> law = one_step_law(n=1000, d=500, h=750)
        >>> [round(law.ridge_risk(lr).best, 3) for lr in (0.0, 0.3, 10.0)]
        [0.954, 0.928, 0.962]
        """
        ExperimentConfig(lr=lr)  # raises for a rate that cannot be run
        self._check_size()
        row = math.sqrt(self.d + self.gain * lr**2 - 2 * self.drag * lr)
        alignment = min(math.sqrt(self.signal) * lr / row, 1.0)
        return risk_after_step(self.constants, self._noise, lr, row, alignment, feature_scale)

    def _check_size(self) -> None:
        if min(self.h, self.d) < 2:
            raise ValueError(
                f"h and d must be at least 2 to leave a bulk beside the spike; got {self.h}, {self.d}"
            )

    @cached_property
    def _noise(self) -> StepNoise:
        return expected_noise(self.constants, self.sharpness)

    def _noise_of(self, problem: Problem) -> StepNoise:
        if problem.hidden_weights.shape != (self.h, self.d):
            raise ValueError(
                f"problem must have hidden_weights of shape {(self.h, self.d)}; got "
                f"{problem.hidden_weights.shape}.  Make the law with the h and d of the problem"
            )
        known, signs = self.constants, math.isfinite(self.sharpness)
        moments = known.mean_slope, known.slope_variance, known.echo
        return noise_of_problem(problem, known.config.activation, *moments, signs)

    def sample(self, lr: float, seed: int) -> tuple[Array, Array]:
        """Draw the weights after one step, without data and without training.

        The method draws W0, a, the teacher's direction and the noise of g, and makes the step from them:
        a g^T, or signs that agree with those of a g^T with a probability that depends on the column.  The
        signs are independent here, but not quite in training, where the edge of the bulk lies further out at
        large rates (by a sixth at rate 5 and the paper's shape): `bulk` has the law of that.

        Parameters
        ----------
        lr : float
        seed : int

        Returns
        -------
        weights : (h, d) array
        teacher_direction : (d,) array
            Unit vector beta.

        Raises
        ------
        TypeError, ValueError
            As for a call of the law.

        Examples
        --------
        >>> from htlib import esd, hill_alpha
        >>> law = one_step_law(n=200, d=100, h=150)
        >>> [bool(hill_alpha(esd(law.sample(lr, seed=0)[0])) < 2) for lr in (0.0, 10.0)]
        [False, True]
        """
        ExperimentConfig(lr=lr)  # raises for a rate that cannot be run
        rng, known, h, d = np.random.default_rng(seed), self.constants, self.h, self.d
        W = rng.standard_normal((h, d))
        a = known.readout * rng.standard_normal(h)
        direction = rng.standard_normal(d)
        direction /= np.linalg.norm(direction)
        g = known.teacher_slope * direction + math.sqrt(known.sampling / d) * rng.standard_normal(d)
        g -= known.mean_slope / math.sqrt(h * d) * (a @ W)
        if OPTIMIZERS[self.optimizer].first_step == "gradient":
            step = 2 * known.mean_slope / math.sqrt(h * d) * np.outer(a, g)
        else:
            mean = erf(self.sharpness * math.sqrt(d) / known.length * g)
            step = np.where(rng.uniform(-1, 1, (h, d)) < mean, 1.0, -1.0) * np.sign(a)[:, None]
        return W + lr * step, direction


def one_step_law(
    *,
    n: int = 2000,
    d: int = 1000,
    h: int = 1500,
    noise_std: float = 0.3,
    optimizer: str = "adam",
    teacher: str = "softplus",
    activation: str = "tanh",
    labels: str = "real",
    readout_norm: float | None = None,
) -> OneStepLaw:
    """Predict one full-batch step of an optimizer at every learning rate.

    Parameters
    ----------
    n, d, h, noise_std, optimizer, teacher, activation
        As in `htlib.ExperimentConfig`, with the same defaults.  The optimizer must move the weights first
        along the gradient, as gradient descent does, or along its signs, as Adam does.
    labels : {"real", "shuffled"}
        Shuffled labels keep their size and lose the teacher: the spike stays, the alignment is 0.
    readout_norm : float, optional
        |a| of the given network; default sqrt(h), its root mean square.  The spike of gradient descent
        varies with |a| from seed to seed, and as much again with |g|.

    Returns
    -------
    OneStepLaw

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, the optimizer's first step has no closed form, or the activation is
        not odd (see Notes).

    Notes
    -----
    The law holds to leading order in n, d, h at fixed ratios, for spikes of any strength, if the teacher's
    direction is spread over many coordinates, as a random one is.  An activation that is not odd has
    E s''(z) != 0 and a mean E s(z) != 0.  The output then has a mean of order one that depends on the draw of
    a, and the gradient has a term of full rank along diag(a) W0, so that no single number predicts the step.

    Examples
    --------
    >>> law = one_step_law()
    >>> round(law.critical_lr, 4), round(law.ceiling, 3)
    (0.047, 0.394)
    >>> round(one_step_law(optimizer="gd").critical_lr)
    1260
    """
    config = ExperimentConfig(
        n=n, d=d, h=h, noise_std=noise_std, optimizer=optimizer, teacher=teacher, activation=activation
    )
    return law_of_config(config, labels=labels, readout_norm=readout_norm)


def law_of_config(
    config: ExperimentConfig, *, labels: str | None = None, readout_norm: float | None = None
) -> OneStepLaw:
    """Return the law of the first step of an experiment; it does not depend on the rate of the config.

    If `labels` is given ("real" or "shuffled"), it replaces the config's own.  Raises ValueError if the first
    step has no law.
    """
    first_step = OPTIMIZERS[config.optimizer].first_step
    if first_step is None:
        lawful = ", ".join(name for name, optimizer in OPTIMIZERS.items() if optimizer.first_step)
        raise ValueError(
            f"optimizer must be one of {lawful} for a prediction of its first step; got {config.optimizer!r}"
        )
    for name in _NOT_IN_THE_LAW:
        value, default = getattr(config, name), getattr(ExperimentConfig, name)
        if value != default:
            raise ValueError(f"{name} must be {default} for a prediction of the first step; got {value}")
    known = gradient_constants(config, config.labels if labels is None else labels, readout_norm)
    n, d, h = config.n, config.d, config.h
    mu, c, length, readout = known.mean_slope, known.teacher_slope, known.length, known.readout
    if first_step == "gradient":
        per_rate = 2 * mu * readout / math.sqrt(d)  # length of the update over that of g
        gain, drag, cross = (per_rate * length) ** 2, 2 * (mu * readout) ** 2, 0.0
        signal, sharpness = (per_rate * c) ** 2, math.inf
    else:
        sharpness = mu * length * math.sqrt(n / (2 * known.slope_variance * known.residual * d))
        gain = h * d * (4 / math.pi * math.atan(math.sqrt(1 + 4 * sharpness**2)) - 1)  # E erf(b z)^2
        slope = 2 / math.sqrt(math.pi) * sharpness / math.sqrt(1 + 2 * sharpness**2)  # E z erf(b z)
        share = math.sqrt(2 / math.pi)  # cosine of sgn(a) and a
        own = slope * mu * readout / length  # share of p along the row a^T W0
        drag, cross = d * math.sqrt(h) * own * share, d * math.sqrt(h) * own * math.sqrt(1 - share**2)
        signal = h * d * (slope * c / length) ** 2
    return OneStepLaw(config.optimizer, h, d, gain, drag, cross, signal, sharpness, known)


def predict_one_step(
    *,
    n: int = 2000,
    d: int = 1000,
    h: int = 1500,
    noise_std: float = 0.3,
    optimizer: str = "adam",
    lr: float = 1.0,
    teacher: str = "softplus",
    activation: str = "tanh",
) -> OneStepPrediction:
    """Predict spectral norm, alignment and critical rate of one full-batch step.

    Use `one_step_law` for many rates.

    Parameters
    ----------
    n, d, h, noise_std, optimizer, lr, teacher, activation
        As in `htlib.ExperimentConfig`, with the same defaults.

    Returns
    -------
    OneStepPrediction

    Raises
    ------
    TypeError, ValueError
        As for `one_step_law`.

    Examples
    --------
    >>> prediction = predict_one_step(lr=0.1)
    >>> prediction.has_outlier, round(prediction.spectral_norm, 1), round(prediction.alignment, 2)
    (True, 102.8, 0.41)
    """
    law = one_step_law(
        n=n, d=d, h=h, noise_std=noise_std, optimizer=optimizer, teacher=teacher, activation=activation
    )
    return law(lr)
