"""The pages in _build/html as a parser sees them; `make test` builds them first."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
PAGES = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
EXTRA = ["genindex", "search"]
LOADING_RELS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest", "preconnect"}

each_page = pytest.mark.parametrize("page", PAGES)


@cache
def parsed(path: Path) -> BeautifulSoup:
    if not path.exists():
        pytest.fail(f"{path} is missing: run `make book` first")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    return {str(tag["id"]) for tag in parsed(path).find_all(id=True)}


def article(page: str) -> Tag:
    found = parsed(HTML / f"{page}.html").find("article")
    assert isinstance(found, Tag)
    return found


def loaded(document: BeautifulSoup) -> list[str]:
    """The addresses that a browser fetches by itself to show the document."""
    links = [tag for tag in document.find_all("link", href=True) if LOADING_RELS & set(tag["rel"])]
    addresses = [str(tag["src"]) for tag in document.find_all(src=True)]
    addresses += [str(tag["data"]) for tag in document.find_all("object", data=True)]
    addresses += [str(tag["href"]) for tag in links]
    styles = " ".join(str(tag) for tag in document.find_all("style"))
    styles += " ".join(str(tag["style"]) for tag in document.find_all(style=True))
    return addresses + in_style(styles)


def in_style(css: str) -> list[str]:
    imports = re.findall(r"@import\s+[\"']([^\"']+)", css)
    return imports + re.findall(r"url\(\s*[\"']?([^\"')]+)", css)


def is_external(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in ("", "data") or bool(parts.netloc)


@each_page
def test_pages_are_whole(page: str) -> None:
    document = parsed(HTML / f"{page}.html")
    assert document.html is not None
    assert document.html.get("lang") == "en"
    assert document.find("meta", attrs={"name": "viewport"})
    assert len(article(page).find_all("h1")) == 1
    text = article(page).get_text(" ")
    assert "Traceback (most recent call last)" not in text
    assert not re.search(r"\{(glue|numref|ref|eq|cite|doc|prf)[:}]", text), "a role that was not rendered"
    assert "Heavy tails without noise" in document.title.get_text() if document.title else False
    assert "the htlib developers" in document.get_text(" ")


@each_page
def test_figures_have_number_caption_and_alt(page: str) -> None:
    for figure in article(page).find_all("figure"):
        caption = figure.find("figcaption")
        assert caption is not None, figure.get("id")
        assert caption.get_text(strip=True)
        if "explorer-still" not in figure.get("class", []):
            assert caption.find(class_="caption-number"), figure.get("id")
        assert figure.find(["img", "svg"]) is not None, figure.get("id")
    for image in article(page).find_all("img"):
        assert image.find_parent("figure"), f"an image without a figure: {image.get('src')}"
        if image.find_parent(role="img", attrs={"aria-label": True}):
            continue  # frames: one text for all of them
        assert str(image.get("alt", "")).strip(), f"an image without alt text: {image.get('src')}"


@each_page
def test_numbers_and_outputs_are_there(page: str) -> None:
    for number in article(page).select(".pasted-text"):
        text = number.get_text(strip=True)
        assert text, "a glued number is blank"
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE), text
    for output in article(page).select(".cell_output"):
        shown = output.get_text(strip=True) or output.find(["img", "svg", "canvas", "video"])
        assert shown, "a blank output"
    for output in article(page).select(".output.stderr"):
        assert "Warning" not in output.get_text(), output.get_text()
        assert "\r" not in output.get_text()


@each_page
def test_no_control_without_a_kernel(page: str) -> None:
    source = str(parsed(HTML / f"{page}.html"))
    assert "application/vnd.jupyter.widget" not in source
    assert "thebe" not in source.lower()


@pytest.mark.parametrize("page", [*PAGES, *EXTRA])
def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    external = [a for a in loaded(parsed(HTML / f"{page}.html")) if is_external(a)]
    assert external == []


def test_styles_load_nothing_from_elsewhere() -> None:
    sheets = list((HTML / "_static").rglob("*.css"))
    assert sheets
    found = {sheet: in_style(sheet.read_text(encoding="utf-8")) for sheet in sheets}
    assert [(sheet, a) for sheet, addresses in found.items() for a in addresses if is_external(a)] == []


@pytest.mark.parametrize("page", ["index", *PAGES, *EXTRA])
def test_links_and_anchors_resolve(page: str) -> None:
    path = HTML / f"{page}.html"
    document = parsed(path)
    targets = [str(tag["href"]) for tag in document.find_all("a", href=True)] + loaded(document)
    for redirect in document.find_all("meta", attrs={"http-equiv": "Refresh"}):
        targets.append(str(redirect["content"]).split("url=")[1])
    for target in targets:
        if is_external(target) or target.startswith("data:"):
            continue
        address, anchor = urldefrag(target)
        file = (path.parent / unquote(urlsplit(address).path)).resolve() if urlsplit(address).path else path
        assert file.is_file(), target
        if anchor and file.suffix == ".html":
            assert unquote(anchor) in anchors(file), target


@pytest.mark.parametrize(
    ("html", "external"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', True),
        ('<p style="background: url(http://example.org/x.png)">', True),
        ('<style>@import "https://example.org/x.css";</style>', True),
        ('<a href="https://example.org">out</a><script src="../_static/x.js"></script>', False),
        ('<img src="data:image/png;base64,AAAA">', False),
    ],
)
def test_the_check_for_external_requests_sees_them(html: str, external: bool) -> None:
    found = any(is_external(a) for a in loaded(BeautifulSoup(html, "html.parser")))
    assert found == external
