"""An independent evaluation of the setting (chapter 1 of the book, both feature scales) and of its metrics.

Plain NumPy in float64, without htlib, and slow on purpose: loops over samples, an explicit inverse, a kernel
that is formed, a brute-force scan.  PL_Alpha_Hill is that of TempBalance, the KS scan that of Clauset,
Shalizi and Newman (2009), the uncentred alignment that of Cristianini et al. (2001).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf, ndtr

TRACY_WIDOM_99 = 2.0234  # published 99 % quantile, beta = 1


@dataclass(frozen=True)
class State:
    """A step of a run: measures by name, ascending ESD, and the weights."""

    metrics: dict[str, float]
    eigenvalues: np.ndarray
    W: np.ndarray
    a: np.ndarray


def activation(name: str, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sigma(u) and sigma'(u)."""
    if name == "tanh":
        return np.tanh(u), 1 / np.cosh(u) ** 2
    if name == "relu":
        return np.maximum(u, 0), np.where(u > 0, 1.0, 0.0)
    if name == "erf":
        return erf(u), 2 / np.sqrt(np.pi) * np.exp(-(u**2))
    if name == "gelu":
        return u * ndtr(u), ndtr(u) + u * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    raise KeyError(name)


def features(W: np.ndarray, X: np.ndarray, name: str, feature_scale: str = "paper") -> np.ndarray:
    """Z, a row per sample: sigma(W x / sqrt d), or sigma(W x / d) at the released code's scale."""
    d = W.shape[1]
    scale = {"paper": np.sqrt(d), "released-code": d}[feature_scale]
    return np.array([activation(name, W @ x / scale)[0] for x in X])


def student_loss(W: np.ndarray, a: np.ndarray, X: np.ndarray, y: np.ndarray, name: str) -> float:
    """Mean over samples of (a^T sigma(W x / sqrt d) / sqrt h - y)^2."""
    return float(np.mean((features(W, X, name) @ a / np.sqrt(len(a)) - y) ** 2))


