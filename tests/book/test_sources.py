"""What a chapter reaches.  Oracles: edits of a copy of the package; which chapters they concern, by hand."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import sources

import htlib

ROOT = Path(__file__).parents[2]
RATES = ["import htlib as ht", "ht.figures.rate_spectra(ht.load_experiment('one-step').runs())"]
STORY = ["import htlib as ht\nfrom htlib import figures as hp", "hp.practice_story([])"]
TAIL = ["from htlib.spectra.power_law import fit_power_law\nfrom htlib import hill_alpha as hill"]
BY_NAME = ["from htlib.figures import draw"]
HANDED_ON = ["import htlib as ht\nprint(getattr(ht.figures, 'rate_spectra'))"]
MAGIC = ["%time 1"]
NOTHING = ["import numpy as np\nnp.pi"]
ALL = [RATES, STORY, TAIL, BY_NAME, HANDED_ON, MAGIC, NOTHING]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package in another folder, where `sources` looks for it."""
    ignored = shutil.ignore_patterns("__pycache__", "static")
    folder = Path(shutil.copytree(Path(htlib.__file__).parent, tmp_path / "htlib", ignore=ignored))
    monkeypatch.setattr(sources, "_FOLDER", folder)
    yield folder
    forget()


def forget() -> None:
    for function in (sources._module, sources._homes, sources._all):
        function.cache_clear()


def digests() -> list[str]:
    forget()
    return [sources.code_behind(cells) for cells in ALL]


# An edit of a file, and the chapters that it concerns.
CONCERNED = {
    "figures/one_step.py": [RATES, BY_NAME, HANDED_ON, MAGIC],
    "figures/practice.py": [STORY, BY_NAME, HANDED_ON, MAGIC],
    "spectra/linalg.py": [RATES, STORY, TAIL, BY_NAME, HANDED_ON, MAGIC],
    "commands/main.py": [MAGIC],
}


def test_an_edit_concerns_who_reaches_it(copy: Path) -> None:
    before = digests()
    texts = {name: (copy / name).read_text() for name in CONCERNED}
    for name, text in texts.items():
        (copy / name).write_text(text.replace('"""', '"""Edited.  ', 1) + "\n# edited\n")
    assert digests() == before  # prose
    for name, concerned in CONCERNED.items():
        (copy / name).write_text(f"{texts[name]}\nEDITED = 1\n")
        changed = [cells for cells, old, new in zip(ALL, before, digests(), strict=True) if old != new]
        assert changed == concerned, name
        (copy / name).write_text(texts[name])


def test_every_chapter_is_understood() -> None:
    """A whole package is reached by none: each name of htlib leads to a module."""
    everything = sources._all("htlib")
    for chapter in sorted((ROOT / "book").glob("*.ipynb")):
        cells = [c.source for c in nbformat.read(chapter, as_version=4).cells if c.cell_type == "code"]
        roots = sources._roots(ast.parse("\n".join(cells)))
        assert roots, chapter
        assert len(roots) < 25, chapter
        assert roots < everything, chapter


def test_the_command_prints_the_digest_of_a_module() -> None:
    command = [sys.executable, ROOT / "book" / "sources.py", "htlib.spectra.esd_of_nothing"]
    assert subprocess.run(command, capture_output=True, check=False).returncode
    command[-1] = "htlib.spectra.eigenvalues"
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.strip() == sources._digest({"htlib.spectra.eigenvalues"})
