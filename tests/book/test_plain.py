"""The hundred lines of the appendix.  Oracle: `htlib.train`, with which they share no line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import htlib as ht

FILE = Path(__file__).parents[2] / "book" / "static" / "plain.py"


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hundred_lines_without_htlib() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert "import htlib" not in text


@pytest.mark.parametrize("rule", [{"optimizer": "adam", "lr": 1.0}, {"optimizer": "gd", "lr": 20.0}])
def test_the_same_numbers(plain: ModuleType, rule: dict[str, Any]) -> None:
    """In float64, where two routes of the same mathematics differ by rounding only."""
    config = ht.ExperimentConfig(n=120, d=40, h=60, n_test=80, steps=3, dtype="float64", **rule)
    problem = ht.make_problem(config)
    (X, y), probe, test = (
        (torch.tensor(s.inputs, dtype=torch.float64), torch.tensor(s.targets, dtype=torch.float64))
        for s in (problem.train, problem.probe, problem.test)
    )
    W, a, beta = (
        torch.tensor(v, dtype=torch.float64)
        for v in (problem.hidden_weights, problem.readout_weights, problem.teacher_direction)
    )
    expected = ht.train(config, progress=False).metrics
    states = list(plain.train(X, y, W, a, steps=config.steps, **rule))
    assert len(states) == len(expected) == config.steps + 1
    for state, (_, row) in zip(states, expected.iterrows(), strict=True):
        for name, value in plain.measure(state, beta, probe, test).items():
            assert value == pytest.approx(row[name], rel=1e-9), name


def test_it_runs(plain: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_default_dtype()
    try:
        plain.main(n=60, d=20, h=30, steps=2)
    finally:
        torch.set_default_dtype(before)
    assert capsys.readouterr().out.count("alpha_hill") == 3
