"""Oracle: htlib.train itself, from the same start; ONNX Runtime runs the graphs.

Both routes round to float32 in different orders: every tolerance is the size of the numbers times `rounding`.
Many steps are compared at rates where training contracts.  Beyond the stability limit, near 0.9 d for
gradient descent, a run amplifies every rounding, and single steps from the same state are compared.
"""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

import htlib as ht
from htlib.explorer import graphs
from htlib.student import optimizers
from htlib.student.functions import TEACHERS, get_activation
from htlib.student.problem import Problem
from tests.rounding import EPS, loss_error, rounding

pytestmark = pytest.mark.process
ROOT = Path(ht.__file__).parents[1]
CONFIG = ht.ExperimentConfig(n=600, d=300, h=450, n_test=2000)
DEAD = 7
# The graph holds Adam's beta2 as the float32 next to 0.999, at most EPS / 4 away; 1 - beta2 = 0.001 magnifies
# that, and the root of it, by which a step is divided, takes half.
BETA2 = EPS / 4 / (1 - 0.999) / 2


class Runtime:
    """The graphs of a folder, as a browser would run them."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        files = folder.glob("*.onnx")
        self.sessions = {file.stem: onnxruntime.InferenceSession(file, options) for file in files}

    def run(self, name: str, feed: dict[str, object]) -> list[np.ndarray]:
        session = self.sessions[name]
        kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64}
        inputs = {i.name: np.asarray(feed[i.name], kinds[i.type]) for i in session.get_inputs()}
        return session.run(None, inputs)

    def step(self, config: ht.ExperimentConfig, problem: Problem, t: int, W: object, m: object, v: object):
        data = {"X": problem.train.inputs, "y": problem.train.targets, "a": problem.readout_weights}
        feed = {"W": W, "lr": config.lr, "t": t, "m": m, "v": v, **data}
        return self.run(f"step-{config.optimizer}", feed)

    def probe(self, config: ht.ExperimentConfig, problem: Problem, W: object) -> list[float]:
        scale = {"paper": config.d**-0.5, "released-code": 1 / config.d}[config.feature_scale]
        samples = {"X": problem.probe.inputs, "y": problem.probe.targets}
        samples |= {"X_test": problem.test.inputs, "y_test": problem.test.targets}
        feed = {"W": W, **samples, "input_scale": scale, "ridge_lambda": config.ridge_lambda}
        return [float(x) for x in self.run("probe", feed)[:3]]

    def losses(self, config: ht.ExperimentConfig, problem: Problem) -> Iterator[tuple[float, np.ndarray]]:
        """Loss and weights of steps 0, 1, ..."""
        W, m, v = problem.hidden_weights, *np.zeros((2, config.h, config.d))
        for t in range(1, config.steps + 2):
            loss, W_new, m, v = self.step(config, problem, t, W, m, v)
            yield float(loss), W
            W = W_new


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """The graphs of the built page, if it is newer than the package, else new ones."""
    built, package = ROOT / "_build" / "fast" / "live", ROOT / "htlib"
    made = built / "meta.json"
    if made.is_file() and made.stat().st_mtime > max(f.stat().st_mtime for f in package.rglob("*.py")):
        return Runtime(built)
    folder = tmp_path_factory.mktemp("graphs")
    # In a process of its own: the exporter trips over conftest's shape checks in htlib.student.network.
    code = "import pathlib, sys, htlib as ht; from htlib.explorer import graphs as g;"
    code += "g.export_graphs(pathlib.Path(sys.argv[1]), ht.ExperimentConfig(n=600, d=300, h=450))"
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    return Runtime(folder)


def with_a_dead_unit(config: ht.ExperimentConfig) -> Problem:
    """A unit without gradient: Adam divides zero by zero there if its eps is lost."""
    problem = ht.make_problem(config)
    a = problem.readout_weights.copy()
    a[DEAD] = 0
    return dataclasses.replace(problem, readout_weights=a)


def assert_measures(
    measured: list[float], row: pd.Series, config: ht.ExperimentConfig, problem: Problem, step: int = 0
) -> None:
    """Two losses, and the alignment, which is a ratio of squares."""
    for name, found in zip(("ridge_train_loss", "test_loss"), measured, strict=False):
        assert found == pytest.approx(row[name], abs=loss_error(config, problem, row[name], step)), name
    assert measured[2] == pytest.approx(row["kta"], rel=2 * rounding(config, step))


@pytest.mark.parametrize("steps", [11, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.05), ("gd", 200.0)])
def test_many_steps_are_those_of_train(runtime: Runtime, optimizer: str, lr: float, steps: int) -> None:
    config = CONFIG.replace(optimizer=optimizer, lr=lr, steps=steps)
    problem = with_a_dead_unit(config)
    run = ht.train(config, problem, progress=False)
    for step, (loss, W) in enumerate(runtime.losses(config, problem)):
        row = run.metrics.loc[step]
        assert loss == pytest.approx(row["train_loss"], abs=loss_error(config, problem, loss, step))
        if step % 10 in (0, 1):
            # a squared singular value moves by 2 sigma times what the weights move by
            allowed = 2 * rounding(config, step)
            found, expected = ht.esd(W), run.eigenvalues[step]
            np.testing.assert_allclose(found, expected, rtol=0, atol=allowed * found[-1])
            assert_measures(runtime.probe(config, problem, W), row, config, problem, step)
    np.testing.assert_array_equal(W[DEAD], problem.hidden_weights[DEAD].astype(np.float32))


@pytest.mark.parametrize("lr", [300.0, 3000.0])
def test_single_steps_of_gradient_descent_beyond_the_stability_limit(runtime: Runtime, lr: float) -> None:
    """Each starts at weights of htlib.train; its loss, its next weights and its measures are compared."""
    config = CONFIG.replace(optimizer="gd", lr=lr, steps=11)
    problem = with_a_dead_unit(config)
    run = ht.train(config, problem, progress=False, keep_weights=True)
    for step in (0, 1, 2, 5, 10):
        W, row = run.weights[step], run.metrics.loc[step]
        loss, W_new, _, _ = runtime.step(config, problem, 1, W, np.zeros_like(W), np.zeros_like(W))
        assert float(loss) == pytest.approx(row["train_loss"], abs=loss_error(config, problem, float(loss)))
        error, moved = (np.linalg.norm(run.weights[step + 1] - x) for x in (W_new, W))
        assert error <= update_error(config, W, W_new, moved)
        if step < 3:  # a gradient wrong by a thousandth would show
            assert 1e-3 * moved > 10 * update_error(config, W, W_new, moved)
        assert_measures(runtime.probe(config, problem, W), row, config, problem)


def update_error(config: ht.ExperimentConfig, W: np.ndarray, W_new: np.ndarray, moved: float) -> float:
    """The difference that the norms of two routes to the next weights may have."""
    # The new weights round once.  The update rounds as its sums do, times the size of the weights: that is
    # the size of the preactivations, which round before the slope is taken.
    size = max(1.0, float(np.sqrt(np.mean(W**2))))
    return EPS * float(np.linalg.norm(W_new)) + rounding(config) * size * moved


@pytest.mark.parametrize("step", [0, 1, 5])
def test_single_steps_along_signs(runtime: Runtime, step: int) -> None:
    """Each starts at weights of htlib.train; a sign counts where it is not that of rounding."""
    config = CONFIG.replace(optimizer="signsgd", lr=0.05, steps=6)
    problem = with_a_dead_unit(config)
    W, after = (
        ht.train(config, problem, progress=False, keep_weights=True).weights[step + k] for k in (0, 1)
    )
    G = gradient_at(torch.tensor(W, dtype=torch.float32), problem).numpy()
    _, W_new, _, _ = runtime.step(config, problem, step + 1, W, np.zeros_like(W), np.zeros_like(W))
    certain = np.abs(G) > 20 * rounding(config) * max(1.0, rms(W)) * rms(G)
    assert certain.mean() > 0.99
    np.testing.assert_allclose(W_new[certain], after[certain], rtol=4 * EPS, atol=4 * EPS)
    assert np.abs(W_new - W).max() <= config.lr + 4 * EPS * np.abs(W).max()


@pytest.mark.parametrize("step", [0, 1, 5])
def test_single_steps_of_muon(runtime: Runtime, step: int) -> None:
    """Oracle: torch.optim.Muon's own orthogonalisation in double precision, of htlib's gradients."""
    config = CONFIG.replace(optimizer="muon", lr=0.1, steps=6)
    problem = ht.make_problem(config)
    weights = ht.train(config, problem, progress=False, keep_weights=True).weights
    W, mean = torch.tensor(weights[0], dtype=torch.float32), torch.zeros(config.h, config.d)
    for t in range(step + 1):
        W = torch.tensor(weights[t], dtype=torch.float32)
        before, mean = mean, torch.lerp(mean, gradient_at(W, problem), 1 - config.momentum)
    X = (mean / mean.norm()).double().T
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (2.0315 * A @ A - 4.775 * A) @ X
    expected = W.double() - config.lr * math.sqrt(config.h / config.d) * X.T
    _, W_new, m, _ = runtime.step(config, problem, step + 1, W.numpy(), before.numpy(), np.zeros_like(W))
    assert rms(m - mean.numpy()) <= rounding(config) * max(1.0, rms(W.numpy())) * rms(mean.numpy())
    # five iterations multiply a small singular value, and what rounding makes of it, by 3.4445 each
    moved = rms(W_new - W.numpy())
    assert rms(W_new - expected.numpy()) <= EPS * rms(W.numpy()) + 3.4445**5 * rounding(config) * moved
    assert moved > 0.004


@pytest.mark.parametrize("t", [1, 2, 20])
def test_single_adam_steps_at_a_chaotic_rate(runtime: Runtime, t: int) -> None:
    """Oracle: torch.optim.Adam with gradients by automatic differentiation."""
    config = CONFIG.replace(lr=1.0)
    problem = ht.make_problem(config)
    W = torch.nn.Parameter(torch.tensor(problem.hidden_weights, dtype=torch.float32))
    optimizer = torch.optim.Adam([W], lr=config.lr, eps=config.adam_eps)
    moments = [torch.zeros_like(W)] * 2
    for _ in range(t):
        before = W.detach().clone()
        if state := optimizer.state.get(W):
            moments = [state[name].clone() for name in ("exp_avg", "exp_avg_sq")]
        W.grad = gradient_at(before, problem)
        optimizer.step()
    _, W_new, *found = runtime.step(config, problem, t, before, *moments)
    size = max(1.0, float(before.square().mean().sqrt()))  # of the preactivations
    gradient_error = rounding(config) * size * float(W.grad.square().mean().sqrt())
    state = optimizer.state[W]
    first, second = (state[name].numpy() for name in ("exp_avg", "exp_avg_sq"))
    # the moments are those of the gradient, with weights 0.1 and, for its square, 2 g times 0.001
    assert rms(found[0] - first) <= 0.1 * gradient_error + EPS * rms(first)
    assert rms(found[1] - second) <= 0.002 * gradient_error * float(W.grad.abs().max()) + EPS * rms(second)
    # The error of the first moment is divided by the root of the second.  Where that nearly vanishes, the
    # direction of the update is rounding; multiplied by that root, the errors are of one size.  The largest
    # of 135,000 is five times their root mean square, in a row with a readout weight of up to four.
    root = np.sqrt(second / (1 - 0.999**t))
    after = W.detach().numpy()
    moved = np.abs(after - before.numpy())
    allowed = (2 * EPS * np.abs(after) + (BETA2 + 4 * EPS) * moved) * root + 20 * config.lr * gradient_error
    assert (np.abs(W_new - after) * root <= allowed).all()
    assert rms((W_new - after) * root) <= (BETA2 + rounding(config) * size) * rms(moved * root)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def gradient_at(W: torch.Tensor, problem: Problem) -> torch.Tensor:
    """The gradient by automatic differentiation."""
    W = W.clone().requires_grad_()
    arrays = (problem.train.inputs, problem.train.targets, problem.readout_weights)
    X, y, a = (torch.tensor(x, dtype=torch.float32) for x in arrays)
    output = torch.tanh(X @ W.T / W.shape[1] ** 0.5) @ a / W.shape[0] ** 0.5
    (output - y).square().mean().backward()
    assert W.grad is not None
    return W.grad


@pytest.mark.parametrize("scale", ["paper", "released-code"])
def test_the_probe_of_each_feature_scale(runtime: Runtime, scale: str) -> None:
    config = CONFIG.replace(feature_scale=scale, steps=0)
    problem = ht.make_problem(config)
    row = ht.train(config, problem, progress=False).metrics.loc[0]
    assert_measures(runtime.probe(config, problem, problem.hidden_weights), row, config, problem)


def test_overflow_shows_as_numbers_that_are_not_finite(runtime: Runtime) -> None:
    config = CONFIG.replace(optimizer="gd", lr=1e36, steps=2)
    problem = ht.make_problem(config)
    targets = problem.train.targets * 1e30
    problem = dataclasses.replace(problem, train=dataclasses.replace(problem.train, targets=targets))
    assert ht.train(config, problem, progress=False).diverged_at is not None
    values = [loss for loss, _ in runtime.losses(config, problem)]
    assert not np.isfinite(values).all()


def test_links_are_the_teachers_in_double_precision(runtime: Runtime) -> None:
    z = np.linspace(-6, 6, 601)
    found = dict(zip(TEACHERS, runtime.run("links", {"z": z}), strict=True))
    for name, values in found.items():
        expected = TEACHERS[name].value(torch.from_numpy(z)).numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("mutation", ["beta2", "eps", "scale", "rate"])
def test_a_mutated_engine_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parity tests must refuse these changes; here they are made in the modules before export."""
    config = CONFIG.replace(lr=0.05, steps=3)
    problem = with_a_dead_unit(config)
    eps = 0.0 if mutation == "eps" else 1e-8
    step = graphs.Step("adam", get_activation("tanh"), weight_decay=0.0, adam_eps=eps)
    data = [torch.tensor(x, dtype=torch.float32) for x in (problem.train.inputs, problem.train.targets)]
    if mutation == "scale":
        data[0] *= 1.001
    W, a = (torch.tensor(x, dtype=torch.float32) for x in (problem.hidden_weights, problem.readout_weights))
    m, v = torch.zeros_like(W), torch.zeros_like(W)
    expected = ht.train(config, problem, progress=False).metrics["train_loss"]
    if mutation == "beta2":
        monkeypatch.setattr(optimizers, "_BETAS", (0.9, 0.99))
    lr, losses = torch.tensor(config.lr, dtype=torch.float64), []
    if mutation == "rate":
        lr *= 1.001
    for t in range(1, 5):
        loss, W, m, v = step(W, a, *data, lr, torch.tensor(t, dtype=torch.float64), m, v)
        losses.append(float(loss))
    allowed = [loss_error(config, problem, loss, step) for step, loss in expected.items()]
    # NaN is not within it either
    assert not (np.abs(losses - expected) <= allowed).all()


@pytest.mark.parametrize("size", [1, 9, 10, 45])
def test_elimination_solves(size: int) -> None:
    """Oracle: torch.linalg.solve."""
    F = torch.randn(60, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A, b = F.T @ F + 1e-3 * torch.eye(size, dtype=torch.float64), F.T @ torch.ones(60, dtype=torch.float64)
    torch.testing.assert_close(graphs.solve_positive(A, b), torch.linalg.solve(A, b), rtol=1e-9, atol=1e-9)
