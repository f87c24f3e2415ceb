"""Oracle: htlib's own laws and moments, and the presets of a folder made here."""

import gzip
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import htlib as ht
from htlib.explorer import graphs, messages, page, widget
from htlib.spectra.generalized import GeneralizedMarchenkoPastur
from htlib.student.functions import TEACHERS

ROOT = Path(__file__).parents[2]
MIRRORS = sorted((ROOT / "live" / "src" / "mirror").glob("*.ts"))


def test_the_stored_runs_are_those_of_the_preset(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    sizes = "[grid]\nn = 40\nd = 10\nh = 15\nn_test = 20\nsteps = 1"
    (tmp_path / "experiments" / "atlas.toml").write_text(
        f'title = "t"\nfigure = "along_steps"\n[fast]\nseeds = 2\n[paper]\n{sizes}\nlr = [0.1, 1.0]\n'
    )
    (tmp_path / "experiments" / "single-run.toml").write_text(
        'title = "t"\nfigure = "overlap_maps"\nkeep_overlaps = true\n[fast]\nseeds = [0]\n[paper]\n'
        f"{sizes}\nlr = [1.0]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "store"))
    target = tmp_path / "new" / "stored-runs.json.gz"
    assert page.main(["stored-runs", "fast", str(target)]) == 0
    stored = json.loads(gzip.decompress(target.read_bytes()))
    assert [(run["lr"], run["seed"]) for run in stored["runs"]] == [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    assert stored["config"]["n_test"] == 20
    assert ["overlaps" in run for run in stored["runs"]] == [False, False, True, False]


def test_the_profile_and_the_command_must_be_known(tmp_path, capsys):
    with pytest.raises(ValueError, match="profile must be"):
        page.main(["stored-runs", "slow", str(tmp_path / "new")])
    assert page.main(["everything"]) == 2
    assert "python -m htlib.explorer.page stored-runs fast" in capsys.readouterr().err


def test_what_the_browser_does_not_compute_is_that_of_htlib():
    explorer = widget.Explorer(n=60, d=20, h=30)
    # few laws, because each takes a third of a second
    few = {**explorer.options["choices"], "noise_std": [0.1], "teacher": ["softplus", "relu"]}
    explorer.options = {**explorer.options, "choices": few}
    meta = json.loads(json.dumps(page.meta(explorer, explorer.config.replace(n=40)), allow_nan=False))
    assert meta["options"]["choices"]["teacher"] == few["teacher"]
    assert list(meta["teachers"]) == list(TEACHERS)
    assert meta["options"]["choices"]["optimizer"] == list(graphs.GRAPH_OPTIMIZERS)
    assert meta["teachers"]["relu"]["mean"] == pytest.approx(1 / np.sqrt(2 * np.pi))
    assert meta["teachers"]["identity"] == pytest.approx({"mean": 0, "variance": 1}, abs=1e-9)
    assert meta["stored"]["sizes"]["n"] == 40
    law = ht.one_step_law(n=60, d=20, h=30, optimizer="gd", teacher="relu", noise_std=0.1)
    assert meta["trained"]["laws"]["gd relu real 0.1"]["gain"] == law.gain
    assert "gd relu shuffled 0.1" in meta["trained"]["laws"]
    law = ht.one_step_law(n=40, d=20, h=30)
    assert meta["stored"]["laws"]["adam softplus real 0.3"]["gain"] == law.gain
    # the stored runs have one teacher and one level of noise
    kinds = itertools.product(("adam", "gd", "signsgd"), ("real", "shuffled"))
    assert list(meta["stored"]["laws"]) == [
        f"{optimizer} softplus {labels} 0.3" for optimizer, labels in kinds
    ]
    laws = meta["stored"]["laws"]
    for key, entry in laws.items():
        if key.startswith("signsgd"):  # its first step is that of Adam
            assert entry == key.replace("signsgd", "adam")
            entry = laws[entry]
        config = explorer.config.replace(n=40, optimizer=key.split()[0], labels=key.split()[2])
        assert entry["unstable_lr"] == pytest.approx(messages.unstable_lr(config), rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize("share", [0.5, 3.0, 100.0])
def test_the_noise_of_the_page_makes_the_bulk_of_htlib(optimizer, share):
    """Oracle: the law itself, which groups its noise after it knows the rate, and does not round it."""
    law = ht.one_step_law(n=900, d=200, h=300, optimizer=optimizer)
    lr, noise = share * law.critical_lr, page.noise_groups(law)
    columns, echo, counts, rows, row_counts = (
        np.array(noise[name]) for name in ("columns", "echo", "counts", "rows", "row_counts")
    )
    columns = np.maximum(lr**2 * columns + lr * echo, 0)
    if share < 1:
        columns, rows = np.append(columns, 0), np.append(rows, 0)
        counts, row_counts = np.append(counts, 1), np.append(row_counts, 1)
    mine = GeneralizedMarchenkoPastur(columns, rows, 1.0, column_counts=counts, row_counts=row_counts)
    expected = law.bulk(lr)
    assert mine.size == expected.size
    assert mine.edge == pytest.approx(expected.edge, rel=1e-3)
    x = expected.ppf(np.linspace(0.05, 0.95, 19))
    np.testing.assert_allclose(mine.cdf(x), expected.cdf(x), atol=2e-3)


@pytest.mark.parametrize("path", MIRRORS, ids=lambda path: path.name)
def test_what_repeats_a_python_file_names_it(path):
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    named = re.findall(r"[\w/]+\.py\b", head)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
