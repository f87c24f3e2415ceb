"""Time the graphs of the pages in headless Chromium: ``python -m benchmarks.engine [THREADS,...]``.

They run in WebAssembly with one thread, as in pages without special headers; with more, which need a page
that is isolated from other origins; and by WebGPU, if the browser has a device.  The sizes are those that
pages train, and the paper's.  Printed are medians after a warm-up, and how far the next weights are from
those of one thread.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from playwright.sync_api import sync_playwright

import htlib as ht
from htlib.explorer.graphs import export_graphs
from tests.browser.chromium import FLAGS, find_chromium

DIST = Path(__file__).parents[1] / "live" / "node_modules" / "onnxruntime-web" / "dist"
SIZES = {"the page's": (600, 300, 450), "the paper's": (2000, 1000, 1500)}
REPEATS = 7
WORKER = """
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
function feed(session, ort, seed) {
    let state = seed;
    const uniform = () => ((state = (state * 1103515245 + 12345) % 2147483648) / 2147483648 - 0.5) * 0.1;
    return Object.fromEntries(session.inputMetadata.map(({ name, type, shape }) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const ones = type === "float64";
        const data = ones ? new Float64Array(size).fill(1) : Float32Array.from({ length: size }, uniform);
        if (name === "v") data.fill(0);
        return [name, new ort.Tensor(type, data, shape)];
    }));
}
async function measure({ module, provider, threads, graphs, repeats }) {
    const ort = await import(module);
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = new URL("/", self.location).href;
    ort.env.logLevel = "error";
    const result = {};
    for (const graph of graphs) {
        const session = await ort.InferenceSession.create(graph, {
            executionProviders: [provider], graphOptimizationLevel: "basic", logSeverityLevel: 3,
        });
        const inputs = feed(session, ort, 1), times = [];
        let first = null;
        for (let i = 0; i <= repeats; i++) {
            const began = performance.now();
            const outputs = await session.run(inputs);
            times.push(performance.now() - began);
            first ??= Array.from(Object.values(outputs).at(-1).data.slice(0, 1000), Number);
        }
        result[graph] = { ms: median(times.slice(1)), first };
        await session.release();
    }
    return result;
}
self.onmessage = ({ data }) => measure(data).then(
    (result) => self.postMessage({ result }), (error) => self.postMessage({ error: String(error) }));
"""
CALL = """(order) => new Promise((resolve) => {
    const worker = new Worker("/worker.mjs", { type: "module" });
    worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
    worker.onerror = ({ message }) => resolve({ error: message });
    worker.postMessage(order);
})"""


class Isolated(SimpleHTTPRequestHandler):
    """Serves files with the headers that allow shared memory."""

    def end_headers(self) -> None:
        """Add the headers."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main(threads: str = "1,2") -> None:
    """Print a table of times."""
    ways = [(f"WebAssembly, {n} thread{'s' * (n > 1)}", "wasm", n) for n in map(int, threads.split(","))]
    ways.append(("WebGPU", "webgpu", 1))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        for file in DIST.glob("ort*"):
            (root / file.name).symlink_to(file)
        (root / "worker.mjs").write_text(WORKER)
        (root / "index.html").write_text("<!doctype html><title>engine</title>")
        graphs = {}
        for name, (n, d, h) in SIZES.items():
            place = f"{n}"
            export_graphs(root / place, ht.ExperimentConfig(n=n, d=d, h=h, n_test=200))
            graphs[name] = [f"/{place}/step-adam.onnx", f"/{place}/probe.onnx"]
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Isolated, directory=folder)) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(
                executable_path=find_chromium(playwright), args=[*FLAGS, "--enable-unsafe-webgpu"]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/index.html")
            print(f"isolated: {page.evaluate('crossOriginIsolated')}; {browser.version}")
            for name, files in graphs.items():
                reference = None
                for title, provider, count in ways:
                    module = "/ort.wasm.min.mjs" if provider == "wasm" else "/ort.webgpu.min.mjs"
                    order = {"module": module, "provider": provider, "threads": count, "graphs": files}
                    answer = page.evaluate(CALL, order | {"repeats": REPEATS})
                    if "error" in answer:
                        print(f"  {name:12} {title:24} {answer['error'].splitlines()[0][:90]}")
                        continue
                    step, probe = (answer["result"][file] for file in files)
                    reference = reference or step["first"]
                    gap = max(abs(a - b) for a, b in zip(step["first"], reference, strict=True))
                    print(
                        f"  {name:12} {title:24} step {step['ms']:8.1f} ms   probe {probe['ms']:8.1f} ms"
                        f"   largest difference {gap:.0e}",
                        flush=True,
                    )
            browser.close()
            server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
