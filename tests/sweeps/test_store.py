"""Oracles: the run that was saved; files damaged on purpose; two processes at one store."""

import errno
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

import htlib as ht
import htlib.sweeps.store
from htlib.student.config import Reading
from htlib.sweeps.numerics import RUNS, code_digest
from htlib.sweeps.store import Store, StoreError
from tests.refusals import refused
from tests.sweeping import TINY, assert_intact, assert_same, files_of, start

CONFIG = ht.ExperimentConfig(**TINY)
GRID = TINY | {"lr": [0.1, 1.0, 2.0]}


@pytest.fixture(autouse=True)
def no_default_store(monkeypatch):
    monkeypatch.setenv("HTLIB_STORE", "/no/such/folder")


@pytest.fixture(scope="module")
def run():
    return ht.train(CONFIG)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def sweep(store, **options):
    return ht.sweep(GRID, 1, store, progress=False, **{"workers": 1, "threads": 1} | options)


def test_a_run_comes_back_whole(store, run):
    assert store.load(CONFIG) is None
    path = store.save(run)
    assert path == store.file_of(CONFIG)
    assert path.is_relative_to(store.path / "runs" / code_digest(RUNS))
    assert_same(store.load(CONFIG), run)
    assert_same(Store(store.path).load(CONFIG), run)
    assert store.set_aside == []


def test_every_field_of_training_and_what_is_kept_change_the_path(store):
    other = {
        **dict.fromkeys(("n", "d", "h", "n_test", "steps", "probe_every", "seed"), 7),
        **dict.fromkeys(("noise_std", "lr", "weight_decay", "adam_eps", "lr_decay"), 0.5),
        **{"normalize_weights": True, "train_readout": True, "dtype": "float64", "labels": "noise"},
        **{"update": "no-top", "teacher": "relu", "activation": "relu"},
        **{"inputs": "whitened", "readout": "signs", "teacher_rank": 2, "batch_size": 2},
        **{"probe_sharpness": True},
    }
    configs = [CONFIG, *(CONFIG.replace(**{name: value}) for name, value in other.items())]
    gd = CONFIG.replace(optimizer="gd")
    configs += [gd, gd.replace(momentum=0.5), gd.replace(momentum=0.5, nesterov=True)]
    configs.append(CONFIG.replace(teacher_rank=2, teacher_decay=2.0))
    assert {*other, "optimizer", "momentum", "nesterov", "teacher_decay", *Reading._fields} == set(
        CONFIG.to_dict()
    )
    paths = {
        store.file_of(c, keep_weights=weights, keep_overlaps=overlaps)
        for c in configs
        for weights in (False, True)
        for overlaps in (False, True)
    }
    assert len(paths) == 4 * len(configs)
    assert store.file_of(CONFIG.replace(ridge_lambda=0.5, feature_scale="released-code")) in paths


def test_readings_of_one_training_share_a_file_and_join_each_other(store):
    other = CONFIG.replace(ridge_lambda=0.5)
    path = store.save(ht.train(CONFIG))
    assert store.load(other) is None
    assert store.load(CONFIG, readings=[other.reading]) is None
    assert store.save(ht.train(other)) == path
    for config in (CONFIG, other):
        run = store.load(config, readings=[CONFIG.reading, other.reading])
        assert run.config == config
        pd.testing.assert_frame_equal(run.metrics, ht.train(config).metrics, check_exact=True)
    assert len(files_of(store.path)) == 1


