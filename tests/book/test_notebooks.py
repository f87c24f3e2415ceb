"""The chapters as they are committed: stripped, parametrised, and runnable without this project's tools."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
NUMBERED = [c["file"] for part in PARTS if part.get("numbered") for c in part["chapters"]]
FOLDED = {"parameters", "hide-cell", "hide-input", "remove-cell", "remove-input"}
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


@pytest.mark.parametrize("name", NUMBERED)
def test_visible_code_needs_only_the_runs_of_the_chapter(name: str) -> None:
    """A reader who copies the box with the runs and the visible cells, in their order, can run them."""
    known = {*dir(builtins), "profile"}  # the parameter
    for cell in nbformat.read(ROOT / f"{name}.ipynb", as_version=4).cells:
        folded = FOLDED & set(cell.metadata.get("tags", []))
        prompt = cell.metadata.get("mystnb", {}).get("code_prompt_show")
        if cell.cell_type == "code" and (not folded or prompt == "Show the runs of this chapter"):
            known |= _names(cell.source, ast.Store)
            assert _names(cell.source, ast.Load) <= known


def _names(source: str, context: type[ast.expr_context]) -> set[str]:
    """Names that code loads or stores; it stores what it imports and defines, too, and its arguments."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    if context is ast.Store:
        names |= {n.asname or n.name.split(".")[0] for n in nodes if isinstance(n, ast.alias)}
        names |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
        names |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return names


def test_plain_papermill_runs_a_chapter_from_the_root(tmp_path: Path) -> None:
    """Without the wrapper, in the other folder: the chapter finds its presets and reads the store."""
    # `make book` has run each chapter in book/; the weekly workflow runs every chapter like this.
    command = [Path(sys.executable).with_name("papermill"), "book/optimizers.ipynb", tmp_path / "out.ipynb"]
    command += ["-p", "profile", "fast", "--no-progress-bar"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
