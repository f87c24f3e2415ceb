"""Oracle: htlib's own laws and moments, and the presets of a folder made here."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

import htlib as ht
from htlib.explorer import graphs, page, widget
from htlib.student.functions import TEACHERS

ROOT = Path(__file__).parents[2]
MIRRORS = sorted((ROOT / "live" / "src" / "mirror").glob("*.ts"))


def test_the_stored_runs_are_those_of_the_preset(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "atlas.toml").write_text(
        'title = "t"\nfigure = "along_steps"\n[fast]\nseeds = 2\n[paper]\n'
        "[grid]\nn = 40\nd = 10\nh = 15\nn_test = 20\nsteps = 1\nlr = [0.1, 1.0]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "store"))
    target = tmp_path / "new" / "stored-runs.json.gz"
    assert page.main(["stored-runs", "fast", str(target)]) == 0
    stored = json.loads(gzip.decompress(target.read_bytes()))
    assert [(run["lr"], run["seed"]) for run in stored["runs"]] == [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    assert stored["config"]["n_test"] == 20


def test_the_profile_and_the_command_must_be_known(tmp_path, capsys):
    with pytest.raises(ValueError, match="profile must be"):
        page.main(["stored-runs", "slow", str(tmp_path / "new")])
    assert page.main(["everything"]) == 2
    assert "python -m htlib.explorer.page stored-runs fast" in capsys.readouterr().err


def test_what_the_browser_does_not_compute_is_that_of_htlib():
    explorer = widget.Explorer()
    meta = json.loads(json.dumps(page.meta(explorer, explorer.config.replace(n=40)), allow_nan=False))
    assert meta["options"]["choices"]["teacher"] == list(meta["teachers"]) == list(TEACHERS)
    assert meta["options"]["choices"]["optimizer"] == list(graphs.GRAPH_OPTIMIZERS)
    assert meta["teachers"]["relu"]["mean"] == pytest.approx(1 / np.sqrt(2 * np.pi))
    assert meta["teachers"]["identity"] == pytest.approx({"mean": 0, "variance": 1}, abs=1e-9)
    assert meta["stored"]["sizes"]["n"] == 40
    law = ht.one_step_law(n=40, d=300, h=450, optimizer="gd", teacher="relu", noise_std=0.1)
    assert meta["stored"]["laws"]["gd relu real 0.1"]["gain"] == law.gain
    assert "gd relu shuffled 0.1" in meta["trained"]["laws"]


@pytest.mark.parametrize("path", MIRRORS, ids=lambda path: path.name)
def test_what_repeats_a_python_file_names_it(path):
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    named = re.findall(r"[\w/]+\.py\b", head)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
