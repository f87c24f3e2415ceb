"""Write the pages that come from the code: the API, the command line, the environment, how to cite.

This is an extension of Sphinx.  `PAGES` has one function per page.  Each returns Markdown, which is written
where the table of contents names the page.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import yaml
from sphinx.application import Sphinx
from sphinx.config import Config

import htlib as ht
from htlib.commands.main import main

_SHOWN = ("torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "jupyter-book", "papermill")


@dataclass(frozen=True)
class Build:
    """What the pages are made from."""

    book: Path  # the sources of the chapters
    executed: Path  # the executed chapters
    source: str = ""  # the address of the sources on the web, or nothing


def api(build: Build) -> str:
    """Every public name: signature, docstring, the chapters that use it, its source."""
    uses = _uses(build.book)
    modules: dict[str, list[str]] = {}
    for name in ht.__all__:
        modules.setdefault(ht._HOMES[name], []).append(name)
    parts = [
        "# The library, name by name",
        "`import htlib as ht` gives all of these; the names below stand in the order of the modules they come"
        " from. The pictures are in `ht.figures`, the experiment that one moves is"
        " `ht.explorer.Explorer`, and `ht.explorer.layers(model)` shows `ht.analyze(model)` in Jupyter.",
    ]
    described = {module: importlib.import_module(module) for module in sorted(modules)}
    links = (
        f"- {_first_sentence(loaded)} "
        + ", ".join(f"{{py:obj}}`{name} <htlib.{name}>`" for name in modules[module])
        for module, loaded in described.items()
    )
    parts.append("\n".join(links))
    for module, loaded in described.items():
        names = modules[module]
        file = Path(module.replace(".", "/") + ".py")
        where = f"[`{file}`]({build.source}/{file})" if build.source else f"`{file}`"
        parts.append(f"## {module.removeprefix('htlib.')}\n\n{_first_sentence(loaded)}  Source: {where}.")
        for name in names:
            kind = "autoclass" if inspect.isclass(getattr(ht, name)) else "autofunction"
            members = "\n   :members:" if kind == "autoclass" else ""
            parts.append(f"```{{eval-rst}}\n.. {kind}:: htlib.{name}{members}\n```")
            if uses.get(name):
                parts.append("*Used in* " + ", ".join(f"{{doc}}`{chapter}`" for chapter in uses[name]) + ".")
    return "\n\n".join(parts) + "\n"


def commands(_: Build) -> str:
    """Show the help of every command."""
    parts = ["# The command line", "`htlib COMMAND` does without Python what the chapters do with it."]
    first = _help()
    names = re.findall(r"^    (\w+) ", first, re.MULTILINE)
    parts += [f"## htlib {name}\n\n```text\n{_help(name)}```" for name in names]
    parts.append("## Exit statuses\n\n" + _exit_statuses())
    return "\n\n".join(parts) + "\n"


def environment(build: Build) -> str:
    """Say with what the chapters were computed, and how long each took."""
    rows, total = [], 0
    for chapter in sorted(build.executed.glob("*.ipynb")):
        metadata = nbformat.read(chapter, as_version=4).metadata
        seconds = metadata.get("seconds")
        if seconds is not None:
            total += seconds
            rows.append(f"| {{doc}}`{chapter.stem}` | {seconds} |")
    versions = "\n".join(f"| {name} | {version(name)} |" for name in _SHOWN)
    return f"""# The environment of this build

These pages were computed by Python {platform.python_version()} on {platform.system()} ({platform.machine()},
{os.cpu_count()} cores). `requirements.txt` has the version of every package; these decide the numbers and the
pictures:

| package | version |
|---|---|
{versions}

## How long each chapter took

The runs of all presets were computed before, by `make runs`; a chapter reads them, draws and tells. The times
are in seconds, with other chapters running beside it, and {total} altogether.

