"""Print the pages of the built book as one PDF, with numbered pages and working links.

python -m book.pdf _build/html _build/heavy-tails.pdf
"""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.chromium import FLAGS, find_chromium

_STYLE = """
@page { size: A4; margin: 18mm 17mm 20mm; }
html { font-size: 13px; }
body { display: block; }
article { break-before: page; max-width: none; }
article.title { padding-top: 60mm; text-align: center; }
nav.print-contents { break-before: page; }
nav.print-contents ol { list-style: none; padding: 0; }
h1, h2, h3 { break-after: avoid; break-inside: avoid; }
img { max-height: 215mm; object-fit: contain; }
figure, table, .admonition:not(.solution), mjx-container[display], pre { break-inside: avoid; }
pre { white-space: pre-wrap; overflow: visible !important; }
mjx-container[display], div.math, .output { overflow: visible !important; }
a { text-decoration: none; }
details.hide, .headerlink, .copybtn, .picture-links { display: none !important; }
"""
_FOOTER = (
    '<div style="width: 100%; font: 8px sans-serif; text-align: center">'
    '<span class="pageNumber"></span></div>'
)


def joined(folder: Path, names: list[str], title: str, author: str) -> str:
    """Return one document of the articles of the pages `names` of the folder.

    Anchors get the name of their page before their own, and links between the pages become links inside the
    document.  Links to files and to settings of the explorer, which paper does not have, become plain text.
    """
    articles, contents, sheets = [], [], set[str]()
    for name in names:
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        found = re.search(r'<article class="bd-article">(.*?)</article>', page, re.DOTALL)
        if found is None:
            raise ValueError(f"{folder / name}.html has no article")
        body = re.sub(r'\bid="([^"]+)"', rf'id="{name}--\1"', found[1])
        body = re.sub(r'<a ([^>]*?)href="([^"]*)"', lambda m, here=name: _link(m, here, names), body)
        body = body.replace('loading="lazy"', "").replace("<details", "<details open")
        articles.append(f'<article class="bd-article" id="{name}">{body}</article>')
        sheets.update(re.findall(r'<link rel="stylesheet"[^>]*>', page))
        heading = re.search(r"<h1>(.*?)<a class=\"headerlink\"", body, re.DOTALL)
        contents.append(f'<li><a href="#{name}">{heading[1] if heading else name}</a></li>')
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title>{''.join(sorted(sheets))}<style>{_STYLE}</style></head><body>"
        f'<article class="bd-article title"><h1>{html.escape(title)}</h1>'
        f"<p>{html.escape(author)}</p></article>"
        f'<nav class="print-contents"><h1>Contents</h1><ol>{"".join(contents)}</ol></nav>'
        f'<div class="bd-content">{"".join(articles)}</div></body></html>'
    )


def _link(match: re.Match[str], name: str, names: list[str]) -> str:
    before, address = match[1], match[2]
    file, _, anchor = address.partition("#")
    target = file.removesuffix(".html") or name
    if re.match(r"\w+:", address):
        return match[0]
    if target not in names or "?" in address:
        return f"<a {before}"
    return f'<a {before}href="#{target}{"--" + anchor if anchor else ""}"'


def main() -> None:
    """Write the PDF that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("html", type=Path, help="the folder of the built book")
    parser.add_argument("pdf", type=Path)
    options = parser.parse_args()
    root = Path(__file__).parents[1]
    contents = (root / "_toc.yml").read_text(encoding="utf-8")
    config = (root / "_config.yml").read_text(encoding="utf-8")
    names = re.findall(r"(?:root|file): book/(\S+)", contents)
    title, author = (re.search(rf'^{field}: "(.*)"', config, re.MULTILINE) for field in ("title", "author"))
    text = joined(options.html / "book", names, title[1] if title else "", author[1] if author else "")
    document = options.html / "book" / "print.html"  # beside the pages, whose addresses it shares
    document.write_text(text, encoding="utf-8")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=FLAGS)
            page = browser.new_page(java_script_enabled=False)
            page.goto(document.resolve().as_uri(), wait_until="load", timeout=300_000)
            page.pdf(
                path=options.pdf,
                prefer_css_page_size=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=_FOOTER,
                print_background=True,
                outline=True,
                tagged=True,
            )
            browser.close()
    finally:
        document.unlink()
    print(f"The book as one document is in {options.pdf}.")


if __name__ == "__main__":
    main()
