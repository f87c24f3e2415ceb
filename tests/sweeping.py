"""Helpers of the tests of sweeps: a tiny grid, a slower one, and a sweep in a process of its own."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import loky
import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_limits

import htlib as ht

TINY = {"n": 40, "d": 10, "h": 15, "n_test": 20, "steps": 1}
SLOW = {"n": 300, "d": 100, "h": 150, "n_test": 100, "steps": 20}  # tenths of a second
# One BLAS thread: several give other last digits, and fight with what else runs on the machine.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
DEADLINE = 180  # seconds; reached only by a test that fails

SCRIPT = """
import json, os, sys
import htlib as ht
options = json.loads(sys.argv[1])
if options.pop("wait"):
    print("ready", flush=True)
    sys.stdin.readline()
if saves := options.pop("die_in_save"):
    ht.Store(options["store"]).check_writable()  # its marker is a file, too
    fsync = os.fsync
    def dying(number):
        global saves
        saves -= 1
        fsync(number) if saves else os.kill(os.getpid(), 9)
    os.fsync = dying
table = ht.sweep(progress=False, **options)
print(json.dumps({"notes": table.attrs["notes"], "table": table.to_json(double_precision=15)}))
"""


@contextmanager
def blas_threads(number):
    """Compute as a worker with so many does: on some processors other numbers give other last digits."""
    before = torch.get_num_threads()
    with threadpool_limits(number, user_api="blas"):
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def assert_same(run, expected):
    assert (run.config, run.diverged_at) == (expected.config, expected.diverged_at)
    pd.testing.assert_frame_equal(run.metrics, expected.metrics, check_exact=True)
    np.testing.assert_array_equal(run.eigenvalues, expected.eigenvalues)
    pd.testing.assert_frame_equal(run.readings, expected.readings, check_exact=True)
    assert list(run.weights) == list(expected.weights)
    assert list(run.overlaps) == list(expected.overlaps)
    for step in run.weights:
        np.testing.assert_array_equal(run.weights[step], expected.weights[step])
        assert run.weights[step].dtype == np.float64
    for step, pair in run.overlaps.items():
        for when, side in product(("before", "after"), ("left", "right")):
            ours, theirs = (getattr(getattr(p, when), side) for p in (pair, expected.overlaps[step]))
            np.testing.assert_array_equal(ours, theirs)


@contextmanager
def dask_executor():
    pytest.importorskip("distributed")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client.get_executor()


# Everything that a sweep may be computed by: options of `htlib.sweep`, or a context that gives an executor.
EXECUTORS = {
    "its own choice": {},
    "its own thread": {"workers": 1},
    "its own processes": {"workers": 2},
    "its own Dask": {"scheduler": "local", "workers": 2},
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, get_context("spawn")),
    "loky": lambda: loky.ProcessPoolExecutor(2),
    "Dask": dask_executor,
}


def start_sweep(store, *, wait=False, die_in_save=0, **options):
    """A sweep in a process group of its own."""
    options |= {"store": str(store), "wait": wait, "die_in_save": die_in_save}
    return start([sys.executable, "-c", SCRIPT, json.dumps(options)])


def start(command, **options):
    environment = {k: v for k, v in os.environ.items() if k != "HTLIB_STORE"} | ONE_THREAD
    return subprocess.Popen(
        command,
        env=environment | {"PYTHONPATH": str(Path(ht.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def files_of(store):
    """The finished runs of a store, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in Path(store).glob("runs/*/*/[!.]*.safetensors")}


def wait_for(condition, process=None):
    """Poll until the condition holds; its value."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended early with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def assert_intact(store):
    """Every file of a store loads, and nothing is left half written or put aside."""
    for path in files_of(store):
        ht.Trajectory.load(path)
    assert not list(Path(store).glob("runs/**/.*"))
    assert not (Path(store) / "set-aside").exists()
