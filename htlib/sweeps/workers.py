"""Where the runs of a sweep are computed: threads or processes of this machine, or a Dask cluster.

Every engine takes the same task, `compute`, and gives concurrent.futures futures.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from htlib.sweeps.tasks import Done, Task, compute

_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Engine:
    """Something that computes tasks.

    Attributes
    ----------
    name : str
        For the user: where, how many workers and threads.
    slots : int
        Tasks at work at a time.
    submit : callable
        Takes a Task, gives a Future of Done.
    close : callable
        Ends the engine; argument True gives up what is at work.
    lost : tuple of exception types
        What a future raises when a worker died on it.
    """

    name: str
    slots: int
    submit: Callable[[Task], Future[Done]]
    close: Callable[[bool], None]
    lost: tuple[type[BaseException], ...] = ()


def threads(workers: int, blas_threads: int) -> Engine:
    """Threads of this process: at work at once, and fine for a sweep of seconds."""
    before = torch.get_num_threads()
    limits = threadpool_limits(blas_threads, user_api="blas")
    pool = ThreadPoolExecutor(workers, "sweep", initializer=torch.set_num_threads, initargs=(blas_threads,))

    given_up = threading.Event()

    def submit(task: Task) -> Future[Done]:
        return pool.submit(compute, task, given_up.is_set)

    def close(give_up: bool) -> None:
        if give_up:
            given_up.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
        limits.restore_original_limits()

    return Engine(
        f"{_count(workers, 'thread')} of this process x {_count(blas_threads, 'BLAS thread')}",
        workers,
        submit,
        close,
    )


def processes(workers: int, blas_threads: int) -> Engine:
    """Processes of this machine: they take seconds to start, and one that dies takes nothing with it."""
    from loky import ProcessPoolExecutor  # pyright: ignore[reportMissingTypeStubs]
    from loky.process_executor import BrokenProcessPool  # pyright: ignore[reportMissingTypeStubs]

    pool = ProcessPoolExecutor(
        workers,
        initializer=_start_worker,
        initargs=(os.getpid(), blas_threads),
        env=_environment(blas_threads),
    )

    def submit(task: Task) -> Future[Done]:
        return pool.submit(compute, task)

    def close(give_up: bool) -> None:
        pool.shutdown(wait=True, kill_workers=give_up)

    return Engine(
        f"{_count(workers, 'process', 'processes')} x {_count(blas_threads, 'BLAS thread')}",
        workers,
        submit,
        close,
        (BrokenProcessPool,),
    )


def dask(scheduler: str, workers: int | None, blas_threads: int | None) -> Engine:
    """A Dask cluster: ``"local"`` starts one on this machine, else the address of a scheduler.

    Raises
    ------
    ImportError
        If dask.distributed is not installed.
    ConnectionError
        If no scheduler answers, or it has no workers.
    """
    try:
        from dask import config
        from distributed import Client, LocalCluster
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise ImportError("scheduler= needs dask.distributed: pip install 'htlib[dask]'") from error
    cluster: Any = None
    if scheduler != "local":
        _check_answers(scheduler)  # a Client that cannot connect is not closed, and blocks later ones
    else:
        workers = workers or available_cores()
        blas_threads = blas_threads or max(1, available_cores() // workers)
        settings = {
            "distributed.nanny.pre-spawn-environ": _environment(blas_threads),
            "distributed.worker.profile.enabled": False,  # it wakes a hundred times a second
        }
        with config.set(settings):
            # Its web page cannot be switched off; port 0 is any free one, and nobody outside sees it.
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
            )
    try:
        client: Any = Client(cluster or scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    slots = sum(info["nthreads"] for info in client.scheduler_info(n_workers=-1)["workers"].values())
    if not slots:
        client.close()
        raise ConnectionError(f"the Dask scheduler at {scheduler!r} has no workers; start some: dask worker")
    pool = client.get_executor(pure=False, retries=2)

    def submit(task: Task) -> Future[Done]:
        return pool.submit(_compute_on, blas_threads, task)

    def close(give_up: bool) -> None:
        pool.shutdown(wait=False)
        client.close(timeout=1 if give_up else 10)
        if cluster is not None:
            cluster.close(timeout=1 if give_up else 10)

    return Engine(
        f"Dask at {client.scheduler.address if cluster is None else 'this machine'}, {_count(slots, 'slot')}",
        slots,  # a task that waits at a busy worker would not go to a free one
        submit,
        close,
        (KilledWorker, CancelledError),
    )


def _check_answers(address: str) -> None:
    """Raise ConnectionError unless something listens at the address of a scheduler."""
    from distributed.comm.addressing import get_address_host_port, parse_address

    try:
        host, port = get_address_host_port(address, strict=True)
        if parse_address(address)[0] in ("tcp", "tls"):
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {address!r}: {error}") from error


def _environment(blas_threads: int) -> dict[str, str]:
    """Environment of a worker process."""
    limits = {f"{name}_NUM_THREADS": str(blas_threads) for name in ("OMP", "MKL", "OPENBLAS")}
    # Freed arrays stay with the process, in large pages: mapping them anew costs a tenth of a run, and
    # a third with the threshold that Dask sets.
    return limits | {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }


def available_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compute_on(blas_threads: int | None, task: Task) -> Done:
    """`compute` on a cluster; None leaves the BLAS threads as Dask sets them, one per worker."""
    if blas_threads is not None:
        torch.set_num_threads(blas_threads)
    return compute(task)


def _start_worker(parent: int, blas_threads: int) -> None:
    """Set up a worker process: Ctrl-C is its parent's affair, and it does not outlive its parent."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(blas_threads)

    def watch() -> None:
        while os.getppid() == parent:
            _pause.wait(0.5)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()


_pause = threading.Event()


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
