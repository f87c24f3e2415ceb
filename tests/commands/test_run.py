"""``htlib run``, called as a user calls it; the oracle is `htlib.train`."""

import sys

import numpy as np

import htlib as ht
from htlib.commands.main import main

SMALL = ["run", "--n", "60", "--d", "20", "--h", "30", "--n-test", "40", "--steps", "2"]


def test_run_prints_and_saves_what_train_measures(tmp_path, capsys):
    record, picture = tmp_path / "run.safetensors", tmp_path / "run.png"
    assert main([*SMALL, "--lr", "0.5", "--output", str(record), "--plot", str(picture)]) == 0
    expected = ht.train(ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=2, lr=0.5))
    loaded = ht.Trajectory.load(record)
    assert loaded.config == expected.config
    assert np.array_equal(loaded.metrics, expected.metrics)
    printed = capsys.readouterr().out
    assert f"{expected.metrics.spectral_norm[2]:.6g}" in printed
    assert "eigenvalues of W^T W after step 2" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_log_has_no_bar(monkeypatch):
    asked, train = [], ht.train
    monkeypatch.setattr(
        "htlib.student.training.train", lambda c, **o: asked.append(o["progress"]) or train(c, **o)
    )
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        assert main(SMALL) == 0
    assert asked == [False, True]


def test_a_diverging_run_exits_3_and_keeps_what_it_has(tmp_path, capsys):
    record = tmp_path / "run.safetensors"
    diverging = ["--optimizer", "gd", "--lr", "1e9", "--activation", "relu", "--steps", "9"]
    assert main([*SMALL, *diverging, "--output", str(record)]) == 3
    loaded = ht.Trajectory.load(record)
    assert f"not finite after step {loaded.diverged_at};" in capsys.readouterr().err
    assert len(loaded.metrics) >= 1
    assert np.isfinite(loaded.metrics.test_loss).all()
