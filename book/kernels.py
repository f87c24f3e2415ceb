"""Fork the kernels of the chapters from a process that has imported what every chapter imports.

A kernel that starts anew spends six seconds on the imports of torch, SciPy and the package; a fork has them.
Where a fork is not safe (macOS: its libraries may not be used after it), a kernel starts as usual.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

_IMPORTS = ["htlib.chapters", "htlib.explorer", "ipykernel.kernelapp", "ipykernel.zmqshell"]
_IMPORTS += ["matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "scipy.optimize"]
_INLINE = "module://matplotlib_inline.backend_inline"  # what ipykernel sets before it imports anything

can_fork = sys.platform == "linux"


def warm() -> None:
    """Import what the chapters import, and name the code of their runs; no thread starts, no socket opens."""
    os.environ.setdefault("MPLBACKEND", _INLINE)
    for name in _IMPORTS:
        importlib.import_module(name)
    from htlib.sweeps.kinds import KINDS
    from htlib.sweeps.numerics import code_digest

    for kind in KINDS.values():
        code_digest(kind.code)


@contextmanager
def forked() -> Iterator[type[AsyncKernelManager]]:
    """Fork a process, and give the class of manager whose kernel it becomes.

    The fork takes place before this process has an event loop, a thread or a socket.
    """
    if not can_fork:
        yield AsyncKernelManager
        return
    kernel = _Kernel()

    class Manager(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.provisioner = _Fork(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            self.provisioner.waiting = kernel

    try:
        yield Manager
    finally:
        kernel.orders.close()  # so a process that never became a kernel ends


class _Kernel:
    """A forked process that waits for its orders; the part of subprocess.Popen that Jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        received, self.orders = multiprocessing.Pipe(duplex=False)
        self._process = ForkProcess(target=_become_kernel, args=(received, self.orders))
        self._process.start()
        received.close()
        self.pid = self._process.ident

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        if self.pid is not None and self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


class _Fork(LocalProvisioner):
    """Gives a forked process its orders, instead of starting a command."""

    waiting: _Kernel

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        arguments = cmd[3:]  # what follows `python -m ipykernel_launcher`
        self.waiting.orders.send((arguments, kwargs.get("cwd", os.getcwd()), kwargs["env"]))
        self.process = self.waiting
        self.pid = self.pgid = self.waiting.pid
        return self.connection_info


def _become_kernel(received: Connection, orders: Connection) -> None:
    orders.close()  # the copy of the parent's end; with it open, the end of the parent would not be seen
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        arguments, folder, environment = received.recv()
    except EOFError:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(folder)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
