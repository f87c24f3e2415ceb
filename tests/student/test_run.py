"""Oracles: the run that was saved; bytes changed on purpose; safetensors' own reader."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import safetensors.numpy

import htlib as ht
from htlib.student.run import _version
from tests.refusals import refused
from tests.sweeping import assert_same

CONFIG = ht.ExperimentConfig(n=20, d=4, h=5, n_test=10, steps=11, seed=3)
DIVERGING = CONFIG.replace(activation="relu", optimizer="gd", lr=1e9, steps=100)


def never_started():
    run = ht.train(CONFIG)
    return ht.Trajectory(CONFIG, run.metrics.iloc[:0], run.eigenvalues[:0], diverged_at=0)


RUNS = {
    "never started": never_started,
    "plain": lambda: ht.train(CONFIG),
    "weights and overlaps": lambda: ht.train(CONFIG, keep_weights=True, keep_overlaps=True),
    "probed now and then": lambda: ht.train(CONFIG.replace(probe_every=4), keep_weights=True),
    "diverged": lambda: ht.train(DIVERGING, keep_weights=True),
    "other values": lambda: ht.train(CONFIG.replace(lr_decay=0.5, labels="noise", dtype="float64", steps=0)),
    "readings": lambda: ht.train(CONFIG, readings={"ridge_lambda": [0.01, 0.1, 1.0, 10.0]}),
    "missing alphas": lambda: ht.train(CONFIG.replace(d=2)),
}


@pytest.mark.parametrize("kind", RUNS)
def test_round_trip(kind, tmp_path):
    run = RUNS[kind]()
    path = run.save(tmp_path / "run.safetensors")
    assert path == tmp_path / "run.safetensors"
    assert_same(ht.Trajectory.load(path), run)
    assert_same(ht.Trajectory.load(str(path)), run)
    assert (run.diverged_at is not None) == (kind in ("diverged", "never started"))
    if kind == "weights and overlaps":  # names sort as text, 10 before 2; steps must not
        assert (list(run.weights), list(run.overlaps)) == (list(range(12)), list(range(1, 12)))


def test_any_safetensors_reader_opens_it(tmp_path):
    run = ht.train(CONFIG, keep_weights=True)
    tensors = safetensors.numpy.load_file(run.save(tmp_path / "run.safetensors"))
    np.testing.assert_array_equal(tensors["metrics"], run.metrics)
    np.testing.assert_array_equal(tensors["eigenvalues"], run.eigenvalues)
    np.testing.assert_array_equal(tensors["steps"], run.metrics.index)
    np.testing.assert_array_equal(tensors["weights/3"], run.weights[3])


def test_a_record_says_that_htlib_was_not_installed(record, monkeypatch, tmp_path):
    (tmp_path / "run").write_bytes(record)
    run = ht.Trajectory.load(tmp_path / "run")

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("htlib.student.run.version", missing)
    _version.cache_clear()
    run.save(tmp_path / "run")
    _version.cache_clear()
    with safetensors.safe_open(tmp_path / "run", framework="numpy") as file:
        assert file.metadata()["htlib"] == "not installed"


def test_save_replaces_and_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "run.safetensors"
    ht.train(CONFIG).save(path)
    other = ht.train(CONFIG.replace(seed=4))
    other.save(path)
    assert_same(ht.Trajectory.load(path), other)
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


def test_truncated_and_appended_bytes_and_any_flipped_bit_are_noticed(record, tmp_path):
    """Every byte of header and payload in turn, a different bit of it each time."""
    ends = [0, 1, 7, 8, 9, *(len(record) * part // 10 for part in (1, 5, 9)), -8, -1]
    damaged = [record + bytes(8), *(record[:end] for end in ends)]
    for position in range(len(record)):
        data = bytearray(record)
        data[position] ^= 1 << position % 8
        damaged.append(bytes(data))
    for data in damaged:
        with pytest.raises(ht.RecordError, match=r"run\.safetensors"):
            load_bytes(data, tmp_path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "not a run of htlib"),
        ({"format": "pt"}, "not a run of htlib"),
        ({"format": "htlib-run-999"}, "not a run of htlib"),
        ({"format": "htlib-run-2"}, "checksum"),
    ],
)
def test_another_safetensors_file_is_not_a_record(metadata, reason, tmp_path):
    data = safetensors.numpy.save({"metrics": np.ones((1, 2))}, metadata=metadata)
    with refused("", tmp_path, reason, error=ht.RecordError):
        load_bytes(data, tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04 not a record at all", bytes(64)])
def test_other_files_are_not_records(data, tmp_path):
    assert issubclass(ht.RecordError, ValueError)
    with refused("", "run.safetensors", "not a readable record", error=ht.RecordError):
        load_bytes(data, tmp_path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no record at .*missing"):
        ht.Trajectory.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        ht.Trajectory.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        ht.train(CONFIG).save(tmp_path / "no" / "such" / "folder" / "run")
