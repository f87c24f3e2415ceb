"""Print a page of the book as a PDF, with a headless Chromium.

python book/print_note.py _build/html/book/note.html _build/note.pdf
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
TYPESETTING = 30_000  # milliseconds that MathJax has, of the page's own clock


def main(page: Path, target: Path) -> None:
    """Print the page; a missing page or browser is an error of one line."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        raise SystemExit("error: no Chromium to print with: install one, or set CHROMIUM=/path/to/it")
    if not page.is_file():
        raise SystemExit(f"error: {page} is missing: make book")
    target.unlink(missing_ok=True)
    command = [browser, *FLAGS, f"--virtual-time-budget={TYPESETTING}", f"--print-to-pdf={target}"]
    done = subprocess.run([*command, page.absolute().as_uri()], capture_output=True, text=True)
    if done.returncode or not target.is_file():
        raise SystemExit(f"error: {browser} printed nothing:\n{done.stderr}")
    print(f"The note is in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
