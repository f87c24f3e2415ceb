"""Execute chapters, or render the executed chapters as HTML.  The Makefile calls this.

    python book/build.py execute book/01-setting.ipynb --into _build/fast -p profile fast
    python book/build.py render _build/fast _build/html

Papermill executes and Jupyter Book renders; this file makes them strict.  By itself, Papermill only warns
about a parameter that no chapter has, Jupyter Book renders a cell that never ran, and after a failure both
leave something behind that looks like a result.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import kernels
import nbformat
import pages
import papermill
import pictures
import sources
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError, strip_color

PROFILES = ("fast", "paper")
CELL_TIMEOUT = 3 * 3600  # seconds; long enough to stop only a cell that hangs, not a slow one
_ADDED_BY_PAPERMILL = {"injected-parameters", "papermill-error-cell-tag"}


class BookError(Exception):
    """An error that a chapter's author can repair; its message is the whole report."""


class _SavingOnce(NBClientEngine):
    """Papermill's engine; it would write the whole notebook twice for each cell, and writes it at the end."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, *args: Any, **kwargs: Any) -> Any:
        path, nb_man.output_path = nb_man.output_path, None
        try:
            return super().execute_managed_notebook(nb_man, *args, **kwargs)
        finally:
            nb_man.output_path = path


papermill_engines.register("saving-once", _SavingOnce)


def execute_all(
    chapters: list[Path], folder: Path, parameters: dict[str, Any], code: Path | None = None, jobs: int = 1
) -> bool:
    """Run chapters side by side, `jobs` at a time, in their order; return whether all of them worked.

    After a failure no other chapter begins, and those that run come to their end.
    """
    waiting = [c for c in chapters[::-1] if not told_again(c, folder / c.name, parameters, code)]
    if not kernels.can_fork:
        for chapter in waiting[::-1]:
            execute(chapter, folder / chapter.name, parameters, code)
        return True
    running, worked = dict[int, ForkProcess](), True
    if len(waiting) > 1:  # one by itself imports only what it needs
        kernels.warm()
    try:
        while running or (waiting and worked):
            while worked and waiting and len(running) < jobs:
                chapter = waiting.pop()
                process = ForkProcess(target=_report, args=(chapter, folder / chapter.name, parameters, code))
                process.start()
                running[process.sentinel] = process
            for sentinel in wait(list(running)):
                process = running.pop(int(sentinel))
                process.join()
                worked &= process.exitcode == 0
    except KeyboardInterrupt:
        for process in running.values():
            process.kill()  # its kernel sees that, and ends
        raise
    return worked


def _report(*arguments: Any) -> None:
    """Run a chapter in a process of its own, which says in one line what went wrong."""
    try:
        execute(*arguments)
    except BookError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def told_again(chapter: Path, target: Path, parameters: dict[str, Any], code: Path | None) -> bool:
    """Give `target` the new prose of a chapter whose code need not run again; return False if it must run."""
    source = _read(chapter)
    if code is None or not target.exists():
        return False
    told = _retold(source, target, _inputs(source, parameters, code))
    if told is not None and told != nbformat.read(target, as_version=4):
        new = target.with_suffix(".new.ipynb")
        nbformat.write(told, new)
        new.replace(target)
        print(f"{chapter}: new prose around the results of its last run")
    return told is not None


def execute(chapter: Path, target: Path, parameters: dict[str, Any], code: Path | None = None) -> None:
    """Run a chapter in its own folder, as Jupyter does; `target` appears only if every cell worked.

    After a failure, the part that ran is kept beside `target` as ``*.failed.ipynb``.  `code` is a file that
    changes with what all chapters depend on.  If that, the chapter's own code and the code of htlib that it
    reaches are those of `target`, nothing runs: `target` takes the new prose.
    """
    source = _read(chapter)
    known = papermill.inspect_notebook(source)
    for name, value in parameters.items():
        if name not in known:
            raise BookError(f"{chapter}: no parameter {name!r}; it has {', '.join(known) or 'none'}")
        if name == "profile" and value not in PROFILES:
            raise BookError(f"{chapter}: profile must be one of {', '.join(PROFILES)}; got {value!r}")
    if told_again(chapter, target, parameters, code):
        return
    # The kernel must be that of this environment, even if the user has installed others elsewhere.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ.pop("JUPYTER_PATH", None)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".failed.ipynb")
    began, inputs = time.monotonic(), _inputs(source, parameters, code)
    target.unlink(missing_ok=True)
    try:
        with kernels.forked() as manager:
            notebook = papermill.execute_notebook(
                source,
                partial,
                parameters=parameters,
                engine_name="saving-once",
                kernel_name="python3",
                kernel_manager_class=manager,
                cwd=chapter.parent,
                progress_bar=False,  # chapters run side by side
                execution_timeout=CELL_TIMEOUT,
                coalesce_streams=True,  # keeps only the last state of a progress bar
                extra_arguments=["--log-level=CRITICAL"],  # plain sockets, and the interrupt at its end
                store_widget_state=False,  # the pages show the HTML of a widget
            )
    except (PapermillExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise BookError(
            f"{chapter}: {_failure(partial, error)}\n"
            f"  what ran is in {partial}; to repeat it by itself: make {target}"
        ) from error
    check_executed(notebook, chapter)
    _tidy(notebook)
    notebook.metadata["inputs"] = inputs
    notebook.metadata["seconds"] = round(time.monotonic() - began)
    nbformat.write(notebook, partial)
    partial.replace(target)
    print(f"{chapter}: executed in {time.monotonic() - began:.0f} s")


def _inputs(source: NotebookNode, parameters: dict[str, Any], code: Path | None) -> str:
    """Return a digest of all that decides the results of a chapter."""
    cells = [(c.source, c.metadata) for c in source.cells if c.cell_type == "code"]
    behind = code and (code.read_bytes(), sources.code_behind(text for text, _ in cells))
    return hashlib.sha256(repr((cells, parameters, behind)).encode()).hexdigest()


def _read(chapter: Path) -> NotebookNode:
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


def _retold(source: NotebookNode, target: Path, inputs: str) -> NotebookNode | None:
    """Return the notebook of `target` with the prose of `source`, or None if it has other inputs."""
    notebook = nbformat.read(target, as_version=4)
    if notebook.metadata.get("inputs") != inputs:
        return None
    executed = {c.id: c for c in notebook.cells if c.cell_type == "code"}
    cells = [executed.pop(c.id) if c.cell_type == "code" else c for c in source.cells]
    (injected,) = executed.values() or (None,)
    if injected is not None:  # it stands behind the cell with the parameters
        place = next(i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", []))
        cells.insert(place + 1, injected)
    notebook.cells = cells
    return notebook


def check_executed(notebook: NotebookNode, name: object) -> None:
    """Raise BookError unless every code cell ran, without an error."""
    for label, cell in _labelled(notebook):
        if cell.cell_type == "code" and cell.execution_count is None:
            raise BookError(f"{name}: {label} was not executed")
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise BookError(f"{name}: {label} holds an error: {output.ename}: {output.evalue}")


def render(executed: Path, html: Path, book: Path, repository: str = "", live: Path | None = None) -> None:
    """Make the pages of `book` in `html`, which is replaced only if Sphinx gave no warning.

    `live` is the folder of the experiments that run in the pages; without it the pages show still pictures.

    Every build starts without Sphinx's caches: with them, a second run does not repeat the warnings of pages
    that did not change, and does not update sidebars when the table of contents changed.
    """
    stage = html.parent / "render"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(
        book,
        stage / book.name,
        ignore=lambda folder, names: [
            name
            for name in names
            if name == "__pycache__"
            or name.startswith(".")
            or (Path(folder) == book and Path(name).suffix in (".ipynb", ".py", ".cjs"))
        ],
    )
    for chapter in sorted(book.glob("*.ipynb")):
        source = executed / chapter.name
        if not source.exists():
            raise BookError(f"{chapter} was not executed: {source} is missing")
        notebook = nbformat.read(source, as_version=4)
        check_executed(notebook, source)
        pictures.place(notebook, stage / book.name)
        nbformat.write(notebook, stage / book.name / chapter.name)
    if live is not None:
        shutil.copytree(live, stage / book.name / "static" / "live")
    shutil.copy(book.parent / "_toc.yml", stage)
    config = yaml.safe_load((book.parent / "_config.yml").read_text(encoding="utf-8"))
    source = f"{repository}/blob/main" if repository else ""
    config["sphinx"]["config"]["generated_from"] = {
        "book": str(book),
        "executed": str(executed),
        "source": source,
    }
    (stage / "_config.yml").write_text(yaml.safe_dump(with_repository(config, repository)), encoding="utf-8")

    command = [Path(sys.executable).with_name("jupyter-book"), "build", str(stage)]
    command += ["--path-output", str(stage), "--warningiserror", "--keep-going", "--quiet"]
    # _config.yml names book/reference.py among the extensions; it writes the pages that come from the code
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    # MyST-NB reports line 3 of cell 2 as line 20004.
    reports = re.sub(
        r"\.ipynb:(\d+)(\d{4}):",
        lambda m: f".ipynb: cell {m[1]}, line {int(m[2]) - 1}:",
        strip_color(result.stderr).replace(f"{stage.resolve()}{os.sep}", "").strip(),
    )
    if result.returncode:
        raise BookError(f"the pages could not be rendered\n{reports or result.stdout}")
    try:
        pages.finish(stage / "_build" / "html", public_address(config["repository"]["url"] or repository))
    except pages.PageError as error:
        raise BookError(str(error)) from error
    shutil.rmtree(html, ignore_errors=True)
    (stage / "_build" / "html").replace(html)
    shutil.rmtree(stage)


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


def _failure(partial: Path, error: Exception) -> str:
    """Say which cell stopped the run, and how."""
    cells = _labelled(nbformat.read(partial, as_version=4))
    begun = [label for label, cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    broken = [
        label for label, cell in cells if any(o.output_type == "error" for o in cell.get("outputs", []))
    ]
    return f"{(broken or begun or ['the start of the kernel'])[-1]} failed: {error}"


def _labelled(notebook: NotebookNode) -> list[tuple[str, NotebookNode]]:
    """Return cells with a name that an author recognises: place in the source notebook and first line."""
    cells = [c for c in notebook.cells if not _ADDED_BY_PAPERMILL & set(c.metadata.get("tags", []))]
    lines = [(c.source.strip().splitlines() or ["nothing in it"])[0] for c in cells]
    return [(f"cell {i} ({line})", c) for i, (line, c) in enumerate(zip(lines, cells, strict=True), 1)]


def _tidy(notebook: NotebookNode) -> None:
    """Show the parameters of the run, not the defaults; drop paths and times of this machine."""
    tagged = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    if injected := tagged.get("injected-parameters"):
        own = tagged["parameters"]
        injected.metadata.tags += [tag for tag in own.metadata.tags if tag != "parameters"]
        own.metadata.tags.append("remove-cell")
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if not cell.metadata.get("tags", True):  # papermill adds an empty list
            del cell.metadata["tags"]


def main() -> int:
    """Run one of the two commands; return 0 if it worked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="run chapters")
    run.add_argument("chapters", type=Path, nargs="+", metavar="CHAPTER")
    run.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    run.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--code", type=Path, help="a file that changes with the code which the chapters call")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="how many run side by side")
    site = commands.add_parser("render", help="make the HTML pages")
    site.add_argument("executed", type=Path)
    site.add_argument("html", type=Path)
    site.add_argument("--book", type=Path, default=Path(__file__).parent)
    site.add_argument("--live", type=Path, help="folder of the experiments that run in the pages")
    site.add_argument("--repository", default="", metavar="URL", help="the project's public address")
    options = parser.parse_args()
    try:
        if options.command == "execute":
            values = {name: yaml.safe_load(value) for name, value in options.parameters}
            if not execute_all(options.chapters, options.into, values, options.code, options.jobs):
                return 1
        else:
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
