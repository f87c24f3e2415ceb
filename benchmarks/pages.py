"""Measure what a page costs before its reader asks for more: ``python -m benchmarks.pages``.

For each page of the built book: the bytes that cross the network until it is at rest, compressed as a usual
static server does (gzip), and the time to the first text and to the largest part on a slow phone, which is
Lighthouse's mobile profile: 1.6 Mbit/s, 150 ms for a request and its answer, a CPU four times slower.
"""

from __future__ import annotations

import gzip
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any, BinaryIO

from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import FLAGS, find_chromium

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
REPEATS = 3
_SLOW = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}
_TEXT = (".html", ".css", ".js", ".svg", ".json", ".wasm", ".onnx", ".csv")
_PAINT = """() => new Promise((resolve) => {
    const first = performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
    new PerformanceObserver((list) => resolve([first, list.getEntries().at(-1).startTime]))
        .observe({ type: "largest-contentful-paint", buffered: true });
})"""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing when the browser leaves a page before all of it came."""


class _Compressing(SimpleHTTPRequestHandler):
    """Answer as the servers of static pages do."""

    protocol_version = "HTTP/1.1"

    def send_head(self) -> BytesIO | BinaryIO | None:
        path = Path(self.translate_path(self.path))
        if not path.is_file() or path.suffix not in _TEXT:
            return super().send_head()
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    """Print one line per page: kilobytes, and milliseconds to the first text and to the largest part."""
    if not (HTML / "index.html").exists():
        print("the pages: not measured, there is no book yet; run `make book` first")
        return
    names = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    with _Server(("127.0.0.1", 0), partial(_Compressing, directory=str(HTML))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=FLAGS)
            print(f"{'page':30}{'kB':>8}{'first text, ms':>17}{'largest part, ms':>19}")
            for name in names:
                address = f"http://127.0.0.1:{server.server_address[1]}/{name}.html"
                loads = [_load(browser, address) for _ in range(REPEATS)]
                size, first, largest = (median(values) for values in zip(*loads, strict=True))
                print(f"{name:30}{size / 1000:8.0f}{first:17.0f}{largest:19.0f}")
            browser.close()
        server.shutdown()


def _load(browser: Browser, address: str) -> tuple[float, float, float]:
    """Return the bytes received, and the times of the first and the largest paint in milliseconds."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, device_scale_factor=2)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", _SLOW)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    received: list[float] = []
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page.goto(address, wait_until="networkidle", timeout=120_000)
    first, largest = page.evaluate(_PAINT)
    context.close()
    return sum(received), first, largest


if __name__ == "__main__":
    main()
