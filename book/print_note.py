"""Print a page of the book as a PDF, with a headless Chromium.

python book/print_note.py _build/html/book/note.html _build/note.pdf
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# What only a reader of the web page needs; code is folded there, and the summary of a fold is no code.
HIDDEN = """
#jb-print-toc, .prev-next-area, .sidebar-toggle, .copybtn, .headerlink, .bd-header, .bd-header-article,
.bd-footer, .cell.tag_hide-cell, div.cell_input, details.hide, .verdict small { display: none !important }
figure, .proof, table { break-inside: avoid }
"""
A4 = {"format": "A4", "scale": 0.8, "print_background": True}
MARGIN = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}


def main(page: Path, target: Path) -> None:
    """Print the page; a missing page or browser is an error of one line."""
    if not page.is_file():
        raise SystemExit(f"error: {page} is missing: make book")
    installed = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    target.unlink(missing_ok=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
            tab = browser.new_page()
            tab.goto(page.absolute().as_uri())
            tab.evaluate("window.MathJax?.startup.promise")  # the formulas are typeset
            tab.add_style_tag(content=HIDDEN)
            tab.pdf(path=target, margin=MARGIN, **A4)
            browser.close()
    except Error as error:
        reason = error.message.strip().splitlines()[0]
        raise SystemExit(
            f"error: no Chromium that prints ({reason}): make browser, or set CHROMIUM"
        ) from None
    print(f"The note is in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
