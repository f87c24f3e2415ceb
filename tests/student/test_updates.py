"""Updates and their scrambled controls; oracles: the singular values, and the vectors put in."""

import numpy as np
import pytest

import htlib as ht
from htlib.student.updates import compare_updates, scramble, teacher_share
from tests.refusals import refused

CONFIG = ht.ExperimentConfig(n=60, d=20, h=30, n_test=40, steps=3)


@pytest.fixture(scope="module")
def run():
    return ht.train(CONFIG, keep_weights=True, progress=False)


def test_scrambling_keeps_singular_values_and_entries_and_loses_directions():
    M = np.random.default_rng(0).standard_normal((30, 20)) + 3.0
    scrambled = scramble(M, np.random.default_rng(1))
    assert np.linalg.svd(scrambled)[1] == pytest.approx(np.linalg.svd(M)[1])
    assert np.sort(np.abs(scrambled), axis=None) == pytest.approx(np.sort(np.abs(M), axis=None))
    first = [abs(np.linalg.svd(one)[2][0].sum()) / 20**0.5 for one in (M, scrambled)]
    assert first[0] > 0.95  # along (1, ..., 1)
    assert first[1] < 0.7  # signs at random: a cosine of this size has a chance of 0.002


def test_size_and_next_are_norms_and_cosines(run):
    table = compare_updates(run, (1, 2, 3), k=5).loc[0]
    M = [run.weights[t + 1] - run.weights[t] for t in range(3)]
    assert table["size"][2] == pytest.approx(np.linalg.norm(M[1]) / np.linalg.norm(run.weights[1]))
    assert table["next"][1] == pytest.approx(np.corrcoef(M[0].ravel(), M[1].ravel())[0, 1], abs=0.1)
    cosine = (M[0] * M[1]).sum() / np.linalg.norm(M[0]) / np.linalg.norm(M[1])
    assert table["next"][1] == pytest.approx(cosine)
    assert np.isnan(table["next"][3])


def test_the_whole_space_stays_and_overlaps(run):
    """All 20 right vectors span everything, whatever the update."""
    table = compare_updates(run, (1,), k=20)
    assert table[["scrambled", "stays"]].to_numpy() == pytest.approx(1.0)
    assert (compare_updates(run, (1,), k=5)[["scrambled", "stays"]] < 0.99).all(axis=None)


def test_shares_add_up_to_the_whole_direction(run):
    direction = ht.make_problem(CONFIG).teacher_direction
    table = teacher_share(run, direction, (0, 3), k=20)
    assert table[20].to_numpy() == pytest.approx(1.0)
    assert table[1][0, 3] == pytest.approx(run.metrics.alignment[3] ** 2, rel=1e-4)


def test_a_run_without_weights_is_refused():
    with refused("", "no weights around step 2", "keep_weights=True"):
        compare_updates(ht.train(CONFIG, progress=False), (2,))
