"""Measure the page for the reader's own checkpoint: ``python -m benchmarks.checkpoint [FILE]``.

First the candidates for its eigenvalues, Gram matrix included, in Node on one thread, in turns, beside LAPACK
of NumPy on one thread.  Then the page of the built book in headless Chromium, with the real model of
`benchmarks.toolbox` or another file: from the choice of the file to the last row; the longest task of the
page meanwhile; the peak of the memory of all its processes above that before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Event, Thread

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

from benchmarks.live import HTML, LONG_TASKS, _Quiet
from benchmarks.toolbox import real_model
from tests.browser.chromium import FLAGS, NODE, find_chromium

LIVE = Path(__file__).parents[1] / "live"
SIZES = (384, 768, 1536)
TURNS = 3


def main(file: str | None = None) -> None:
    """Measure everything and print the results."""
    _candidates()
    if not (HTML / "book" / "your-checkpoint.html").exists():
        print("the page: not measured, there is no book yet; run `make book` first")
        return
    path = Path(file) if file else real_model() / "model.safetensors"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(HTML))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            address = f"http://127.0.0.1:{server.server_address[1]}/book/your-checkpoint.html"
            runs = [_visit(playwright, address, path) for _ in range(TURNS)]
        server.shutdown()
    size = path.stat().st_size / 1e6
    print(f"{path.name}, {size:.0f} MB: {runs[0][0]}")
    for name, values in zip(
        ("seconds to the last row", "longest task of the page, ms", "memory at the peak, MB"),
        list(zip(*runs, strict=True))[1:],
        strict=True,
    ):
        print(f"  {name:30s} {median(values):8.1f} ({min(values):.1f} to {max(values):.1f})")


def _candidates() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [NODE, LIVE / "build.mjs", folder, "../benchmarks/eigenvalues.ts"], cwd=LIVE, check=True
        )
        command = [NODE, "--no-warnings", Path(folder) / "eigenvalues.js", str(TURNS), *map(str, SIZES)]
        result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    for size, times in json.loads(result.stdout).items():
        W = np.random.default_rng(0).standard_normal((int(size), int(size)))
        began = time.perf_counter()
        np.linalg.eigvalsh(W @ W.T)
        times["LAPACK of NumPy"] = [time.perf_counter() - began]
        print(f"eigenvalues of W W^T, {size} x {size}, seconds")
        for name, values in times.items():
            print(f"  {name:30s} {median(values):8.3f} ({min(values):.3f} to {max(values):.3f})")


def _visit(playwright, address: str, path: Path) -> tuple[str, float, float, float]:
    browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=FLAGS)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.evaluate(LONG_TASKS)
    before, peak, stop = _memory(), [0.0], Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], _memory())

    watcher = Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    page.set_input_files(".checkpoint-choose input", path)
    page.locator(".checkpoint-results[data-settled]").wait_for(timeout=600_000)
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    result = (
        page.locator(".checkpoint-results .status").inner_text(),
        seconds,
        page.evaluate("window.longest"),
        peak[0] - before,
    )
    browser.close()
    return result


def _memory() -> float:
    """Return the memory of Chromium's processes in MB that no other process shares."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                total += process.memory_full_info().uss
        except psutil.Error:  # it has just ended
            continue
    return total / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
