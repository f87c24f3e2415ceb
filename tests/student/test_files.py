"""Every writer of a file, stopped while it writes.  Oracle: the folder before.  A new one joins `WRITERS`."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

import htlib as ht
from htlib.commands.main import main
from htlib.student.files import write_atomically
from tests.ledgers import project

CONFIG = ht.ExperimentConfig(n=20, d=4, h=5, n_test=10, steps=1)
RUN = ht.train(CONFIG)
SMALL = "--n 20 --d 4 --h 5"


def command(line):
    return lambda: main([*line.split(), *([] if line.startswith("predict") else ["--quiet"])])


WRITERS = {
    "bytes": lambda: write_atomically("file", os.urandom(9)),
    "record": lambda: RUN.save("run.safetensors"),
    "store": lambda: ht.Store("another").save(RUN),
    "run": command(f"run {SMALL} --n-test 10 --steps 1 --output run.safetensors"),
    "run, drawn": command(f"run {SMALL} --n-test 10 --steps 1 --plot run.pdf"),
    "sweep": command("sweep tiny --output table.parquet"),
    "sweep, drawn": command("sweep tiny --plot table.png"),
    "predict": command(f"predict {SMALL} --lr 1 --output table.csv"),
    "claims": command("claims --record"),
    "analyze": command("analyze m.safetensors --output table.json"),
    "analyze, drawn": command("analyze m.safetensors --plot m.svg"),
    "analyze, each": command("analyze m.safetensors --plots book"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the runs of the preset and of the claims."""
    folder = tmp_path_factory.mktemp("finished")
    project(folder)
    ht.load_experiment(folder / "experiments" / "tiny.toml", "fast").runs(
        ht.Store(folder / "store"), workers=1, progress=False
    )
    return folder / "store"


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def assert_untouched(write, where, error, monkeypatch):
    """The folder after `write`, with `error` raised at `where`, is that before it."""
    before, calls = contents(), []

    def stopped(*args, **kwargs):
        calls.append(args)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, stopped)
        with suppress(OSError, ht.StoreError, KeyboardInterrupt):
            assert write() in (2, 130)
    assert calls
    assert contents() == before


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_writer_that_is_stopped_leaves_the_folder_as_it_was(write, store, tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    monkeypatch.setenv("HTLIB_STORE", str(store))
    generator = torch.Generator().manual_seed(0)
    save_file({"w": torch.randn(12, 11, generator=generator)}, "m.safetensors")
    for picture in ("runs.overview", "runs.draw", "models.model_overview"):  # an empty picture will do
        monkeypatch.setattr(f"htlib.figures.{picture}", lambda *args: Figure())
    assert_untouched(write, "os.fsync", KeyboardInterrupt(), monkeypatch)
    before = contents()
    write()
    assert contents() != before  # or nothing would be tested
    for where in ("os.fsync", "pathlib.Path.replace"):
        assert_untouched(write, where, OSError(28, "No space left on device"), monkeypatch)
