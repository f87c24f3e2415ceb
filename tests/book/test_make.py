"""Make repeats what a change concerns; a stand-in for Python notes its commands.  Oracle: lists by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/sh
test "$1" = -m && shift
case "$1 $2" in
  "book/execute.py "*) echo "execute $3" >> log; mkdir -p "$3"; test ! -e broken; exit;;
  "book/render.py "*) echo "render $2" >> log; mkdir -p "$3/_static/live"; touch "$3/index.html"; exit;;
esac
case "$2" in
  stored-runs) echo "$2 $3" >> log; mkdir -p "$(dirname "$4")"; touch "$4";;
  sweep) echo "$2 $3 $5" >> log;;
  engine) echo "$2 $3" >> log; touch "$4/meta.json";;
  htlib.explorer.page) cat htlib/core.py;;
esac
"""
NPM = """#!/bin/sh
test "$1" = ci || { echo "npm run" >> ../log; mkdir -p "$5"; exit; }
echo "npm ci" >> ../log; mkdir -p node_modules/onnxruntime-web/dist
touch node_modules/.package-lock.json node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm
"""
CHAPTERS = "execute _build/fast"
PAGES = "render _build/fast"
RUNS, STORED, ENGINE = "sweep --all fast", "stored-runs fast", "engine _build/fast/stored-runs.json.gz"
MODULES, BUNDLE = "npm ci", "npm run"
LIVE = [RUNS, STORED, ENGINE]
ENGINE_NEEDS = ["htlib/core.py", "requirements.txt"]  # says the stand-in, and the Makefile


class Project:
    """The Makefile with a package of one file and a book of two chapters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copy(ROOT / "Makefile", root)
        names = [
            "htlib/core.py",
            "book/01-one.ipynb",
            "book/02-two.ipynb",
            "book/index.md",
            "book/execute.py",
        ]
        names += ["book/sources.py"]
        names += ["requirements.txt", "pyproject.toml", "_config.yml", "_toc.yml"]
        names += [
            f"htlib/explorer/static/{name}" for name in ("explorer.css", "explorer.js", "layers/layers.css")
        ]
        names += ["live/src/page.ts", "live/package.json", "live/package-lock.json"]
        for name in [*names, ".venv/bin/python", ".venv/bin/npm", ".venv/requirements", ".venv/installed"]:
            self.change(name)
        for program, text in (("python", STAND_IN), ("npm", NPM)):
            path = root / ".venv" / "bin" / program
            path.write_text(text)
            path.chmod(0o755)

    def change(self, name: str) -> None:
        time.sleep(0.01)
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("a") as file:
            file.write(f"{name}\n")

    def make(self, *words: str, fails: bool = False) -> list[str]:
        """The commands of one run of make, sorted, as parallel runs end in any order."""
        log = self.root / "log"
        log.write_text("")
        # Make passes its options on to its children; this one starts anew.
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
    assert project.make("book", "-j2") == sorted([CHAPTERS, PAGES, MODULES, BUNDLE, *LIVE])
    assert project.make("book") == []
    project.change("book/01-one.ipynb")
    assert project.make("book") == [CHAPTERS, PAGES]
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
    again = sorted([CHAPTERS, PAGES, RUNS, STORED] + [ENGINE] * (name in ENGINE_NEEDS))
    assert project.make("book") == again
    assert project.make("book") == []
    if name == "htlib/new.py":
        (project.root / name).unlink()
        assert project.make("book") == again


@pytest.mark.parametrize("name", ["live/src/page.ts", "live/src/new.ts", "htlib/explorer/static/explorer.js"])
def test_the_scripts_follow_their_sources_and_the_engine_does_not(project: Project, name: str) -> None:
    project.make("book")
    project.change(name)
    assert project.make("book") == [BUNDLE, PAGES]
    assert project.make("book") == []


def test_packages_of_the_engine_follow_their_lock(project: Project) -> None:
    project.make("book")
    project.change("live/package-lock.json")
    assert project.make("book") == [ENGINE, MODULES, BUNDLE, PAGES]


def test_only_the_runs(project: Project) -> None:
    assert project.make("runs") == [RUNS]
    assert project.make("runs") == []


def test_profiles_stand_side_by_side(project: Project) -> None:
    project.make("book")
    paper = sorted(command.replace("fast", "paper") for command in (CHAPTERS, PAGES, *LIVE))
    assert project.make("book", "PROFILE=paper") == paper
    assert project.make("book") == [PAGES]


def test_a_failure_stops_the_book_and_is_tried_again(project: Project) -> None:
    project.change("broken")
    done = project.make("book", fails=True)
    assert PAGES not in done
    assert "The book is in" not in project.result.stdout
    (project.root / "broken").unlink()
    left = {CHAPTERS, PAGES, MODULES, BUNDLE, *LIVE} - ({*done} - {CHAPTERS})
    assert project.make("book") == sorted(left)


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
    targets = (
        "env",
        "book",
        "runs",
        "quick",
        "test",
        "note",
        "pdf",
        "bench",
        "serve",
        "lock",
        "clean",
        "distclean",
    )
    for target in targets:
        assert f"make {target} " in project.result.stdout
