"""A book of one chapter for the tests of what executes and what renders it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TITLE = new_markdown_cell("# Tiny", id="title")


class TinyBook:
    """A book of one chapter with the real configuration."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.chapter = root / "book" / "01-tiny.ipynb"
        self.executed = root / "_build" / "fast" / "01-tiny.ipynb"
        self.page = root / "_build" / "html" / "book" / "01-tiny.html"
        shutil.copytree(ROOT / "book" / "static", root / "book" / "static")
        shutil.copy(ROOT / "_config.yml", root)
        (root / "book" / "index.md").write_text("# A book\n\n```{bibliography}\n```\n")
        (root / "book" / "references.bib").write_text("")
        toc = {"format": "jb-book", "root": "book/index", "chapters": [{"file": "book/01-tiny"}]}
        (root / "_toc.yml").write_text(yaml.safe_dump(toc))

    def write(self, *cells: str | NotebookNode) -> None:
        """A chapter of the parameters cell and these; a string is the code of one."""
        parameters = new_code_cell('profile = "fast"', metadata={"tags": ["parameters"]}, id="parameters")
        own = [new_code_cell(c) if isinstance(c, str) else c for c in cells]
        notebook = new_notebook(cells=[TITLE, parameters, *own], metadata={"kernelspec": KERNEL})
        nbformat.write(notebook, self.chapter)

    def run(self, program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "book" / program, *map(str, arguments)],
            cwd=self.root,
            env=os.environ | environment,
            capture_output=True,
            encoding="utf-8",
        )

    def execute(
        self, *parameters: str, code: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        options = [word for pair in parameters for word in ("-p", *pair.split("="))]
        options += ["--code", str(code)] if code else []
        return self.run("execute.py", self.chapter, "--into", self.executed.parent, *options, **environment)

    def render(self, *options: str) -> subprocess.CompletedProcess[str]:
        html = self.root / "_build" / "html"
        return self.run("render.py", self.executed.parent, html, "--book", self.chapter.parent, *options)


def executed(*cells: NotebookNode) -> NotebookNode:
    """A notebook that looks executed."""
    for cell in cells:
        if cell.cell_type == "code" and cell.source != "skipped":
            cell.execution_count = 1
    return new_notebook(cells=list(cells), metadata={"kernelspec": KERNEL})
