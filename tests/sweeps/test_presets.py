"""Oracles: the presets of this repository, and presets written out by hand."""

from pathlib import Path

import pytest

import htlib as ht
from htlib.sweeps.grid import fields_of
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
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

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
        configs = ht.load_experiment(path, profile).configs()
        return sum(c.steps * c.n * c.d * c.h for c in configs)

    assert work("fast") < work("paper")


def test_a_table_changes_every_grid(write):
    experiment = ht.load_experiment(write(GOOD))
    assert experiment == ht.Experiment(
        name="mine",
        title="A title",
        figure="rate_map",
        grid=[
            TINY | {"lr": [0.1, 1.0], "steps": 2},
            {"optimizer": "gd", "lr": [1.0, 2.0], "steps": 2},
        ],
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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "A title"', "titel = 1", "unknown key 'titel'; a preset has fast, figure, grid, keep_over"),
        ('title = "A title"', "", "'title' is missing"),
        ('figure = "rate_map"', "", "'figure' is missing"),
        ("[paper]\nseeds = [4, 5, 6]", "", "'paper' is missing"),
        ('title = "A title"', "title = 3", "'title' must be a text; got 3"),
        ('figure = "rate_map"', 'figure = ["rate_map"]', "'figure' must be a text"),
        ('title = "A title"', 'title = "t"\nkeep_overlaps = 1', "'keep_overlaps' must be true or false"),
        ("[fast]\nseeds = 2", "[fast]\nseed = 2", "unknown key 'seed' in [fast]; it has seeds and grid"),
        ("grid = { steps = 2 }", "grid = 2", "'grid' must be a table or an array of tables; got 2"),
        ("grid = { steps = 2 }", "grid = [2]", "'grid' must be a table or an array of tables; got [2]"),
        ("grid = { steps = 2 }", "grid = []", "grid must map fields"),
        ("grid = { steps = 2 }", "grid = { step = 2 }", "unknown field 'step' in grid; Experiment"),
        ("grid = { steps = 2 }", "grid = { n = -2 }", "n must be an integer, at least 1; got -2"),
        ("grid = { steps = 2 }", "grid = { seed = 2 }", "grid must not hold 'seed'"),
        ("seeds = 2", "seeds = 0", "seeds must name at least one seed; got 0"),
        ("seeds = 2", 'seeds = "2"', "seeds must be a number of seeds or a list of them; got '2'"),
        ("lr = [0.1, 1.0]", "lr = [0.1, 0.1]", "grid holds the same run twice: n = 40, d = 10"),
        ("n = 40", "n = ", "is not TOML: Invalid value (at line 5"),
        ("n = 40", "n = 40\nn = 41", "is not TOML: Cannot overwrite a value"),
    ],
)  # fmt: skip
def test_a_wrong_preset_is_refused_by_name(old, new, message, write):
    assert old in GOOD
    path = write(GOOD.replace(old, new))
    with pytest.raises(ValueError, match="mine") as refusal:
        ht.load_experiment(path)
    assert str(refusal.value).startswith(str(path))
    assert message in str(refusal.value)


def test_sizes_must_be_a_table(write):
    path = write('title = "t"\nfigure = "f"\nfast = 3\npaper = 4\n[grid]\nlr = 1.0')
    with pytest.raises(ValueError, match="'fast' must be a table; got 3"):
        ht.load_experiment(path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"mine\.toml is not TOML: .*utf-8"):
        ht.load_experiment(tmp_path / "mine.toml")


def test_an_unknown_profile_is_refused(write):
    with pytest.raises(ValueError, match="profile must be 'fast' or 'paper'; got 'slow'"):
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


@pytest.mark.parametrize(
    "name", ["other", "experiments/other.toml", "/no/such/folder/mine", "../mine.toml", "."]
)
def test_a_missing_preset_is_refused_with_those_there_are(name, tmp_path, monkeypatch):
    """A path to nowhere is not answered with a namesake from another folder."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    for known in ("mine", "yours"):
        (folder / f"{known}.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as refusal:
        ht.load_experiment(name)
    assert str(refusal.value) == f"no preset {str(Path(name))!r}; {folder} has mine, yours"


def test_no_presets_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="no preset 'mine', and no folder 'experiments' here or above"
    ):
        ht.load_experiment("mine")


def test_an_experiment_runs(tmp_path, write):
    experiment = ht.load_experiment(
        write(GOOD.replace('optimizer = "gd"', "n=40\nd=10\nh=15\nn_test=20\nlr_decay=0.5"))
    )
    runs = experiment.runs(tmp_path / "store", workers=1, threads=1, progress=False)
    assert [run.config for run in runs] == experiment.configs()
    assert len(experiment.runs(tmp_path / "store", seeds=[9], workers=1, progress=False)) == 4
    with blas_threads(1):  # as the runs: another number gives other last digits
        expected = ht.train(experiment.configs()[-1])
    assert runs[-1].metrics.equals(expected.metrics)
    assert not runs[0].overlaps


def test_an_experiment_keeps_overlaps_if_it_says_so(tmp_path):
    experiment = ht.Experiment("mine", "t", "overlap_maps", [TINY], seeds=1, keep_overlaps=True)
    (run,) = experiment.runs(tmp_path / "store", workers=1, progress=False)
    assert list(run.overlaps) == [1]
