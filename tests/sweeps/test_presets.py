"""Oracles: the presets of this repository, and presets written out by hand."""

from pathlib import Path

import pytest

import htlib as ht
from htlib.sweeps.grid import fields_of
from htlib.sweeps.kinds import by_training
from htlib.sweeps.workers import work_of
from tests.refusals import refused
from tests.sweeping import TINY, blas_threads

FOLDER = Path(ht.__file__).parents[1] / "experiments"
PRESETS = sorted(FOLDER.glob("*.toml"))

GOOD = """
title = "A title"
figure = "rate_map"
[[grid]]
n = 40
d = 10
h = 15
n_test = 20
steps = 1
lr = [0.1, 1.0]
[[grid]]
optimizer = "gd"
lr = [1.0, 2.0]
steps = 3
[fast]
seeds = 2
grid = { steps = 2 }
[paper]
seeds = [4, 5, 6]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return tmp_path / "mine.toml"

    return write


@pytest.mark.skipif(not PRESETS, reason="an installed package comes without the folder experiments")
def test_there_are_presets():
    assert len(PRESETS) >= 11


@pytest.mark.parametrize("profile", ["fast", "paper"])
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_can_run_and_be_drawn(path, profile):
    from htlib.figures.runs import FIGURES

    experiment = ht.load_experiment(path, profile)
    assert experiment.name == path.stem
    assert experiment.title
    assert experiment.figure in FIGURES
    configs = experiment.configs()
    assert len(configs) >= 2
    assert "probe_every" not in fields_of(experiment.grid) or max(c.steps for c in configs) > 1
    assert experiment.keep_overlaps == (experiment.figure in ("overlap_maps", "subspace_overlaps"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_the_fast_profile_is_the_smaller_one(path):
    def work(profile):
        return sum(work_of(task) for task in by_training(ht.load_experiment(path, profile).tasks()).values())

    assert work("fast") < work("paper")


def test_a_table_changes_every_grid(write):
    experiment = ht.load_experiment(write(GOOD))
    assert experiment == ht.Experiment(
        name="mine",
        title="A title",
        figure="rate_map",
        grid=[TINY | {"lr": [0.1, 1.0], "steps": 2}, {"optimizer": "gd", "lr": [1.0, 2.0], "steps": 2}],
        seeds=2,
        keep_overlaps=False,
    )
    paper = ht.load_experiment(write(GOOD), "paper")
    assert paper.seeds == [4, 5, 6]
    assert [grid["steps"] for grid in paper.grid] == [1, 3]
    assert len(paper.configs()) == 12


def test_an_array_replaces_the_grids(write):
    text = GOOD.replace("grid = { steps = 2 }", "grid = [{ n = 50, lr = 3.0 }, { n = 60 }]")
    assert ht.load_experiment(write(text)).grid == [{"n": 50, "lr": 3.0}, {"n": 60}]
    text = GOOD.replace("grid = { steps = 2 }", "") + "[[fast.grid]]\nn = 50\nlr = 3.0\n[[fast.grid]]\nn = 60"
    assert ht.load_experiment(write(text)).grid == [{"n": 50, "lr": 3.0}, {"n": 60}]
    assert len(ht.load_experiment(write(text), "paper").grid) == 2


def test_one_grid_may_be_a_table_and_sizes_may_be_left_out(write):
    text = 'title = "t"\nfigure = "f"\nkeep_overlaps = true\n[grid]\nlr = 0.5\n[fast]\n[paper]\n'
    experiment = ht.load_experiment(write(text))
    assert (experiment.grid, experiment.seeds, experiment.keep_overlaps) == ([{"lr": 0.5}], 5, True)


TITLE, FIGURE, STEPS = 'title = "A title"', 'figure = "rate_map"', "grid = { steps = 2 }"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (TITLE, "titel = 1", ("unknown key 'titel'", "fast, figure, grid, keep_over")),
        (TITLE, "", ("'title'", "missing")),
        (FIGURE, "", ("'figure'", "missing")),
        ("[paper]\nseeds = [4, 5, 6]", "", ("'paper'", "missing")),
        (TITLE, "title = 3", ("'title' must", "text", 3)),
        (FIGURE, 'figure = ["rate_map"]', ("'figure' must", "text")),
        (TITLE, 'title = "t"\nkeep_overlaps = 1', ("'keep_overlaps' must", "true or false")),
        ("[fast]\nseeds = 2", "[fast]\nseed = 2", ("unknown key 'seed'", "[fast]", "seeds", "grid")),
        ("[fast]\nseeds = 2\ngrid = { steps = 2 }", "[[fast]]", ("'fast' must", "table")),
        (STEPS, "grid = 2", ("'grid' must", "a table or an array of tables", 2)),
        (STEPS, "grid = [2]", ("'grid' must", "a table or an array of tables", "[2]")),
        (STEPS, "grid = []", ("grid must map fields",)),
        (STEPS, "grid = { step = 2 }", ("unknown field 'step' in grid",)),
        (STEPS, "grid = { n = -2 }", ("n must", "integer, at least 1", -2)),
        (STEPS, "grid = { seed = 2 }", ("grid must not hold 'seed'",)),
        ("seeds = 2", "seeds = 0", ("seeds must", "at least one seed", 0)),
        ("seeds = 2", 'seeds = "2"', ("seeds must", "number of seeds or a list", "'2'")),
        ("lr = [0.1, 1.0]", "lr = [0.1, 0.1]", ("grid", "same run twice", "n = 40, d = 10")),
        ("n = 40", "n = ", ("not TOML", "line 5")),
        ("n = 40", "n = 40\nn = 41", ("not TOML", "Cannot overwrite a value")),
        ("A title", "\udcff", ("not TOML", "utf-8")),
    ],
)
def test_a_wrong_preset_is_refused_by_name(old, new, named, tmp_path):
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_bytes(GOOD.replace(old, new).encode(errors="surrogateescape"))
    with refused(path, *named):
        ht.load_experiment(path)


def test_an_unknown_profile_is_refused(write):
    with refused("profile must", "'fast'", "'paper'", "'slow'"):
        ht.load_experiment(write(GOOD), "slow")


def test_names_are_found_here_and_above(tmp_path, monkeypatch):
    folder = tmp_path / "experiments"
    (folder / "below" / "deep").mkdir(parents=True)
    (folder / "mine.toml").write_text(GOOD)
    (folder / "v1.5.toml").write_text(GOOD)
    for here in (tmp_path, folder, folder / "below" / "deep"):
        monkeypatch.chdir(here)
        for name in ("mine", "mine.toml", "experiments/mine", "experiments/mine.toml", folder / "mine"):
            assert ht.load_experiment(name).name == "mine"
        assert ht.load_experiment("v1.5").name == "v1.5"


def test_a_missing_preset_is_refused_with_those_there_are(tmp_path, monkeypatch):
    """A path to nowhere is not answered with a namesake from another folder."""
    monkeypatch.chdir(tmp_path)
    with refused("no preset 'mine'", "no folder 'experiments'", error=FileNotFoundError):
        ht.load_experiment("mine")
    folder = tmp_path / "experiments"
    folder.mkdir()
    for known in ("mine", "yours"):
        (folder / f"{known}.toml").write_text(GOOD)
    for name in ("other", "experiments/other.toml", "/no/such/folder/mine", "../mine.toml", "."):
        with refused(f"no preset {str(Path(name))!r}", folder, "mine, yours", error=FileNotFoundError):
            ht.load_experiment(name)


def test_an_experiment_runs(tmp_path, write):
    text = GOOD.replace('optimizer = "gd"', "n=40\nd=10\nh=15\nn_test=20\nlr_decay=0.5")
    experiment = ht.load_experiment(write(text))
    runs = experiment.runs(tmp_path / "store", workers=1, threads=1, progress=False)
    assert [run.config for run in runs] == experiment.configs()
    assert len(experiment.runs(tmp_path / "store", seeds=[9], workers=1, progress=False)) == 4
    with blas_threads(1):  # as the runs: another number gives other last digits
        expected = ht.train(experiment.configs()[-1])
    assert runs[-1].metrics.equals(expected.metrics)
    assert not runs[0].overlaps


def test_an_experiment_keeps_overlaps_on_request(tmp_path):
    experiment = ht.Experiment("mine", "t", "overlap_maps", [TINY], seeds=1, keep_overlaps=True)
    (run,) = experiment.runs(tmp_path / "store", workers=1, progress=False)
    assert list(run.overlaps) == [1]
