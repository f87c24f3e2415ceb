"""Oracle: the runs themselves.  What comes back is read by the page's own reader, in Node."""

import dataclasses
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import htlib as ht
from htlib.explorer.messages import estimated_saturation
from htlib.explorer.stored_runs import BINS_PER_DECADE, LARGEST, LEADING, pack_runs
from htlib.student.probes import METRICS
from tests.refusals import refused

SMALL = ht.ExperimentConfig(n=60, d=30, h=45, n_test=50, steps=3)
READER = Path(__file__).parents[2] / "live" / "src" / "stored_runs.ts"
READ = f"""
import {{ readFileSync }} from "node:fs";
import {{ read, snapshots }} from {json.dumps(READER.as_uri())};
const stored = await read(Uint8Array.from(readFileSync(0)).buffer);
const spectrum = (run, step) => snapshots(stored, run, step).at(-1).eigenvalues;
console.log(JSON.stringify(stored.runs.map((run) => run.largest.map((_, step) => spectrum(run, step)))));
"""


def train(**changes):
    return ht.train(SMALL.replace(**changes), progress=False)


@pytest.fixture(scope="module")
def runs():
    """In the order of the file."""
    return [
        train(optimizer=optimizer, lr=lr, labels=labels, seed=seed)
        for optimizer, rates in (("adam", (0.1, 10.0)), ("gd", (1e4,)))
        for lr in rates
        for labels in ("real", "shuffled")
        for seed in (0, 3)
    ]


def key(run):
    return {name: getattr(run.config, name) for name in ("optimizer", "lr", "labels", "seed")}


def with_spectra(run, *spectra):
    config = run.config.replace(d=len(spectra[0]), h=len(spectra[0]), steps=len(spectra) - 1)
    metrics = run.metrics.loc[: len(spectra) - 1]
    return dataclasses.replace(run, config=config, metrics=metrics, eigenvalues=np.array(spectra))


def content(runs):
    return json.loads(gzip.decompress(pack_runs(runs)))


def spectra_read(runs):
    """The spectra that the page reads, by run, step and rank."""
    node = [Path(sys.executable).with_name("node"), "--input-type=module", "--eval", READ]
    return json.loads(subprocess.run(node, input=pack_runs(runs), capture_output=True, check=True).stdout)


