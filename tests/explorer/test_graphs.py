"""Oracle: htlib.train itself, from the same start; the graphs are run by ONNX Runtime.

Fifty steps at rates where training is not chaotic.  At rate 1 Adam's first steps throw the loss from 1.3 to
54 and amplify every rounding: single steps are compared there.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import htlib as ht
from htlib.explorer import graphs
from htlib.student.functions import get_activation, get_teacher
from htlib.student.problem import Problem

pytestmark = pytest.mark.process
CONFIG = ht.ExperimentConfig(n=600, d=300, h=450, n_test=2000, steps=50)
DEAD = 7


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
        return session.run(
            None, {i.name: np.asarray(feed[i.name], kinds[i.type]) for i in session.get_inputs()}
        )

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
    folder = tmp_path_factory.mktemp("graphs")
    # In a process of its own: the exporter trips over the shape checks that conftest puts into htlib.network.
    code = "import pathlib, sys, htlib, htlib.graphs as g; c = htlib.ExperimentConfig(n=600, d=300, h=450);"
    code += "g.export_graphs(pathlib.Path(sys.argv[1]), c)"
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    return Runtime(folder)


def with_a_dead_unit(config: ht.ExperimentConfig) -> Problem:
    """A unit without gradient: Adam divides zero by zero there if its eps is lost."""
    problem = ht.make_problem(config)
    a = problem.readout_weights.copy()
    a[DEAD] = 0
    return dataclasses.replace(problem, readout_weights=a)


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.05), ("gd", 300.0), ("gd", 3000.0)])
def test_fifty_steps_are_those_of_train(runtime: Runtime, optimizer: str, lr: float) -> None:
    config = CONFIG.replace(optimizer=optimizer, lr=lr)
    problem = with_a_dead_unit(config)
    run = ht.train(config, problem, progress=False)
    first = run.metrics["train_loss"][0]
    for step, (loss, W) in enumerate(runtime.losses(config, problem)):
        row = run.metrics.loc[step]
        assert loss == pytest.approx(row["train_loss"], abs=1e-5 * first)
        if step % 10 in (0, 1):
            eigenvalues = ht.esd(W)
            np.testing.assert_allclose(
                eigenvalues, run.eigenvalues[step], rtol=0, atol=5e-5 * eigenvalues[-1]
            )
            measured = runtime.probe(config, problem, W)
            assert measured == pytest.approx(row[["ridge_train_loss", "test_loss", "kta"]].tolist(), rel=1e-3)
    np.testing.assert_array_equal(W[DEAD], problem.hidden_weights[DEAD].astype(np.float32))


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
    _, W_new, _, _ = runtime.step(config, problem, t, before, *moments)
    # an update is of size lr; where the gradient nearly vanishes its direction is rounding
    assert np.quantile(np.abs(W_new - W.detach().numpy()), 0.999) < 1e-4


def gradient_at(W: torch.Tensor, problem: Problem) -> torch.Tensor:
    """By automatic differentiation."""
    W = W.clone().requires_grad_()
    X, y, a = (
        torch.tensor(x, dtype=torch.float32)
        for x in (problem.train.inputs, problem.train.targets, problem.readout_weights)
    )
    output = torch.tanh(X @ W.T / W.shape[1] ** 0.5) @ a / W.shape[0] ** 0.5
    (output - y).square().mean().backward()
    assert W.grad is not None
    return W.grad


@pytest.mark.parametrize("scale", ["paper", "released-code"])
def test_the_probe_of_each_feature_scale(runtime: Runtime, scale: str) -> None:
    config = CONFIG.replace(feature_scale=scale, steps=0)
    problem = ht.make_problem(config)
    row = ht.train(config, problem, progress=False).metrics.loc[0]
    measured = runtime.probe(config, problem, problem.hidden_weights)
    assert measured == pytest.approx(row[["ridge_train_loss", "test_loss", "kta"]].tolist(), rel=1e-5)


def test_overflow_shows_as_numbers_that_are_not_finite(runtime: Runtime) -> None:
    config = CONFIG.replace(optimizer="gd", lr=1e36, steps=2)
    problem = ht.make_problem(config)
    targets = problem.train.targets * 1e30
    problem = dataclasses.replace(problem, train=dataclasses.replace(problem.train, targets=targets))
    assert ht.train(config, problem, progress=False).diverged_at is not None
    values = [loss for loss, _ in runtime.losses(config, problem)]
    assert not np.isfinite(values).all()


@pytest.mark.parametrize("name", graphs.GRAPH_TEACHERS)
def test_links_are_the_teachers_in_double_precision(runtime: Runtime, name: str) -> None:
    z = np.linspace(-6, 6, 601)
    expected = get_teacher(name).value(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(runtime.run(f"link-{name}", {"z": z})[0], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("mutation", ["beta2", "eps", "scale"])
def test_a_mutated_engine_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parity tests must not let pass, on the modules before export."""
    config = CONFIG.replace(lr=0.05, steps=3)
    problem = with_a_dead_unit(config)
    step = graphs.Step("adam", get_activation("tanh"), 0.0 if mutation == "eps" else 1e-8)
    if mutation == "beta2":
        step.betas = (0.9, 0.99)
    data = [torch.tensor(x, dtype=torch.float32) for x in (problem.train.inputs, problem.train.targets)]
    if mutation == "scale":
        data[0] *= 1.01
    W, a = (torch.tensor(x, dtype=torch.float32) for x in (problem.hidden_weights, problem.readout_weights))
    m, v = torch.zeros_like(W), torch.zeros_like(W)
    lr, losses = torch.tensor(config.lr, dtype=torch.float64), []
    for t in range(1, 5):
        loss, W, m, v = step(W, a, *data, lr, torch.tensor(t, dtype=torch.float64), m, v)
        losses.append(float(loss))
    expected = ht.train(config, problem, progress=False).metrics["train_loss"].to_numpy()
    difference = np.abs(losses - expected).max() / expected[0]
    assert not difference <= 1e-5


@pytest.mark.parametrize("size", [1, 9, 10, 45])
def test_elimination_solves(size: int) -> None:
    """Oracle: torch.linalg.solve."""
    F = torch.randn(60, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A, b = F.T @ F + 1e-3 * torch.eye(size, dtype=torch.float64), F.T @ torch.ones(60, dtype=torch.float64)
    torch.testing.assert_close(graphs.solve_positive(A, b), torch.linalg.solve(A, b), rtol=1e-9, atol=1e-9)
