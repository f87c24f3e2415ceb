"""Oracle: the runs themselves, which an atlas gives back within the errors that it states."""

import dataclasses
import gzip
import json
import struct

import numpy as np
import pandas as pd
import pytest

import htlib as ht
from htlib.explorer.stored_runs import make_atlas, pack, unpack
from htlib.student.probes import METRICS
from htlib.student.run import Trajectory
from htlib.sweeps.compute import sweep_runs

SMALL = ht.ExperimentConfig(n=60, d=30, h=45, n_test=50, steps=3)
RATES = {"adam": (0.1, 10.0), "gd": (1.0, 1e4, 1e6)}
LINEAR = ("alignment", "kta")


def train(**changes):
    return ht.train(SMALL.replace(**changes), progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """In the order of an atlas."""
    sizes = {"n": 60, "d": 30, "h": 45, "n_test": 50, "steps": 3}
    grid = [
        {**sizes, "optimizer": optimizer, "lr": rates, "labels": ["real", "shuffled"]}
        for optimizer, rates in RATES.items()
    ]
    store = tmp_path_factory.mktemp("atlas") / "store"
    return sweep_runs(grid, [0, 3], store, workers=1, threads=1, progress=False)


@pytest.fixture(scope="module")
def diverged():
    found = train(activation="relu", optimizer="gd", lr=1e12)
    assert found.diverged_at is not None
    assert 0 < found.diverged_at < SMALL.steps
    return found


def with_values(run, eigenvalues=None, **metrics):
    """The run with another spectrum at its last step, or other metrics there."""
    table, spectra = run.metrics.copy(), run.eigenvalues.copy()
    for name, value in metrics.items():
        table.loc[table.index[-1], name] = value
    if eigenvalues is not None:
        spectra[-1] = eigenvalues
    return dataclasses.replace(run, metrics=table, eigenvalues=spectra)


def there_and_back(runs):
    found = unpack(pack(runs))
    return found.header, found.runs


def largest(error):
    return float(np.max(error))


# Round trip


def test_every_run_comes_back_in_its_place(runs):
    header, again = there_and_back(runs[::-1])
    assert header["optimizers"] == ["gd", "adam"]  # in order of appearance
    header, again = there_and_back([runs[0], *runs[:0:-1]])
    assert header["optimizers"] == ["adam", "gd"]
    assert header["rates"] == [list(rates) for rates in RATES.values()]
    assert header["labels"] == ["real", "shuffled"]
    assert header["seeds"] == [0, 3]
    assert [run.config for run in again] == [run.config for run in runs]
    assert all(run.diverged_at is None for run in again)
    for run, expected in zip(again, runs, strict=True):
        assert run.metrics.index.equals(expected.metrics.index)
        assert list(run.metrics.columns) == list(METRICS)
        assert (run.metrics["n_outliers"] == expected.metrics["n_outliers"]).all()
        assert run.metrics["n_outliers"].dtype == np.int64


def test_the_stated_errors_are_the_largest_ones(runs):
    header, again = there_and_back(runs)
    given = pd.concat([run.metrics for run in runs])
    found = pd.concat([run.metrics for run in again])
    for entry in header["metrics"]:
        name = entry["name"]
        relative = name not in (*LINEAR, "n_outliers")
        assert entry["log"] == relative
        error = (found[name] - given[name]).abs() / (given[name].abs() if relative else 1)
        assert entry["error"] == pytest.approx(error.max(), rel=1e-9, abs=1e-15)
        assert entry["error"] <= (2e-4 if relative else 2e-5)
    given = np.concatenate([run.eigenvalues for run in runs])
    found = np.concatenate([run.eigenvalues for run in again])
    error = np.abs(found / given - 1)
    assert header["eigenvalue_error"] == pytest.approx(largest(error), rel=1e-9)
    assert header["top"]["error"] == pytest.approx(largest(error[:, -24:]), rel=1e-9)
    assert header["bulk"]["error"] == pytest.approx(largest(error[:, :-24]), rel=1e-9)
    assert header["top"]["error"] <= 1.0001e-3
    assert 0.005 < header["bulk"]["error"] <= 0.0125001  # the tolerance is used
    assert (np.diff(found, axis=1) >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_errors_hold_for_a_spectrum_with_148_outliers(seed, runs):
    """A bulk, a gap and a heavy tail of 148."""
    rng = np.random.default_rng(seed)
    bulk = ht.MarchenkoPastur.of_gaussian_esd(1500, 852)
    low, high = bulk.support
    eigenvalues = np.sort(
        np.concatenate([rng.uniform(low, high, 852), 1e6 * rng.pareto(1.5, 148) + 1e5 * high])
    )
    config = SMALL.replace(n=2000, d=1000, h=1500, steps=1)
    run = dataclasses.replace(
        runs[0],
        config=config,
        metrics=runs[0].metrics.loc[:1],
        eigenvalues=np.stack([np.linspace(low, high, 1000), eigenvalues]),
    )
    header, (again,) = there_and_back([run])
    error = np.abs(again.eigenvalues / run.eigenvalues - 1)
    assert largest(error) == pytest.approx(header["eigenvalue_error"], rel=1e-9)
    assert largest(error) <= 0.0125001
    assert largest(error[:, -24:]) <= 1.0001e-3
    assert (np.diff(again.eigenvalues, axis=1) >= 0).all()
    outliers = again.eigenvalues[-1] > 100 * high
    assert outliers.sum() == 148


@pytest.mark.parametrize("size", [1, 2, 24, 25, 300])
def test_spectra_of_any_size_and_of_equal_eigenvalues(size, runs):
    for eigenvalues in (np.full(size, 7.0), np.geomspace(1e-6, 1e9, size), np.r_[np.ones(size - 1), 1e25]):
        run = dataclasses.replace(
            runs[0],
            config=SMALL.replace(steps=0),
            metrics=runs[0].metrics.loc[:0],
            eigenvalues=eigenvalues[None],
        )
        header, (again,) = there_and_back([run])
        assert again.eigenvalues.shape == (1, size)
        assert largest(np.abs(again.eigenvalues / eigenvalues - 1)) <= header["eigenvalue_error"] + 1e-12
        assert header["eigenvalue_error"] <= 0.0125001


def test_zero_eigenvalues_come_back_as_noise(runs):
    eigenvalues = runs[0].eigenvalues[-1].copy()
    eigenvalues[:3] = 0
    (again,) = unpack(pack([with_values(runs[0], eigenvalues)])).runs
    assert (again.eigenvalues[-1, :3] <= 1.0126e-30 * eigenvalues[-1]).all()
    np.testing.assert_allclose(again.eigenvalues[-1, 3:], eigenvalues[3:], rtol=0.0126)


def test_a_number_that_is_not_finite_is_none_again(runs):
    run = with_values(runs[0], test_loss=np.inf, kta=np.nan, ks_distance=0.0)
    header, (again,) = there_and_back([run])
    assert again.metrics.loc[3, ["test_loss", "kta", "ks_distance"]].isna().all()
    assert again.metrics.isna().sum().sum() == 3
    assert all(np.isfinite(entry["error"]) for entry in header["metrics"])


def test_a_run_that_diverged_ends_where_it_did(diverged):
    stays = train(activation="relu", optimizer="gd", lr=1e-3)
    header, again = there_and_back([diverged, stays])
    assert header["diverged"] == [[1, diverged.diverged_at]]
    assert [run.diverged_at for run in again] == [None, diverged.diverged_at]
    assert again[1].metrics.index.equals(diverged.metrics.index)
    assert again[1].eigenvalues.shape == diverged.eigenvalues.shape
    np.testing.assert_allclose(
        again[0].eigenvalues, stays.eigenvalues, rtol=header["eigenvalue_error"] * 1.001
    )


def test_words_of_steps_that_were_not_reached(diverged):
    """As the format says: a reader may tell them from numbers that are not finite."""
    content = gzip.decompress(pack([diverged]))
    start = 8 + struct.unpack_from("<I", content, 4)[0]
    planes = np.frombuffer(content, np.uint8, offset=start).astype(np.uint16)
    high, low = np.split(planes, 2)
    words = ((high << 8) | low)[: len(METRICS) * (SMALL.steps + 1)].reshape(len(METRICS), -1)
    words = np.cumsum(words, axis=1, dtype=np.uint16)
    assert (words[:, diverged.diverged_at :] == 65534).all()
    assert not (words[:, : diverged.diverged_at] == 65534).any()


def test_equal_runs_give_equal_bytes(runs):
    assert pack(runs) == pack(list(runs))
    assert pack(runs)[4:8] == bytes(4)  # no time of making
    assert pack([runs[0], *runs[:0:-1]]) == pack(runs)


# What is refused


def test_missing_runs_are_named(runs):
    with pytest.raises(ValueError, match=r"2 of 20 are missing, the first .* = \('adam', 0.1, 'real', 3\)"):
        pack([run for i, run in enumerate(runs) if i not in (1, 7)])
    with pytest.raises(ValueError, match="runs is empty"):
        pack([])


def test_a_run_given_twice_is_named(runs):
    with pytest.raises(ValueError, match=r"holds \('adam', 0.1, 'real', 0\) twice"):
        pack([*runs, dataclasses.replace(runs[0])])


@pytest.mark.parametrize(("field", "value"), [("d", 20), ("n", 50), ("noise_std", 0.1), ("steps", 2)])
def test_runs_that_differ_in_something_else_are_refused(field, value, runs):
    other = dataclasses.replace(runs[1], config=runs[1].config.replace(**{field: value}))
    with pytest.raises(ValueError, match=f"runs must share {field}; got {getattr(SMALL, field)} and {value}"):
        pack([runs[0], other, *runs[2:]])


def test_steps_that_were_not_measured_are_refused():
    with pytest.raises(ValueError, match=r"got steps \[0, 2, 3\] of .*; train with probe_every=1"):
        pack([train(probe_every=2)])


def test_runs_without_any_step_are_refused(runs):
    nothing = Trajectory(SMALL, runs[0].metrics.iloc[:0], runs[0].eigenvalues[:0], diverged_at=0)
    with pytest.raises(ValueError, match="all diverged at their start"):
        pack([nothing])


@pytest.mark.parametrize("cut", [0, 1, 9, 100, -9, -1])
def test_a_part_of_an_atlas_is_refused(cut, runs):
    with pytest.raises(ValueError, match="data"):
        unpack(pack(runs)[:cut])


def test_every_changed_byte_is_refused(runs):
    data = pack(runs[:1])
    header = 10  # bytes of gzip that hold no data: time, system
    for position in np.linspace(header, len(data) - 1, 60).astype(int):
        changed = bytearray(data)
        changed[position] ^= 0x10
        with pytest.raises(ValueError, match="data"):
            unpack(bytes(changed))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must start with b'HTA1'; got b''"),
        (b"HTB1" + bytes(20), "must start with b'HTA1'; got b'HTB1'"),
        (b"HTA1" + struct.pack("<I", 4) + b"{]{]", "the header of data cannot be read"),
        (b"HTA1" + struct.pack("<I", 2) + b"{}", "the header of data cannot be read"),
    ],
)
def test_other_content_is_refused(content, message):
    with pytest.raises(ValueError, match="data") as refusal:
        unpack(gzip.compress(content))
    assert message in str(refusal.value)


