"""The command line, called as a user calls it."""

import sys

import numpy as np
import pandas as pd
import pytest

import htlib as ht
from htlib.commands.main import main
from htlib.sweeps import workers as executors
from tests.sweeping import TINY, files_of

SMALL = ["run", "--n", "60", "--d", "20", "--h", "30", "--n-test", "40", "--steps", "2"]


def test_run_prints_and_saves_what_train_measures(tmp_path, capsys):
    record, picture = tmp_path / "run.safetensors", tmp_path / "run.png"
    assert main([*SMALL, "--lr", "0.5", "--output", str(record), "--plot", str(picture)]) == 0
    expected = ht.train(ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=2, lr=0.5))
    loaded = ht.Trajectory.load(record)
    assert loaded.config == expected.config
    assert np.array_equal(loaded.metrics, expected.metrics)
    assert f"{expected.metrics.spectral_norm[2]:.6g}" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_field_of_the_config_is_an_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ht.ExperimentConfig().to_dict():
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--n", "-5"], "n must be an integer, at least 1; got -5"),
        (["--lr", "nan"], "lr must be finite"),
        (["--teacher", "foo"], "teacher must be one of softplus"),
        (["--momentum", "0.9"], "momentum = 0.9 has no meaning for optimizer='adam'"),
        (["--device", "nowhere"], "device 'nowhere' cannot be used here"),
        (["--output", "/no/such/folder/run"], "the folder of /no/such/folder/run does not exist"),
        (["--plot", "run.docx"], "--plot must end in"),
    ],
)
def test_a_wrong_value_exits_2_and_names_the_argument(wrong, message, capsys):
    assert main([*SMALL, *wrong]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("htlib run: ")
    assert message in captured.err
    assert not captured.out


def test_an_unknown_choice_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, "--optimizer", "sgd"])
    assert stop.value.code == 2
    assert "--optimizer: invalid choice: 'sgd'" in capsys.readouterr().err


def test_a_diverging_run_exits_3_and_keeps_what_it_has(tmp_path, capsys):
    record = tmp_path / "run.safetensors"
    diverging = ["--optimizer", "gd", "--lr", "1e9", "--activation", "relu", "--steps", "9"]
    assert main([*SMALL, *diverging, "--output", str(record)]) == 3
    loaded = ht.Trajectory.load(record)
    assert f"not finite after step {loaded.diverged_at};" in capsys.readouterr().err
    assert len(loaded.metrics) >= 1
    assert np.isfinite(loaded.metrics.test_loss).all()