| chapter | seconds |
|---|---|
{chr(10).join(rows)}
"""


def cite(build: Build) -> str:
    """Show the contents of CITATION.cff in the usual forms."""
    citation = yaml.safe_load((build.book.parent / "CITATION.cff").read_text(encoding="utf-8"))
    entries = [citation, *citation["references"]]
    parts = [
        "# How to cite",
        citation["message"],
        "*The book and its library*\n\n" + _plain(citation),
        *("*The paper*\n\n" + _plain(entry) for entry in citation["references"]),
        "## BibTeX",
        "```bibtex\n" + "\n\n".join(map(_bibtex, entries)) + "\n```",
        "`CITATION.cff` at the top of the repository has the same for machines.",
    ]
    return "\n\n".join(parts) + "\n"


PAGES: Mapping[str, Callable[[Build], str]] = {
    "api": api,
    "commands": commands,
    "environment": environment,
    "cite": cite,
}


def setup(app: Sphinx) -> None:
    """Write the pages before Sphinx reads any; make it read docstrings in which |x| is an absolute value."""
    app.add_config_value("generated_from", None, "", types=dict)  # the fields of `Build`
    app.connect("config-inited", _write_pages)
    app.connect("autodoc-process-docstring", _escape_bars, priority=900)  # after napoleon


def _write_pages(app: Sphinx, config: Config) -> None:
    fields = config.generated_from
    build = Build(Path(fields["book"]), Path(fields["executed"]), fields["source"])
    contents = (app.srcdir / "_toc.yml").read_text(encoding="utf-8")
    for name, write in PAGES.items():
        page = app.srcdir / build.book.name / f"{name}.md"
        named = re.search(rf"file: {build.book.name}/{name}$", contents, re.MULTILINE)
        if named and not page.exists():  # book/render.py keeps them where only prose has changed
            page.write_text(write(build), encoding="utf-8")


def _escape_bars(*event: Any) -> None:
    lines: list[str] = event[-1]
    lines[:] = [re.sub(r"``[^`]*``|(\|)", lambda m: r"\|" if m[1] else m[0], line) for line in lines]


def _uses(book: Path) -> dict[str, list[str]]:
    """Return the chapters whose code uses each public name, in their order."""
    found: dict[str, list[str]] = {}
    for chapter in sorted(book.glob("*.ipynb")):
        cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for name in set(re.findall(r"\bht\.(\w+)", code)):
            found.setdefault(name, []).append(chapter.stem)
    return found


def _first_sentence(module: object) -> str:
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")


def _help(*command: str) -> str:
    text = io.StringIO()
    os.environ["COLUMNS"] = "88"  # the width of argparse's text
    with redirect_stdout(text), suppress(SystemExit):
        main([*command, "--help"])
    return text.getvalue()


def _exit_statuses() -> str:
    return (inspect.getdoc(main) or "").split("\n\n")[1].replace("\n", " ")


def _people(entry: dict[str, Any]) -> list[str]:
    return [p.get("name") or f"{p['family-names']}, {p['given-names']}" for p in entry["authors"]]


def _plain(entry: dict[str, Any]) -> str:
    people = "; ".join(_people(entry))
    where = entry.get("journal") or f"version {entry['version']}"
    return f"{people}. {entry['title']}. {where}{', ' + str(entry['year']) if 'year' in entry else ''}."


def _bibtex(entry: dict[str, Any]) -> str:
    people = _people(entry)
    year = str(entry.get("year", ""))
    key = re.sub(r"\W", "", people[0].split(",")[0].split()[-1].lower()) + year
    fields = {
        "author": " and ".join(f"{{{p}}}" if "," not in p else p for p in people),
        "title": f"{{{entry['title']}}}",
        "journal": str(entry.get("journal", "")),
        "version": str(entry.get("version", "")),
        "year": year,
        "url": str(entry.get("url", "")),
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@{'article' if 'journal' in entry else 'software'}{{{key},\n{body}\n}}"
