"""Set up before htlib is imported: no display, few threads, shapes in signatures checked."""

import os
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook

os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # workers share the cores
# Machines are of any speed, every run has the same examples, and PROFILE=paper has more of them.
hypothesis.settings.register_profile("fast", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("paper", hypothesis.settings.get_profile("fast"), max_examples=300)
hypothesis.settings.load_profile("paper" if os.environ.get("PROFILE") == "paper" else "fast")
# Only htlib.student.network: elsewhere the tests want to see htlib's own errors for bad input.
install_import_hook("htlib.student.network", "beartype.beartype")


# They begin first: at the end, none of them keeps one worker busy while the others have nothing to do.
# Those that wait for a browser take turns with those that compute.
LONGEST = [
    "browser/test_live.py",
    "sweeps/test_compute.py",
    "browser/test_pages.py",
    "book/test_execute.py",
    "book/test_render.py",
    "browser/test_reader.py",
    "practice/test_balance.py",
    "browser/test_access.py",
    "figures/test_runs.py",
    "browser/test_checkpoint.py",
    "test_imports.py",
    "browser/test_explorer.py",
    "networks/test_training.py",
    "browser/test_checkpoint_files.py",
    "test_kill.py",
    "book/test_notebooks.py",
]


def pytest_collection_modifyitems(items):
    """Tests in book/ and browser/ have the mark of their folder; the longest files come first."""
    for item in items:
        if item.path.parent.name in ("book", "browser"):
            item.add_marker(item.path.parent.name)
    first = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.fixture(autouse=True)
def no_starts_kept():
    """A start that was prepared with another number of BLAS threads may have other last digits."""
    from htlib.student.start import forget_starts

    forget_starts()
    yield
    forget_starts()


@pytest.fixture(autouse=True)
def no_figures_left():
    """A test that looks at the open figures sees only its own."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
