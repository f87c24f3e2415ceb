"""Importing htlib does nothing but define.  Who may import whom is a contract that `make lint` holds."""

import ast
import json
import operator
import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.torch import save_file

import htlib
from tests.ledgers import project

pytestmark = pytest.mark.process
PROBE = """
import json, logging, os, random, sys, warnings
import jaxtyping, matplotlib, numpy, pandas, safetensors.numpy, scipy.stats, threadpoolctl, torch, tqdm

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
for name in htlib.__all__:
    getattr(htlib, name)
after = state()
print(json.dumps([k for k in before if before[k] != after[k]]))
print(json.dumps(sorted(set(sys.modules) - loaded)))
"""


@pytest.fixture(scope="module")
def importing(tmp_path_factory):
    """The global state that an import of htlib changes in a fresh process, the modules loaded, and stderr."""
    command, folder = [sys.executable, "-c", PROBE], tmp_path_factory.mktemp("elsewhere")
    process = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    changed, loaded = map(json.loads, process.stdout.splitlines())
    return changed, loaded, process.stderr


def test_importing_changes_no_global_state(importing):
    changed, _, stderr = importing
    assert (changed, stderr) == ([], "")


def test_importing_loads_no_plots_and_no_widgets(importing):
    """Those who only compute need not wait for pyplot, and no backend is chosen for them."""
    loaded = set(importing[1])
    assert "htlib.student.training" in loaded
    heavy = {"matplotlib.pyplot", "seaborn", "ipywidgets", "anywidget", "IPython"}
    assert not loaded & {*heavy, "htlib.figures", "htlib.explorer.widget"}


def test_every_public_name_has_its_home():
    """Oracle: the imports that type checkers read; `dir` and star imports have the names before their use."""
    tree = ast.parse(Path(htlib.__file__).read_text())
    (checking,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {n.name: node.module for node in checking.body for n in node.names if n.name in htlib.__all__}
    assert list(seen) == list(htlib._HOMES)
    assert sorted(seen) == htlib.__all__
    assert seen == htlib._HOMES
    assert {*htlib.__all__, "figures", "explorer"} <= set(dir(htlib))
    names = {}
    exec("from htlib import *", names)
    assert names["train"] is htlib.train is htlib.student.training.train
    with pytest.raises(AttributeError, match="'htlib' has no attribute 'trian'"):
        operator.attrgetter("trian")(htlib)


# What is answered before anything computes: the call, and what the answer has.
AT_ONCE = {
    "--help": "COMMAND",
    "run --help": "--lr-decay",
    "sweep --help": "--scheduler",
    "predict --help": "--measure",
    "claims --help": "--record",
    "analyze --help": "--against",
    "swep": "'sweep'",
    "run --optimiser gd": "'--optimizer'",
    "run --optimizer sgd": "'adam'",
    "run --n 0": "n must",
    "run --momentum 0.9": "momentum",
    "run --teacher foo": "teacher must",
    "run --output no/such/run": "no/such",
    "predict --lr -1": "lr must",
    "predict --output t.txt": "t.txt",
    "sweep nowhere": "'nowhere'",
    "sweep --lr 0.1 --seeds 0": "seeds must",
    "sweep --lr 0.1 --store book/claims.yml": "store must",
    "claims --ledger nowhere.yml": "nowhere.yml",
    "claims fals": "no claim 'fals'",
    "analyze m.pt --output t.txt": "t.txt",
    "analyze m.pt --xmin 3x": "--xmin must",
    "analyze m.pt -k 3": "--against",
    "analyze m.pt": "no file or folder m.pt",
}
AT_ONCE_CODE = """
import contextlib, io, json, sys
from htlib.commands.main import main
answers = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        with contextlib.suppress(SystemExit):
            assert main(line.split()) == 2, line
    answers.append([out.getvalue(), [name for name in ("torch", "scipy", "pandas") if name in sys.modules]])
print(json.dumps(answers))
"""


def test_help_and_wrong_calls_do_not_wait_for_torch(tmp_path):
    project(tmp_path)
    command = [sys.executable, "-c", AT_ONCE_CODE, json.dumps(list(AT_ONCE))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    for (line, named), (answer, loaded) in zip(AT_ONCE.items(), json.loads(done.stdout), strict=True):
        assert (named in answer, loaded) == (True, []), (line, answer)
        assert "help" in line.split()[-1] or answer.count("\n") == 1, answer


# Python runs this at every start, in worker processes too.
SITECUSTOMIZE = """
import os, sys
from importlib.machinery import PathFinder
hidden = os.environ["HIDDEN"].split(",")
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, *args):
        return None if name in hidden else super().find_spec(name, *args)
sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""
RUN = "run --n 20 --d 5 --h 6 --n-test 9 --steps 1"
WITHOUT_EXTRAS = [
    f"{RUN} --output run.safetensors",
    "analyze m.safetensors --output t.csv",
    "sweep tiny --workers 2 --store runs --output t.csv",
]
NEED_EXTRAS = {
    f"{RUN} --plot run.png": "figures",
    "analyze m.safetensors --plots .": "figures",
    "analyze m.safetensors --output t.parquet": "tables",
    "sweep --scheduler local --store s --quiet tiny": "dask",
}
EACH_CODE = """
import contextlib, io, json, sys
from htlib.commands.main import main
answers = {}
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        answers[line] = [main(line.split()), out.getvalue(), err.getvalue()]
print(json.dumps(answers))
"""


def installed_with(requirements):
    """Names of the distributions that these requirements bring here, with all that those need."""
    found, todo = set(), [Requirement(text) for text in requirements]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(name)
            try:
                todo += map(Requirement, requires(name) or [])
            except PackageNotFoundError:  # for another platform
                continue
    return found


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory):
    """What the command line answers in a process where only the core's requirements can be imported."""
    metadata = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    core = installed_with(metadata["dependencies"]) | {"htlib"}
    packages = packages_distributions()
    hidden = [name for name, homes in packages.items() if core.isdisjoint(map(canonicalize_name, homes))]
    assert {"matplotlib", "seaborn", "anywidget", "pyarrow", "distributed", "onnx"} <= set(hidden)
    folder = project(tmp_path_factory.mktemp("core"))
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "HIDDEN": ",".join(hidden)}
    save_file({"w": torch.eye(12) + torch.arange(144).reshape(12, 12).cos()}, folder / "m.safetensors")

    command = [sys.executable, "-c", EACH_CODE, json.dumps([*WITHOUT_EXTRAS, *NEED_EXTRAS])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("line", WITHOUT_EXTRAS)
def test_the_core_trains_sweeps_and_analyses_without_any_extra(line, without_extras):
    code, out, err = without_extras[line]
    assert (code, "1" in out) == (0, True), err


@pytest.mark.parametrize("line", NEED_EXTRAS)
def test_the_error_of_a_part_without_its_extra_names_the_extra(line, without_extras):
    code, _, err = without_extras[line]
    assert (code, err.count("\n")) == (2, 1), err
    assert f"pip install 'htlib[{NEED_EXTRAS[line]}]'" in err


@pytest.mark.parametrize("part", ["figures", "explorer"])
def test_a_package_without_its_extra_is_not_imported(part, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(f"htlib.{part}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, {"figures": "seaborn", "explorer": "anywidget"}[part], None)
    with pytest.raises(ImportError, match=rf"pip install 'htlib\[{part}\]'"):
        __import__(f"htlib.{part}")
