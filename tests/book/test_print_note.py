"""Oracle: the PDF that a browser makes, and errors of one line that name the remedy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.chromium import find_chromium

pytestmark = pytest.mark.browser
SCRIPT = Path(__file__).parents[2] / "book" / "print_note.py"


def printed(page: Path, target: Path, browser: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHROMIUM": browser}
    command = [sys.executable, str(SCRIPT), str(page), str(target)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_page_becomes_a_pdf(tmp_path: Path) -> None:
    page, target = tmp_path / "note.html", tmp_path / "note.pdf"
    page.write_text("<p>One page.</p>")
    with sync_playwright() as playwright:
        browser = find_chromium(playwright)
    done = printed(page, target, browser)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(("browser", "words"), [("/bin/false", "set CHROMIUM"), ("/bin/true", "make book")])
def test_what_cannot_be_printed_is_an_error_with_its_remedy(tmp_path: Path, browser: str, words: str) -> None:
    page, target = tmp_path / "note.html", tmp_path / "note.pdf"
    target.write_text("old")
    if words == "set CHROMIUM":
        page.write_text("<p>One page.</p>")
    done = printed(page, target, browser)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert target.exists() == (words == "make book")
