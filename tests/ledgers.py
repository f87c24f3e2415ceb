"""Runs with chosen measures, and small ledgers, for the tests of effects, claims and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from htlib import ExperimentConfig, Trajectory
from htlib.student.probes import METRICS
from htlib.student.run import assemble

PRESET = """
title = "tiny"
figure = "along_steps"

[[grid]]
n = 40
d = 12
h = 18
n_test = 30
steps = 2
lr = [0.1, 1.0]

[fast]
seeds = [1000, 1001, 1002]

[paper]
seeds = [1000, 1001, 1002, 1003]
"""
LEDGER = """
claims:
  - id: falls
    claim: The exponent changes.
    source: nowhere
    shown: 01-setting
    checks:
      - says: Hill, last minus start
        experiment: tiny
        effect: difference
        measure: alpha_hill
        of: {lr: 1.0}
        minus: {lr: 1.0, step: 0}
        expect: "> -100"
  - id: open-question
    claim: Something else.
    source: nowhere
    shown: 01-setting
    comment: Nobody has looked.
"""


def run(seed: int = 0, eigenvalues: Any = None, steps: int = 1, **fields: Any) -> Trajectory:
    """A run of `steps` steps; a metric is given as a list, one value per step from 0 on."""
    measured = {name: fields.pop(name) for name in METRICS if name in fields}
    config = ExperimentConfig(seed=seed, steps=steps, **fields)
    table = np.ones((steps + 1, len(METRICS)))
    for name, values in measured.items():
        table[:, list(METRICS).index(name)] = values
    spectra = np.ones((steps + 1, min(config.h, config.d))) if eigenvalues is None else np.array(eigenvalues)
    return assemble(config, list(METRICS), list(range(steps + 1)), table, spectra)


def project(folder: Path, ledger: str = LEDGER, preset: str = PRESET) -> Path:
    """A folder with a preset and a ledger; its path."""
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "tiny.toml").write_text(preset)
    (folder / "book").mkdir(exist_ok=True)
    (folder / "book" / "claims.yml").write_text(ledger)
    return folder