def gradients(
    W: np.ndarray, a: np.ndarray, X: np.ndarray, y: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """dL/dW and dL/da by the chain rule, one sample at a time."""
    (n, d), h = X.shape, len(a)
    dW, da = np.zeros_like(W), np.zeros_like(a)
    for x, target in zip(X, y, strict=True):
        value, slope = activation(name, W @ x / np.sqrt(d))
        residual = a @ value / np.sqrt(h) - target
        dW += 2 / n * residual * np.outer(a * slope / np.sqrt(h), x / np.sqrt(d))
        da += 2 / n * residual * value / np.sqrt(h)
    return dW, da


class Adam:
    """Kingma & Ba (2015), algorithm 1; weight decay is added to the gradient, as torch.optim.Adam does."""

    def __init__(self, eps: float, weight_decay: float) -> None:
        self.eps, self.weight_decay = eps, weight_decay
        self.t, self.m, self.v = 0, 0.0, 0.0

    def step(self, w: np.ndarray, g: np.ndarray, lr: float) -> np.ndarray:
        g = g + self.weight_decay * w
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m_hat, v_hat = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return w - lr * m_hat / (np.sqrt(v_hat) + self.eps)


class GradientDescent:
    """Heavy ball as torch.optim.SGD writes it: the first buffer is the gradient itself, undamped."""

    def __init__(self, momentum: float, weight_decay: float) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        self.buffer = 0.0

    def step(self, w: np.ndarray, g: np.ndarray, lr: float) -> np.ndarray:
        self.buffer = self.momentum * self.buffer + g + self.weight_decay * w
        return w - lr * self.buffer


def run(problem: Any, config: Mapping[str, Any]) -> Iterator[State]:
    """The states of a run, start included."""
    X, y, name = problem.train.inputs, problem.train.targets, config["activation"]
    W, a = problem.hidden_weights.copy(), problem.readout_weights.copy()
    yield state(W, a, problem, config)
    hidden, readout = (
        Adam(config["adam_eps"], config["weight_decay"])
        if config["optimizer"] == "adam"
        else GradientDescent(config["momentum"], config["weight_decay"])
        for _ in range(2)
    )
    for step in range(config["steps"]):
        lr = config["lr"] * (config["lr_decay"] or 1) ** step
        if config["normalize_weights"]:
            W = W * np.sqrt(W.size) / np.sqrt((W**2).sum())
        dW, da = gradients(W, a, X, y, name)
        updated = hidden.step(W, dW, lr)
        W = W + without_top(updated - W) if config["update"] == "no-top" else updated
        if config["train_readout"]:
            a = readout.step(a, da, lr)
        yield state(W, a, problem, config)


def state(W: np.ndarray, a: np.ndarray, problem: Any, config: Mapping[str, Any]) -> State:
    """All measures of one pair of weights."""
    h, d = W.shape
    name, scale = config["activation"], config["feature_scale"]
    probe, test = problem.probe, problem.test
    Z = features(W, probe.inputs, name, scale)
    if config["train_readout"]:
        losses = [student_loss(W, a, s.inputs, s.targets, name) for s in (probe, test)]
    else:
        F, F_test = Z / np.sqrt(h), features(W, test.inputs, name, scale) / np.sqrt(h)
        a_hat = ridge(F, probe.targets, config["ridge_lambda"])
        losses = [float(np.mean((A @ a_hat - s.targets) ** 2)) for A, s in ((F, probe), (F_test, test))]
    eigenvalues = esd(W)
    alpha_ks, distance, first = ks_scan(eigenvalues)
    v = np.linalg.svd(W)[2][0]
    metrics = {
        "train_loss": student_loss(W, a, problem.train.inputs, problem.train.targets, name),
        "ridge_train_loss": losses[0],
        "test_loss": losses[1],
        "kta": kta(Z, probe.targets),
        "alignment": abs(float(v @ problem.teacher_direction)),
        "alpha_hill": hill(eigenvalues),
        "alpha_ks": alpha_ks,
        "ks_distance": distance,
        "ks_xmin": float(eigenvalues[first]),
        "stable_rank": float((W**2).sum() / eigenvalues[-1]),
        "spectral_norm": float(np.linalg.norm(W, 2)),
        "n_outliers": int((eigenvalues > tracy_widom_edge(h, d)).sum()),
    }
    return State(metrics, eigenvalues, W.copy(), a.copy())


def esd(W: np.ndarray) -> np.ndarray:
    """Squared singular values, ascending."""
    return np.sort(np.linalg.svd(W, compute_uv=False) ** 2)


def without_top(M: np.ndarray) -> np.ndarray:
    """M less sigma_1 u_1 v_1^T."""
    U, s, Vh = np.linalg.svd(M)
    return M - s[0] * np.outer(U[:, 0], Vh[0])


def ridge(F: np.ndarray, y: np.ndarray, lam: float) -> np.ndarray:
    """(F^T F + (lambda / h) n I)^{-1} F^T y."""
    n, h = F.shape
    return np.linalg.inv(F.T @ F + lam / h * n * np.eye(h)) @ F.T @ y


def kta(Z: np.ndarray, y: np.ndarray) -> float:
    """<K, y y^T> / (|K|_F |y y^T|_F)."""
    K, Y = Z @ Z.T, np.outer(y, y)
    return float((K * Y).sum() / np.sqrt((K**2).sum() * (Y**2).sum()))


def hill(ascending: np.ndarray) -> float:
    """1 + (N - i) / sum_{j >= i} ln(lambda_j / lambda_i), i = N // 2."""
    N = len(ascending)
    i = N // 2
    return 1 + (N - i) / sum(np.log(ascending[j] / ascending[i]) for j in range(i, N))


def ks_distances(ascending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha_i and D_i of every distinct value; infinite for the others and where the tail has no spread."""
    N = len(ascending)
    alphas, distances = np.full(N - 1, np.inf), np.full(N - 1, np.inf)
    for i in range(N - 1):
        logs = np.log(ascending[i:] / ascending[i])
        if logs[-1] > 0 and (i == 0 or ascending[i] > ascending[i - 1]):
            alphas[i] = 1 + (N - i) / logs.sum()
            fitted = 1 - (ascending[i:] / ascending[i]) ** (1 - alphas[i])
            distances[i] = np.abs(fitted - np.arange(N - i) / (N - i)).max()
    return alphas, distances


def ks_scan(ascending: np.ndarray) -> tuple[float, float, int]:
    """alpha, D and index of the candidate with the smallest D, the first of equals."""
    alphas, distances = ks_distances(ascending)
    best = int(distances.argmin())
    return float(alphas[best]), float(distances[best]), best


def tracy_widom_edge(h: int, d: int) -> float:
    """99 % quantile of the largest eigenvalue of Gaussian W^T W (Johnstone 2001); h > 1."""
    mu = (np.sqrt(h - 1) + np.sqrt(d)) ** 2
    sigma = (np.sqrt(h - 1) + np.sqrt(d)) * (1 / np.sqrt(h - 1) + 1 / np.sqrt(d)) ** (1 / 3)
    return float(mu + sigma * TRACY_WIDOM_99)
