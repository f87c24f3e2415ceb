"""One run of `ht.train` while another program keeps one core busy, for three ways of waiting threads.

    python -m benchmarks.busy

Each time is the median of three ten-step runs at the paper's sizes with 11 probes, in a process of its own:
threads that sleep while they wait (what ``import htlib`` asks for), threads that spin (OpenMP's default), and
one thread.
"""

import multiprocessing
import os
import subprocess
import sys
from contextlib import contextmanager

SCRIPT = """
import statistics, sys, time
if sys.argv[1] == "spin":
    import torch  # before htlib, whose setting then comes too late
import htlib as ht
times = []
for seed in range(3):
    began = time.perf_counter()
    ht.train(ht.ExperimentConfig(steps=10, n_test=200, seed=seed), progress=False)
    times.append(time.perf_counter() - began)
print(statistics.median(times))
"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LIMIT = 120  # seconds for three runs


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


@contextmanager
def busy_core(wanted: bool):
    """Have another process at work on a core, if that is wanted."""
    if not wanted:
        yield
        return
    process = multiprocessing.Process(target=spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()


def seconds(way: str) -> str:
    """Time the runs in a new process."""
    environment = {
        name: value for name, value in os.environ.items() if name not in (*THREADS, "OMP_WAIT_POLICY")
    }
    if way == "one":
        environment |= dict.fromkeys(THREADS, "1")
    command = [sys.executable, "-c", SCRIPT, way]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"more than {LIMIT // 3} s"
    return f"{float(done.stdout):.1f} s"


def main() -> None:
    """Print a table of times."""
    print(f"ten steps with 11 probes, {os.cpu_count()} cores       idle   one core busy")
    for way, title in (("sleep", "threads sleep"), ("spin", "threads spin"), ("one", "one thread")):
        times = []
        for wanted in (False, True):
            with busy_core(wanted):
                times.append(seconds(way))
        print(f"  {title:32} {times[0]:>12} {times[1]:>14}", flush=True)


if __name__ == "__main__":
    main()
