"""``htlib analyze``, called as a user calls it; the oracle is `htlib.analyze`."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from safetensors.torch import save_file

import htlib as ht
from htlib.commands.analyze import add_parser
from htlib.commands.main import main
from htlib.models.layers import KINDS
from htlib.models.table import closing_sentence
from htlib.spectra.nulls import NULLS

GENERATOR = torch.Generator().manual_seed(0)
MODEL = {
    "block/a.weight": torch.randn(40, 30, generator=GENERATOR),
    "b.weight": torch.randn(30, 20, generator=GENERATOR),
    "bias": torch.ones(30),
}
MEASURES = ["alpha_hill", "alpha_ks", "stable_rank", "mp_edge", "alpha_hill_z", "entropy_percentile"]


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def checkpoint(tmp_path):
    save_file(MODEL, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def call(*arguments):
    return main(["analyze", *map(str, arguments)])


def test_the_table_is_printed_with_what_was_skipped(checkpoint, capsys):
    assert call(checkpoint) == 0
    out = capsys.readouterr().out
    table = ht.analyze(checkpoint, progress=False)
    for row in table.itertuples():
        (line,) = [line for line in out.splitlines() if row.name in line]
        assert f"{row.alpha_hill:.4g}" in line
        assert f"{row.alpha_hill_z:.4g}" in line
    assert f"{table['stable_rank'].median():.4g}" in out
    assert closing_sentence(table) in out
    assert "Report three numbers" in out
    assert "2 analysed, 1 skipped:" in out
    assert "1  a vector (bias or normalisation): bias" in out


@pytest.mark.parametrize(
    ("suffix", "read"), [(".csv", pd.read_csv), (".parquet", pd.read_parquet), (".json", pd.read_json)]
)
def test_the_written_table_is_that_of_analyze(suffix, read, checkpoint, tmp_path):
    output = tmp_path / f"table{suffix}"
    assert call(checkpoint, "--output", output, "--quiet", "--plot", tmp_path / "m.png", "--compare") == 0
    table, expected = read(output), ht.analyze(checkpoint, compare=True, progress=False)
    assert list(table) == list(expected)
    assert table["name"].tolist() == expected["name"].tolist()
    # JSON rounds to ten digits
    assert np.allclose(table[MEASURES], expected[MEASURES], rtol=1e-8 if suffix == ".json" else 1e-14)
    shapes = [s if isinstance(s, str) else "x".join(map(str, s)) for s in table["shape"]]
    assert shapes == [f"{h}x{d}" for h, d in expected["shape"]]


def test_filters_and_options_reach_analyze(checkpoint, tmp_path):
    output = tmp_path / "table.csv"

    def table(options):
        assert call(checkpoint, *options.split(), "--output", output, "--quiet") == 0
        return pd.read_csv(output)

    for options, names in (
        ("--include b.*", ["b.weight"]),
        ("--include b.* --include */*", ["b.weight", "block/a.weight"]),
        ("--exclude b.*", ["block/a.weight"]),
        ("--min-size 21", ["block/a.weight"]),
    ):
        assert sorted(table(options)["name"]) == names
    expected = ht.analyze(checkpoint, null="shuffle", n_replicates=3, progress=False)["alpha_hill_z"]
    assert np.allclose(table("--null shuffle --replicates 3")["alpha_hill_z"], expected, rtol=1e-12)
    assert "alpha_hill_z" not in table("--null none")


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_figures_are_drawn_and_closed(suffix, magic, checkpoint, tmp_path):
    folder = tmp_path / "spectra"  # it is made
    assert call(checkpoint, "--plot", tmp_path / f"m{suffix}", "--plots", folder, "--quiet") == 0
    assert (tmp_path / f"m{suffix}").read_bytes().startswith(magic)
    assert sorted(file.name for file in folder.iterdir()) == ["000-b.weight.png", "001-block_a.weight.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in folder.iterdir())
    assert not plt.get_fignums()


def test_two_checkpoints_are_compared(checkpoint, tmp_path, capsys):
    later = {name: tensor * 1.1 for name, tensor in MODEL.items()}
    torch.save(later | {"new": torch.ones(3)}, tmp_path / "later.pt")
    output = tmp_path / "table.csv"
    assert call(checkpoint, "--against", tmp_path / "later.pt", "--output", output, "-k", 4) == 0
    table = pd.read_csv(output)
    assert np.allclose(table["relative_change"], 0.1, rtol=1e-5)  # float32 entries
    out = capsys.readouterr().out
    assert table["left_chance"].tolist() == [4 / 30, 4 / 40]  # of b.weight and of block/a.weight
    assert "relative_change" in out
    assert "leading 4 directions" in out
    assert "2 analysed, 2 skipped:" in out
    assert "only in the second model: new" in out


def test_the_choices_are_those_of_the_package():
    parser = add_parser(argparse.ArgumentParser().add_subparsers())
    choices = {action.dest: action.choices for action in parser._actions}
    assert choices["kind"] == KINDS
    assert choices["null"] == (*NULLS, "none")


def test_a_kind_that_the_model_does_not_have_is_answered_with_those_it_has(checkpoint, capsys):
    assert call(checkpoint, "--kind", "conv") == 5
    assert "is of the kind conv; it has linear" in capsys.readouterr().err


def test_a_model_without_matrices_exits_5_and_is_still_written(tmp_path, capsys):
    path, output = tmp_path / "m.safetensors", tmp_path / "table.json"
    save_file({"bias": MODEL["bias"]}, path)
    assert call(path, "--output", output, "--plot", tmp_path / "m.png") == 5
    captured = capsys.readouterr()
    assert f"htlib analyze: {path} holds no weight matrix to analyse" in captured.err
    assert "0 analysed, 1 skipped:" in captured.out
    assert len(pd.read_json(output)) == 0
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.pt", None),
        ("m.h5", b"content"),
        *((name, content) for name in ("m.pt", "m.safetensors") for content in (b"a text\n" * 20, b"")),
        ("m.safetensors.index.json", b"a text"),
    ],
)
def test_an_unreadable_file_exits_2_with_its_name(name, content, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert call(tmp_path / name) == 2
    err = capsys.readouterr().err
    assert err.startswith("htlib analyze: ")
    assert str(tmp_path / name) in err
    assert err.count("\n") == 1


def test_the_weights_beside_code_are_measured_and_the_code_is_not_run(tmp_path, capsys):
    trace = tmp_path / "was-run"
    torch.save({"w": MODEL["b.weight"], "code": Code(trace)}, tmp_path / "evil.pt")
    assert call(tmp_path / "evil.pt") == 0
    assert "1 analysed, 0 skipped" in capsys.readouterr().out
    assert not trace.exists()
