"""Executors of a sweep, and what their workers compute: one training at a time.

A worker is a thread or a process of this machine, of a Dask cluster, or of the executor that the caller gave.
All of them call `compute`, with one meaning of ``threads``: the BLAS threads of each worker.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any

import psutil
import torch
from threadpoolctl import ThreadpoolController

from htlib.student.start import forget_starts
from htlib.sweeps.kinds import Run, Task, kind_of

_CONNECT_SECONDS = 10
_MAY_GROW = 2**30  # bytes, by starts of larger problems and by what torch imports when a network is trained
_WORTH_PROCESSES = 2e12  # operations for each worker, some twenty seconds: then starting processes pays
_UNGUARDED = (
    "scheduler='local' could not start its workers, which import the calling script: "
    'put the call under if __name__ == "__main__":'
)
_given_up: set[str] = set()
_pause = threading.Event()


@contextmanager
def open_executor(
    tasks: Sequence[Task],
    executor: Executor | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int = 1,
) -> Generator[tuple[Executor, int, str]]:
    """Give an executor for some tasks, the number of tasks it takes at a time, and its name for the user.

    An executor that was given stays open.  One that is opened here ends with the context, after an exception
    at once.  It has as many workers as there are tasks, cores, and memory for them; little work is done by
    threads of this process, before processes would be up.

    Parameters
    ----------
    tasks : sequence of Task
    executor, scheduler, workers, threads
        As for `htlib.sweep`.

    Raises
    ------
    ImportError
        If a scheduler is named and dask.distributed is not installed.
    ConnectionError
        If no scheduler answers, or it has no workers.
    RuntimeError
        If the workers of a local cluster do not start.
    """
    if executor is not None:
        slots = workers or _workers_of(executor)
        yield executor, slots, f"with the given {type(executor).__name__}, {_count(slots, 'task')} at a time"
        return
    if scheduler is not None:
        with _dask(scheduler, workers, threads) as opened:
            yield opened
        return
    count = workers or _workers_for(tasks)
    here = count == 1 or (workers is None and sum(map(work_of, tasks)) < count * _WORTH_PROCESSES)
    kind = _count(count, "thread") + " of this process" if here else f"{count} processes"
    with _threads(count) if here else _processes(count, threads) as pool:
        yield pool, count, f"with {kind}, {_count(threads, 'BLAS thread')} each"


def lost_workers() -> tuple[type[Exception], ...]:
    """What a future raises when a worker died on it."""
    distributed: Any = sys.modules.get("distributed")
    return (BrokenExecutor, CancelledError, *([distributed.KilledWorker] if distributed else []))


def compute(task: Task, threads: int, sweep: str = "") -> Run:
    """Train; the start is kept for the next task of the same problem.

    Parameters
    ----------
    task : Task
    threads : int
        BLAS threads; this worker keeps the setting.
    sweep : str
        After `give_up` with this name in this process, the task ends after its step by CancelledError.
    """
    torch.set_num_threads(threads)
    _blas().limit(limits=threads, user_api="blas")

    def on_step() -> None:
        if sweep in _given_up:
            raise CancelledError

    began = time.perf_counter()
    run = kind_of(task.config).train(task, on_step)
    return replace(run, seconds=time.perf_counter() - began)


def give_up(sweep: str) -> None:
    """End the tasks of a sweep that threads of this process have at work."""
    _given_up.add(sweep)


@contextmanager
def process_as_it_was() -> Generator[None]:
    """Restore the numbers of threads of this process, and free what its workers keep."""
    before = torch.get_num_threads()
    with _blas().limit(limits=None):
        try:
            yield
        finally:
            torch.set_num_threads(before)
            forget_starts()


def work_of(task: Task) -> float:
    """Floating-point operations of a task, roughly."""
    return kind_of(task.config).work(task)


def available_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _workers_for(tasks: Sequence[Task]) -> int:
    """One for each core, as far as there are tasks, and memory for the interpreter with torch and a run."""
    if tasks[0].device != "cpu":
        return 1
    need = 3e8 + max(kind_of(task.config).bytes(task.config) for task in tasks)
    return max(1, min(available_cores(), len(tasks), int(0.8 * psutil.virtual_memory().available / need)))


def _workers_of(executor: Any) -> int:
    """Workers of any executor, where it says; else as many as this machine has cores."""
    if hasattr(executor, "_client"):  # Dask's
        return max(1, sum(executor._client.nthreads().values()))
    return getattr(executor, "_max_workers", None) or available_cores()


@contextmanager
def _threads(workers: int) -> Generator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(workers, "sweep")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _processes(workers: int, threads: int) -> Generator[Executor]:
    """Processes of this machine: one that dies takes nothing with it."""
    from loky import ProcessPoolExecutor  # pyright: ignore[reportMissingTypeStubs]

    environment = _environment(threads) | {"LOKY_MAX_MEMORY_LEAK_SIZE": str(_MAY_GROW)}
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),), env=environment)
    ended = False
    try:
        with warnings.catch_warnings():
            # Loky replaces a worker whose memory has grown by more than that.
            warnings.filterwarnings("ignore", "A worker was restarted", UserWarning)
            yield pool
        ended = True
    finally:
        pool.shutdown(wait=True, kill_workers=not ended)


@contextmanager
def _dask(scheduler: str, workers: int | None, threads: int) -> Generator[tuple[Executor, int, str]]:
    """A Dask cluster: ``"local"`` starts one on this machine, else the address of a scheduler."""
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError("scheduler= needs dask.distributed: pip install 'htlib[dask]'") from error
    cluster: Any = None
    if scheduler != "local":
        _check_answers(scheduler)  # a Client that cannot connect is not closed, and blocks later ones
    else:
        settings = {
            "distributed.nanny.pre-spawn-environ": _environment(threads),
            "distributed.worker.profile.enabled": False,  # it wakes a hundred times a second
        }
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(1)  # a worker that starts imports an unguarded script: its parent reports that
        try:
            with config.set(settings):
                # Its web page cannot be switched off; port 0 is any free one, and nobody outside sees it.
                cluster = LocalCluster(
                    n_workers=workers or available_cores(),
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=50,
                )
        except RuntimeError:
            raise RuntimeError(_UNGUARDED) from None
    try:
        client: Any = Client(cluster or scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    patience = 1
    try:
        slots = sum(client.nthreads().values())
        if not slots:
            raise ConnectionError(
                f"the Dask scheduler at {scheduler!r} has no workers; start some: dask worker"
            )
        place = "this machine" if cluster else client.scheduler.address
        # More tasks than slots would wait at a busy worker and not go to a free one.
        yield (
            client.get_executor(pure=False, retries=2),
            slots,
            f"on Dask at {place}, {_count(slots, 'slot')}",
        )
        patience = 10
    finally:
        for one in (client, cluster):
            if one is not None:
                with suppress(TimeoutError):  # it goes on closing by itself
                    one.close(timeout=patience)


def _check_answers(address: str) -> None:
    """Raise ConnectionError unless something listens at the address of a scheduler."""
    from distributed.comm.addressing import get_address_host_port, parse_address

    try:
        host, port = get_address_host_port(address, strict=True)
        if parse_address(address)[0] in ("tcp", "tls"):
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {address!r}: {error}") from error


def _environment(threads: int) -> dict[str, str]:
    """Environment of a worker process."""
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    # Freed arrays stay with the process, in large pages: mapping them anew costs a tenth of a run, and
    # a third with the threshold that Dask sets.
    return limits | {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }


def _start_worker(parent: int) -> None:
    """Set up a worker process: it ignores Ctrl-C, and ends when its parent does."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            _pause.wait(0.5)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