def test_quiet_prints_nothing(capsys):
    assert main([*SMALL, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# htlib sweep

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
    """A folder with a preset in it; a store beside it is the default."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "two-rates.toml").write_text(PRESET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "store"))
    return ["sweep", "two-rates", "--workers", "1", "--threads", "1"]


@pytest.fixture
def nothing_computed(monkeypatch):
    monkeypatch.setattr(executors, "compute", lambda *args: pytest.fail("computed"))


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
    assert "8/8" in captured.err
    assert main(preset) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (captured.out, "")  # nothing to wait for, no bar


@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_the_table_is_written(suffix, read, preset, tmp_path):
    output = tmp_path / f"table.{suffix}"
    assert main([*preset, "--quiet", "--output", str(output)]) == 0
    expected = ht.sweep(GRID, 2, tmp_path / "store", progress=False)
    pd.testing.assert_frame_equal(read(output), expected, check_exact=suffix == "parquet")


def test_parquet_needs_pyarrow_and_says_so_before_the_work(preset, nothing_computed, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main([*preset, "--output", "table.parquet"]) == 2
    assert "table.parquet needs pyarrow" in capsys.readouterr().err


def test_the_plot_is_drawn(preset, tmp_path):
    assert main([*preset, "--quiet", "--plot", "picture.png"]) == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_profile_seeds_and_store_can_be_chosen(preset, tmp_path, capsys):
    assert main([*preset, "--quiet", "--profile", "paper"]) == 0
    assert len(files_of(tmp_path / "store")) == 12
    assert main([*preset, "--quiet", "--seeds", "1", "--store", str(tmp_path / "other")]) == 0
    assert len(files_of(tmp_path / "other")) == 4
    assert capsys.readouterr() == ("", "")


def test_diverged_runs_are_told_and_no_failure(preset, tmp_path, capsys):
    text = PRESET.replace('["adam", "gd"]', '"gd"\nactivation = "relu"').replace("1.0]", "1e9]")
    (tmp_path / "experiments" / "two-rates.toml").write_text(text.replace("steps = 1", "steps = 9"))
    assert main([*preset, "--quiet"]) == 0
    assert (
        capsys.readouterr().err == "htlib sweep: 2 runs diverged; what was measured before is in the table\n"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["sweep"], "name a preset, for instance experiments/one-step-rates"),
        (["sweep", "three-rates"], "no preset 'three-rates'; "),
        (["sweep", "two-rates", "--seeds", "0"], "seeds must name at least one seed; got 0"),
        (["sweep", "two-rates", "--workers", "0"], "workers must be None or a positive integer; got 0"),
        (["sweep", "two-rates", "--threads", "-1"], "threads must be None or a positive integer; got -1"),
        (["sweep", "two-rates", "--output", "table.xlsx"], "--output must end in one of .parquet, .csv; got"),
        (["sweep", "two-rates", "--output", "no/table.csv"], "the folder of no/table.csv does not exist"),
        (["sweep", "two-rates", "--plot", "plot.docx"], "--plot must end in one of .png, .svg, .pdf; got"),
        (["sweep", "two-rates", "--plot", "no/plot.png"], "the folder of no/plot.png does not exist"),
        (["sweep", "two-rates", "--clear"], "--clear empties the whole store; give it without a preset"),
        (["sweep", "two-rates", "--store", "experiments"], "is no store; name a new or empty folder"),
        (["sweep", "--clear", "--store", "experiments"], "holds other things and is no store"),
        (["sweep", "two-rates", "--store", "experiments/two-rates.toml"], "store must be a folder; "),
        (["sweep", "undrawn", "--plot", "plot.png"], "figure must be one of "),
        (["sweep", "broken"], "broken.toml is not TOML: "),
        (["sweep", "empty"], "empty.toml: 'fast' is missing"),
    ],
)  # fmt: skip
def test_a_wrong_call_exits_2_with_one_line(wrong, message, preset, nothing_computed, tmp_path, capsys):
    (tmp_path / "experiments" / "broken.toml").write_text("title = ")
    (tmp_path / "experiments" / "empty.toml").write_text("")
    (tmp_path / "experiments" / "undrawn.toml").write_text(PRESET.replace("rate_map", "unknown"))
    before = sorted(tmp_path.rglob("*"))
    assert main(wrong) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("htlib sweep: ")
    assert message in line
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--scheduler", "nonsense"], "no Dask scheduler answers at 'nonsense': "),
        (["--device", "nowhere"], "device 'nowhere' cannot be used here"),
    ],
)
def test_what_shows_only_at_work_exits_2_too(wrong, message, preset, tmp_path, capsys):
    if "--scheduler" in wrong:
        pytest.importorskip("distributed")
    assert main(["sweep", "two-rates", "--quiet", *wrong]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"htlib sweep: {message}")
    assert files_of(tmp_path / "store") == {}


@pytest.mark.parametrize("wrong", [["--profile", "slow"], ["--seeds", "two"], ["--colour", "red"]])
def test_an_option_that_cannot_be_read_exits_2(wrong, preset, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*preset, *wrong])
    assert stop.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_clear_empties_the_store(preset, tmp_path, capsys):
    assert main(["sweep", "--clear"]) == 0
    assert capsys.readouterr().out == f"deleted 0 runs, 0.0 MB, from {tmp_path / 'store'}\n"
    assert main([*preset, "--quiet"]) == 0
    assert main(["sweep", "--clear"]) == 0
    assert capsys.readouterr().out == f"deleted 8 runs, 0.0 MB, from {tmp_path / 'store'}\n"
    assert files_of(tmp_path / "store") == {}


def test_lost_workers_exit_4(preset, monkeypatch, capsys):
    def lose(*args, **kwargs):
        raise ht.SweepError("workers died 3 times in a row")

    monkeypatch.setattr("htlib.sweeps.presets.sweep_runs", lose)
    assert main([*preset, "--quiet"]) == 4
    assert capsys.readouterr().err == "htlib sweep: workers died 3 times in a row\n"


def test_every_option_is_explained(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    text = capsys.readouterr().out
    for name in (
        "PRESET",
        "--profile",
        "--seeds",
        "--store",
        "--scheduler",
        "--workers",
        "--threads",
        "--clear",
    ):
        assert name in text
