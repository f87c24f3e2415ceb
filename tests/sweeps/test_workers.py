"""Oracle: `htlib.train` of each config alone; the state of the process before."""

import sys
import threading

import pytest
import torch
from threadpoolctl import threadpool_info

import htlib as ht
from htlib.sweeps import tasks
from htlib.sweeps import workers as executors
from htlib.sweeps.tasks import GivenUp, Task
from tests.sweeping import TINY, assert_same, blas_threads, task_of

CONFIG = ht.ExperimentConfig(**TINY)


pytestmark = pytest.mark.usefixtures("no_starts_kept")


def numbers_of_threads():
    return torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize("give_up", [False, True])
def test_threads_compute_and_leave_the_process_as_it_was(give_up):
    before = numbers_of_threads()
    engine = executors.threads(2, 1)
    assert engine.name == "2 threads of this process x 1 BLAS thread"
    assert engine.slots == 2
    futures = [engine.submit(task_of(CONFIG.replace(lr=lr))) for lr in (0.1, 1.0, 2.0)]
    runs = [future.result().runs[0] for future in futures]
    engine.close(give_up)
    assert numbers_of_threads() == before
    with blas_threads(1):
        for run in runs:
            assert_same(run, ht.train(run.config))
    with pytest.raises(RuntimeError):
        engine.submit(task_of(CONFIG))


def test_closing_threads_in_a_hurry_gives_up_what_is_at_work(monkeypatch):
    """A run of a billion steps would keep the test waiting."""
    started = threading.Event()
    train_family = tasks.train_family

    def train(*args, on_step, **options):
        return train_family(*args, on_step=lambda: started.set() or on_step(), **options)

    monkeypatch.setattr(tasks, "train_family", train)
    engine = executors.threads(1, 1)
    futures = [engine.submit(task_of(CONFIG.replace(steps=10**9, lr=lr, probe_every=10**9))) for lr in (1, 2)]
    assert started.wait(60)
    engine.close(True)
    assert isinstance(futures[0].exception(), GivenUp)
    assert futures[1].cancelled()


def test_an_error_of_a_task_reaches_the_caller():
    engine = executors.threads(1, 1)
    future = engine.submit(Task((CONFIG,), "nowhere", False, False))
    with pytest.raises(ValueError, match="device 'nowhere' cannot be used here"):
        future.result()
    engine.close(True)


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "gopher://127.0.0.1:70", ""])
def test_an_address_that_is_none_is_refused_at_once(address, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ConnectionError, match=f"no Dask scheduler answers at '{address}': "):
        ht.sweep(TINY, 1, tmp_path, address, progress=False)


def test_an_address_where_nobody_answers_is_refused(tmp_path):
    """Port 1 is nobody's."""
    pytest.importorskip("distributed")
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:1': .*refused"):
        ht.sweep(TINY, 1, tmp_path, "tcp://127.0.0.1:1", progress=False)


def test_a_scheduler_without_workers_is_refused(tmp_path):
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    options = {"processes": False, "protocol": "tcp", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, **options) as cluster,
        pytest.raises(ConnectionError, match="has no workers; start some: dask worker"),
    ):
        ht.sweep(TINY, 1, tmp_path, cluster.scheduler_address, progress=False)


def test_dask_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"scheduler= needs dask.distributed: pip install 'htlib\[dask\]'"):
        ht.sweep(TINY, 1, tmp_path, "local", progress=False)


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(executors.os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert executors.available_cores() == 3
    monkeypatch.delattr(executors.os, "sched_getaffinity")
    monkeypatch.setattr(executors.os, "cpu_count", lambda: None)
    assert executors.available_cores() == 1
