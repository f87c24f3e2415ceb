"""Oracle: the import table of the design.  Imports point one way, and importing does nothing else."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import htlib

FOLDER = Path(htlib.__file__).parent
ANY = {"*"}
# What a module may import, beside what those modules may import themselves.
MAY_IMPORT = {
    "functions": set(),
    "linalg": set(),
    "readout": {"linalg"},
    "spectrum": {"linalg"},
    "overlaps": {"linalg", "spectrum"},
    "random_matrix": set(),
    "config": {"functions"},
    "network": {"functions"},
    "problem": {"config", "functions"},
    "ks_scan": set(),
    "heavy_tail": {"spectrum", "ks_scan"},
    "comparisons": {"heavy_tail", "spectrum"},
    "resampling": {"heavy_tail", "spectrum"},
    "spiked": {"random_matrix", "spectrum"},
    "measures": {"heavy_tail", "spectrum"},
    "nulls": {"measures", "spectrum"},
    "alignment": {"linalg", "spectrum"},
    "gradient_constants": {"config", "functions"},
    "theory": {"config", "gradient_constants", "spiked"},
    "records": {"config", "overlaps"},
    "probes": {"linalg", "network", "readout", "overlaps", "heavy_tail", "random_matrix", "alignment"},
    "start": {"config", "linalg", "problem", "network", "probes"},
    "training": {"config", "problem", "network", "probes", "records", "start"},
    "numerics": set(),
    "store": {"config", "numerics", "records"},
    "grid": {"config"},
    "tasks": {"config", "records", "start", "training"},
    "executors": {"tasks"},
    "progress": {"records"},
    "workload": {"config", "executors", "progress", "records", "start", "store", "tasks"},
    "sweep": {"executors", "grid", "progress", "records", "store", "tasks", "workload"},
    "experiments": {"config", "grid", "records", "store", "sweep"},
    "atlas_coding": set(),
    "atlas": {"atlas_coding", "config", "experiments", "probes", "records", "store"},
    "graphs": {"config", "functions", "messages", "network"},
    "selection": {"config", "problem", "records", "theory"},
    "effects": {"probes", "records", "selection"},
    "claims": {"effects"},
    "verdicts": {"claims", "effects", "experiments", "numerics", "records", "store"},
    "verdict_record": {"claims", "verdicts"},
    "ledger_page": {"claims", "config", "experiments", "grid", "verdict_record", "verdicts"},
    "claims_command": {"claims", "verdict_record", "verdicts"},
    "predict_command": {"config", "functions", "heavy_tail", "spectrum", "theory", "training"},
    "checkpoints": set(),
    "layers": {"checkpoints", "spectrum"},
    "layer_nulls": {"layers", "nulls"},
    "models": {
        "checkpoints",
        "layers",
        "layer_nulls",
        "linalg",
        "comparisons",
        "measures",
        "overlaps",
        "spiked",
    },
    "layerwise": {"models"},
    "messages": {"config", "functions", "network", "random_matrix", "theory"},
    "engine": {"messages", "overlaps", "start", "training"},
    "plotting": {"records", "spectrum", "heavy_tail", "random_matrix"},  # results' types
    "analyze_command": {"models", "model_figures"},
    "model_figures": {"plotting"},
    "figure_parts": {"config", "plotting", "records"},
    "control_figures": {"figure_parts", "plotting", "records"},
    "figures": {"control_figures", "figure_parts", "overlap_figures", "plotting", "random_matrix", "records"},
    "overlap_figures": {"plotting"},
    "theory_figures": {"plotting", "theory"},
    "widgets": {"training", "engine", "figures"},
    "companion": {"claims", "config", "experiments", "ledger_page", "plotting", "verdict_record"},
    "cli": ANY,
    "__main__": {"cli"},
    "__init__": ANY,
}
MAY_PLOT = {
    *("cli", "companion", "figures", "figure_parts", "control_figures", "overlap_figures", "theory_figures"),
    *("analyze_command", "model_figures"),
}
MODULES = sorted(path.stem for path in FOLDER.glob("*.py"))


def imports(name):
    """Modules of htlib that a module imports, wherever in the file and in whatever form."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {
                a.name.split(".")[1] if "." in a.name else "__init__" for a in node.names if is_ours(a.name)
            }
        elif isinstance(node, ast.ImportFrom):
            module = f"htlib.{node.module or ''}".rstrip(".") if node.level else node.module
            if module == "htlib":
                found |= {a.name if a.name in MODULES else "__init__" for a in node.names}
            elif is_ours(module):
                found.add(module.split(".")[1])
    return found


def is_ours(module):
    return module.split(".")[0] == "htlib"


def below(name):
    """Everything that the table lets a module reach."""
    return MAY_IMPORT[name].union(*(below(other) for other in MAY_IMPORT[name] - ANY))


def test_the_table_knows_every_module_and_points_one_way():
    assert set(MODULES) <= MAY_IMPORT.keys()
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_table(name):
    allowed = below(name)
    if ANY - allowed:
        assert imports(name) <= allowed


def test_imports_have_no_cycle():
    assert list(TopologicalSorter({name: imports(name) for name in MODULES}).static_order())


@pytest.mark.parametrize("name", MODULES)
def test_few_modules_import_plotting(name):
    assert "plotting" not in imports(name) or name in MAY_PLOT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import htlib.plotting", {"plotting"}),
        ("from htlib.plotting import x", {"plotting"}),
        ("from htlib import plotting", {"plotting"}),
        ("from . import plotting", {"plotting"}),
        ("from .plotting import x", {"plotting"}),
        ("def f():\n    import htlib.plotting as p", {"plotting"}),
        ("import htlib as ht", {"__init__"}),
        ("import numpy, matplotlib.pyplot", set()),
    ],
)
def test_imports_are_found_in_every_form(line, expected, tmp_path, monkeypatch):
    """The negative control: a forbidden import in any spelling would be seen."""
    (tmp_path / "module.py").write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "FOLDER", tmp_path)
    assert imports("module") == expected


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
    assert "htlib.training" in loaded
    heavy = {
        "matplotlib.pyplot",
        "seaborn",
        "ipywidgets",
        "anywidget",
        "IPython",
        "htlib.plotting",
        "htlib.widgets",
    }
    assert not heavy & loaded