@pytest.mark.process
def test_equal_configs_have_one_path_in_every_process(store):
    """Python's own hash of a str would change from process to process."""
    config = f"ht.ExperimentConfig(**{TINY!r})"
    code = f"import htlib as ht; print(ht.Store({str(store.path)!r}).file_of({config}))"
    seed = {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    printed = subprocess.check_output([sys.executable, "-c", code], env=os.environ | seed, text=True)
    assert printed.strip() == str(store.file_of(ht.ExperimentConfig(**TINY, lr=1, noise_std=0.30)))


def test_a_changed_trainer_never_meets_old_results(store, run, monkeypatch):
    old = store.save(run)
    monkeypatch.setattr(htlib.sweeps.store, "code_digest", lambda roots: "changed")
    assert store.file_of(CONFIG) != old
    assert store.load(CONFIG) is None


def test_the_environment_names_the_default_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "mine"))
    assert Store().path == tmp_path / "mine"
    assert Store(tmp_path / "other").path == tmp_path / "other"
    monkeypatch.delenv("HTLIB_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert Store().path == tmp_path / "htlib" / "store"
    assert not list(tmp_path.iterdir())  # a store is made when something is stored


def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/mine").path == tmp_path / "mine"
    monkeypatch.setenv("HTLIB_STORE", "~/other")
    assert Store().path == tmp_path / "other"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named_with_the_remedy(number, tmp_path, monkeypatch):
    """As some network file systems answer; nothing is left of the attempt."""

    def answer(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", answer)
    with refused("the file system of the store", tmp_path, "no locks", "store=", error=StoreError):
        sweep(tmp_path / "store")
    with pytest.raises(StoreError, match="no locks"):
        Store(tmp_path / "store").claim("work")
    assert not list((tmp_path / "store" / "locks" / "writers").iterdir())


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    store = Store("here")
    monkeypatch.chdir("/")
    assert store.save(run).is_relative_to(tmp_path / "here")


def test_a_file_in_place_of_the_folder_or_above_it_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    for call in (Store, sweep):
        with refused("store must", "folder", path, "is a file", error=StoreError):
            call(path)
    with pytest.raises((StoreError, NotADirectoryError), match="file"):
        sweep(path / "store")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["thesis.tex", "runs", ".hidden"])
def test_a_folder_with_other_things_is_refused_and_untouched(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with refused("", tmp_path, "other things", "new or empty folder", error=StoreError):
        Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_an_empty_folder_becomes_a_store(tmp_path, run):
    Store(tmp_path).save(run)
    sweep(tmp_path)
    assert (tmp_path / "htlib-store.json").read_text() == '{"format": "htlib-store-1"}'
    assert Store(tmp_path).load(CONFIG) is not None


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_a_store_whose_making_was_cut_short_is_still_a_store(killed_at, tmp_path, monkeypatch, run):
    """Cut before each of the calls that change the disk."""
    calls = 0

    def cut(function):
        def wrapper(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == killed_at:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("mkdir", "open", "replace", "touch"):
            patch.setattr(Path, name, cut(getattr(Path, name)))
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path / "new").check_writable()
    Store(tmp_path / "new").save(run)
    assert Store(tmp_path / "new").load(CONFIG) is not None


def test_many_may_make_the_same_store_at_once(tmp_path):
    """A half-made store is never refused as a folder of other things."""
    errors = []
    for attempt in range(20):
        ready = threading.Barrier(4)

        def make(path=tmp_path / str(attempt), ready=ready):
            ready.wait()
            try:
                Store(path).check_writable()
                Store(path)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def flip(path):
    """Change one bit of the last tensor."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda path, other: os.truncate(path, path.stat().st_size // 2),
    "flipped": lambda path, other: flip(path),
    "exchanged": lambda path, other: path.write_bytes(other.read_bytes()),
    "empty": lambda path, other: path.write_bytes(b""),
    "text": lambda path, other: path.write_text("my results, do not delete\n"),
    "foreign": lambda path, other: path.write_bytes(safetensors.numpy.save({"metrics": np.ones((1, 2))})),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_set_aside_and_computed_again(damage, store):
    expected = sweep(store)
    path, other = (store.file_of(CONFIG.replace(lr=lr)) for lr in (1.0, 2.0))
    good = ht.Trajectory.load(path)
    damage(path, other)
    damaged = path.read_bytes()

    reader = Store(store.path)
    assert reader.load(CONFIG) is None
    (line,) = reader.set_aside
    assert str(path) in line
    (aside,) = (store.path / "set-aside").iterdir()
    assert line.endswith(f"; set aside as {aside}")
    assert aside.read_bytes() == damaged
    assert not path.exists()

    path.write_bytes(damaged)
    table = sweep(store.path)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert str(path) in table.attrs["notes"][0]
    assert "3 of 3 runs, 2 from the store, 1 computed" in table.attrs["notes"][-1]
    assert_same(ht.Trajectory.load(path), good)
    assert len(list((store.path / "set-aside").iterdir())) == 2


def test_a_damaged_file_that_cannot_be_moved_is_an_error(store):
    sweep(store)
    flip(store.file_of(CONFIG))
    with read_only(store.path), pytest.raises(StoreError, match=r"checksum .* cannot be set aside"):
        store.load(CONFIG)


@pytest.mark.parametrize("broken", ["os.fsync", "save"])
def test_a_failed_save_shows_no_file(broken, store, run, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    store.check_writable()
    monkeypatch.setattr(f"htlib.student.run.{broken}", fail)
    with refused("cannot write", store.path, "No space left on device", error=StoreError):
        store.save(run)
    assert [path.name for path in store.path.rglob("*") if path.is_file()] == ["htlib-store.json"]


def test_half_a_file_is_never_visible(store, run, monkeypatch):
    """While the bytes reach the disk the file has a hidden name, which no reader takes for a run."""
    seen = []
    fsync = os.fsync

    def look(number):
        fsync(number)
        seen.append((files_of(store.path), Store(store.path).load(CONFIG)))

    store.check_writable()
    monkeypatch.setattr(os, "fsync", look)
    store.save(run)
    assert seen == [({}, None)]
    assert_intact(store.path)


def leftovers(store):
    """Temporary files as killed writers leave them."""
    run = store.file_of(CONFIG)
    run.parent.mkdir(parents=True, exist_ok=True)
    made = [run.with_name(f".{run.name}.{end}") for end in ("abc", "def")]
    for path in made:
        path.write_bytes(b"half")
        os.utime(path, (1e9, 1e9))
    return made


def test_the_only_writer_clears_what_killed_ones_left(store, run):
    kept = store.save(run)
    made = leftovers(store)
    with store.writing() as others:
        assert others == []
        assert not any(path.exists() for path in made)
    assert kept.exists()
    assert list((store.path / "locks" / "writers").iterdir()) == []


def test_leftovers_may_be_of_a_living_writer(store):
    with store.writing():
        made = leftovers(store)
        with Store(store.path).writing() as others:
            assert len(others) == 1
            assert others[0].endswith(f"-{os.getpid()}")
            assert all(path.exists() for path in made)


def test_a_file_of_a_writer_that_came_in_between_is_spared(store):
    made = leftovers(store)
    os.utime(made[0], (4e9, 4e9))
    with store.writing():
        assert made[0].exists()
        assert not made[1].exists()


def test_locks_of_the_dead_are_cleared(store):
    store.check_writable()
    lock = store.path / "locks" / "writers" / "elsewhere-123-abcdef.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with store.writing() as others:
        assert others == []
    assert not lock.exists()


def test_a_claim_is_exclusive_and_comes_back(store):
    store.check_writable()
    claim = store.claim("family")
    assert Store(store.path).claim("family") is None
    claim.release()
    Store(store.path).claim("family").release()


def test_clear_counts_what_it_deletes(store):
    assert store.clear() == (0, 0)
    assert not store.path.exists()
    sweep(store)
    flip(store.file_of(CONFIG))
    assert store.load(CONFIG) is None
    size = sum(path.stat().st_size for path in store.path.glob("[rs]*/**/*.*") if path.is_file())
    assert store.clear() == (2, size)
    assert files_of(store.path) == {}
    assert not (store.path / "set-aside").exists()
    assert store.clear() == (0, 0)
    assert len(sweep(store)) == 6


def test_clear_deletes_runs_of_older_versions_too(store, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(htlib.sweeps.store, "code_digest", lambda roots: "old")
        store.save(run)
    store.check_writable()
    assert store.clear()[0] == 1


HOLDER = """
import sys
import htlib as ht
with ht.Store(sys.argv[1]).writing():
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.process
def test_clear_refuses_while_another_process_writes_and_spares_its_files(store):
    sweep(store)
    before = files_of(store.path)
    with start([sys.executable, "-c", HOLDER, str(store.path)]) as holder:
        assert holder.stdout.readline() == "ready\n"
        made = leftovers(store)
        with refused("", store.path, "in use", f"-{holder.pid}; stop", error=StoreError):
            store.clear()
        assert files_of(store.path) == before
        assert all(path.exists() for path in made)
        holder.kill()  # the lock is the system's: it ends with its holder
    assert store.clear()[0] == 3


@contextmanager
def read_only(folder):
    """Nothing under the folder can be written; root, who may write anywhere, becomes nobody."""
    root = os.geteuid() == 0
    paths = [folder, *folder.rglob("*")]
    above = [path for path in folder.parents if root and not path.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode & 0o777 for path in [*paths, *above]}
    for path in above:
        path.chmod(modes[path] | 0o011)
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_complete_sweep_is_read_from_a_read_only_store(store):
    expected = sweep(store)
    before = files_of(store.path)
    with read_only(store.path):
        with pytest.raises(PermissionError):  # the control: it cannot be written to
            (store.path / "trial").touch()
        table = sweep(store.path)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert files_of(store.path) == before


def test_an_incomplete_one_is_refused_before_it_computes(store, monkeypatch):
    sweep(store)
    before = files_of(store.path)
    computed = []
    monkeypatch.setattr("htlib.sweeps.workers.compute", lambda *args: computed.append(args))
    for call in (partial(ht.sweep, GRID, 2, store.path, workers=1, progress=False), store.clear):
        with (
            read_only(store.path),
            refused("cannot write", store.path, "Permission denied", "make", error=StoreError),
        ):
            call()
        assert files_of(store.path) == before
    assert computed == []
    assert_intact(store.path)


def test_a_store_that_cannot_be_made_is_refused_before_it_computes(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr("htlib.sweeps.workers.compute", lambda *args: pytest.fail("computed"))
    with read_only(tmp_path / "locked"), pytest.raises(StoreError, match="Permission denied"):
        sweep(tmp_path / "locked" / "store")
    assert not list((tmp_path / "locked").iterdir())


def test_looking_up_runs_lists_no_folder(store, run, monkeypatch):
    """A lookup is at most four paths: none of 2000 other files is listed or read."""
    runs = store.save(run).parents[1]
    for number in range(2000):
        path = runs / f"{number % 256:02x}" / f"{number:032x}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    opened = []
    load = ht.Trajectory.load
    monkeypatch.setattr(ht.Trajectory, "load", lambda path: opened.append(path) or load(path))
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, lambda *args, name=name: pytest.fail(f"os.{name}{args}"))
    assert store.load(CONFIG) is not None
    assert store.load(CONFIG.replace(lr=0.1)) is None
    assert opened[:2] == [store.file_of(CONFIG), store.file_of(CONFIG.replace(lr=0.1))]
    assert (
        len(opened) == 1 + 4
    )  # the second one could have been kept with weights, with overlaps or with both
