"""The chapters as they are committed: stripped, parametrised, and runnable without this project's tools."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=[c.stem for c in CHAPTERS])


def test_the_contents_list_every_chapter() -> None:
    listed = re.findall(r"(?:root|file): (book/\S+)", (ROOT / "_toc.yml").read_text())
    notebooks = [name for name in listed if (ROOT / f"{name}.ipynb").exists()]
    assert sorted(notebooks) == [f"book/{chapter.stem}" for chapter in CHAPTERS]
    numbered = [name for name in notebooks if name[5].isdigit()]
    assert numbered == sorted(numbered)


@each_chapter
def test_committed_notebooks_hold_sources_only(chapter: Path) -> None:
    notebook = nbformat.read(chapter, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec"}
    assert notebook.metadata.kernelspec.name == "python3"
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert tagged[0].source.startswith('profile = "fast"')
    assert all(set(cell.metadata) <= {"tags", "mystnb"} for cell in notebook.cells)
    for cell in notebook.cells:
        assert cell.source.strip(), "an empty cell"
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_plain_papermill_runs_a_chapter_from_the_root(tmp_path: Path) -> None:
    """Without the wrapper, in the other folder: the chapter finds its presets and reads the store."""
    # `make book` has run each chapter in book/; the weekly workflow runs every chapter like this.
    command = [Path(sys.executable).with_name("papermill"), "book/optimizers.ipynb", tmp_path / "out.ipynb"]
    command += ["-p", "profile", "fast", "--no-progress-bar"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
