"""Containers and workflows build from the lock of `make env`.  Oracle: their files, read by parsers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CPU = "https://download.pytorch.org/whl/cpu"


def test_binder_installs_the_lock_and_the_package() -> None:
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert lines == [f"--extra-index-url {CPU}", "-r ../requirements.txt"]
    assert "pip install --no-deps --editable ." in (ROOT / ".binder" / "postBuild").read_text()


def test_the_development_container_makes_the_environment() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make env"
    assert container["containerEnv"] == {"PIP_EXTRA_INDEX_URL": CPU}


def test_all_name_a_python_that_the_package_takes() -> None:
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert lowest == ">=3.11"
    binder = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    image = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["image"].rpartition(":")[2]
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["suite"]["strategy"]
    pythons = matrix["matrix"]["python"]
    assert pythons[0] == "3.11"
    assert {binder, image} <= set(pythons)


def test_every_job_that_builds_the_book_restores_its_runs() -> None:
    for name, job in (("tests", "suite"), ("book", "build")):
        steps = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"][job]["steps"]
        paths = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/cache@")]
        assert paths == ["_build/store"]