def test_a_wrong_length_is_refused(runs):
    content = gzip.decompress(pack(runs[:1]))
    with pytest.raises(ValueError, match=r"data must hold \d+ bytes after its header; got \d+"):
        unpack(gzip.compress(content + b"\0\0"))


# The preset


def test_the_atlas_is_made_of_its_preset(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "atlas.toml").write_text(
        'title = "t"\nfigure = "along_steps"\n[fast]\nseeds = 2\n[paper]\n'
        "[grid]\nn = 40\nd = 10\nh = 15\nn_test = 20\nsteps = 1\nlr = [0.1, 1.0]\n"
    )
    monkeypatch.chdir(tmp_path)
    data = make_atlas("fast", tmp_path / "store", progress=False)
    assert data == make_atlas("fast", tmp_path / "store", progress=False)
    assert [(run.config.lr, run.config.seed) for run in unpack(data).runs] == [
        (0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="profile must be"):
        make_atlas("slow", tmp_path / "store")


def test_the_preset_is_a_grid_and_its_fast_rates_are_among_those_of_the_paper():
    rates, number = {}, {}
    for profile, optimizer, lowest, highest, apart in (
        ("fast", "adam", -2, 2.5, 0.5),
        ("fast", "gd", 1.5, 5.5, 0.5),
        ("paper", "adam", -3, 3, 0.25),
        ("paper", "gd", 0, 6, 0.25),
    ):
        configs = [c for c in ht.load_experiment("atlas", profile).configs() if c.optimizer == optimizer]
        rates[profile, optimizer] = {config.lr for config in configs}
        exact = 10 ** np.arange(lowest, highest + apart / 2, apart)
        np.testing.assert_allclose(sorted(rates[profile, optimizer]), exact, rtol=2e-3)
        seeds = {config.seed for config in configs}
        number[profile, optimizer] = len(configs) / len(seeds) / len(exact)
    assert set(number.values()) == {2}  # real and shuffled labels
    assert rates["fast", "adam"] < rates["paper", "adam"]
    assert rates["fast", "gd"] < rates["paper", "gd"]


def test_the_header_is_small_json(runs):
    content = gzip.decompress(pack(runs))
    length = struct.unpack_from("<I", content, 4)[0]
    assert json.loads(content[8 : 8 + length]) == unpack(pack(runs)).header
    assert length < 4000
