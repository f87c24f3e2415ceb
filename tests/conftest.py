"""Set up before htlib is imported: no display, few threads, shapes in signatures checked."""

import os

import pytest
import torch
from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(2)
# Only htlib.student.network: elsewhere the tests want to see htlib's own errors for bad input.
install_import_hook("htlib.student.network", "beartype.beartype")


@pytest.fixture
def no_starts_kept():
    """Before and after the test no worker of this process remembers a start."""
    from htlib.sweeps import workers

    workers.forget_starts()
    yield
    workers.forget_starts()
