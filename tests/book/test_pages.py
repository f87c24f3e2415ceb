"""What is done to the pages after Sphinx.  Oracle: small pages, and what must come out of them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import nbformat
import pages
import pdf
import pictures
import pytest
from bs4 import BeautifulSoup
from PIL import Image

SHEET = """@media print { .kept { color: red } .gone { color: red } }
.kept > a, .gone { color: blue } #here:not(.gone) { color: green } @font-face { font-family: x }
.icon::before { content: "\\f104" }"""
PAGE = """<html><head><title>A page</title><script data-cfasync="false">early</script>
<link rel="preload" as="script" href="x.js" />
<link rel="stylesheet" type="text/css" href="../_static/a.css?v=1" />
<script src="../_static/late.js"></script><script>DOCUMENTATION_OPTIONS.pagename = 'x';</script>
<script defer src="../_static/scripts/fontawesome.js"></script><script>window.MathJax = {}</script>
<script src="../searchindex.js"></script><script src="../_static/design-tabs.js"></script></head>
<body><article class="bd-article"><h1><span class="section-number">1. </span>T</h1>
<p>A spike, and a spike; <code>spike</code> is code.</p>
<span class="math notranslate nohighlight">\\(a &lt; \\frac{1}{2}\\)</span>
<div class="math notranslate nohighlight" id="e">
<span class="eqno">(1)</span>\\[\\begin{split}b\\\\c\\end{split}\\]</div>
<table><tr><th></th><th class="head"><p></p></th><th>x</th></tr></table>
<details><summary aria-label="Toggle hidden content">Show</summary></details>
<p class="kept" id="here"><a href="https://example.org">out</a></p></article></body></html>"""
GLOSSARY = """<html><head></head><body><article class="bd-article"><h1>G</h1>
<dl><dt id="term-spike">spike<a class="headerlink"></a></dt></dl></article></body></html>"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "book").mkdir()
    (tmp_path / "_static" / "scripts").mkdir(parents=True)
    (tmp_path / "_static" / "scripts" / "fontawesome.js").write_text("all icons")
    (tmp_path / "_static" / "a.css").write_text(SHEET)
    (tmp_path / "book" / "x.html").write_text(PAGE)
    (tmp_path / "book" / "glossary.html").write_text(GLOSSARY)
    return tmp_path


def test_a_page_is_finished(book: Path) -> None:
    pages.finish(book)
    page = BeautifulSoup((book / "book" / "x.html").read_text(), "html.parser")
    assert page.head is not None
    assert page.body is not None
    # formulas, with MathML beside them
    assert len(page.select(".math mjx-container math")) == 2
    assert page.select_one("#e .eqno") is not None
    assert "\\frac" not in page.get_text()
    # scripts: the first stays, those of no use go, the others wait for the text, in their order
    assert [s.get("data-cfasync") for s in page.head.find_all("script")] == ["false"]
    late = page.body.find_all("script")
    assert [s.get("src") or s.get_text() for s in late] == [
        "../_static/late.js",
        "DOCUMENTATION_OPTIONS.pagename = 'x';",
    ]
    assert page.head.find("link", rel="preload") is None
    # one style sheet with the rules that the page can use
    (link,) = page.head.find_all("link", rel="stylesheet")
    css = (book / "book" / str(link["href"])).read_text()
    assert css.count("kept") == 2
    assert "gone{" not in css.replace(" ", "")
    assert "#here:not(.gone)" in css
    assert "@font-face" in css
    assert "icon" not in css
    # words for screen readers
    assert [cell.name for cell in page.select("tr > *")] == ["td", "td", "th"]
    assert not page.select("summary[aria-label]")
    # the first use of a word, but not in code
    assert [a["href"] for a in page.select("a.term")] == ["glossary.html#term-spike"]


def test_the_script_of_tabs_is_where_tabs_are(book: Path) -> None:
    path = book / "book" / "tabs.html"
    path.write_text(PAGE.replace("<details>", '<div class="sd-tab-set"></div><details>'))
    pages.finish(book)
    assert "design-tabs.js" in path.read_text()
    assert "design-tabs.js" not in (book / "book" / "x.html").read_text()


