"""Networks in the pool and the store of the student.  Oracle: the run of `htlib.train_network`."""

import json
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

import htlib as ht
from htlib.networks.config import NetworkConfig, Pruning
from htlib.networks.training import train_network
from htlib.sweeps.compute import compute_missing, run_tasks
from htlib.sweeps.kinds import KINDS, Task, kind_of
from htlib.sweeps.numerics import NETWORKS, RUNS, code_digest
from htlib.sweeps.store import Store
from tests.refusals import refused
from tests.sweeping import TINY, blas_threads, files_of, start, wait_for

CONFIG = NetworkConfig(width=32, fraction=0.1, lr=0.02, steps=4, batch=25, probe_every=4)
PRESET = """
title = "tiny"
figure = "practice_pruning"
kind = "network"
[grid]
width = 32
fraction = 0.1
steps = 4
batch = 25
probe_every = 4
pruned_by = ["alpha", "uniform"]
sparsity = [0.5, 0.7]
[fast]
seeds = 2
[paper]
seeds = 3
"""
SCRIPT = """
import json, sys
from htlib.sweeps.compute import compute_missing
from htlib.sweeps.kinds import Task
from htlib.networks.config import NetworkConfig
configs = [NetworkConfig(**fields) for fields in json.loads(sys.argv[2])]
compute_missing([Task(c, (c.reading,)) for c in configs], sys.argv[1], workers=1, progress=False)
"""


def task(config=CONFIG):
    return Task(config, (config.reading,))


def test_one_pool_computes_both_kinds_and_the_store_keeps_them_apart(tmp_path):
    student = ht.ExperimentConfig(**TINY)
    tasks = [task(), Task(student, (student.reading,))]
    network, trajectory = run_tasks(tasks, tmp_path, workers=1, progress=False)
    with blas_threads(1):
        assert network.metrics.equals(train_network(CONFIG).metrics)
    assert isinstance(trajectory, ht.Trajectory)
    folders = {path.parents[1].name for path in files_of(tmp_path)}
    assert folders == {code_digest(RUNS), code_digest(NETWORKS)}
    assert "2 from the store" in compute_missing(tasks, tmp_path, progress=False)


def test_a_preset_of_networks_is_one_training_per_seed_with_all_its_readings(tmp_path):
    (tmp_path / "mine.toml").write_text(PRESET)
    experiment = ht.load_experiment(tmp_path / "mine.toml")
    runs = experiment.runs(tmp_path / "store", workers=1, progress=False)
    assert len(runs) == 8
    assert len(files_of(tmp_path / "store")) == 2
    assert [run.config.reading for run in runs] == [config.reading for config in experiment.configs()]
    more = CONFIG.replace(lr=0.1, pruned_by="depth", sparsity=0.5)
    run_tasks([task(more)], tmp_path / "store", workers=1, progress=False)
    run = Store(tmp_path / "store").load(runs[0].config)  # a later reading does not lose the earlier ones
    assert {Pruning("depth", 0.5), Pruning("alpha", 0.7)} <= set(run.read(*run.config.reading).refits)


def test_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_text(PRESET.replace('"network"', '"forest"'))
    with refused(tmp_path / "mine.toml", "'kind' must be one of student, network", "'forest'"):
        ht.load_experiment(tmp_path / "mine.toml")


@pytest.mark.process
def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path):
    configs = [CONFIG.replace(steps=40, seed=seed) for seed in range(6)]
    fields = json.dumps([config.to_dict() for config in configs])
    process = start([sys.executable, "-c", SCRIPT, str(tmp_path), fields])
    wait_for(lambda: len(files_of(tmp_path)) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = files_of(tmp_path)
    assert len(before) < len(configs)
    runs = run_tasks([task(config) for config in configs], tmp_path, workers=1, progress=False)
    assert before.items() <= files_of(tmp_path).items()  # none is computed again
    for run, config in zip(runs, configs, strict=True):
        with blas_threads(1):
            expected = train_network(config).metrics
        pd.testing.assert_frame_equal(run.metrics, expected, check_exact=True)


def test_more_work_is_estimated_for_more_steps():
    kind = kind_of(CONFIG)
    assert kind is KINDS["network"]
    assert kind.work(task(CONFIG.replace(steps=400))) > 10 * kind.work(task())
    assert kind.bytes(CONFIG) > 0


def test_every_module_behind_a_network_is_in_the_package():
    from htlib.sweeps.numerics import modules_behind

    found = modules_behind(NETWORKS)
    assert {"htlib.networks.training", "htlib.networks.data", "htlib.models.allocation"} <= found.keys()
    assert not any(name.startswith("htlib.student.") for name in found)
    assert all(
        (Path(ht.__file__).parent.parent / name.replace(".", "/")).exists() or "." in name for name in found
    )
