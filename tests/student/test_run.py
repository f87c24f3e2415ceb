"""Oracles: the run that was saved; bytes changed on purpose; safetensors' own reader."""

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

import htlib as ht

CONFIG = ht.ExperimentConfig(n=20, d=4, h=5, n_test=10, steps=11, seed=3)


def assert_same(first, second):
    assert (first.config, first.diverged_at) == (second.config, second.diverged_at)
    pd.testing.assert_frame_equal(first.metrics, second.metrics, check_exact=True)
    np.testing.assert_array_equal(first.eigenvalues, second.eigenvalues)
    pd.testing.assert_frame_equal(first.readings, second.readings, check_exact=True)
    assert list(first.weights) == list(second.weights)
    assert list(first.overlaps) == list(second.overlaps)
    for step in first.weights:
        np.testing.assert_array_equal(first.weights[step], second.weights[step])
        assert second.weights[step].dtype == np.float64
    for step, pair in first.overlaps.items():
        for when in ("before", "after"):
            for side in ("left", "right"):
                ours, theirs = (getattr(getattr(p, when), side) for p in (pair, second.overlaps[step]))
                np.testing.assert_array_equal(ours, theirs)


RUNS = {
    "plain": lambda: ht.train(CONFIG),
    "weights and overlaps": lambda: ht.train(CONFIG, keep_weights=True, keep_overlaps=True),
    "probed now and then": lambda: ht.train(CONFIG.replace(probe_every=4), keep_weights=True),
    "diverged": lambda: ht.train(
        CONFIG.replace(activation="relu", optimizer="gd", lr=1e9, steps=100), keep_weights=True
    ),
    "other values": lambda: ht.train(CONFIG.replace(lr_decay=0.5, labels="noise", dtype="float64", steps=0)),
    "readings": lambda: ht.train(CONFIG, readings={"ridge_lambda": [0.01, 0.1, 1.0, 10.0]}),
    "missing alphas": lambda: ht.train(CONFIG.replace(d=2)),
}


@pytest.mark.parametrize("kind", RUNS)
def test_round_trip(kind, tmp_path):
    run = RUNS[kind]()
    path = run.save(tmp_path / "run.safetensors")
    assert path == tmp_path / "run.safetensors"
    assert_same(run, ht.Trajectory.load(path))
    assert_same(run, ht.Trajectory.load(str(path)))
    if kind == "diverged":
        assert run.diverged_at is not None


def test_round_trip_of_a_run_that_never_started(tmp_path):
    run = ht.train(CONFIG)
    empty = ht.Trajectory(CONFIG, run.metrics.iloc[:0], run.eigenvalues[:0], diverged_at=0)
    assert_same(empty, ht.Trajectory.load(empty.save(tmp_path / "run")))


def test_steps_come_back_in_order(tmp_path):
    """Names sort as text, 10 before 2; steps must not."""
    run = ht.train(CONFIG, keep_weights=True, keep_overlaps=True)
    loaded = ht.Trajectory.load(run.save(tmp_path / "run"))
    assert list(loaded.weights) == list(range(12))
    assert list(loaded.overlaps) == list(range(1, 12))


def test_any_safetensors_reader_opens_it(tmp_path):
    run = ht.train(CONFIG, keep_weights=True)
    tensors = safetensors.numpy.load_file(run.save(tmp_path / "run.safetensors"))
    np.testing.assert_array_equal(tensors["eigenvalues"], run.eigenvalues)
    np.testing.assert_array_equal(tensors["steps"], run.metrics.index)
    np.testing.assert_array_equal(tensors["weights/3"], run.weights[3])


def test_save_replaces_and_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "run.safetensors"
    ht.train(CONFIG).save(path)
    other = ht.train(CONFIG.replace(seed=4))
    other.save(path)
    assert_same(other, ht.Trajectory.load(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A small record with everything in it, as bytes."""
    run = ht.train(CONFIG.replace(steps=1, d=2, h=2), keep_weights=True, keep_overlaps=True)
    return run.save(tmp_path_factory.mktemp("record") / "run").read_bytes()


def load_bytes(data, tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(data)
    return ht.Trajectory.load(path)


def test_the_untouched_bytes_load(record, tmp_path):
    assert load_bytes(record, tmp_path).metrics.index.tolist() == [0, 1]


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 0.1, 0.5, 0.9, -8, -1])
def test_truncation_is_noticed(keep, record, tmp_path):
    end = int(keep * len(record)) if isinstance(keep, float) else keep
    with pytest.raises(ht.RecordError, match=r"run\.safetensors"):
        load_bytes(record[:end], tmp_path)


def test_appended_bytes_are_noticed(record, tmp_path):
    with pytest.raises(ht.RecordError, match=r"run\.safetensors"):
        load_bytes(record + bytes(8), tmp_path)


def test_any_flipped_bit_is_noticed(record, tmp_path):
    """Every byte of header and payload in turn, a different bit of it each time."""
    for position in range(len(record)):
        data = bytearray(record)
        data[position] ^= 1 << position % 8
        with pytest.raises(ht.RecordError, match=r"run\.safetensors"):
            load_bytes(bytes(data), tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "htlib-run-999"}])
def test_another_safetensors_file_is_not_a_record(metadata, tmp_path):
    data = safetensors.numpy.save({"metrics": np.ones((1, 2))}, metadata=metadata)
    with pytest.raises(ht.RecordError, match=r"is not a run of htlib: its format is "):
        load_bytes(data, tmp_path)


def test_a_record_without_checksum_is_refused(tmp_path):
    data = safetensors.numpy.save({"metrics": np.ones((1, 2))}, metadata={"format": "htlib-run-2"})
    with pytest.raises(ht.RecordError, match=r"checksum does not match"):
        load_bytes(data, tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04 not a record at all", bytes(64)])
def test_other_files_are_not_records(data, tmp_path):
    with pytest.raises(ht.RecordError, match=r"run\.safetensors is not a readable record"):
        load_bytes(data, tmp_path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no record at .*missing"):
        ht.Trajectory.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        ht.Trajectory.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        ht.train(CONFIG).save(tmp_path / "no" / "such" / "folder" / "run")


def test_record_error_is_a_value_error():
    assert issubclass(ht.RecordError, ValueError)
