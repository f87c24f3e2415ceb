"""Processes killed for real.  Oracle: the table of a sweep that nothing happened to."""

import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import ExitStack

import pandas as pd
import psutil
import pytest

import htlib as ht
from tests.sweeping import (
    DEADLINE,
    EXECUTORS,
    SLOW,
    TINY,
    assert_intact,
    files_of,
    start,
    start_sweep,
    wait_for,
)

pytestmark = pytest.mark.process
GRID = SLOW | {"lr": [0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0]}
SEEDS = 2
TOTAL = 14


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return sweep_here(tmp_path_factory.mktemp("expected"))


def sweep_here(store, **options):
    return ht.sweep(GRID, SEEDS, store, progress=False, threads=1, **{"workers": 1} | options)


@pytest.fixture
def processes():
    """Popen objects registered here do not outlive the test."""
    with ExitStack() as stack:

        def register(process):
            stack.callback(end, process)
            return process

        yield register


def end(process):
    for one in family_of(process):
        one.kill()
    process.kill()
    process.communicate()


def family_of(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def assert_gone(others):
    _, alive = psutil.wait_procs(others, timeout=DEADLINE)
    assert not alive


def assert_goes_on(store, expected):
    """After 3 or more runs a sweep was lost; the next one computes only the others."""
    finished = files_of(store)
    assert 3 <= len(finished) < TOTAL
    pd.testing.assert_frame_equal(sweep_here(store), expected, check_exact=True)
    assert finished.items() <= files_of(store).items()
    assert_intact(store)


@pytest.mark.long
def test_a_sweep_killed_three_times_ends_as_if_nothing_had_happened(expected, tmp_path, processes):
    """Killed are the parent of worker processes, the group of a process sweep, and that of a thread sweep."""
    finished = {}
    for workers, runs, kill in [
        (2, 2, lambda p: (p.kill(), p.communicate())),
        (2, 6, kill_group),
        (1, 9, kill_group),
    ]:
        process = processes(start_sweep(tmp_path, grid=GRID, seeds=SEEDS, workers=workers, threads=1))
        wait_for(lambda runs=runs: len(files_of(tmp_path)) >= runs, process)
        family = family_of(process)
        assert len([p for p in family if "LokyProcess" in " ".join(p.cmdline())]) == (workers > 1) * workers
        kill(process)
        assert_gone(family)  # workers notice that their parent died
        assert finished.items() <= files_of(tmp_path).items()  # none of them was written again
        finished = files_of(tmp_path)
        assert len(finished) < TOTAL, "the sweep ended before the kill: make it slower"
    table = sweep_here(tmp_path)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert f"{len(finished)} from the store, {TOTAL - len(finished)} computed" in table.attrs["notes"][-1]
    assert finished.items() <= files_of(tmp_path).items()
    assert len(files_of(tmp_path)) == TOTAL
    assert_intact(tmp_path)


def test_a_writer_killed_while_it_writes_leaves_no_run_and_its_trash_is_cleared(tmp_path, processes):
    grid = TINY | {"lr": [0.1, 1.0, 2.0]}
    process = processes(start_sweep(tmp_path, grid=grid, seeds=1, workers=1, threads=1, die_in_save=2))
    process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL
    assert len(files_of(tmp_path)) == 1
    assert len(list(tmp_path.glob("runs/*/*/.*"))) == 1
    table = ht.sweep(grid, 1, tmp_path, workers=1, progress=False)
    assert "3 of 3 runs, 1 from the store, 2 computed" in table.attrs["notes"][-1]
    assert not list((tmp_path / "locks" / "writers").iterdir())
    assert_intact(tmp_path)


def test_two_processes_on_one_store_share_the_work(expected, tmp_path, processes):
    options = {"grid": GRID, "seeds": SEEDS, "workers": 1, "threads": 1, "wait": True}
    both = [processes(start_sweep(tmp_path, **options)) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=DEADLINE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    results = [json.loads(out) for out, _ in ends]
    notes = [" | ".join(result["notes"]) for result in results]
    assert results[0]["table"] == results[1]["table"] == expected.to_json(double_precision=15)
    computed = [sum(map(int, re.findall(r"(\d+) computed", note))) for note in notes]
    assert sum(computed) == TOTAL
    assert min(computed) > 0
    names = [f"-{process.pid} also works on this store; finished runs are shared" for process in both]
    assert names[1] in notes[0] or names[0] in notes[1]
    assert len(files_of(tmp_path)) == TOTAL
    assert_intact(tmp_path)


def kill_when(store, runs, victim):
    """A thread that kills the process that `victim` returns once so many runs are stored."""

    def work():
        wait_for(lambda: len(files_of(store)) >= runs)
        victim().kill()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_killed_worker_process_costs_only_its_own_run(expected, tmp_path):
    def worker():
        children = psutil.Process().children(recursive=True)
        return next(child for child in children if "LokyProcess" in " ".join(child.cmdline()))

    killer = kill_when(tmp_path, 3, worker)
    table = sweep_here(tmp_path, workers=2)
    killer.join()
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert "a worker died; its runs start again" in table.attrs["notes"]
    assert f"{TOTAL} of {TOTAL} runs, {TOTAL} computed" in table.attrs["notes"][-1]
    assert_intact(tmp_path)


# The test before this one kills a worker of loky.
@pytest.mark.long
@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_a_killed_worker_of_a_given_pool_ends_the_sweep_and_not_the_next_one(kind, expected, tmp_path):
    before = set(psutil.Process().children())

    def worker():
        new = set(psutil.Process().children()) - before
        return next(p for p in new if "resource_tracker" not in " ".join(p.cmdline()))

    killer = kill_when(tmp_path, 3, worker)
    with EXECUTORS[kind]() as pool, pytest.raises(ht.SweepError, match="lost the given executor"):
        sweep_here(tmp_path, workers=None, executor=pool)
    killer.join()
    assert_goes_on(tmp_path, expected)


@pytest.mark.long  # a cluster of three processes; sweeps on a Dask cluster are in test_compute.py
def test_a_killed_dask_worker_and_a_killed_dask_scheduler(expected, tmp_path, processes):
    pytest.importorskip("distributed")
    from distributed import Client

    contact = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    command += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(contact)]
    scheduler = processes(start([*command, "--host", "127.0.0.1"]))
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(contact)]
    command += ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    wait_for(contact.exists, scheduler)
    workers = [processes(start(command, cwd=tmp_path)) for _ in range(2)]
    address = wait_for(lambda: contact.read_text() and json.loads(contact.read_text())["address"])
    killer = kill_when(tmp_path / "one", 3, lambda: workers[0])
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=DEADLINE)
        table = sweep_here(tmp_path / "one", workers=None, executor=client.get_executor())
    killer.join()
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert_intact(tmp_path / "one")

    killer = kill_when(tmp_path / "two", 3, lambda: scheduler)
    began = time.monotonic()
    with pytest.raises(ht.SweepError, match=r"lost the Dask scheduler .* the same call goes on from there"):
        sweep_here(tmp_path / "two", workers=None, scheduler=address)
    assert time.monotonic() - began < 60  # a client tries for 10 s to find it again
    killer.join()
    assert_goes_on(tmp_path / "two", expected)


PRESET = """
title = "slow"
figure = "rate_map"
[[grid]]
n = 300
d = 100
h = 150
n_test = 100
steps = 100
lr = [0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0]
[fast]
seeds = 5
[paper]
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_sweep_with_one_line(workers, tmp_path, processes):
    """1 worker is a thread, 2 are processes."""
    # A suite in the background of a script ignores Ctrl-C, and what it starts would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (tmp_path / "slow.toml").write_text(PRESET)
    store = tmp_path / "store"
    command = [sys.executable, "-m", "htlib.commands.main", "sweep", "slow.toml", "--store", str(store)]
    process = processes(start([*command, "--workers", str(workers), "--threads", "1"], cwd=tmp_path))
    wait_for(lambda: len(files_of(store)) >= 2, process)
    family = family_of(process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, err
    last = err.strip().splitlines()[-1]
    stored = len(files_of(store))
    assert last.startswith(f"htlib sweep: interrupted; {stored} of 50 runs, ")
    assert last.endswith("the same call goes on from there")
    assert "Traceback" not in err
    assert out == ""
    assert_gone(family)
    assert_intact(store)
