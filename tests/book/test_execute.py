"""Chapters of tiny books; oracles: the exit status, the message, and which files exist afterwards."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tests.tiny_book import TinyBook


@pytest.fixture(scope="module")
def execute() -> ModuleType:
    return importlib.import_module("execute")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seed": 3}, "no parameter 'seed'; it has profile"),
        ({"profile": "quick"}, "profile must be one of fast, paper; got 'quick'"),
    ],
)
def test_bad_parameters_are_refused(
    execute: ModuleType, tiny: TinyBook, parameters: dict[str, object], message: str
) -> None:
    tiny.write("1")
    with pytest.raises(execute.BookError, match=re.escape(f"{tiny.chapter}: {message}")):
        execute.execute(tiny.chapter, tiny.executed, parameters)
    assert not tiny.executed.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n<<<<<<< HEAD\n "cells": [],\n=======\n>>>>>>> other\n}', ": line 2 has a conflict mark of git"),
        ("cells", " is not a notebook: Notebook does not appear to be JSON"),
        ("{}", " is not a notebook: "),
        ('{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', " is not a notebook: "),
        (None, ": there is no such file"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_line(
    text: str | None, message: str, execute: ModuleType, tiny: TinyBook
) -> None:
    if text is not None:
        tiny.chapter.write_text(text)
    with pytest.raises(execute.BookError) as refused:
        execute.execute(tiny.chapter, tiny.executed, {"profile": "fast"})
    assert str(refused.value).startswith(f"{tiny.chapter}{message}")
    assert "\n" not in str(refused.value)
    assert not tiny.executed.exists()


def test_a_chapter_without_a_kernel_runs_with_that_of_this_environment(tiny: TinyBook) -> None:
    """As some tools that strip notebooks leave it."""
    tiny.write("import sys\nsys.prefix")
    notebook = nbformat.read(tiny.chapter, as_version=4)
    notebook.metadata.clear()
    nbformat.write(notebook, tiny.chapter)
    result = tiny.execute("profile=fast")
    assert (result.returncode, result.stderr) == (0, "")
    assert repr(sys.prefix) in tiny.executed.read_text()


def test_a_failing_cell_leaves_no_result_but_what_ran(tiny: TinyBook) -> None:
    tiny.write("answer = 42", "# The next line\nanswer / 0", "never = True")
    tiny.executed.parent.mkdir(parents=True)
    tiny.executed.write_text("an older result")
    result = tiny.execute("profile=fast")
    assert result.returncode == 1
    assert f"{tiny.chapter}: cell 4 (# The next line) failed" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert not tiny.executed.exists()
    partial = tiny.executed.with_suffix(".failed.ipynb")
    assert str(partial) in result.stderr
    assert "ZeroDivisionError" in partial.read_text()


def test_a_dying_kernel_is_reported(tiny: TinyBook) -> None:
    tiny.write("import os\nos._exit(1)")
    result = tiny.execute()
    assert result.returncode == 1
    assert "cell 3 (import os) failed" in result.stderr
    assert "Kernel died" in result.stderr


def test_a_chapter_runs_here_and_is_tidied(tiny: TinyBook, tmp_path: Path) -> None:
    """In its own folder, in this environment's kernel whatever else is installed, with one clean bar."""
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    kernel = {"argv": ["false"], "display_name": "No", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(kernel))
    tiny.write(
        "import os, sys\nprint(profile, os.getcwd(), sys.prefix)",
        "from tqdm import tqdm\nimport time\nfor _ in tqdm(range(20)):\n    time.sleep(0.02)",
    )
    jupyter = str(foreign.parents[1])
    result = tiny.execute("profile=paper", JUPYTER_PATH=jupyter, JUPYTER_DATA_DIR=jupyter)
    assert result.returncode == 0, result.stderr
    assert not tiny.executed.with_suffix(".failed.ipynb").exists()
    notebook = nbformat.read(tiny.executed, as_version=4)
    _, default, injected, where, bar = notebook.cells
    assert "remove-cell" in default.metadata.tags
    assert 'profile = "paper"' in injected.source
    assert where.outputs[0].text.split() == ["paper", str(tiny.chapter.parent), sys.prefix]
    assert len(bar.outputs) == 1
    assert bar.outputs[0].text.startswith("100%")
    assert "\r" not in bar.outputs[0].text
    assert str(tmp_path) not in json.dumps(notebook.metadata)


def test_new_prose_needs_no_run(tiny: TinyBook) -> None:
    """Oracle: a cell that counts its runs in a file."""
    count = (
        'import pathlib; p = pathlib.Path("ran"); p.write_text("x" + (p.read_text() if p.exists() else ""))'
    )
    ran, code = tiny.chapter.parent / "ran", tiny.root / "code.sum"
    own, show = new_code_cell(count), new_code_cell("print(profile)")

    def build(prose: str, profile: str = "fast") -> tuple[str, NotebookNode]:
        tiny.write(new_markdown_cell(prose, id="prose"), own, show)
        result = tiny.execute(f"profile={profile}", code=code)
        assert not result.returncode, result.stderr
        return result.stdout, nbformat.read(tiny.executed, as_version=4)

    code.write_text("1")
    first = build("Before.")[1]
    assert build("Before.")[0] == ""
    said, second = build("After.")
    assert "new prose" in said
    assert len(ran.read_text()) == 1
    assert [c.source.replace("Before", "After") for c in first.cells] == [c.source for c in second.cells]
    assert [c.get("outputs") for c in first.cells] == [c.get("outputs") for c in second.cells]
    code.write_text("2")
    build("After.")
    assert len(ran.read_text()) == 2
    show.source = "print(profile, 1)"
    assert build("After.", "paper")[1].cells[-1].outputs[0].text == "paper 1\n"
    assert len(ran.read_text()) == 3


def test_a_broken_file_of_htlib_is_named_in_one_line(
    execute: ModuleType, tiny: TinyBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, folder = tiny.root / "broken.py", tiny.executed.parent
    broken.write_text("def f(:\n")
    monkeypatch.setattr("sources.source_of", lambda *_: broken)
    tiny.write("import htlib as ht", "ht.esd")
    tiny.executed.parent.mkdir(parents=True)
    tiny.executed.write_text("not read, because the code comes first")
    monkeypatch.setattr("sys.argv", f"execute {tiny.chapter} --into {folder} --code {broken}".split())
    assert execute.main() == 1
    assert capsys.readouterr().err == f"error: {broken}, line 1: invalid syntax\n"
