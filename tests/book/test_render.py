"""Pages of tiny books; oracles: the exit status, the message, and the pages of a build from nothing."""

from __future__ import annotations

import importlib
import re
import shutil
from types import ModuleType

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell

from tests.tiny_book import ROOT, TITLE, TinyBook, executed


@pytest.fixture(scope="module")
def render() -> ModuleType:
    return importlib.import_module("render")


def test_every_code_cell_must_have_run(render: ModuleType) -> None:
    render.check_executed(executed(TITLE, new_code_cell("1")), "tiny")
    with pytest.raises(render.BookError, match=r"tiny: cell 2 \(skipped\) was not executed"):
        render.check_executed(executed(TITLE, new_code_cell("skipped")), "tiny")
    failed = new_code_cell("1 / 0")
    failed.outputs = [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="by zero")]
    with pytest.raises(render.BookError, match=r"tiny: cell 1 \(1 / 0\) holds an error: ZeroDivisionError"):
        render.check_executed(executed(failed), "tiny")


def test_a_chapter_that_was_not_executed_is_not_rendered(render: ModuleType, tiny: TinyBook) -> None:
    tiny.write("1")
    folders = tiny.executed.parent, tiny.root / "_build" / "html", tiny.chapter.parent
    with pytest.raises(render.BookError, match=re.escape(f"{tiny.chapter} was not executed")):
        render.render(*folders)
    tiny.executed.parent.mkdir(parents=True)
    shutil.copy(tiny.chapter, tiny.executed)
    stripped = '01-tiny.ipynb: cell 2 (profile = "fast") was not executed'
    with pytest.raises(render.BookError, match=re.escape(stripped)):
        render.render(*folders)


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


def test_the_address_of_the_pages(render: ModuleType) -> None:
    """Oracle: the form that GitHub documents."""
    assert render.public_address("https://github.com/Someone/htlib") == "https://someone.github.io/htlib"
    assert render.public_address("https://example.org/htlib") == ""


def test_one_address_in_the_configuration(render: ModuleType) -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["repository"]["url"] = ""
    assert render.with_repository(config, "") == config
    config["repository"]["url"] = "https://github.com/someone/htlib/"
    own = render.with_repository(config, "https://github.com/other/fork")
    assert own["repository"]["url"] == "https://github.com/someone/htlib"
    assert own["repository"]["branch"] == "main"


def write(tiny: TinyBook, prose: str) -> None:
    """The tiny chapter, executed, with a paragraph."""
    cells = TITLE, new_markdown_cell(prose, id="prose"), new_code_cell("1", id="code")
    tiny.executed.parent.mkdir(parents=True, exist_ok=True)
    for path in (tiny.executed, tiny.chapter):
        nbformat.write(executed(*cells), path)


@pytest.fixture
def linked(tiny: TinyBook) -> TinyBook:
    """A rendered book with a page that links to a section of the chapter, and with a glossary."""
    glossary = "```{glossary}\nresidual\n  What is left.\n```"
    for name, text in (("other", "See {ref}`the-end`."), ("words", glossary)):
        (tiny.chapter.parent / f"{name}.md").write_text(f"# {name}\n\n{text}\n")
    toc = yaml.safe_load((tiny.root / "_toc.yml").read_text())
    toc["chapters"] += [{"file": "book/other"}, {"file": "book/words"}]
    (tiny.root / "_toc.yml").write_text(yaml.safe_dump(toc))
    write(tiny, "(the-end)=\n## The end\n\nOne word.")
    result = tiny.render()
    assert result.returncode == 0, result.stderr
    return tiny


def test_new_prose_renders_its_page_and_what_that_breaks(linked: TinyBook) -> None:
    """Oracle: when Sphinx wrote the other page, and its warning."""
    other = linked.root / "_build" / "render" / "_build" / "html" / "book" / "other.html"
    before = other.stat().st_mtime
    write(linked, "(the-end)=\n## The end\n\nAnother word.")
    assert linked.render().returncode == 0
    assert "Another word" in linked.page.read_text()
    assert other.stat().st_mtime == before
    assert "term-residual" in (linked.page.parents[1] / "searchindex.js").read_text()
    write(linked, "## The end\n\nAnother word.")
    assert "book/other.md:3: WARNING: undefined label: 'the-end'" in linked.render().stderr


@pytest.mark.long
def test_after_a_new_heading_all_pages_are_those_of_a_build_from_nothing(linked: TinyBook) -> None:
    write(linked, "(the-end)=\n## A new end\n\nOne word.")
    assert linked.render().returncode == 0
    pages = {page: page.read_text() for page in linked.page.parents[1].rglob("*.html")}
    assert "A new end" in pages[linked.page.with_name("other.html")]
    shutil.rmtree(linked.root / "_build" / "render")
    assert linked.render().returncode == 0
    assert {page: page.read_text() for page in pages} == pages
