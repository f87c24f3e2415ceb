"""Time the experiments in the pages in headless Chromium on the built book: ``python -m benchmarks.live``.

The benchmark measures how long a reader waits, in milliseconds: from a move of the slider to the picture of a
stored run; from the click on "Train here", with an empty cache, to the first trained step and to the tenth;
for a step and a probe; and for the longest time that the page does not answer.  It also measures the memory
of the page and of its worker after a thousand more steps, and, for comparison, a step and a probe of htlib
itself on one BLAS thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import FLAGS, bundled_harness, find_chromium
from tests.browser.reading import more

HTML = Path(__file__).parents[1] / "_build" / "html"
REPEATS = 5

# The time from an input event to the second frame after it, when its picture is on the screen.
SLIDE = """(value) => new Promise((resolve) => {
    const slider = document.querySelector("input[name=lr]"), explorer = slider.closest(".htlib-explorer");
    slider.value = value;
    const began = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    new MutationObserver((_, observer) => {
        if (!explorer.dataset.settled) return;
        observer.disconnect();
        resolve(performance.now() - began);
    }).observe(explorer, { attributes: true });
})"""
LONG_TASKS = """() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({ entryTypes: ["longtask"] });
}"""
HTLIB = """
import json, time, torch, htlib as ht
torch.set_num_threads(1)
config = ht.ExperimentConfig(n=600, d=300, h=450, steps=50)
def seconds(**fields):
    began = time.perf_counter()
    ht.train(config.replace(**fields), progress=False)
    return time.perf_counter() - began
seconds()
bare, probed = (sorted(seconds(probe_every=every) for _ in range(5))[2] for every in (50, 1))
print(json.dumps([1000 * bare / 50, 1000 * (probed - bare) / 49]))
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    """Measure everything and print the results."""
    if not (HTML / "index.html").exists():
        print("the experiments in the pages: not measured, there is no book yet; run `make book` first")
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(HTML))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/book/03-rates.html"
        with sync_playwright() as playwright:
            flags = [*FLAGS, "--enable-precise-memory-info"]
            browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=flags)
            clicks = [_first_training(browser.new_context().new_page(), address) for _ in range(REPEATS)]
            _report("from the click to the first trained step, empty cache", [first for first, _ in clicks])
            _report("from the click to ten trained and measured steps", [ten for _, ten in clicks])
            page = browser.new_context().new_page()
            _open(page, address)
            page.evaluate(LONG_TASKS)
            moves = [page.evaluate(SLIDE, -3 + 0.25 * i) for i in range(25)]
            _report("from the slider to the picture of a stored run", moves)
            page.goto(f"{address}?train=1&steps=50")
            page.evaluate(LONG_TASKS)
            memory = []
            for seed in range(20):
                _train(page, seed)
                memory.append(_memory())
            used = ", ".join(f"{memory[i - 1]:.0f} MB after {50 * i} steps" for i in (1, 10, 15, 20))
            print(f"memory of the page and its worker: {used}")
            print(f"longest task of the page in all this: {page.evaluate('window.longest'):.0f} ms")
            times = _times(page)
            _report("a step", times["step"][5:])
            _report("a probe: refit, test loss, spectrum, tail fits", times["probe"][5:])
            browser.close()
        server.shutdown()
    result = subprocess.run([sys.executable, "-c", HTLIB], check=True, capture_output=True, encoding="utf-8")
    step_, probe_ = json.loads(result.stdout.splitlines()[-1])
    print(f"htlib, one thread: a step {step_:.1f} ms, a probe {probe_:.1f} ms")


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.locator(".htlib-explorer[data-settled]").wait_for()


def _first_training(page: Page, address: str) -> tuple[float, float]:
    _open(page, f"{address}?steps=10")
    page.evaluate(
        """() => {
            window.first = null;
            const find = (name) => document.querySelector(`.htlib-explorer ${name}`);
            const [row, status, source] = ["tbody", ".status", ".source"].map(find);
            source.addEventListener("click", () => (window.began = performance.now()), { capture: true });
            new MutationObserver(() => {
                const step = Number(row.lastElementChild?.querySelector("th")?.textContent);
                if (!status.textContent.startsWith("Training") || step < 1) return;
                window.first ??= performance.now() - window.began;
            }).observe(row, { childList: true });
        }"""
    )
    page.get_by_role("button", name="Train here").click()
    page.wait_for_function("() => /steps done/.test(document.querySelector('.status').textContent)")
    first, ten = page.evaluate("[window.first, performance.now() - window.began]")
    page.context.close()
    return first, ten


def _times(page: Page) -> dict[str, list[float]]:
    """Return the times of fifty steps by the worker's own modules."""
    harness = bundled_harness()
    page.route("**/harness.js", lambda route: route.fulfill(body=harness, content_type="text/javascript"))
    code = """async (settings) => {
        const harness = await import(new URL("../_static/live/harness.js", document.baseURI));
        return harness.times(settings);
    }"""
    settings = {"optimizer": "adam", "lr": 1, "steps": 50, "teacher": "softplus", "labels": "real"}
    return page.evaluate(code, {**settings, "noise_std": 0.3, "feature_scale": "paper", "seed": 77})


def _train(page: Page, seed: int) -> None:
    more(page)
    field = page.get_by_role("spinbutton", name="Seed")
    field.fill(str(100 + seed))
    field.press("Enter")
    page.locator(".htlib-explorer[data-settled=done]").wait_for(timeout=60_000)


def _memory() -> float:
    """Return the megabytes that only the browser's pages and their workers use."""
    processes = psutil.Process().children(recursive=True)
    pages = [p for p in processes if p.is_running() and "--type=renderer" in p.cmdline()]
    return sum(p.memory_full_info().uss for p in pages) / 1e6


def _report(what: str, milliseconds: list[float]) -> None:
    print(f"{what}: {median(milliseconds):.0f} ms ({min(milliseconds):.0f} to {max(milliseconds):.0f})")


if __name__ == "__main__":
    main()
