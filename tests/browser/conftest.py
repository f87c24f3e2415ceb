"""Chromium, and the built book on a local server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.browser.chromium import FLAGS, find_chromium

HTML = Path(__file__).parents[2] / "_build" / "html"


class Visit:
    """A page with its errors, and the addresses outside that it asked for, all of them refused."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.outside: list[str] = []
        self.errors: list[str] = []
        page.route("**/*", self._guard)
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))

    def _guard(self, route: Route) -> None:
        address = route.request.url
        if urlsplit(address).hostname in ("localhost", "127.0.0.1"):
            route.continue_()
        else:
            self.outside.append(address)
            route.abort()


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
        browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=FLAGS)
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


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A fresh page; its width is the parameter of the test's mark, or 1280."""
    width = getattr(request, "param", 1280)
    page = browser.new_page(viewport={"width": width, "height": 900})
    yield Visit(page)
    page.close()