@pytest.mark.parametrize("address", ["", "https://someone.github.io/htlib"])
def test_a_link_to_a_page_has_a_card(book: Path, address: str) -> None:
    pages.finish(book, address)
    page = BeautifulSoup((book / "book" / "x.html").read_text(), "html.parser")
    card = {str(tag["property"]): tag["content"] for tag in page.select("meta[property]")}
    assert card["og:title"] == "A page"
    assert card["og:description"] == "A spike, and a spike; spike is code."
    assert card.get("og:url") == (f"{address}/book/x.html" if address else None)
    assert ("og:image" in card) == bool(address)


@pytest.mark.parametrize("wrong", [r"\nosuchcommand", r"\frac{1}{2"])
def test_a_formula_that_cannot_be_set_is_named(book: Path, wrong: str) -> None:
    page = book / "book" / "x.html"
    page.write_text(page.read_text().replace(r"\frac{1}{2}", wrong))
    with pytest.raises(pages.PageError, match="MathJax refuses formulas") as refused:
        pages.finish(book)
    assert wrong in str(refused.value)


def figure_cell(mime: str, data: str) -> nbformat.NotebookNode:
    more = {"narrow": {"mime": mime, "data": data, "width": 42, "height": 30}, "numbers": "x,y\n1,2\n"}
    output = nbformat.v4.new_output(
        "display_data", {mime: data, pictures.MORE: more}, metadata={mime: {"width": 80, "height": 60}}
    )
    options = {"figure": {"name": "fig-a"}, "image": {"alt": 'Says "this" & that'}}
    return nbformat.v4.new_code_cell("", outputs=[output], metadata={"mystnb": options})


def png() -> str:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(("mime", "ending"), [("image/svg+xml", "svg"), ("image/png", "webp")])
def test_a_figure_becomes_files(tmp_path: Path, mime: str, ending: str) -> None:
    cell = figure_cell(mime, png() if ending == "webp" else "<svg/>")
    pictures.place(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
    (output,) = cell.outputs
    shown = BeautifulSoup(output.data["text/html"], "html.parser")
    image, source = shown.select_one("picture > img"), shown.select_one("picture > source")
    assert image is not None
    assert source is not None
    assert image["alt"] == 'Says "this" & that'
    assert (image["width"], image["height"], source["width"]) == ("80", "60", "42")
    for address in (image["src"], source["srcset"], *(a["href"] for a in shown.select("a"))):
        file = tmp_path / "static" / "pictures" / Path(str(address)).name
        assert file.is_file()
    assert str(image["src"]).endswith(ending)
    assert [a["download"] for a in shown.select("a")] == [f"fig-a.{ending}", "fig-a.csv"]
    if ending == "webp":
        stored = Image.open(tmp_path / "static" / "pictures" / Path(str(image["src"])).name)
        assert stored.getpixel((3, 3)) == (255, 0, 0)


def test_a_picture_inside_of_html_becomes_a_file(tmp_path: Path) -> None:
    still = f'<figure><img src="data:image/png;base64,{png()}" alt="still"></figure>'
    output = nbformat.v4.new_output("display_data", {"text/html": still})
    pictures.place(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])]), tmp_path
    )
    assert "base64" not in json.dumps(output)
    assert len(list((tmp_path / "static" / "pictures").iterdir())) == 1


def test_one_document_of_all_pages(book: Path) -> None:
    """Anchors stay apart, links between pages work inside, and paper has no files."""
    other = (
        '<html><head></head><body><article class="bd-article"><h1 id="t">Two<a class="headerlink"></a></h1>'
        '<a href="x.html#e">an equation</a><a href="x.html">a page</a><a href="#t">here</a>'
        '<a href="?lr=1#explorer">a setting</a><a href="../_static/plain.py">a file</a>'
        '<a href="https://example.org">out</a></article></body></html>'
    )
    (book / "book" / "y.html").write_text(other)
    document = BeautifulSoup(pdf.joined(book / "book", ["x", "y"], "A & B", "us"), "html.parser")
    ids = [str(tag["id"]) for tag in document.find_all(id=True)]
    assert len(ids) == len(set(ids))
    links = {a.get_text(): a.get("href") for a in document.select("#y a")}
    assert links["an equation"] == "#x--e"
    assert links["a page"] == "#x"
    assert links["here"] == "#y--t"
    assert links["a setting"] is None
    assert links["a file"] is None
    assert links["out"] == "https://example.org"
    assert {str(a["href"]).removeprefix("#") for a in document.select("a[href^='#']")} <= set(ids)
    assert document.title is not None
    assert document.title.get_text() == "A & B"
