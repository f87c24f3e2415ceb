"""Compare sweeps with the plain implementation of `benchmarks.baseline`, and measure how they scale.

The sizes are the paper's with 200 test points, one seed and nine rates of each optimizer.  The parts measure

- one step, both probes, all measures; and ten steps, measured at the start and the end;
- the throughput of two worker processes, and of more where there are cores, against one, each pinned to
  a core where the system allows it;
- the time that Dask adds to the same tasks, of about a second each;
- the time as a function of d, at n = 2 d and h = 1.5 d;
- the rate of tiny runs while a store fills up.

    python -m benchmarks.sweeps [PART ...]     parts: rates workers dask size store
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from pathlib import Path

import loky
import psutil
import torch

import htlib as ht
from benchmarks import baseline
from htlib.sweeps import workers as executors
from htlib.sweeps.grid import expand
from htlib.sweeps.workers import Task, compute

RATES = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 2e3, 3e3]
PLAIN = {"optimizer": ["adam", "gd"], "lr": RATES, "n_test": 200}
REPEATS = 3


def rates() -> None:
    """Time the two whole rate sweeps, from the call to the table, including the store and its files."""
    for title, steps, goal in (("one step", 1, 6), ("ten steps, measured at the ends", 10, 25)):
        grid = {**PLAIN, "steps": steps, "probe_every": steps}
        ours = []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as store:
                began = time.perf_counter()
                table = ht.sweep(grid, seeds=1, store=store, progress=False)
                ours.append(time.perf_counter() - began)
                began = time.perf_counter()
                ht.sweep(grid, seeds=1, store=store, progress=False)
                again = time.perf_counter() - began
        began = time.perf_counter()
        for config in expand(grid, 1):
            baseline.run(config)
        plain = time.perf_counter() - began
        mine = statistics.median(ours)
        print(f"rate sweep, {title}: 18 runs, {len(table)} probes")
        print(f"  htlib        {mine:6.2f} s   ({min(ours):.2f} to {max(ours):.2f}; goal {goal})")
        print(f"  baseline     {plain:6.2f} s   (one sweep, {torch.get_num_threads()} threads)")
        print(f"  ratio        {plain / mine:6.2f}")
        print(f"  once more    {again:6.2f} s   (from the store)")
        print(f"  {'; '.join(table.attrs['notes'])}")


def workers() -> None:
    """Measure the throughput of one, two, four, ... processes with one BLAS thread each, in turn."""
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= executors.available_cores()]
    tasks = _tasks(steps=3, count=6 * counts[-1])
    rate = {count: [] for count in counts}
    for _ in range(REPEATS):
        for count, rates_seen in rate.items():
            with loky.ProcessPoolExecutor(count) as pool:  # a sweep computes for one worker in threads
                _throughput(pool, count, tasks[: 2 * count])  # the workers start and prepare
                _pin()
                rates_seen.append(_throughput(pool, count, tasks[: 6 * count]))
    one = statistics.median(rate[1])
    print(f"worker processes, one BLAS thread each: runs of {1 / one:.2f} s, {REPEATS} times")
    for count in counts[1:]:
        ratio = statistics.median(rate[count]) / one
        pairs = sorted(b / a for a, b in zip(rate[1], rate[count], strict=True))
        goal = "; goal 1.8" if count == 2 else ""
        print(f"  {count} against one {ratio:.2f}   (pairs {pairs[0]:.2f} to {pairs[-1]:.2f}{goal})")


def dask() -> None:
    """Run the same tasks on two worker processes and on a local Dask cluster of two workers, in turn."""
    tasks = _tasks(steps=6, count=16)
    rate = {None: [], "local": []}
    for _ in range(REPEATS):
        for scheduler, seen in rate.items():
            with executors.open_executor(tasks, scheduler=scheduler, workers=2) as (pool, slots, _name):
                _throughput(pool, slots, tasks[:4])
                seen.append(_throughput(pool, slots, tasks))
    ours, theirs = (statistics.median(seen) for seen in rate.values())
    pairs = sorted(a / b - 1 for a, b in zip(*rate.values(), strict=True))
    print(f"Dask: {len(tasks)} runs of {2 / ours:.2f} s on two workers, {REPEATS} times")
    print(
        f"  added to the time {100 * (ours / theirs - 1):.1f} %   "
        f"(pairs {100 * pairs[0]:.1f} to {100 * pairs[-1]:.1f}; goal 5)"
    )


def size() -> None:
    """Time one run of one step on one thread, which shares nothing, against the baseline."""
    torch.set_num_threads(1)
    print("one run of one step, one thread, against d (n = 2 d, h = 1.5 d)")
    for d in (125, 250, 500, 1000):
        config = ht.ExperimentConfig(n=2 * d, d=d, h=3 * d // 2, n_test=200, steps=1)
        pairs = []
        for _ in range(REPEATS + 1):
            times = []
            for call in (lambda c: ht.train(c, progress=False), baseline.run):
                began = time.perf_counter()
                call(config)
                times.append(time.perf_counter() - began)
            pairs.append(times)
        ours, plain = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
        print(f"  d = {d:5}   htlib {ours:6.3f} s   baseline {plain:6.3f} s   ratio {plain / ours:5.2f}")


def store() -> None:
    """Put ten thousand tiny runs into one store, a thousand at a time."""
    tiny = {"n": 20, "d": 6, "h": 9, "n_test": 10, "steps": 1}
    with tempfile.TemporaryDirectory() as folder:
        speed = []
        for seed in range(10):
            grid = {**tiny, "lr": [0.01 * (k + 1) for k in range(1000)]}
            began = time.perf_counter()
            ht.sweep(grid, seeds=[seed], store=folder, workers=1, progress=False)
            speed.append(1000 / (time.perf_counter() - began))
        began = time.perf_counter()
        ht.sweep(grid, seeds=[9], store=folder, progress=False)
        again = time.perf_counter() - began
        files = sum(1 for _ in Path(folder).rglob("*.safetensors"))
    print(f"store: {files} tiny runs; runs per second of each thousand:")
    print("  " + " ".join(f"{value:.0f}" for value in speed))
    print(f"  a thousand of them read again in {again:.2f} s")


def _tasks(steps: int, count: int) -> list[Task]:
    config = ht.ExperimentConfig(n_test=200, steps=steps, probe_every=steps)
    return [Task(config.replace(lr=0.1 * (k + 1)), ()) for k in range(count)]


def _throughput(executor: Executor, slots: int, tasks: list[Task]) -> float:
    """Return tasks per second; as in a sweep, at most `slots` of them run at a time."""
    began = time.perf_counter()
    waiting, running = list(tasks), set()
    while waiting or running:
        while waiting and len(running) < slots:
            running.add(executor.submit(compute, waiting.pop(), 1))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
    return len(tasks) / (time.perf_counter() - began)


def _pin() -> None:
    """Pin each worker process to its own core."""
    children = [p for p in psutil.Process().children() if p.memory_info().rss > 1e8]
    for core, process in enumerate(children):
        if hasattr(process, "cpu_affinity"):
            process.cpu_affinity([core % executors.available_cores()])


PARTS = {part.__name__: part for part in (rates, workers, dask, size, store)}


def main(parts: list[str] | None = None) -> None:
    """Measure the named parts, or all parts."""
    for name in parts or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", default=[])
    main(parser.parse_args().parts)
