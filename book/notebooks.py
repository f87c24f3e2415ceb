"""Read the notebooks of the book, executed or not, and report what an author can repair."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

_ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}


class BookError(Exception):
    """An error that a chapter's author can repair; its message is the whole report."""


def read(chapter: Path) -> NotebookNode:
    """Read a chapter; its kernel is always that of this environment, whatever the file names."""
    try:
        text = chapter.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BookError(f"{chapter}: there is no such file") from None
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, TypeError, AttributeError, nbformat.ValidationError) as error:
        if marks := re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE):
            line = text.count("\n", 0, marks.start()) + 1
            raise BookError(f"{chapter}: line {line} has a conflict mark of git; resolve it") from error
        raise BookError(f"{chapter} is not a notebook: {str(error).splitlines()[0]}") from error
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return notebook


def check_executed(notebook: NotebookNode, name: object) -> None:
    """Raise BookError unless every code cell ran, without an error."""
    for label, cell in labelled(notebook):
        if cell.cell_type == "code" and cell.execution_count is None:
            raise BookError(f"{name}: {label} was not executed")
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise BookError(f"{name}: {label} holds an error: {output.ename}: {output.evalue}")


def labelled(notebook: NotebookNode) -> list[tuple[str, NotebookNode]]:
    """Return cells with a name that an author recognises: place in the source notebook and first line."""
    cells = [c for c in notebook.cells if not _ADDED_BY_PAPERMILL & set(c.metadata.get("tags", []))]
    lines = [(c.source.strip().splitlines() or ["nothing in it"])[0] for c in cells]
    return [(f"cell {i} ({line})", c) for i, (line, c) in enumerate(zip(lines, cells, strict=True), 1)]
