"""Render the executed chapters as HTML.  The Makefile calls this.

    python book/render.py _build/fast _build/pages

Jupyter Book renders; this file makes it strict, and spares it pages that cannot have changed.  By itself,
Jupyter Book renders a cell that never ran, and leaves pages behind after a failure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pages
import pictures
import yaml
from notebooks import BookError, check_executed

_ROOT = Path(__file__).parents[1]
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def render(executed: Path, html: Path, book: Path, repository: str = "", live: Path | None = None) -> None:
    """Make the pages of `book` in `html`, which is replaced only if Sphinx gave no warning.

    `live` is the folder of the scripts of the explorer; without it the pages show still pictures.  What these
    scripts load, the Makefile adds to the finished pages.

    Sphinx starts without its caches: with them, a second run does not repeat the warnings of pages that did
    not change, and does not update sidebars when the table of contents changed.  Only if the last run gave no
    warning, and nothing but prose has changed since, it reads just the changed documents; then
    ``book/mentions.py`` tells it which pages to write.
    """
    stage = html.parent / "render"
    config = yaml.safe_load((book.parent / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["generated_from"] = {
        "book": str(book),
        "executed": str(executed),
        "source": f"{repository}/blob/main" if repository else "",
    }
    settings = yaml.safe_dump(with_repository(config, repository))
    documents = {path.name: path for path in (*_executed(book, executed), *sorted(book.glob("*.md")))}
    digests = {name: _digest([path]) for name, path in documents.items()}
    frame = _frame(documents.values(), book, settings, live)
    whole = stage / "whole.json"  # is there only after a run without a warning
    last = json.loads(whole.read_text()) if whole.exists() else {"frame": ""}
    whole.unlink(missing_ok=True)
    if last["frame"] != frame:
        last = {"documents": {}}
        shutil.rmtree(stage, ignore_errors=True)
        shutil.copytree(book, stage / book.name, ignore=partial(_left_out, book))
        if live is not None:
            shutil.copytree(live, stage / book.name / "static" / "live")
        shutil.copy(book.parent / "_toc.yml", stage)
        (stage / "_config.yml").write_text(settings, encoding="utf-8")
    for name, path in documents.items():
        if digests[name] != last["documents"].get(name):
            _stage(path, stage / book.name)

    command = [Path(sys.executable).with_name("jupyter-book"), "build", str(stage)]
    command += ["--path-output", str(stage), "--warningiserror", "--keep-going", "--quiet"]
    # _config.yml names two files of this folder among the extensions
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    # MyST-NB reports line 3 of cell 2 as line 20004.
    reports = re.sub(
        r"\.ipynb:(\d+)(\d{4}):",
        lambda m: f".ipynb: cell {m[1]}, line {int(m[2]) - 1}:",
        _COLOUR.sub("", result.stderr).replace(f"{stage.resolve()}{os.sep}", "").strip(),
    )
    if result.returncode:
        raise BookError(f"the pages could not be rendered\n{reports or result.stdout}")
    finished = stage / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    shutil.copytree(stage / "_build" / "html", finished)
    try:
        pages.finish(finished, public_address(config["repository"]["url"] or repository))
    except pages.PageError as error:
        raise BookError(str(error)) from error
    shutil.rmtree(html, ignore_errors=True)
    finished.replace(html)
    new = whole.with_suffix(".new")
    new.write_text(json.dumps({"frame": frame, "documents": digests}))
    new.replace(whole)


def _executed(book: Path, executed: Path) -> Iterator[Path]:
    """Yield the executed chapters of a book."""
    for chapter in sorted(book.glob("*.ipynb")):
        path = executed / chapter.name
        if not path.exists():
            raise BookError(f"{chapter} was not executed: {path} is missing")
        yield path


def _left_out(book: Path, folder: str, names: list[str]) -> list[str]:
    """Tell `shutil.copytree` what the pages do not need, and what `_stage` adds."""
    suffixes = (".ipynb", ".md", ".py", ".cjs") if Path(folder) == book else ()
    return [n for n in names if n == "__pycache__" or n.startswith(".") or Path(n).suffix in suffixes]


def _stage(document: Path, folder: Path) -> None:
    """Put a document where Sphinx reads it, and the pictures of a chapter into files beside it."""
    if document.suffix == ".md":
        (folder / document.name).write_bytes(document.read_bytes())
        return
    notebook = nbformat.read(document, as_version=4)
    check_executed(notebook, document)
    pictures.place(notebook, folder)
    nbformat.write(notebook, folder / document.name)


def _frame(documents: Iterable[Path], book: Path, settings: str, live: Path | None) -> str:
    """Return a digest of all that decides the pages, but for the prose of the documents."""
    behind = [_ROOT / "CITATION.cff", _ROOT / "requirements.txt", book.parent / "_toc.yml"]
    behind += [*_ROOT.glob("book/*.py"), *_ROOT.glob("htlib/**/*.py"), *(live.rglob("*") if live else ())]
    behind += [*book.glob("*.bib"), *book.glob("*.yml"), *book.glob("static/**/*")]
    results = [json.dumps(_results(path)) for path in documents]
    return _digest(sorted(path for path in behind if path.is_file()), settings, *results)


def _results(document: Path) -> list[Any]:
    """Return what a document has beside its prose."""
    if document.suffix == ".md":
        return [document.name]
    content = json.loads(document.read_bytes())
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            del cell["source"]
    return [document.name, content]


def _digest(paths: Iterable[Path], *texts: str) -> str:
    total = hashlib.sha256("\0".join(texts).encode())
    for path in paths:
        content = path.read_bytes()
        total.update(f"{path} {len(content)} ".encode() + content)
    return total.hexdigest()


def with_repository(config: dict[str, Any], repository: str) -> dict[str, Any]:
    """Add all that needs the public address to `config`: its own ``repository.url``, or else `repository`."""
    url = (config["repository"]["url"] or repository).rstrip("/")
    if not url:
        return config
    citation = f"{url}/blob/{config['repository']['branch']}/CITATION.cff"
    buttons = {
        "use_repository_button": True,
        "use_issues_button": True,
        "extra_footer": f'<a href="{citation}">How to cite this book</a>',
    }
    launch = {
        "notebook_interface": "jupyterlab",
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
    }
    return config | {
        "repository": config["repository"] | {"url": url},
        "html": config["html"] | buttons,
        "launch_buttons": launch,
    }


def public_address(repository: str) -> str:
    """Return where GitHub publishes the pages of a repository; of other hosts nothing is known.

    >>> public_address("https://github.com/someone/htlib/")
    'https://someone.github.io/htlib'
    """
    match = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+?)/?", repository)
    return f"https://{match[1].lower()}.github.io/{match[2]}" if match else ""


def main() -> int:
    """Render the book of the command line; return 0 if it worked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("executed", type=Path, help="folder of the executed chapters")
    parser.add_argument("html", type=Path, help="folder of the pages, which is replaced")
    parser.add_argument("--book", type=Path, default=Path(__file__).parent)
    parser.add_argument("--live", type=Path, help="folder of the scripts of the explorer")
    parser.add_argument("--repository", default="", metavar="URL", help="the project's public address")
    options = parser.parse_args()
    try:
        render(options.executed, options.html, options.book.resolve(), options.repository, options.live)
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
