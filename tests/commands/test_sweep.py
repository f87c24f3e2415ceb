"""``htlib sweep``, called as a user calls it; the oracle is `htlib.sweep`."""

import argparse
import textwrap

import pandas as pd
import pytest

import htlib as ht
from htlib.commands import sweep
from htlib.commands.main import main
from htlib.figures import FIGURES
from tests.sweeping import TINY, files_of

PRESET = """
title = "Two rates"
figure = "rate_map"
[[grid]]
n = 40
d = 10
h = 15
n_test = 20
steps = 1
lr = [0.5, 1.0]
optimizer = ["adam", "gd"]
[fast]
seeds = 2
[paper]
seeds = 3
"""
GRID = TINY | {"lr": [0.5, 1.0], "optimizer": ["adam", "gd"]}


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """The call of a preset in a folder of its own; a store beside it is the default."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "two-rates.toml").write_text(PRESET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "store"))
    return ["sweep", "two-rates", "--workers", "1", "--threads", "1"]


def test_all_presets_are_computed_in_one_pool(preset, tmp_path, capsys):
    """The second preset has a run in common with the first."""
    text = PRESET.replace("lr = [0.5, 1.0]", "lr = [1.0, 2.0]")
    assert text != PRESET
    (tmp_path / "experiments" / "others.toml").write_text(text)
    everything = ["sweep", "--all", "--workers", "1"]
    assert main(everything) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("12 of 12 runs, 12 computed in ")
    assert "runs: 100 %, 12 of 12 runs" in captured.err
    assert main([*everything, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*everything, "two-rates"]) == 2
    assert "--all and a preset exclude each other" in capsys.readouterr().err
    for option in (["--seeds", "2"], ["--output", "t.csv"], ["--plot", "p.png"]):
        assert main([*everything, *option]) == 2
        assert f"{option[0]} has no meaning with --all; give it with a preset" in capsys.readouterr().err


def test_a_preset_is_run_printed_and_stored(preset, tmp_path, capsys):
    assert main(preset) == 0
    captured = capsys.readouterr()
    table = ht.sweep(GRID, 2, tmp_path / "store", progress=False)
    assert table.attrs["notes"] == ["8 of 8 runs, 8 from the store"]
    last = table[table["step"] == 1].groupby(["lr", "optimizer"])["spectral_norm"].mean()
    lines = captured.out.splitlines()
    assert lines[0] == "Two rates"
    assert lines[-1] == f"8 runs in {tmp_path / 'store'}"
    assert [line.split()[-2] for line in lines[-5:-1]] == [f"{value:.4g}" for value in last]
    assert "8 of 8 runs" in captured.err
    assert main(preset) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (captured.out, "")  # nothing to wait for, no bar


def test_a_grid_needs_no_preset_and_has_the_prediction_beside(preset, tmp_path, capsys):
    """Oracles: `ht.sweep` for what is measured, `ht.predict_one_step` for the columns beside it."""
    sizes = ["--n", "40", "--d", "10", "--h", "15", "--n-test", "20", "--steps", "1", "--workers", "1"]
    call = ["sweep", *sizes, "--lr", "0.5", "1", "--optimizer", "adam", "gd", "--seeds", "2"]
    assert main([*call, "--output", "t.csv"]) == 0
    out = capsys.readouterr().out
    table, columns = pd.read_csv("t.csv"), ["predicted_spectral_norm", "predicted_alignment", "critical_lr"]
    expected = ht.sweep(GRID, 2, tmp_path / "store", progress=False)
    assert expected.attrs["notes"] == ["8 of 8 runs, 8 from the store"]
    measured = table.drop(columns=columns)
    keys = ["lr", "optimizer", "seed", "step"]
    pd.testing.assert_frame_equal(
        measured.sort_values(keys, ignore_index=True)[list(expected)],
        expected.sort_values(keys, ignore_index=True),
    )
    assert table.loc[table["step"] == 0, columns[:2]].isna().all(axis=None)
    for row in table[table["step"] == 1].to_dict("records"):
        law = ht.predict_one_step(n=40, d=10, h=15, optimizer=row["optimizer"], lr=row["lr"])
        assert [row[name] for name in columns] == pytest.approx(
            [law.spectral_norm, law.alignment, law.critical_lr]
        )
    assert out.startswith("n: 40, d: 10")
    assert all(name in out for name in columns)


def test_a_grid_without_a_closed_form_has_no_prediction(preset, capsys):
    sizes = ["--n", "40", "--d", "10", "--h", "15", "--n-test", "20", "--steps", "1", "--workers", "1"]
    for fields in (["--activation", "relu"], ["--update", "shuffled"], ["--optimizer", "muon"]):
        call = ["sweep", *sizes, *fields, "--nesterov", "off", "--seeds", "1", "--output", "t.csv"]
        assert main(call) == 0
        assert "critical_lr" not in capsys.readouterr().out
        assert pd.read_csv("t.csv")["critical_lr"].isna().all()


def test_presets_are_listed_with_their_numbers_of_runs(preset, capsys):
    assert main(["sweep", "--list"]) == 0
    assert capsys.readouterr().out.split() == ["two-rates", "8", "runs", "Two", "rates"]
    assert main(["sweep", "--list", "--profile", "paper"]) == 0
    assert capsys.readouterr().out.split()[1] == "12"


def test_the_format_in_the_help_is_a_preset(preset, tmp_path):
    parser = sweep.add_parser(argparse.ArgumentParser().add_subparsers())
    text = parser.epilog.partition("a preset is a TOML file:\n")[2]
    (tmp_path / "mine.toml").write_text(textwrap.dedent(text))
    fast, paper = (ht.load_experiment(tmp_path / "mine", profile) for profile in ("fast", "paper"))
    assert [(c.lr, c.seed, c.n) for c in fast.configs()][2:4] == [(0.1, 2, 2000), (1.0, 0, 2000)]
    assert len(paper.configs()) == 10
    assert fast.figure in FIGURES


@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_the_table_is_written(suffix, read, preset, tmp_path):
    output = tmp_path / f"table.{suffix}"
    assert main([*preset, "--quiet", "--output", str(output)]) == 0
    expected = ht.sweep(GRID, 2, tmp_path / "store", progress=False)
    pd.testing.assert_frame_equal(read(output), expected, check_exact=suffix == "parquet")


def test_profile_seeds_store_and_plot_can_be_chosen(preset, tmp_path, capsys):
    assert main([*preset, "--quiet", "--profile", "paper", "--plot", "picture.png"]) == 0
    assert len(files_of(tmp_path / "store")) == 12
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert main([*preset, "--quiet", "--seeds", "1", "--store", str(tmp_path / "other")]) == 0
    assert len(files_of(tmp_path / "other")) == 4
    assert capsys.readouterr() == ("", "")


def test_diverged_runs_are_counted_and_are_not_a_failure(preset, tmp_path, capsys):
    text = PRESET.replace('["adam", "gd"]', '"gd"\nactivation = "relu"').replace("1.0]", "1e9]")
    (tmp_path / "experiments" / "two-rates.toml").write_text(text.replace("steps = 1", "steps = 9"))
    assert main([*preset, "--quiet"]) == 0
    assert capsys.readouterr().err.startswith("htlib sweep: 2 runs diverged; ")


def test_clear_empties_the_store(preset, tmp_path, capsys):
    for runs in (0, 8):
        assert main(["sweep", "--clear"]) == 0
        assert capsys.readouterr().out == f"deleted {runs} runs, 0.0 MB, from {tmp_path / 'store'}\n"
        assert main([*preset, "--quiet"]) == 0
    assert main(["sweep", "--clear"]) == 0
    assert files_of(tmp_path / "store") == {}


def test_lost_workers_exit_4(preset, monkeypatch, capsys):
    def lose(*args, **kwargs):
        raise ht.SweepError("workers died 3 times in a row")

    monkeypatch.setattr("htlib.sweeps.compute.run_tasks", lose)
    assert main([*preset, "--quiet"]) == 4
    assert capsys.readouterr().err == "htlib sweep: workers died 3 times in a row\n"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ([], ("name a preset", "experiments/one-step-rates")),
        (["three-rates"], ("'three-rates'",)),
        (["--clear", "--store", "experiments"], ("experiments", "is no store")),
        (["undrawn", "--plot", "plot.png"], ("figure must be one of", "rate_map", "'unknown'")),
        (["broken"], ("broken.toml", "not TOML")),
        (["empty"], ("empty.toml", "'fast' is missing")),
        (["two-rates", "--scheduler", "nonsense"], ("Dask scheduler", "'nonsense'")),
    ],
)
def test_a_preset_that_cannot_be_run_exits_2_with_one_line(wrong, named, preset, tmp_path, capsys):
    if "--scheduler" in wrong:
        pytest.importorskip("distributed")
    (tmp_path / "experiments" / "broken.toml").write_text("title = ")
    (tmp_path / "experiments" / "empty.toml").write_text("")
    (tmp_path / "experiments" / "undrawn.toml").write_text(PRESET.replace("rate_map", "unknown"))
    assert main(["sweep", "--quiet", *wrong]) == 2
    out, err = capsys.readouterr()
    assert [part for part in named if part not in err] == []
    assert (err.count("\n"), out) == (1, "")
    assert files_of(tmp_path / "store") == {}
