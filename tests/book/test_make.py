"""What Make runs again after which change, with a stand-in for Python that only notes what it is asked.

Oracle: the list of commands, by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/sh
case "$2" in
  execute) echo "$2 $4" >> log; mkdir -p "$(dirname "$4")"; test ! -e broken && touch "$4";;
  render) echo "$2 $3" >> log; mkdir -p "$4"; touch "$4/index.html";;
esac
"""
ONE, TWO = "execute _build/fast/01-one.ipynb", "execute _build/fast/02-two.ipynb"
PAGES = "render _build/fast"


class Project:
    """The Makefile with a package of one file and a book of two chapters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copy(ROOT / "Makefile", root)
        self.python = root / ".venv" / "bin" / "python"
        names = ["htlib/core.py", "book/01-one.ipynb", "book/02-two.ipynb", "book/index.md", "book/build.py"]
        names += ["requirements.txt", "pyproject.toml", "_config.yml", "_toc.yml"]
        for name in [*names, ".venv/bin/python", ".venv/requirements", ".venv/installed"]:
            self.change(name)
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def change(self, name: str) -> None:
        time.sleep(0.01)
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(name)

    def make(self, *words: str, fails: bool = False) -> list[str]:
        """The commands of one run of make, sorted, as parallel runs end in any order."""
        log = self.root / "log"
        log.write_text("")
        # Make tells its children how it was called; this one starts anew.
        environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        environment |= {"PROFILE": "fast", "HTLIB_REPOSITORY": ""}
        self.result = subprocess.run(
            ["make", *words], cwd=self.root, env=environment, capture_output=True, encoding="utf-8"
        )
        assert (self.result.returncode != 0) == fails, self.result.stderr
        return sorted(log.read_text().splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_make_repeats_only_what_changed(project: Project) -> None:
    assert project.make("book", "-j2") == [ONE, TWO, PAGES]
    assert project.make("book") == []
    project.change("book/01-one.ipynb")
    assert project.make("book") == [ONE, PAGES]
    project.change("book/index.md")
    assert project.make("book") == [PAGES]
    project.change("_toc.yml")
    assert project.make("book") == [PAGES]
    assert project.make("book", "HTLIB_REPOSITORY=https://github.com/someone/htlib") == [PAGES]
    assert project.make("book") == [PAGES]


@pytest.mark.parametrize(
    "name", ["htlib/core.py", "htlib/new.py", "experiments/new.toml", "requirements.txt"]
)
def test_the_numbers_follow_code_and_versions(project: Project, name: str) -> None:
    project.make("book")
    project.change(name)
    for stamp in ("requirements", "installed"):
        project.change(f".venv/{stamp}")
    assert project.make("book") == [ONE, TWO, PAGES]
    assert project.make("book") == []
    if name == "htlib/new.py":
        (project.root / name).unlink()
        assert project.make("book") == [ONE, TWO, PAGES]


def test_profiles_stand_side_by_side(project: Project) -> None:
    project.make("book")
    paper = [command.replace("fast", "paper") for command in (ONE, TWO, PAGES)]
    assert project.make("book", "PROFILE=paper") == paper
    assert project.make("book") == [PAGES]


def test_a_failure_stops_the_book_and_is_tried_again(project: Project) -> None:
    project.change("broken")
    assert project.make("book", fails=True) == [ONE]
    (project.root / "broken").unlink()
    assert project.make("book") == [ONE, TWO, PAGES]


def test_an_old_python_is_named(project: Project) -> None:
    old = project.root / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    project.change("requirements.txt")
    project.make("env", f"PYTHON={old}", fails=True)
    assert "Python 3.11 or later is needed" in project.result.stderr
    assert "make env PYTHON=" in project.result.stderr


def test_help_names_the_targets(project: Project) -> None:
    project.make()
    for target in ("env", "book", "test", "bench", "serve", "lock", "clean", "distclean"):
        assert f"make {target} " in project.result.stdout
