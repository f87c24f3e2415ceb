"""Heavy tails without gradient noise, in a hundred lines of PyTorch: python plain.py

A two-layer student learns a single-index teacher by full-batch steps; stage 1 trains the first layer, stage 2
refits the second by ridge regression on fresh data.  The spectrum of the first layer is measured on the way.
"""

import math

import torch
from torch.nn.functional import softplus


def draw(n, d, generator, beta, noise=0.3):
    """Inputs and targets: y = softplus(<beta, x>) + noise."""
    X = torch.randn(n, d, generator=generator)
    return X, softplus(X @ beta) + noise * torch.randn(n, generator=generator)


def features(W, X):
    """tanh(W x / sqrt d) for every row x of X, (n, h)."""
    return torch.tanh(X @ W.T / math.sqrt(X.shape[1]))


def train(X, y, W, a, optimizer="adam", lr=1.0, steps=10):
    """Stage 1: yield the first layer W, (h, d), at the start and after every full-batch step."""
    W = W.clone().requires_grad_()
    rule = {"adam": torch.optim.Adam, "gd": torch.optim.SGD}[optimizer]([W], lr=lr)
    yield W.detach().clone()
    for _ in range(steps):
        rule.zero_grad()
        loss = (features(W, X) @ a / math.sqrt(len(a)) - y).square().mean()
        loss.backward()
        rule.step()
        yield W.detach().clone()


def hill(eigenvalues):
    """PL_Alpha_Hill: the exponent of the upper half of the eigenvalues (ascending)."""
    tail = eigenvalues[len(eigenvalues) // 2 :]
    return 1 + len(tail) / (tail / tail[0]).log().sum().item()


def ks(eigenvalues):
    """PL_Alpha_KS: the exponent above the threshold at which a power law fits best."""
    best = (math.inf, math.nan)
    for i in range(len(eigenvalues) - 1):
        tail = eigenvalues[i:]
        alpha = 1 + len(tail) / (tail / tail[0]).log().sum().item()
        fitted = 1 - (tail / tail[0]) ** (1 - alpha)
        counted = torch.arange(len(tail), dtype=tail.dtype) / len(tail)
        best = min(best, ((fitted - counted).abs().max().item(), alpha))
    return best[1]


def refit_loss(W, probe, test, ridge=0.01):
    """Stage 2: refit the second layer on the probe set, and return the loss on the test set."""
    (X, y), (X_test, y_test), h = probe, test, len(W)
    F, F_test = (features(W, A) / math.sqrt(h) for A in (X, X_test))
    a = torch.linalg.solve(F.T @ F + ridge * len(y) / h * torch.eye(h, dtype=F.dtype), F.T @ y)
    return (F_test @ a - y_test).square().mean().item()


def measure(W, beta, probe, test):
    """The measures of one state."""
    _, s, V = torch.linalg.svd(W, full_matrices=False)
    eigenvalues = s.square().flip(0)
    return {
        "spectral_norm": s[0].item(),
        "alignment": (V[0] @ beta).abs().item(),
        "alpha_hill": hill(eigenvalues),
        "alpha_ks": ks(eigenvalues),
        "test_loss": refit_loss(W, probe, test),
    }


def main(n=2000, d=1000, h=1500, optimizer="adam", lr=1.0, steps=10, seed=0):
    """Run the experiment at the sizes of the paper; a minute on a laptop."""
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    beta = torch.randn(d, generator=generator)
    beta /= beta.norm()
    X, y = draw(n, d, generator, beta)
    probe, test = draw(n, d, generator, beta), draw(n, d, generator, beta)
    W, a = torch.randn(h, d, generator=generator), torch.randn(h, generator=generator)
    for step, state in enumerate(train(X, y, W, a, optimizer, lr, steps)):
        numbers = measure(state, beta, probe, test)
        print(f"step {step:2}", *(f"{name} {value:.4g}" for name, value in numbers.items()), sep="  ")


if __name__ == "__main__":
    main()
