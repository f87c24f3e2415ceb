"""Measure the peak memory of this process, for the benchmarks."""

import resource
import sys
from pathlib import Path


def peak() -> int:
    """Return bytes; on Linux not ru_maxrss, which a process inherits from the one that started it."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
