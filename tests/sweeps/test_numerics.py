"""Oracles: edits of a copy of the package, of which it is known whether they change numbers."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import htlib as ht
from htlib.ledger.claims import load_ledger
from htlib.ledger.verdicts import fingerprints
from htlib.sweeps.numerics import _HOLDERS, RUNS, VERDICTS, code_digest, modules_behind
from tests.ledgers import project
from tests.refusals import refused
from tests.sweeping import TINY

FOLDER = Path(ht.__file__).parent
OF_RUNS, OF_VERDICTS = (sorted(modules_behind(roots)) for roots in (RUNS, VERDICTS))
MUST_COUNT = {
    *("student", "student.functions", "student.problem", "student.network", "student.readout"),
    *(
        "student.probes",
        "student.start",
        "student.training",
        "student.optimizers",
        "spectra",
        "spectra.linalg",
    ),
    *("spectra.eigenvalues", "spectra.vectors", "spectra.noise", "spectra.power_law"),
    *("spectra.ks_scan", "spectra.measures", "student.curvature"),
}
JUDGING = {
    *("ledger", "ledger.controls", "ledger.effects", "ledger.settings", "ledger.verdicts", "spectra.spikes"),
    *("ledger.measures", "theory.ridge_risk", "spectra.phases"),
    *("theory", "theory.one_step", "theory.gradient", "theory.stability", "theory.bulk"),
    *("spectra.generalized", "sweeps", "sweeps.seeds"),
}


@pytest.fixture
def copy(tmp_path):
    """The package in another folder."""
    ignored = shutil.ignore_patterns("__pycache__", "static")
    return Path(shutil.copytree(FOLDER, tmp_path / "copy" / "htlib", ignore=ignored))


@pytest.fixture(scope="module")
def before():
    return [code_digest(roots) for roots in (RUNS, VERDICTS)]


def digests(folder):
    """Those of runs and of verdicts, computed anew."""
    return [code_digest.__wrapped__(roots, folder) for roots in (RUNS, VERDICTS)]


def file_of(name, folder):
    path = folder.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def enclose(path, node, before, after):
    """Put text before and after a node of a file."""
    lines = path.read_bytes().splitlines(keepends=True)
    first = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    last = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    text = b"".join(lines)
    path.write_bytes(text[:first] + before + text[first:last] + after + text[last:])


def negate(path):
    """Change the sign of what the last `return` of a file returns."""
    nodes = ast.walk(ast.parse(path.read_bytes()))
    returned = [node.value for node in nodes if isinstance(node, ast.Return) and node.value]
    enclose(path, max(returned, key=lambda node: node.lineno), b"-(", b")")


def reword(path):
    """Edit the first annotation and the docstring of a file, and add comments and empty lines."""
    arguments = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.arg)]
    if annotation := next((node.annotation for node in arguments if node.annotation), None):
        enclose(path, annotation, b"Edited[", b"]")
    text = path.read_text(encoding="utf-8").replace('"""', '"""Edited.  ', 1)
    path.write_text(f"{text}\n\n# edited\n".replace("\ndef ", "\n\n# edited\n\ndef "), encoding="utf-8")


def add_field(folder):
    path, last = folder / "student" / "config.py", "\n    seed: int = 0\n"
    text = path.read_text(encoding="utf-8")
    assert text.count(last) == 1
    path.write_text(text.replace(last, f"{last}    warmup: int = 0\n"), encoding="utf-8")


def release(folder):
    """Let the package have version 9.9.9."""
    metadata = folder.with_name("htlib-9.9.9.dist-info") / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: htlib\nVersion: 9.9.9\n")


def test_all_that_decides_numbers_counts_and_nothing_else():
    assert set(OF_RUNS) == {f"htlib.{name}" for name in MUST_COUNT}
    assert set(OF_VERDICTS) == {f"htlib.{name}" for name in MUST_COUNT | JUDGING}
    assert all(file_of(name, FOLDER).is_file() for name in _HOLDERS)


MODULES = [name for name in OF_VERDICTS if name.count(".") > 1]  # packages hold no formula
FIRST = {name.rpartition(".")[0]: name for name in reversed(MODULES)}.values()  # of each package


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.long) for name in MODULES]
)
def test_a_formula_of_every_module_counts(name, copy, before):
    negate(file_of(name, copy))
    runs, verdicts = digests(copy)
    assert (runs != before[0]) == (name in OF_RUNS)
    assert verdicts != before[1]


def test_prose_and_other_modules_do_not_count(copy, before):
    assert digests(copy) == before
    for path in copy.rglob("*.py"):
        reword(path)
        if path.name in ("curves.py", "compute.py", "store.py", "run.py", "main.py"):
            negate(path)
    add_field(copy)
    (copy / "__init__.py").write_text("")
    assert digests(copy) == before


SCRIPT = """
import json, sys
from importlib.metadata import version
import htlib as ht
from htlib.ledger.claims import load_ledger
from htlib.ledger.verdicts import fingerprints
store, config = ht.Store(sys.argv[1]), ht.ExperimentConfig(**json.loads(sys.argv[2]))
marks = {profile: fingerprints(load_ledger().claims, profile) for profile in ("fast", "paper")}
found = store.load(config) is not None
print(json.dumps([version("htlib"), hasattr(config, "warmup"), str(store.file_of(config)), marks, found]))
"""


@pytest.mark.process
@pytest.mark.parametrize("formula", [False, True], ids=["prose, a field, a release", "a formula too"])
def test_stored_runs_and_verdicts_stay_until_a_formula_changes(formula, copy, tmp_path, monkeypatch):
    """A process that imports the edited copy looks for a run and compares fingerprints."""
    monkeypatch.chdir(project(tmp_path))
    config = ht.ExperimentConfig(**TINY)
    store = ht.Store(tmp_path / "store")
    path = str(store.save(ht.train(config)))
    marks = {profile: fingerprints(load_ledger().claims, profile) for profile in ("fast", "paper")}
    add_field(copy)
    release(copy)
    for name in OF_VERDICTS:
        reword(file_of(name, copy))
    if formula:
        negate(copy / "student" / "network.py")
    command = [sys.executable, "-c", SCRIPT, str(store.path), json.dumps(TINY)]
    printed = subprocess.check_output(command, env=os.environ | {"PYTHONPATH": str(copy.parent)}, text=True)
    *edited, there, then, found = json.loads(printed)
    assert edited == ["9.9.9", True]
    assert (there == path, found) == (not formula, not formula)
    for profile, mine in marks.items():
        for name, mark in mine.items():
            assert (then[profile][name] == mark) == (not formula)
            assert then[profile][name].partition("-")[0] == mark.partition("-")[0]


CODE = '''
"""A module."""
from dataclasses import dataclass
@dataclass
class Law:
    """A law."""
    width: float
    def at(self, x: float) -> float:
        """Its value."""
        half: float = x / 2
        if x < 0:
            raise ValueError(f"x must be positive; got {x}")
        return half + self.width  # a comment
'''


def digest_of(text, folder):
    (folder / "law.py").write_text(text, encoding="utf-8")
    return code_digest.__wrapped__(("htlib.law",), folder)


PROSE = [
    ('"""A module."""', '"""Another docstring."""\nfrom __future__ import annotations'),
    ('"""Its value."""', ""),
    ("# a comment", "# \u00e9"),
    ("width: float", "width: 'Array'"),
    ("x: float) -> float", "x)"),
    ("half: float =", "half ="),
    ('f"x must be positive; got {x}"', '"x is negative"'),
    ("x / 2", "(x\n            / 2)"),
    ('"""A module."""', '"""A module."""\nfrom typing import Any\nfrom collections.abc import Callable'),
]
FORMULAS = [
    ("x / 2", "x * 2"),
    ("x / 2", "x / 2.0"),
    ("x < 0", "x <= 0"),
    ("self.width", "self.height"),
    ("x: float)", "x: float = 0)"),
    ("width: float\n", "width: float = 1\n"),
    ("width: float\n", "width: float\n    height: float\n"),
    ("width: float\n", "width = 1\n"),
    ("@dataclass", "@dataclass(frozen=True)"),
    ("raise ValueError", "raise TypeError"),
    ('(f"x must be positive; got {x}")', "(x)"),
    ("from dataclasses import", "from attrs import"),
    ("return half", "return -half"),
]


@pytest.mark.parametrize(("old", "new"), PROSE + FORMULAS)
def test_code_counts_and_prose_does_not(old, new, tmp_path):
    assert CODE.count(old) == 1
    changed = digest_of(CODE.replace(old, new), tmp_path) != digest_of(CODE, tmp_path)
    assert changed == ((old, new) in FORMULAS)


def test_the_digest_is_the_one_written_down(tmp_path):
    """On every version of Python; it may be edited with `_code`, which makes all stored runs stale."""
    assert digest_of(CODE, tmp_path) == "38854cd95de01ac0"


@pytest.fixture
def package(tmp_path):
    """A package with a sub-package, whose modules import nothing."""
    for name in ("__init__", "other", "folder/__init__", "folder/inner", "folder/next", "student/config"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import htlib.other", ["other"]),
        ("from htlib.other import x", ["other"]),
        ("from htlib import other", ["other"]),
        ("from . import other", ["other"]),
        ("from .other import x", ["other"]),
        ("def f():\n    import htlib.other as o", ["other"]),
        ("from htlib.folder import inner", ["folder", "folder.inner"]),
        ("from htlib.folder.inner import x", ["folder", "folder.inner"]),
        ("import htlib.folder.inner", ["folder", "folder.inner"]),
        ("from .folder import inner, x", ["folder", "folder.inner"]),
        ("from htlib.student.config import x", []),
        ("import numpy, htlibrary\nfrom numpy.other import x", []),
    ],
)
def test_imports_are_found_in_every_form(line, expected, package):
    (package / "root.py").write_text(line)
    found = modules_behind(("htlib.root",), package)
    assert sorted(found) == sorted(["htlib.root", *(f"htlib.{name}" for name in expected)])


@pytest.mark.parametrize(
    "line", ["from . import next", "from .next import x", "from htlib.folder import next"]
)
def test_imports_within_a_package_are_followed(line, package):
    (package / "folder" / "inner.py").write_text(f"{line}\nfrom .. import other")
    found = modules_behind(("htlib.folder.inner",), package)
    assert sorted(found) == ["htlib.folder", "htlib.folder.inner", "htlib.folder.next", "htlib.other"]
    (package / "folder" / "inner.py").write_text("")
    assert sorted(modules_behind(("htlib.folder.inner",), package)) == ["htlib.folder", "htlib.folder.inner"]
    (package / "folder" / "__init__.py").write_text(line)
    assert "htlib.folder.next" in modules_behind(("htlib.folder.inner",), package)


@pytest.mark.parametrize(
    "line", ["import htlib as ht", "from htlib import train", "from . import train", "from htlib import *"]
)
def test_what_hides_its_module_is_refused(line, package):
    (package / "root.py").write_text(line)
    with refused("htlib.root", "htlib as a whole", "name the modules", error=ImportError):
        modules_behind(("htlib.root",), package)


def test_a_package_without_sources_is_refused(package):
    with refused("no source of htlib.student.training", package, error=ModuleNotFoundError):
        code_digest(RUNS, package)
