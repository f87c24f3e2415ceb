"""Hold the predicted bulk after one step to training: ``python -m benchmarks.bulk [SEEDS]``.

For four shapes, both optimizers and ten rates over three decades, from 1.5 times the critical rate, it
prints means over seeds: the error of the predicted median (and edge) for s_2, the largest singular value of
the bulk; the error of PL_Alpha_Hill of the whole spectrum; the Kolmogorov distance of the bulk; the time.
"given" is the law for known inputs, residuals and readouts, "closed" that for the setting only.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import pandas as pd
import torch

import htlib as ht
from htlib.student.start import prepare

SHAPES = ((2000, 1000, 1500), (1500, 600, 500), (600, 900, 500), (3000, 500, 1000))  # n, d, h
FIRST_SEED = 200  # none that a development looked at


def main(n_seeds: int = 10) -> None:
    """Print one table."""
    rows = [row for shape in SHAPES for name in ("adam", "gd") for row in measured(shape, name, n_seeds)]
    table = pd.DataFrame(rows)
    keys = ["shape", "optimizer", "law", "rate"]
    means = table.groupby(keys, sort=False).mean()
    print(means.round(4).to_string())
    worst = means.abs().groupby(["shape", "optimizer", "law"], sort=False).max()
    print("\nlargest absolute means over rates\n", worst.round(4).to_string(), sep="")


def measured(shape: tuple[int, int, int], optimizer: str, n_seeds: int):
    """Yield one row per seed, rate and law."""
    sizes = dict(zip(("n", "d", "h"), shape, strict=True))
    law = ht.one_step_law(**sizes, optimizer=optimizer)
    law.bulk(1.0)  # what does not depend on the rate
    for seed in range(FIRST_SEED, FIRST_SEED + n_seeds):
        config = ht.ExperimentConfig(**sizes, n_test=10, seed=seed)
        start, problem = prepare(config), ht.make_problem(config)
        law.bulk(1.0, problem)
        step = start.gradient if optimizer == "gd" else torch.sign(start.gradient)
        for multiple in np.geomspace(1.5, 1500, 10):
            lr = float(multiple * law.critical_lr)
            spectrum = ht.esd((start.hidden_weights - lr * step).double())
            bulk, s2 = spectrum[:-1], math.sqrt(spectrum[-2])
            for name, data in (("given", problem), ("closed", None)):
                begin = time.process_time()
                found = law.bulk(lr, data)
                edge, hill = found.edge, found.hill_alpha(spectrum[-1])
                seconds = time.process_time() - begin
                levels = np.arange(len(bulk) + 1) / len(bulk)
                fitted = found.cdf(bulk)
                yield {
                    "shape": str(shape),
                    "optimizer": optimizer,
                    "law": name,
                    "rate": round(multiple, 1),
                    "s2, %": 100 * (math.sqrt(found.largest_quantile()) / s2 - 1),
                    "edge, %": 100 * (math.sqrt(edge) / s2 - 1),
                    "Hill": hill - ht.hill_alpha(spectrum),
                    "distance": max((levels[1:] - fitted).max(), (fitted - levels[:-1]).max()),
                    "ms": 1000 * seconds,
                }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
