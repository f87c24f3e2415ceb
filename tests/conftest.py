"""Set up before htlib is imported: no display, few threads, shapes in signatures checked."""

import os

import pytest
import torch
from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # workers share the cores
# Only htlib.student.network: elsewhere the tests want to see htlib's own errors for bad input.
install_import_hook("htlib.student.network", "beartype.beartype")


def pytest_collection_modifyitems(items):
    """Tests in book/ and browser/ have the mark of their folder."""
    for item in items:
        if item.path.parent.name in ("book", "browser"):
            item.add_marker(item.path.parent.name)


@pytest.fixture(autouse=True)
def no_starts_kept():
    """A start that was prepared with another number of BLAS threads may have other last digits."""
    from htlib.student.start import forget_starts

    forget_starts()
    yield
    forget_starts()
