"""Compare the instrumented ten-step run with the BLAS and LAPACK calls that it cannot avoid.

The run has the paper's sizes (n = 2000, d = 1000, h = 1500, 2000 test points) and takes all measures at all
11 probes.  The floor consists of the same matrix calls on the same shapes and precisions, with nothing
between them: two products per step and one forward product at the end; at each probe the features of the two
sets, their Gram matrix and its Cholesky factor, W^T W and its eigendecomposition.  Run and floor alternate,
and the comparison uses medians, so that a drift of the machine cancels.

    python -m benchmarks.instrumented_run
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch

import htlib as ht
from benchmarks.memory import peak

CONFIG = ht.ExperimentConfig()
PROBLEM = ht.make_problem(CONFIG)
REPEATS = 7
THREADS = 2


def floor() -> None:
    """Make the matrix calls of one run."""
    n, d, h, n_test = CONFIG.n, CONFIG.d, CONFIG.h, CONFIG.n_test
    X, W, slope, X_test = (torch.ones(s) for s in ((n, d), (h, d), (n, h), (n_test, d)))
    F, W64 = torch.rand(n, h, dtype=torch.float64), torch.rand(h, d, dtype=torch.float64)
    for _ in range(CONFIG.steps):
        torch.mm(X, W.T)
        torch.mm(slope.T, X)
    torch.mm(X, W.T)
    for _ in range(CONFIG.steps + 1):
        torch.mm(X, W.T)
        torch.mm(X_test, W.T)
        gram = torch.mm(F.T, F)
        gram.diagonal().add_(1.0)
        torch.linalg.cholesky(gram)
        torch.linalg.eigh(torch.mm(W64.T, W64))


def run() -> None:
    """Do the instrumented run, including its first gradient and first probe."""
    ht.train(CONFIG, PROBLEM, progress=False)


def seconds(call) -> float:
    """Return the wall time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Print the ratio of medians and the memory of a process that does one run."""
    torch.set_num_threads(THREADS)
    seconds(run), seconds(floor)  # warm up
    pairs = [(seconds(run), seconds(floor)) for _ in range(REPEATS)]
    runs, floors = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    print(f"ten-step run, 11 probes, {THREADS} threads, median of {REPEATS}")
    print(f"  htlib                {runs:6.2f} s")
    print(f"  matrix calls alone   {floors:6.2f} s")
    print(
        f"  ratio of medians     {runs / floors:6.2f}   (pairs {ratios[0]:.2f} to {ratios[-1]:.2f}; goal 1.3)"
    )
    command = [sys.executable, "-m", "benchmarks.instrumented_run", "--memory"]
    memory = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"  peak memory          {memory.stdout.strip()} MiB of one process, torch included (goal 1024)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true", help="do one run and print the peak memory in MiB")
    if parser.parse_args().memory:
        run()
        print(peak() // 2**20)
    else:
        main()
