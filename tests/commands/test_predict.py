"""Oracle: `htlib.predict_one_step`, and for measured columns `htlib.train`."""

from __future__ import annotations

import pandas as pd
import pytest

import htlib as ht
from htlib.commands.main import main

SHAPE = ["--n", "60", "--d", "20", "--h", "30"]


def test_predictions_are_those_of_the_library(tmp_path, capsys):
    out = tmp_path / "table.csv"
    assert main(["predict", *SHAPE, "--lr", "0.1", "2", "--output", str(out)]) == 0
    table = pd.read_csv(out)
    for lr, row in zip((0.1, 2.0), table.to_dict("records"), strict=True):
        expected = ht.predict_one_step(n=60, d=20, h=30, lr=lr)
        assert row["spectral_norm"] == pytest.approx(expected.spectral_norm)
        assert row["alignment"] == pytest.approx(expected.alignment)
        bulk = ht.one_step_law(n=60, d=20, h=30).bulk(lr)
        assert row["bulk_edge"] == pytest.approx(bulk.edge)
        assert row["bulk_hill"] == pytest.approx(bulk.hill_alpha())
        spike = expected.spectral_norm**2 if expected.has_outlier else None
        assert row["alpha_hill"] == pytest.approx(bulk.hill_alpha(spike))
    assert f"critical rate {expected.critical_lr:.4g}" in capsys.readouterr().out


def test_the_edge_of_stability_is_said_for_gradient_descent_only(capsys):
    for optimizer in ("gd", "adam"):
        assert main(["predict", *SHAPE, "--lr", "2", "--optimizer", optimizer]) == 0
        edge = 2 / ht.predict_sharpness(ht.ExperimentConfig(n=60, d=20, h=30))
        assert (f"edge of stability {edge:.4g}" in capsys.readouterr().out) == (optimizer == "gd")


def test_measured_columns_are_means_over_seeds(tmp_path):
    out = tmp_path / "table.csv"
    main(["predict", *SHAPE, "--optimizer", "gd", "--lr", "500", "--measure", "2", "--output", str(out)])
    row = pd.read_csv(out).iloc[0]
    config = ht.ExperimentConfig(n=60, d=20, h=30, n_test=200, optimizer="gd", lr=500.0, steps=1)
    norms = [ht.train(config.replace(seed=seed)).metrics.spectral_norm[1] for seed in (0, 1)]
    assert row.measured_spectral_norm == pytest.approx(sum(norms) / 2)
    assert row.sd_spectral_norm == pytest.approx(abs(norms[0] - norms[1]) / 2**0.5)


def test_one_seed_has_no_spread_and_a_single_unit_no_tail(tmp_path):
    out = tmp_path / "table.csv"
    call = ["predict", "--n", "20", "--d", "1", "--h", "1", "--lr", "1", "--output", str(out)]
    assert main(call) == 0
    assert pd.read_csv(out).alpha_hill.isna().all()
    assert main(["predict", *SHAPE, "--lr", "1", "--measure", "1", "--output", str(out)]) == 0
    assert pd.read_csv(out).sd_alignment.isna().all()
