"""Set up before htlib is imported: no display, few threads, shapes in signatures checked."""

import os

import pytest
import torch
from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(2)
# Only htlib.student.network: elsewhere the tests want to see htlib's own errors for bad input.
install_import_hook("htlib.student.network", "beartype.beartype")


@pytest.fixture(autouse=True)
def no_starts_kept():
    """Before and after the test this process remembers no start.

    A start that was prepared with another number of BLAS threads may have other last digits.
    """
    from htlib.student.training import forget_starts

    forget_starts()
    yield
    forget_starts()
