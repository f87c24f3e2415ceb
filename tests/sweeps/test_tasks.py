"""Oracle: `htlib.train` of each config alone."""

import pytest

import htlib as ht
from htlib.sweeps import tasks
from htlib.sweeps.tasks import GivenUp
from tests.sweeping import TINY, assert_same, task_of

CONFIG = ht.ExperimentConfig(**TINY)


pytestmark = pytest.mark.usefixtures("no_starts_kept")


def test_a_task_gives_what_train_gives():
    configs = [CONFIG, CONFIG.replace(ridge_lambda=0.5), CONFIG.replace(feature_scale="released-code")]
    done = tasks.compute(task_of(*configs))
    assert done.seconds > 0
    for run, config in zip(done.runs, configs, strict=True):
        assert_same(run, ht.train(config))
    (run,) = tasks.compute(task_of(CONFIG, keep_weights=True, keep_overlaps=True)).runs
    assert_same(run, ht.train(CONFIG, keep_weights=True, keep_overlaps=True))


def test_the_starts_of_two_problems_are_kept(monkeypatch):
    prepared = []
    prepare = tasks.prepare
    monkeypatch.setattr(tasks, "prepare", lambda c, **kw: prepared.append(c.seed) or prepare(c, **kw))
    for seed, lr in [(0, 1), (0, 2), (1, 1), (0, 3), (1, 2), (2, 1), (1, 3), (0, 1)]:
        tasks.compute(task_of(CONFIG.replace(seed=seed, lr=lr)))
    assert prepared == [0, 1, 2, 0]
    tasks.forget_starts()
    tasks.compute(task_of(CONFIG))
    assert prepared == [0, 1, 2, 0, 0]


def test_tasks_of_one_problem_share_their_start_key():
    assert task_of(CONFIG).start_key == task_of(CONFIG.replace(lr=9.0, steps=7, optimizer="gd")).start_key
    assert task_of(CONFIG).start_key != task_of(CONFIG.replace(seed=1)).start_key


def test_giving_up_ends_a_task_after_the_step():
    asked = []
    with pytest.raises(GivenUp):
        tasks.compute(task_of(CONFIG.replace(steps=50)), lambda: asked.append(1) or len(asked) == 3)
    assert len(asked) == 3
