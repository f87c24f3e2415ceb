"""The browser of the tests and benchmarks, and what they bring into it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Playwright

ESBUILD = Path(__file__).parents[2] / "live" / "node_modules" / ".bin" / "esbuild"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def find_chromium(playwright: Playwright) -> str:
    """Path of the browser; without it the test fails and names the remedy."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next((p for n in names if (p := shutil.which(n))), None)
    if found is None and Path(playwright.chromium.executable_path).exists():
        return playwright.chromium.executable_path
    if found is None:
        pytest.fail(
            "the browser tests need Chromium: `sudo apt-get install chromium`, or `.venv/bin/playwright "
            "install chromium`, or CHROMIUM=/path/to/it"
        )
    return found


def bundled_harness() -> str:
    """harness.ts with what it imports."""
    options = ["--bundle", "--format=esm", "--log-level=error"]
    command = [ESBUILD, Path(__file__).with_name("harness.ts"), *options]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
