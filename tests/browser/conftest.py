"""Chromium, and the built book on a local server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests.browser.chromium import FLAGS, find_chromium

HTML = Path(__file__).parents[2] / "_build" / "html"


# No name leads out of this machine.  A route of Playwright would forbid the cache and be asked for each file.
HERE = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
# The compiler that optimises WebAssembly would work for longer than these few steps take.
HERE += ["--js-flags=--liftoff-only"]
# Until a page has done what it is asked for: a machine that is busy may stand still for a minute.
PATIENCE = 180  # seconds


class Visit:
    """A page with its errors, and the addresses outside that it asked for, none of which answers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.outside: list[str] = []
        self.errors: list[str] = []
        page.on("request", self._note)
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))

    def _note(self, request: Request) -> None:
        if urlsplit(request.url).hostname not in ("localhost", "127.0.0.1", None):
            self.outside.append(request.url)


class _Handler(SimpleHTTPRequestHandler):
    prefix = "/"

    def translate_path(self, path: str) -> str:
        if not path.startswith(self.prefix):
            return "/nonexistent"  # a link that leaves the book's own folder must fail
        return super().translate_path(path.removeprefix(self.prefix.rstrip("/")))

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _served(prefix: str) -> Iterator[str]:
    if not (HTML / "index.html").exists():
        pytest.fail("there is no book to look at: run `make book` first")
    handler = type("Handler", (_Handler,), {"prefix": prefix})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(HTML))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{prefix}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=[*FLAGS, *HERE])
        browser.on("context", lambda context: context.set_default_timeout(1000 * PATIENCE))
        expect.set_options(timeout=1000 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def book() -> Iterator[str]:
    """Address of the book at the top of a server."""
    with _served("/") as address:
        yield address


@pytest.fixture(scope="module")
def book_in_folder() -> Iterator[str]:
    """Address of the book below a folder, as on a project's public pages."""
    with _served("/some/project/") as address:
        yield address


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What the pages of one file share: the cache, so that each script and style is loaded once."""
    with browser.new_context() as context:
        yield context


@pytest.fixture
def visit(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A new page; its width is the parameter of the test's mark, or 1280."""
    with context.new_page() as page:
        page.set_viewport_size({"width": getattr(request, "param", 1280), "height": 900})
        yield Visit(page)


@pytest.fixture
def first_visit(browser: Browser) -> Iterator[Visit]:
    """A page of a reader who has nothing in the cache."""
    with browser.new_page() as page:
        yield Visit(page)


@pytest.fixture(scope="module")
def stored() -> list[dict[str, Any]]:
    return json.loads(gzip.decompress((HTML / "_static" / "live" / "stored-runs.json.gz").read_bytes()))[
        "runs"
    ]
