"""Importing htlib does nothing but define.  Who may import whom is a contract that `make lint` holds."""

import json
import subprocess
import sys

import pytest

PROBE = """
import json, logging, os, random, sys, warnings
import jaxtyping, matplotlib, numpy, pandas, safetensors.numpy, scipy.stats, torch, tqdm

def state():
    root = logging.getLogger()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(numpy.random.get_state()),
        "random": str(random.getstate()),
        "rcParams": {k: str(v) for k, v in matplotlib.rcParams.items()},
        "logging": [root.level, len(root.handlers), logging.root.manager.disable],
        "torch defaults": [str(torch.get_default_dtype()), torch.get_num_threads(), torch.is_grad_enabled(),
                           torch.are_deterministic_algorithms_enabled()],
        "numpy errors": str(numpy.geterr()),
        "warnings": [str(f) for f in warnings.filters],
        "environment": dict(os.environ),
        "folder": sorted(os.listdir(".")),
    }

before = state()
loaded = set(sys.modules)
import htlib
after = state()
print(json.dumps([k for k in before if before[k] != after[k]]))
print(json.dumps(sorted(set(sys.modules) - loaded)))
"""


@pytest.fixture(scope="module")
def importing(tmp_path_factory):
    """What a fresh process sees change when it imports htlib, and what it prints."""
    process = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
    )
    changed, loaded = map(json.loads, process.stdout.splitlines())
    return changed, loaded, process.stderr


def test_importing_changes_no_global_state(importing):
    changed, _, stderr = importing
    assert (changed, stderr) == ([], "")


def test_importing_loads_no_plots_and_no_widgets(importing):
    """Those who only compute need not wait for pyplot, and no backend is chosen for them."""
    loaded = set(importing[1])
    assert "htlib.student.training" in loaded
    heavy = {
        "matplotlib.pyplot",
        "seaborn",
        "ipywidgets",
        "anywidget",
        "IPython",
        "htlib.figures",
        "htlib.explorer.widget",
    }
    assert not heavy & loaded
