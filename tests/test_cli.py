"""The command line, called as a user calls it."""

import numpy as np
import pytest

import htlib as ht
from htlib.cli import main

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