def assert_as_stated(found, given):
    """Ascending; the largest to three digits, and all others in their bins, in the page's bins too."""
    found, given = np.array(found, dtype=float), np.array(given)
    assert found.shape == given.shape
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(found[..., -LARGEST:], given[..., -LARGEST:], rtol=5e-3)
    rest = np.zeros(given.shape, dtype=bool)
    rest[..., :-LARGEST] = given[..., :-LARGEST] > 0
    assert (found[~rest & (given == 0)] == 0).all()
    # rounding may put the others above the largest
    rest &= found < found[..., -LARGEST:].min(axis=-1, keepdims=True)
    bins = np.floor(BINS_PER_DECADE * np.log10(given[rest]))
    for width, together in ((0.05, 1), (0.1, 2), (0.15, 3), (0.3, 6)):
        np.testing.assert_array_equal(np.floor(np.log10(found[rest]) / width), bins // together)


def test_every_run_is_stored_with_its_measures_to_four_digits(runs):
    stored = content(runs[::-1])
    assert ht.ExperimentConfig(**stored["config"]) == SMALL
    for run, expected in zip(stored["runs"], runs, strict=True):
        assert {name: run[name] for name in key(expected)} == key(expected)
        assert run["diverged_at"] is None
        assert list(run["metrics"]) == list(METRICS)
        assert run["metrics"]["n_outliers"] == expected.metrics["n_outliers"].tolist()
        for name, values in run["metrics"].items():
            np.testing.assert_allclose(values, expected.metrics[name], rtol=5e-4)


def test_overlaps_come_from_runs_that_kept_them(runs):
    """Oracle: the singular vectors of weights and updates; cosines are stored in hundredths."""
    config = runs[2].config
    kept = ht.train(config, progress=False, keep_overlaps=True, keep_weights=True)
    stored = json.loads(gzip.decompress(pack_runs(runs, [kept])))["runs"]
    assert ["overlaps" in run for run in stored] == [run.config == config for run in runs]
    found = np.array(stored[2]["overlaps"]).reshape(config.steps, LEADING, LEADING) / 100
    for step in range(1, config.steps + 1):
        W, before = kept.weights[step], kept.weights[step - 1]
        expected = ht.singular_vector_overlaps(W, W - before, LEADING).right
        np.testing.assert_allclose(found[step - 1], np.sqrt(expected), atol=0.0051)


def test_the_estimate_of_saturation_is_stored(runs):
    stored = content(runs)["runs"]
    for run, expected in zip(stored, runs, strict=True):
        shares = [estimated_saturation(s, SMALL.h, SMALL.d, "tanh") for s in expected.eigenvalues]
        np.testing.assert_allclose(run["saturation"], shares, atol=0.0005)
    relu = content([train(activation="relu", lr=0.1)])["runs"][0]
    assert relu["saturation"] == [None] * (SMALL.steps + 1)


def test_a_number_that_is_not_finite_is_null(runs):
    table = runs[0].metrics.copy()
    table.loc[3, ["test_loss", "kta"]] = np.inf, np.nan
    (run,) = content([dataclasses.replace(runs[0], metrics=table)])["runs"]
    assert [run["metrics"][name][3] for name in ("test_loss", "kta")] == [None, None]
    assert run["metrics"]["kta"][2] is not None


def test_equal_runs_give_equal_bytes_in_any_order(runs):
    assert pack_runs(runs) == pack_runs([runs[0], *runs[:0:-1]])
    assert pack_runs(runs)[4:8] == bytes(4)  # no time of making


@pytest.mark.process
def test_spectra_come_back_as_the_file_states(runs):
    assert_as_stated(spectra_read(runs), [run.eigenvalues for run in runs])


@pytest.mark.process
def test_a_bulk_with_a_heavy_tail_of_148_comes_back(runs):
    rng = np.random.default_rng(0)
    low, high = ht.MarchenkoPastur.of_gaussian_esd(1500, 852).support
    tail = 1e6 * rng.pareto(1.5, 148) + 1e5 * high
    spectrum = np.sort(np.concatenate([rng.uniform(low, high, 852), tail]))
    spectra = np.stack([np.linspace(low, high, 1000), spectrum])
    (found,) = spectra_read([with_spectra(runs[0], *spectra)])
    assert_as_stated(found, spectra)
    assert (np.array(found[1]) > 100 * high).sum() == 148


@pytest.mark.process
@pytest.mark.parametrize("size", [1, 2, 24, 25, 300])
def test_spectra_of_any_size_equal_eigenvalues_and_zeros_come_back(size, runs):
    one_large = np.append(np.zeros(size - 1), 1e25)
    spectra = (np.full(size, 7.0), np.geomspace(1e-6, 1e9, size), one_large, np.zeros(size))
    (found,) = spectra_read([with_spectra(runs[0], *spectra)])
    assert_as_stated(found, spectra)


@pytest.mark.process
def test_a_run_that_diverged_ends_where_it_did(runs):
    diverged = train(activation="relu", optimizer="gd", lr=1e12)
    assert diverged.diverged_at is not None
    assert 0 < diverged.diverged_at < SMALL.steps
    stays = train(activation="relu", optimizer="gd", lr=1e-3)
    empty = {"metrics": stays.metrics.iloc[:0], "eigenvalues": stays.eigenvalues[:0]}
    nothing = dataclasses.replace(train(activation="relu", optimizer="gd", lr=1e13), **empty, diverged_at=0)
    given = [stays, diverged, nothing]
    assert [run["diverged_at"] for run in content(given)["runs"]] == [None, diverged.diverged_at, 0]
    found = spectra_read(given)
    assert [len(run) for run in found] == [SMALL.steps + 1, diverged.diverged_at, 0]
    for run, expected in zip(found[:2], given[:2], strict=True):
        assert_as_stated(run, expected.eigenvalues)


@pytest.mark.parametrize(("field", "value"), [("d", 20), ("n", 50), ("noise_std", 0.1), ("steps", 2)])
def test_runs_that_differ_in_something_else_are_refused(field, value, runs):
    other = dataclasses.replace(runs[1], config=runs[1].config.replace(**{field: value}))
    with refused("runs must", field, getattr(SMALL, field), value):
        pack_runs([runs[0], other, *runs[2:]])


def test_steps_that_were_not_measured_and_no_runs_are_refused():
    with refused("", "[0, 2, 3]", "probe_every=1"):
        pack_runs([train(probe_every=2)])
    with refused("runs is empty"):
        pack_runs([])


@pytest.mark.parametrize("profile", ["fast", "paper"])
@pytest.mark.parametrize(("optimizer", "lowest", "highest"), [("adam", -2, 2.5), ("gd", 1.5, 5.5)])
def test_the_preset_is_a_grid_of_half_decades(optimizer, lowest, highest, profile):
    configs = [c for c in ht.load_experiment("atlas", profile).configs() if c.optimizer == optimizer]
    exact = 10 ** np.arange(lowest, highest + 0.25, 0.5)
    np.testing.assert_allclose(sorted({config.lr for config in configs}), exact, rtol=2e-3)
    seeds = {config.seed for config in configs}
    assert len(configs) == 2 * len(seeds) * len(exact)  # real and shuffled labels
