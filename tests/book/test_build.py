"""Books of one tiny chapter; oracles: the exit status, the message, and which files exist afterwards."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[2]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TITLE = new_markdown_cell("# Tiny")


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

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "book" / "build.py", *map(str, arguments)],
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
        return self.run("execute", self.chapter, "--into", self.executed.parent, *options, **environment)

    def render(self, *options: str) -> subprocess.CompletedProcess[str]:
        html = self.root / "_build" / "html"
        return self.run("render", self.executed.parent, html, "--book", self.chapter.parent, *options)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBook:
    return TinyBook(tmp_path)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build", ROOT / "book" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executed(*cells: NotebookNode) -> NotebookNode:
    """A notebook that looks executed."""
    for cell in cells:
        if cell.cell_type == "code" and cell.source != "skipped":
            cell.execution_count = 1
    return new_notebook(cells=list(cells), metadata={"kernelspec": KERNEL})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seed": 3}, "no parameter 'seed'; it has profile"),
        ({"profile": "quick"}, "profile must be one of fast, paper; got 'quick'"),
    ],
)
def test_bad_parameters_are_refused(
    build: ModuleType, tiny: TinyBook, parameters: dict[str, object], message: str
) -> None:
    tiny.write("1")
    with pytest.raises(build.BookError, match=re.escape(f"{tiny.chapter}: {message}")):
        build.execute(tiny.chapter, tiny.executed, parameters)
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
    text: str | None, message: str, build: ModuleType, tiny: TinyBook
) -> None:
    if text is not None:
        tiny.chapter.write_text(text)
    with pytest.raises(build.BookError) as refused:
        build.execute(tiny.chapter, tiny.executed, {"profile": "fast"})
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


def test_every_code_cell_must_have_run(build: ModuleType) -> None:
    build.check_executed(executed(TITLE, new_code_cell("1")), "tiny")
    with pytest.raises(build.BookError, match=r"tiny: cell 2 \(skipped\) was not executed"):
        build.check_executed(executed(TITLE, new_code_cell("skipped")), "tiny")
    failed = new_code_cell("1 / 0")
    failed.outputs = [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="by zero")]
    with pytest.raises(build.BookError, match=r"tiny: cell 1 \(1 / 0\) holds an error: ZeroDivisionError"):
        build.check_executed(executed(failed), "tiny")


def test_a_chapter_that_was_not_executed_is_not_rendered(build: ModuleType, tiny: TinyBook) -> None:
    tiny.write("1")
    folders = tiny.executed.parent, tiny.root / "_build" / "html", tiny.chapter.parent
    with pytest.raises(build.BookError, match=re.escape(f"{tiny.chapter} was not executed")):
        build.render(*folders)
    tiny.executed.parent.mkdir(parents=True)
    shutil.copy(tiny.chapter, tiny.executed)
    stripped = '01-tiny.ipynb: cell 2 (profile = "fast") was not executed'
    with pytest.raises(build.BookError, match=re.escape(stripped)):
        build.render(*folders)


def test_a_warning_of_sphinx_stops_the_book(tiny: TinyBook) -> None:
    """Also the second time, when Sphinx's caches would have kept quiet; the older pages stay."""
    tiny.write(new_markdown_cell("See {numref}`nothing`."), new_markdown_cell("Fine.\n\nSee {ref}`nowhere`."))
    tiny.executed.parent.mkdir(parents=True)
    nbformat.write(executed(TITLE, *nbformat.read(tiny.chapter, as_version=4).cells[1:]), tiny.executed)
    tiny.page.parent.mkdir(parents=True)
    tiny.page.write_text("older")
    for _ in range(2):
        result = tiny.render()
        assert result.returncode == 1
        assert "book/01-tiny.ipynb: cell 3, line 1: WARNING" in result.stderr
        assert "book/01-tiny.ipynb: cell 4, line 3: WARNING" in result.stderr
    assert tiny.page.read_text() == "older"


def test_links_to_the_repository_appear_with_its_address(tiny: TinyBook) -> None:
    """Oracle: the address formats that Binder and Colab document."""
    tiny.write("1")
    tiny.executed.parent.mkdir(parents=True)
    nbformat.write(executed(*nbformat.read(tiny.chapter, as_version=4).cells), tiny.executed)
    result = tiny.render("--repository", "https://github.com/someone/htlib")
    assert result.returncode == 0, result.stderr
    page = BeautifulSoup(tiny.page.read_text(), "html.parser")
    links = {str(link["href"]) for link in page.find_all("a", href=True)}
    assert tiny.chapter.exists()
    assert links >= {
        "https://colab.research.google.com/github/someone/htlib/blob/main/book/01-tiny.ipynb",
        "https://mybinder.org/v2/gh/someone/htlib/main?urlpath=lab/tree/book/01-tiny.ipynb",
        "https://github.com/someone/htlib",
        "https://github.com/someone/htlib/blob/main/CITATION.cff",
    }
    assert any(link.startswith("https://github.com/someone/htlib/issues/new") for link in links)


def test_the_address_of_the_pages(build: ModuleType) -> None:
    """Oracle: the form that GitHub documents."""
    assert build.public_address("https://github.com/Someone/htlib") == "https://someone.github.io/htlib"
    assert build.public_address("https://example.org/htlib") == ""


def test_one_address_in_the_configuration(build: ModuleType) -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["repository"]["url"] = ""
    assert build.with_repository(config, "") == config
    config["repository"]["url"] = "https://github.com/someone/htlib/"
    own = build.with_repository(config, "https://github.com/other/fork")
    assert own["repository"]["url"] == "https://github.com/someone/htlib"
    assert own["repository"]["branch"] == "main"


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
