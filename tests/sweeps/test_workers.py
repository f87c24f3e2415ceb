"""Oracle: `htlib.train` of each config alone; the state of the process before."""

import multiprocessing
import sys
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from threadpoolctl import threadpool_info

import htlib as ht
from htlib.student.config import Reading
from htlib.sweeps import workers as executors
from htlib.sweeps.kinds import Task, kind_of
from htlib.sweeps.workers import compute, open_executor, work_of
from tests.refusals import refused
from tests.sweeping import TINY, assert_same, blas_threads

CONFIG = ht.ExperimentConfig(**TINY)
PAPER = ht.ExperimentConfig(n_test=200)
LONG = PAPER.replace(steps=500)


@pytest.fixture(autouse=True)
def as_it_was():
    with executors.process_as_it_was():
        yield


def test_a_task_gives_what_train_gives():
    readings = (Reading("paper", 0.5), Reading("released-code", 0.01))
    with blas_threads(1):
        assert_same(compute(Task(CONFIG, readings), 1), ht.train(CONFIG, readings=readings))
        run = compute(Task(CONFIG, (), keep_weights=True, keep_overlaps=True), 1)
        assert_same(run, ht.train(CONFIG, keep_weights=True, keep_overlaps=True))


def test_tasks_of_one_problem_share_their_start_key():
    changes = ({}, {"lr": 9.0, "steps": 7, "optimizer": "gd"}, {"seed": 1})
    one, other, third = (Task(CONFIG.replace(**change), ()).start_key for change in changes)
    assert one == other != third


def test_giving_up_ends_a_task_after_the_step():
    """A run of a billion steps would keep the test waiting."""
    task = Task(CONFIG.replace(steps=10**9, probe_every=10**9), ())
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(compute, task, 1, "this sweep")
        executors.give_up("another")
        with pytest.raises(TimeoutError):
            future.result(timeout=0.2)
        executors.give_up("this sweep")
        assert isinstance(future.exception(timeout=60), CancelledError)


@pytest.mark.parametrize("number", [1, 2])
def test_threads_are_blas_threads_of_each_worker(number):
    """In the thread that computes; the libraries of the process are limited alike."""

    def work():
        compute(Task(CONFIG, ()), number)
        blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        return torch.get_num_threads(), blas

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == (number, {number})


def size_of(config):
    return kind_of(config).bytes(config)


@pytest.mark.parametrize(
    ("configs", "options", "memory", "expected"),
    [
        ([CONFIG] * 9, {}, 1e12, "with 4 threads of this process, 1 BLAS thread each"),
        ([CONFIG] * 3, {}, 1e12, "with 3 threads of this process, 1 BLAS thread each"),
        ([PAPER], {}, 1e12, "with 1 thread of this process, 1 BLAS thread each"),
        ([LONG], {"threads": 2}, 1e12, "with 1 thread of this process, 2 BLAS threads each"),
        ([LONG] * 9, {}, 1e12, "with 4 processes, 1 BLAS thread each"),
        ([LONG] * 9, {}, 2.5 * (3e8 + size_of(LONG)) / 0.8, "with 2 processes, 1 BLAS thread each"),
        ([LONG] * 9, {}, 1e6, "with 1 thread of this process, 1 BLAS thread each"),
        ([CONFIG] * 9, {"workers": 6, "threads": 3}, 1e6, "with 6 processes, 3 BLAS threads each"),
    ],
)
def test_cores_tasks_memory_and_work_decide(configs, options, memory, expected, monkeypatch):
    """On four pretended cores; `memory` is the available one in bytes."""
    monkeypatch.setattr(executors, "available_cores", lambda: 4)
    monkeypatch.setattr(executors, "_processes", lambda *args: nullcontext(args))
    monkeypatch.setattr(executors.psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    with open_executor([Task(config, ()) for config in configs], **options) as (_, slots, name):
        assert name == expected
        assert slots == int(name.split()[1])
    with open_executor([Task(config, (), device="cuda") for config in configs]) as (_, slots, _):
        assert slots == 1


def test_more_work_and_more_memory_for_more_of_everything():
    def work(config):
        return work_of(Task(config, ()))

    for name in ("n", "d", "h", "n_test", "steps"):
        larger = CONFIG.replace(**{name: 4 * getattr(CONFIG, name)})
        assert work(larger) > work(CONFIG)
        assert name == "steps" or size_of(larger) > size_of(CONFIG)
    assert work(CONFIG.replace(steps=8)) > work(CONFIG.replace(steps=8, probe_every=4))


@pytest.mark.process
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        *((address, ": ") for address in ("nonsense", "tcp://127.0.0.1", "gopher://127.0.0.1:70", "")),
        ("tcp://127.0.0.1:1", "refused"),  # nothing listens at port 1
    ],
)
def test_an_address_without_a_scheduler_is_refused(address, reason, tmp_path):
    pytest.importorskip("distributed")
    with refused("no Dask scheduler", repr(address), reason, error=ConnectionError):
        ht.sweep(TINY, 1, tmp_path, address, progress=False)


@pytest.mark.process
def test_a_scheduler_without_workers_is_refused(tmp_path):
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    options = {"processes": False, "protocol": "tcp", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, **options) as cluster,
        pytest.raises(ConnectionError, match="has no workers; start some: dask worker"),
    ):
        ht.sweep(TINY, 1, tmp_path, cluster.scheduler_address, progress=False)


def test_a_script_without_a_guard_is_told_of_it_and_its_workers_are_silent(tmp_path, monkeypatch):
    """As distributed fails in the script, and as multiprocessing marks a worker that imports the script."""
    distributed = pytest.importorskip("distributed")

    def fail(**options):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with refused("scheduler='local'", "workers", 'if __name__ == "__main__":', error=RuntimeError):
        ht.sweep(TINY, 1, tmp_path, "local", progress=False)
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit, match="1"):
        ht.sweep(TINY, 1, tmp_path, "local", progress=False)


def test_dask_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with refused("scheduler=", "dask.distributed", "'htlib[dask]'", error=ImportError):
        ht.sweep(TINY, 1, tmp_path, "local", progress=False)


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(executors.os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert executors.available_cores() == 3
    monkeypatch.delattr(executors.os, "sched_getaffinity")
    monkeypatch.setattr(executors.os, "cpu_count", lambda: None)
    assert executors.available_cores() == 1
