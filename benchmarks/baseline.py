"""The experiment of `htlib.train` as a typical research code base writes it, for comparison.

It uses autograd, torch.optim, a DataLoader that returns the whole training set as one batch, a full float32
singular value decomposition at every probe, a general linear solver for the ridge refit, the kernel
as an n x n matrix and a Python loop over the thresholds of the power-law fit.  Runs share nothing with each
other.  Options that only controls and variants need are left out.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import htlib as ht
from htlib.spectra.noise import largest_eigenvalue_quantile
from htlib.student.functions import ScalarFunction, get_activation
from htlib.student.problem import Dataset

_UNSUPPORTED = {"update": "full", "normalize_weights": False, "train_readout": False}


class Student(nn.Module):
    """f(x) = a^T sigma(W x / sqrt d) / sqrt h with a fixed readout a."""

    def __init__(self, W: Tensor, a: Tensor, activation: ScalarFunction) -> None:
        super().__init__()
        self.W = nn.Parameter(W)  # (h, d)
        self.a = nn.Parameter(a, requires_grad=False)  # (h,)
        self.activation = activation

    def features(self, X: Tensor, scale: float) -> Tensor:
        """Return sigma(W x / scale) for every row of X, (n, h)."""
        return self.activation.value(X @ self.W.T / scale)

    def forward(self, X: Tensor) -> Tensor:
        """Return the predictions, (n,)."""
        return self.features(X, math.sqrt(X.shape[1])) @ self.a / math.sqrt(len(self.a))


def run(config: ht.ExperimentConfig) -> pd.DataFrame:
    """Train the student of `config` on the CPU and measure it on the way.

    Parameters
    ----------
    config : htlib.ExperimentConfig

    Returns
    -------
    pandas.DataFrame
        The columns and index of ``htlib.train(config).metrics``.

    Raises
    ------
    ValueError
        For an update control, normalised weights or a trained readout.  A run that diverges raises
        the error of the decomposition of its weights.

    Examples
    --------
    >>> run(ht.ExperimentConfig(n=60, d=20, h=30, n_test=50, steps=2)).index.tolist()
    [0, 1, 2]
    """
    for name, only in _UNSUPPORTED.items():
        if getattr(config, name) != only:
            raise ValueError(f"{name} must be {only!r} in the baseline; got {getattr(config, name)!r}")
    problem = ht.make_problem(config)
    dtype = getattr(torch, config.dtype)
    train, probe, test = (_tensors(s, dtype) for s in (problem.train, problem.probe, problem.test))
    beta = torch.tensor(problem.teacher_direction, dtype=dtype)
    model = Student(
        torch.tensor(problem.hidden_weights, dtype=dtype),
        torch.tensor(problem.readout_weights, dtype=dtype),
        get_activation(config.activation),
    )
    loader = DataLoader(train, batch_size=config.n, shuffle=False)
    optimizer = _optimizer(config, model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=config.lr_decay or 1.0)
    mean_squared_error = nn.MSELoss()

    rows = {0: _measure(model, config, train, probe, test, beta)}
    for step in range(1, config.steps + 1):
        for X, y in loader:
            optimizer.zero_grad()
            loss = mean_squared_error(model(X), y)
            loss.backward()
            optimizer.step()
        schedule.step()
        if step == config.steps or step % config.probe_every == 0:
            rows[step] = _measure(model, config, train, probe, test, beta)
    index = pd.Index(list(rows), dtype=np.int64, name="step")
    return pd.DataFrame(list(rows.values()), index=index, columns=list(rows[0]))


def _tensors(data: Dataset, dtype: torch.dtype) -> TensorDataset:
    return TensorDataset(torch.tensor(data.inputs, dtype=dtype), torch.tensor(data.targets, dtype=dtype))


def _optimizer(config: ht.ExperimentConfig, model: Student) -> torch.optim.Optimizer:
    if config.optimizer == "gd":
        return torch.optim.SGD(
            [model.W], lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.Adam([model.W], lr=config.lr, eps=config.adam_eps, weight_decay=config.weight_decay)


@torch.no_grad()
def _measure(
    model: Student,
    config: ht.ExperimentConfig,
    train: TensorDataset,
    probe: TensorDataset,
    test: TensorDataset,
    beta: Tensor,
) -> dict[str, float]:
    """Return one value per name in METRICS."""
    X, y = train.tensors
    train_loss = (model(X) - y).square().mean().item()
    return {"train_loss": train_loss, **_stage_two(model, config, probe, test), **_spectral(model.W, beta)}


def _stage_two(
    model: Student, config: ht.ExperimentConfig, probe: TensorDataset, test: TensorDataset
) -> dict[str, float]:
    n, d, h = config.n, config.d, config.h
    scale = {"paper": math.sqrt(d), "released-code": d}[config.feature_scale]
    (X, y), (X_test, y_test) = probe.tensors, test.tensors
    Z = model.features(X, scale)  # (n, h)
    K, Y = Z @ Z.T, torch.outer(y, y)  # both (n, n)
    # torch's float32 norm adds in sequence, which is wrong by 1e-4 over n^2 entries
    kta = (K * Y).sum() / (K.norm(dtype=torch.float64) * Y.norm(dtype=torch.float64))
    F, F_test = (A.double() / math.sqrt(h) for A in (Z, model.features(X_test, scale)))
    penalty = config.ridge_lambda * n / h * torch.eye(h, dtype=F.dtype)
    coefficients = torch.linalg.solve(F.T @ F + penalty, F.T @ y.double())
    return {
        "ridge_train_loss": (F @ coefficients - y).square().mean().item(),
        "test_loss": (F_test @ coefficients - y_test).square().mean().item(),
        "kta": kta.item(),
    }


def _spectral(W: Tensor, beta: Tensor) -> dict[str, float]:
    _, S, Vh = torch.linalg.svd(W, full_matrices=False)
    eigenvalues = S.square().flip(0).numpy().astype(np.float64)  # ascending
    alpha_ks, ks_distance, ks_xmin = _ks_scan(eigenvalues)
    return {
        "alignment": (Vh[0] @ beta).abs().item(),
        "alpha_hill": _hill(eigenvalues),
        "alpha_ks": alpha_ks,
        "ks_distance": ks_distance,
        "ks_xmin": ks_xmin,
        "stable_rank": eigenvalues.sum() / eigenvalues[-1],
        "spectral_norm": S[0].item(),
        "n_outliers": int((eigenvalues > largest_eigenvalue_quantile(*W.shape)).sum()),
    }


def _hill(eigenvalues: NDArray[np.float64]) -> float:
    tail = eigenvalues[len(eigenvalues) // 2 :]
    return 1 + len(tail) / np.log(tail / tail[0]).sum()


def _ks_scan(eigenvalues: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return exponent, distance and threshold of the fit with the smallest Kolmogorov-Smirnov distance."""
    logs = np.log(eigenvalues)
    best = (math.nan, math.inf, math.nan)
    for i, xmin in enumerate(eigenvalues[:-1]):
        tail = eigenvalues[i:]
        total = (logs[i:] - logs[i]).sum()
        if total == 0:  # the largest values are equal
            continue
        alpha = 1 + len(tail) / total
        fitted = 1 - (tail / xmin) ** (1 - alpha)
        distance = np.abs(fitted - np.arange(len(tail)) / len(tail)).max()
        if distance < best[1]:
            best = (alpha, distance, xmin)
    return best
