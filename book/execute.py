"""Execute chapters.  The Makefile calls this.

    python book/execute.py book/01-setting.ipynb --into _build/fast -p profile fast

Papermill executes; this file makes it strict.  By itself, Papermill only warns about a parameter that no
chapter has, and after a failure leaves something behind that looks like a result.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import kernels
import nbformat
import papermill
import sources
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from notebooks import BookError, check_executed, labelled, read
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError

PROFILES = ("fast", "paper")
CELL_TIMEOUT = 3 * 3600  # seconds; long enough to stop only a cell that hangs, not a slow one


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
        for chapter in waiting:  # the processes below take over what was read for the digests
            _inputs(read(chapter), parameters, code)
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
    source = read(chapter)
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
    source = read(chapter)
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


def _failure(partial: Path, error: Exception) -> str:
    """Say which cell stopped the run, and how."""
    cells = labelled(nbformat.read(partial, as_version=4))
    begun = [label for label, cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    broken = [
        label for label, cell in cells if any(o.output_type == "error" for o in cell.get("outputs", []))
    ]
    return f"{(broken or begun or ['the start of the kernel'])[-1]} failed: {error}"


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
    """Execute the chapters of the command line; return 0 if all worked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("chapters", type=Path, nargs="+", metavar="CHAPTER")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    parser.add_argument("--code", type=Path, help="a file that changes with what all chapters depend on")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many run side by side")
    options = parser.parse_args()
    values = {name: yaml.safe_load(value) for name, value in options.parameters}
    try:
        return 0 if execute_all(options.chapters, options.into, values, options.code, options.jobs) else 1
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SyntaxError as error:  # in a file of htlib that a chapter reaches
        print(f"error: {error.filename}, line {error.lineno}: {error.msg}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
